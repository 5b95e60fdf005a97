"""Shards to batches: the clips of a split, the input pipeline, the teacher's scores."""

from typing import TYPE_CHECKING

from tfrecord_tools._lazy import lazy_names

if TYPE_CHECKING:
    from secost_tf.data.augmentation import make_augmentation
    from secost_tf.data.pipeline import (
        RecordCache,
        TrainingData,
        Worker,
        scoring_data,
        steps_per_epoch,
    )
    from secost_tf.data.splits import (
        Split,
        evaluation_split,
        find_damage,
        iterate_clips,
        read_clips,
        training_splits,
    )
    from secost_tf.data.teacher_scores import check_teacher_scores
else:
    __all__, __getattr__, __dir__ = lazy_names(__name__)
