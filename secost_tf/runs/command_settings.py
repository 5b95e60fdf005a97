"""Settings that several commands share, so that a flag has one definition, one meaning and one
text.
"""

from __future__ import annotations

import dataclasses

from tfrecord_tools.config import Config, setting

EXPORTED_MODEL_HELP = (
    "Folder of an exported model (secost_tf.export --export_dir), whose latest version is taken, "
    "or of one of its versions."
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunSettings(Config):
    """Settings of the commands that write or read a run."""

    run_dir: str = setting(
        "runs/secost",
        "Folder of the run: a folder for each stage, summary.csv and summary.json. secost_tf.train "
        "keeps what is done there and continues what was stopped.",
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageSettings(RunSettings):
    """Settings of the commands that read a stage of a run."""

    stage: int | None = setting(
        None,
        "Number of the stage, 0 being the base model. Default: the last one that is done; "
        "secost_tf.evaluate takes all that are done.",
        minimum=0,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunDataSettings(Config):
    """Settings of the commands that read the data of a run."""

    data_dir: str | None = setting(
        None, "Folder of converted splits. Default: the one that the run was trained with."
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoringSettings(RunDataSettings):
    """Settings of the commands that score the clips of a split."""

    batch_size: int = setting(
        32, "Clips scored at once; affects speed and memory, not figures.", minimum=1
    )
