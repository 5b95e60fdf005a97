"""Every flagfile says how it is used, and its flags exist and make settings that can be."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from absl import flags

from secost_tf import experiment, train
from secost_tf.models.optimizers import make_optimizer
from secost_tf.models.pooling import HEADS
from secost_tf.training.flags import read_cascade_flags
from tfrecord_tools import soundscapes
from tfrecord_tools.config_flags import define_flags, read_flags
from tfrecord_tools.corpora.label_noise import rates_for_precisions, read_label_precisions
from tfrecord_tools.datasets.clips import ClassMap
from tfrecord_tools.flagfiles import find_file
from tfrecord_tools.log_mel import LogMelConfig
from tfrecord_tools.shards.info import DatasetInfo

ROOT = Path(__file__).parents[1]
FLAGFILES = sorted(path.relative_to(ROOT) for path in ROOT.glob("flags/**/*.flags"))
# The settings of each command that a flagfile may be for.
SETTINGS = {
    "secost_tf.train": train.SETTINGS,
    "secost_tf.experiment": experiment.SETTINGS,
    "tfrecord_tools.soundscapes": soundscapes.SETTINGS,
}
AUDIOSET = DatasetInfo(
    split="train",
    dataset="audioset",
    log_mel=LogMelConfig(),
    feature_dtype="float16",
    feature_range=None,
    compression="NONE",
    class_map=ClassMap(tuple(f"/m/{index}" for index in range(527)), ("class",) * 527),
    num_clips=0,
    seconds=0.0,
    max_frames=0,
    positives=(),
    mean=(),
    variance=(),
    shards=(),
    failures={},
    settings={},
)


def opening_comment(path: Path) -> list[str]:
    lines = (ROOT / path).read_text().splitlines()
    return lines[: next(number for number, line in enumerate(lines) if not line.startswith("#"))]


def command_of(path: Path) -> str:
    """The module that the flagfile's comment runs with it."""
    command = re.compile(rf"^#   python -m (\S+) .*--flagfile={path}(?!\S)")
    modules = [match[1] for line in opening_comment(path) if (match := command.match(line))]
    assert modules, f"no line '#   python -m ... --flagfile={path}'"
    return modules[0]


FLAGFILES_OF = {
    module: [
        path
        for path in FLAGFILES
        if module in (ROOT / path).read_text() and command_of(path) == module
    ]
    for module in SETTINGS
}


@pytest.fixture
def parse():
    """Parses arguments with the flags of a command, which are undefined again afterwards."""
    before = set(flags.FLAGS)

    def parsed(command: str, *arguments: str) -> None:
        define_flags(*SETTINGS[command])
        flags.FLAGS([command, *arguments])

    yield parsed
    for name in set(flags.FLAGS) - before:
        delattr(flags.FLAGS, name)
    flags.FLAGS.unparse_flags()


def assert_all_given(path: Path) -> None:
    named = re.findall(r"^--(?:no)?(\w+)", (ROOT / path).read_text(), re.MULTILINE)
    assert len(named) == len(set(named)), "a flag is given twice"
    assert all(flags.FLAGS[name].present for name in named if name != "flagfile")


def test_there_are_flagfiles_of_every_command():
    assert all(FLAGFILES_OF.values())
    assert sorted(path for paths in FLAGFILES_OF.values() for path in paths) == FLAGFILES
    others = {path.suffix for path in ROOT.glob("flags/**/*") if path.is_file()}
    assert others <= {".flags", ".csv"}


def assert_cascade_can_be(config) -> None:
    for stage in range(config.stage + 1):
        made = config.stage_config(stage, AUDIOSET)
        assert made.stage == stage and made.network.pooling in HEADS
    make_optimizer(config.train.optimizer, config.train.learning_rate)


@pytest.mark.parametrize("path", FLAGFILES_OF["secost_tf.train"], ids=str)
def test_a_flagfile_makes_settings(parse, path):
    parse("secost_tf.train", f"--flagfile={ROOT / path}")
    assert_cascade_can_be(read_cascade_flags())
    assert_all_given(path)


@pytest.mark.parametrize("path", FLAGFILES_OF["secost_tf.experiment"], ids=str)
def test_a_flagfile_of_an_experiment_makes_settings(parse, path):
    name = (
        [] if "--name=" in (ROOT / path).read_text() else ["--name=common"]
    )  # settings common to several
    parse("secost_tf.experiment", f"--flagfile={ROOT / path}", *name)
    config = experiment.experiment_config(read_flags(experiment.ExperimentSettings))
    assert_cascade_can_be(config.cascade)
    assert config.name in (path.stem, "common")  # the folder is named as the flagfile is
    assert_all_given(path)


@pytest.mark.parametrize("path", FLAGFILES_OF["tfrecord_tools.soundscapes"], ids=str)
def test_a_flagfile_of_soundscapes_makes_settings(parse, path):
    parse(
        "tfrecord_tools.soundscapes", f"--flagfile={ROOT / path}", "--out=unused", "--source=unused"
    )
    config = soundscapes.soundscape_config(read_flags(soundscapes.SoundscapesSettings))
    assert config.missing_rate == flags.FLAGS.missing_labels == 0.3
    assert_all_given(path)
    names = (
        "baby_cry chainsaw clock_tick dog_bark fire_crackling helicopter person_sneeze rain "
        "rooster sea_waves"
    )
    class_map = ClassMap(tuple(names.split()), tuple(names.split()))
    precisions = read_label_precisions(str(find_file(flags.FLAGS.label_precision_csv)), class_map)
    assert dict(zip(class_map.mids, precisions, strict=True))["clock_tick"] == 0.5  # Tick-tock
    rates = rates_for_precisions(config, precisions, class_map.display_names)
    assert [name for name, rate in zip(class_map.mids, rates, strict=True) if rate] == [
        "clock_tick",
        "fire_crackling",
        "rain",
        "sea_waves",
    ]


@pytest.mark.parametrize("path", FLAGFILES, ids=str)
def test_a_flagfile_opens_with_its_command_and_time(path):
    comment = opening_comment(path)
    assert command_of(path) in SETTINGS
    text = "\n".join(comment)
    assert re.search(r"^# Time\b.*\d|^# Time: see \w+\.flags", text, re.MULTILINE | re.DOTALL)
    assert not comment[0].startswith("#   "), "the first line says what it is"
