"""When something sounds: segment scores to events, of recordings and of streams."""

from typing import TYPE_CHECKING

from tfrecord_tools._lazy import lazy_names

if TYPE_CHECKING:
    from secost_tf.detection.clip_picture import clip_figure
    from secost_tf.detection.detector import Detector
    from secost_tf.detection.events import PostProcessing, active_segments, list_events
    from secost_tf.detection.flags import ThresholdSettings
    from secost_tf.detection.localization import (
        EVENTS_TSV,
        MOST_SHOWN,
        find_recordings,
        localize_recordings,
    )
    from secost_tf.detection.screen import Screen
    from secost_tf.detection.sources import FileSource, MicrophoneSource, PipeSource, Source
    from secost_tf.detection.stream import listen, score_segments
    from secost_tf.detection.thresholds import tuned_thresholds
else:
    __all__, __getattr__, __dir__ = lazy_names(__name__)
