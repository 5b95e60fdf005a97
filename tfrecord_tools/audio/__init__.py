"""Sound files: decode, cut, resample, stream."""

from typing import TYPE_CHECKING

from tfrecord_tools._lazy import lazy_names

if TYPE_CHECKING:
    from tfrecord_tools.audio.decoders import EXTENSIONS
    from tfrecord_tools.audio.loading import AudioError, load_audio
    from tfrecord_tools.audio.streaming import (
        LogMelStream,
        LongRecording,
        read_ahead,
        resample_blocks,
    )
else:
    __all__, __getattr__, __dir__ = lazy_names(__name__)
