"""Readers of data sets: each gives clips and a class map."""

from typing import TYPE_CHECKING

from tfrecord_tools._lazy import lazy_names

if TYPE_CHECKING:
    from tfrecord_tools.datasets.audioset import read_audioset, read_labels
    from tfrecord_tools.datasets.class_values import read_class_values, write_class_values
    from tfrecord_tools.datasets.clips import ClassMap, Clip, read_class_map
    from tfrecord_tools.datasets.manifest import ALIASES, read_manifest
    from tfrecord_tools.datasets.readers import READERS, read_dataset
    from tfrecord_tools.datasets.segment_files import choose_file, index_files
else:
    __all__, __getattr__, __dir__ = lazy_names(__name__)
