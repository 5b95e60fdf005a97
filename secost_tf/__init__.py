"""SeCoST, sequential co-supervision for weakly labelled audio event detection, on Keras.

Importing the package loads neither TensorFlow nor Keras; a name that needs them does, when it is
used first.
"""

import os
from typing import TYPE_CHECKING

from secost_tf.version import __version__
from tfrecord_tools._lazy import lazy_names

# oneDNN's kernels double the training speed on processors where TensorFlow leaves them off. Read by
# TensorFlow when it is imported, hence here; a value the user has set stands.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

if TYPE_CHECKING:
    from secost_tf.detection import Detector, localize_recordings
    from secost_tf.evaluation import compare_stages, evaluate_run, evaluate_scores
    from secost_tf.models import (
        LogMel,
        Pooling,
        SeCoSTLoss,
        TeacherDistillation,
        WeightAverage,
        WelsNetConfig,
        average_teacher,
        secost_loss,
        secost_target,
        stack_targets,
        wels_net,
    )
    from secost_tf.reporting import write_report
    from secost_tf.runs import CascadeConfig, StageConfig, StageFolder, TrainConfig, load_student
    from secost_tf.serving import export_run
    from secost_tf.training import ExperimentConfig, run_cascade, run_experiment
else:
    __all__, __getattr__, __dir__ = lazy_names(__name__)
