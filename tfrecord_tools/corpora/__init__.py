"""Corpora that are made: the built-in corpus, mixtures, label noise."""

from typing import TYPE_CHECKING

from tfrecord_tools._lazy import lazy_names

if TYPE_CHECKING:
    from tfrecord_tools.corpora.builtin import make_builtin_data
    from tfrecord_tools.corpora.corpus import make_clip, make_corpus
    from tfrecord_tools.corpora.label_noise import rates_for_precisions, read_label_precisions
    from tfrecord_tools.corpora.mixing import SoundscapeConfig
    from tfrecord_tools.corpora.recorded_events import RecordedEvents
    from tfrecord_tools.corpora.recordings import DEFAULT_EVAL_SHARE, read_sources
    from tfrecord_tools.corpora.synthesised_events import CLASS_MAP
else:
    __all__, __getattr__, __dir__ = lazy_names(__name__)
