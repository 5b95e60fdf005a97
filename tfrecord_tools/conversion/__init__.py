"""Conversion: a clip, a shard, a split; run by local processes or by Beam."""

from typing import TYPE_CHECKING

from tfrecord_tools._lazy import lazy_names

if TYPE_CHECKING:
    from tfrecord_tools.conversion.beam_runner import convert_shards_with_beam
    from tfrecord_tools.conversion.clip import ConvertConfig, Problem
    from tfrecord_tools.conversion.convert import convert_dataset
    from tfrecord_tools.conversion.local_runner import convert_shards_locally
else:
    __all__, __getattr__, __dir__ = lazy_names(__name__)
