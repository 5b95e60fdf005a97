"""Experiments on disk: the folders of their runs, their records, and the stages that runs share.

    EXPERIMENTS_DIR/NAME/experiment.json                what was asked
    EXPERIMENTS_DIR/NAME/seed-0/stage-0 ...             a run folder for each seed
    EXPERIMENTS_DIR/NAME/seed-0/alpha-0.3/stage-0 ...   in a sweep, for each seed and alpha

TensorFlow is not imported, unless stages are shared.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator, Sequence

from secost_tf.runs.settings import StageConfig
from secost_tf.runs.stage_folder import StageFolder, done_stages, library_versions
from tfrecord_tools import shards, storage
from tfrecord_tools.config import Config, check_same_settings

EXPERIMENT_JSON = "experiment.json"


def check_name(name: str) -> None:
    """Raise `ValueError` if an experiment cannot have this name."""
    if not re.fullmatch(r"\w[\w.-]*", name or ""):
        raise ValueError(
            "name: expected that of an experiment, of letters, digits, '_', '-' and '.', got "
            f"{name!r}; give --name, or a --flagfile that holds it"
        )


def run_folder(experiments_dir: str, name: str, seed: int, alpha: float | None = None) -> str:
    """Return the run folder of an experiment's seed, and alpha in a sweep."""
    of_alpha = () if alpha is None else (f"alpha-{alpha:g}",)
    return storage.join(experiments_dir, name, f"seed-{seed}", *of_alpha)


def data_digest(data_dir: str) -> str:
    """Return a digest of converted splits: of classes, log-mel, clips, statistics and shards."""
    contents = {}
    for split in ("train", "validation", "eval"):
        if shards.has_split(data_dir, split):
            values = shards.read_dataset_info(data_dir, split, check_shards=False).to_dict()
            del values["settings"], values["failures"]
            sizes = [(shard["clips"], shard["bytes"]) for shard in values["shards"]]
            contents[split] = {**values, "shards": sizes}
    return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()[:16]


@dataclasses.dataclass(frozen=True)
class ExperimentRecord(Config):
    """The content of `experiment.json`.

    Attributes:
        name: its name.
        stage: the last stage of each run.
        sweep_alphas: the alphas of a sweep; none: a cascade.
        settings: of the cascade, but for the seed.
        data_dir: the converted splits that it was begun with.
        data_digest: what they held (`data_digest`).
    """

    name: str
    stage: int
    sweep_alphas: tuple[float, ...]
    settings: dict
    data_dir: str
    data_digest: str

    @classmethod
    def read(cls, experiments_dir: str, name: str) -> ExperimentRecord | None:
        """Return the record of an experiment, or None if it was never begun."""
        path = storage.join(experiments_dir, name, EXPERIMENT_JSON)
        if not storage.exists(path):
            return None
        try:
            return cls.from_dict(storage.read_json(path))
        except (AttributeError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: not the settings of an experiment ({error})") from error

    def begin(self, experiments_dir: str) -> None:
        """Write the record.

        Raises:
            ValueError: if another experiment of this name has a stage already.
        """
        folder = storage.join(experiments_dir, self.name)
        earlier = self.read(experiments_dir, self.name)
        if earlier == self:
            return  # without writing: processes that share an experiment begin it at one moment
        if earlier is None or not _is_begun(experiments_dir, earlier):
            storage.make_dirs(folder)
            storage.write_json(storage.join(folder, EXPERIMENT_JSON), self.to_dict())
            return
        another = "choose another --name for another experiment"
        if earlier.data_digest != self.data_digest:
            raise ValueError(
                f"{folder} was begun on the data of {earlier.data_dir}, which are not (or no "
                f"longer) those of {self.data_dir}; {another}"
            )
        mine, theirs = (
            {"sweep_alphas": record.sweep_alphas} | record.settings for record in (self, earlier)
        )
        advice = f"Continue with the same settings, or {another}"
        check_same_settings(f"{folder} was begun", theirs, mine, advice)


def _is_begun(experiments_dir: str, record: ExperimentRecord) -> bool:
    """Return True if a run of the experiment has a stage that is done or can be continued."""
    names = storage.list_dir(storage.join(experiments_dir, record.name))
    seeds = [int(match[1]) for name in names if (match := re.fullmatch(r"seed-(\d+)", name))]
    runs = (run for seed in seeds for run in _runs_of_seed(experiments_dir, record, seed))
    return any(stage.is_done or stage.is_begun for stage in (StageFolder(run, 0) for run in runs))


def _runs_of_seed(experiments_dir: str, record: ExperimentRecord, seed: int) -> list[str]:
    alphas = record.sweep_alphas or (None,)
    return [run_folder(experiments_dir, record.name, seed, alpha) for alpha in alphas]


def share_stages(
    run_dir: str,
    configs: Sequence[StageConfig],
    record: ExperimentRecord,
    experiments_dir: str,
    seed: int,
) -> Iterator[tuple[int, str]]:
    """Take the stages that a run lacks from another run, as far as they are the same.

    The same are settings, data, versions of the libraries, and the teachers themselves. A stage of
    which a checkpoint stands in `run_dir` is left to be continued there.

    Args:
        run_dir: the run.
        configs: the settings of its stages from 0 on.
        record: its experiment.
        experiments_dir: folder of all experiments.
        seed: the run's.

    Yields:
        The number of each stage that was taken, and the run folder that it was taken from.
    """
    have = len(done_stages(run_dir))
    if StageFolder(run_dir, have).is_begun:
        return
    common, donor = 0, ""
    for run in _runs_on_same_data(record, experiments_dir, seed):
        if run != run_dir and len(done_stages(run)) > have:
            stages = _common_stages(run_dir, run, configs, record.data_dir)
            if stages > common:
                common, donor = stages, run
    for number in range(have, common):
        StageFolder(run_dir, number).copy_from(StageFolder(donor, number))
        yield number, donor


def _runs_on_same_data(record: ExperimentRecord, experiments_dir: str, seed: int) -> Iterator[str]:
    """Yield the run folders of a seed, in all experiments on the same data."""
    for name in storage.list_dir(experiments_dir):
        other = ExperimentRecord.read(experiments_dir, name)
        if other is not None and other.data_digest == record.data_digest:
            yield from _runs_of_seed(experiments_dir, other, seed)


def _common_stages(run_dir: str, donor: str, configs: Sequence[StageConfig], data_dir: str) -> int:
    """Count the stages of `donor`, from 0 on, that are done and the same as those of `run_dir`."""
    versions, num_mine = library_versions(), len(done_stages(run_dir))
    theirs = done_stages(donor)[: len(configs)]
    for number, (stage, config) in enumerate(zip(theirs, configs, strict=False)):
        record = stage.record
        if (stage.versions, record.data_dir, record.config) != (versions, data_dir, config):
            return number
        if number < num_mine and StageFolder(run_dir, number).weights() != stage.weights():
            return 0
    return len(theirs)
