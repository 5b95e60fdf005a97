"""Training: a stage, a cascade of stages, seeds, devices."""

from typing import TYPE_CHECKING

from tfrecord_tools._lazy import lazy_names

if TYPE_CHECKING:
    from secost_tf.training.cascade import run_cascade
    from secost_tf.training.cost import estimate_cost
    from secost_tf.training.experiments import ExperimentConfig, estimate_experiment, run_experiment
    from secost_tf.training.flags import (
        TRAIN_SETTINGS,
        DeviceSettings,
        TrainSettings,
        read_cascade_flags,
        read_run_options,
        set_up,
    )
    from secost_tf.training.parallel_runs import run_side_by_side
else:
    __all__, __getattr__, __dir__ = lazy_names(__name__)
