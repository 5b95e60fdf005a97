"""A run on disk: its settings, the folders of its stages, its summary.

TensorFlow is loaded only where a student is.
"""

from typing import TYPE_CHECKING

from tfrecord_tools._lazy import lazy_names

if TYPE_CHECKING:
    from secost_tf.runs.command_settings import (
        EXPORTED_MODEL_HELP,
        RunDataSettings,
        RunSettings,
        ScoringSettings,
        StageSettings,
    )
    from secost_tf.runs.experiment_folder import (
        ExperimentRecord,
        check_name,
        data_digest,
        run_folder,
        share_stages,
    )
    from secost_tf.runs.settings import CascadeConfig, RunOptions, StageConfig, TrainConfig
    from secost_tf.runs.stage_folder import (
        ALPHA_PER_CLASS_CSV,
        CHECKPOINTS,
        FLAGS_TXT,
        HISTORY_CSV,
        PER_CLASS_CSV,
        TEACHER_SCORES,
        TENSORBOARD,
        StageFolder,
        StageRecord,
        done_stages,
        find_stage,
        library_versions,
        load_student,
    )
    from secost_tf.runs.summary import (
        add_changes,
        alpha_text,
        join_stages,
        summarize,
        write_summary,
    )
else:
    __all__, __getattr__, __dir__ = lazy_names(__name__)
