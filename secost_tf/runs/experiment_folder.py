"""Where the runs of experiments lie, what was asked of each experiment, and stages that several
runs have in common.

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
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from secost_tf.runs.settings import StageConfig
from secost_tf.runs.stage_folder import StageFolder, done_stages, library_versions
from tfrecord_tools import shards, storage
from tfrecord_tools.config import Config, describe_difference

EXPERIMENT_JSON = "experiment.json"


def check_name(name: str) -> None:
    """A `ValueError` unless `name` can be that of an experiment."""
    if not re.fullmatch(r"\w[\w.-]*", name or ""):
        raise ValueError(
            f"name: expected that of an experiment, of letters, digits, '_', '-' and '.', got {name!r}; give --name, or "
            "a --flagfile that holds it"
        )


def run_folder(experiments_dir: str, name: str, seed: int, alpha: float | None = None) -> str:
    """The run folder of an experiment's seed, and alpha in a sweep."""
    of_alpha = () if alpha is None else (f"alpha-{alpha:g}",)
    return storage.join(experiments_dir, name, f"seed-{seed}", *of_alpha)


def data_digest(data_dir: str) -> str:
    """What tells one folder of converted splits from another: classes, log-mel, clips and their
    statistics, shards.
    """
    contents = {}
    for split in ("train", "validation", "eval"):
        if shards.has_split(data_dir, split):
            values = shards.read_dataset_info(data_dir, split, check_shards=False).to_dict()
            contents[split] = {
                name: values[name] for name in values if name not in ("settings", "failures")
            }
            contents[split]["shards"] = [
                (shard["clips"], shard["bytes"]) for shard in values["shards"]
            ]
    return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()[:16]


@dataclasses.dataclass(frozen=True)
class ExperimentRecord(Config):
    """What `experiment.json` keeps of an experiment.

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
        """The record of an experiment, or None if it was never begun."""
        path = storage.join(experiments_dir, name, EXPERIMENT_JSON)
        if not storage.exists(path):
            return None
        try:
            return cls.from_dict(storage.read_json(path))
        except (AttributeError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: not the settings of an experiment ({error})") from error

    def begin(self, experiments_dir: str) -> None:
        """Writes the record; where something of the experiment stands, a `ValueError` if it was
        another one.
        """
        folder = storage.join(experiments_dir, self.name)
        earlier = self.read(experiments_dir, self.name)
        if earlier == self:
            return  # without writing, as processes that share out an experiment begin it at the same moment
        if earlier is None or not _is_begun(experiments_dir, earlier):
            storage.make_dirs(folder)
            storage.write_json(storage.join(folder, EXPERIMENT_JSON), self.to_dict())
            return
        another = "choose another --name for another experiment"
        if earlier.data_digest != self.data_digest:
            raise ValueError(
                f"{folder} was begun on the data of {earlier.data_dir}, which are not (or no longer) those of "
                f"{self.data_dir}; {another}"
            )
        mine, theirs = (
            {"sweep_alphas": one.sweep_alphas} | one.settings for one in (self, earlier)
        )
        if difference := "; ".join(_differences(theirs, mine)):
            raise ValueError(
                f"{folder} was begun with other settings (there != asked): {difference}. Continue with the same "
                f"settings, or {another}"
            )


def _is_begun(experiments_dir: str, record: ExperimentRecord) -> bool:
    """Whether a run of the experiment has a stage that is done or can be continued."""
    names = storage.list_dir(storage.join(experiments_dir, record.name))
    seeds = [int(match[1]) for name in names if (match := re.fullmatch(r"seed-(\d+)", name))]
    stages = [
        StageFolder(run_folder(experiments_dir, record.name, seed, alpha), 0)
        for seed in seeds
        for alpha in record.sweep_alphas or (None,)
    ]
    return any(stage.is_done or stage.is_begun for stage in stages)


def _differences(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterator[str]:
    """`name: mine != theirs` for each value that differs, also in nested ones."""
    for name in dict.fromkeys([*mine, *theirs]):
        one, other = mine.get(name), theirs.get(name)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            yield from _differences(one, other)
        elif (one or None) != (
            other or None
        ):  # a setting that an older version did not have is off
            yield describe_difference(name, one, other)


def share_stages(
    run_dir: str,
    configs: Sequence[StageConfig],
    record: ExperimentRecord,
    experiments_dir: str,
    seed: int,
) -> Iterator[tuple[int, str]]:
    """Takes the stages that a run lacks from another run that has them, as far as they are the
    same.

    The same means: the same settings, data and versions of what trained it, and the very same
    teachers. A stage of which a checkpoint stands in `run_dir` is left to be continued there.

    Args:
        run_dir: the run.
        configs: the settings of its stages from 0 on.
        record: its experiment.
        experiments_dir: where other experiments are looked for.
        seed: the run's.

    Yields:
        Each stage that was taken, and the run folder from which.
    """
    have = len(done_stages(run_dir))
    if StageFolder(run_dir, have).is_begun:
        return
    donors = [
        (_common_stages(run_dir, donor, configs, record.data_dir), donor)
        for donor in _runs_on_same_data(record, experiments_dir, seed)
        if donor != run_dir and len(done_stages(donor)) > have
    ]
    common, donor = max(donors, key=lambda one: one[0], default=(0, ""))
    for number in range(have, common):
        StageFolder(run_dir, number).copy_from(StageFolder(donor, number))
        yield number, donor


def _runs_on_same_data(record: ExperimentRecord, experiments_dir: str, seed: int) -> Iterator[str]:
    """The run folders of a seed, in all experiments on the same data."""
    for name in storage.list_dir(experiments_dir):
        other = ExperimentRecord.read(experiments_dir, name)
        if other is not None and other.data_digest == record.data_digest:
            for alpha in other.sweep_alphas or (None,):
                yield run_folder(experiments_dir, name, seed, alpha)


def _common_stages(run_dir: str, donor: str, configs: Sequence[StageConfig], data_dir: str) -> int:
    """Return how many stages of `donor` are done and are, from 0 on, those of `run_dir`."""
    versions, num_mine = library_versions(), len(done_stages(run_dir))
    theirs = done_stages(donor)[: len(configs)]
    for number, (stage, config) in enumerate(zip(theirs, configs, strict=False)):
        record = stage.record
        if (stage.versions, record.data_dir, record.config) != (versions, data_dir, config):
            return number
        if number < num_mine and StageFolder(run_dir, number).weights() != stage.weights():
            return 0
    return len(theirs)
