"""When something sounds: segment scores to events, of recordings and of streams."""

from typing import TYPE_CHECKING

from tfrecord_tools._lazy import lazy_names

if TYPE_CHECKING:
    from secost_tf.detection.clip_picture import clip_figure
    from secost_tf.detection.detector import Detector, from_run, from_saved_model
    from secost_tf.detection.events import PostProcessing, active_segments, smooth
    from secost_tf.detection.flags import ThresholdSettings
    from secost_tf.detection.localization import (
        EVENTS_TSV,
        MOST_SHOWN,
        find_recordings,
        localize_all,
    )
    from secost_tf.detection.screen import Screen
    from secost_tf.detection.sources import in_blocks, in_time, of_file, of_microphone, of_pipe
    from secost_tf.detection.stream import EventTracker, Grid, Model, StreamScorer
    from secost_tf.detection.thresholds import tuned_thresholds
else:
    __all__, __getattr__, __dir__ = lazy_names(__name__)
