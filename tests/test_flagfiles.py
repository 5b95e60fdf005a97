"""Every flagfile says how it is used, and its flags exist and make settings that can be."""

import re
from pathlib import Path

import pytest
from absl import flags

from secost_tf import train
from secost_tf.keras_compat import make_optimizer
from secost_tf.pooling import HEADS
from tfrecord_tools.datasets.clips import ClassMap
from tfrecord_tools.log_mel import LogMelConfig
from tfrecord_tools.shards import DatasetInfo

FLAGFILES = sorted(Path(__file__).parents[1].glob("flags/*"))
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


@pytest.fixture
def parse():
    """Parses arguments with the flags of the train command, which are undefined again afterwards."""

    def parsed(*arguments):
        for define in (
            train.define_cascade_flags,
            train.define_network_flags,
            train.define_training_flags,
            train.define_device_flags,
        ):
            define()
        flags.FLAGS(["train", *arguments])

    yield parsed
    for flag in flags.FLAGS.get_flags_for_module(train.__name__):
        delattr(flags.FLAGS, flag.name)
    flags.FLAGS.unparse_flags()


def test_there_are_flagfiles():
    assert FLAGFILES and {path.suffix for path in FLAGFILES} == {".flags"}


@pytest.mark.parametrize("path", FLAGFILES, ids=lambda path: path.stem)
def test_a_flagfile_makes_settings(parse, path):
    parse(f"--flagfile={path}")
    config = train.cascade_config()
    for stage in range(config.stage + 1):
        made = config.stage_config(stage, AUDIOSET)
        assert made.stage == stage and made.network.pooling in HEADS
    make_optimizer(config.train.optimizer, config.train.learning_rate)
    named = re.findall(r"^--(?:no)?(\w+)", path.read_text(), re.MULTILINE)
    assert len(named) == len(set(named)), "a flag is given twice"
    assert all(flags.FLAGS[name].present for name in named if name != "flagfile")


@pytest.mark.parametrize("path", FLAGFILES, ids=lambda path: path.stem)
def test_a_flagfile_opens_with_its_command_and_time(path):
    lines = path.read_text().splitlines()
    comment = []
    while lines[len(comment)].startswith("#"):
        comment.append(lines[len(comment)])
    text = "\n".join(comment)
    assert re.search(rf"^#   python -m secost_tf\.train .*--flagfile=flags/{path.name}\b", text, re.MULTILINE)
    assert re.search(r"^# Time\b.*\d|^# Time: see \w+\.flags", text, re.MULTILINE | re.DOTALL)
    assert not comment[0].startswith("#   "), "the first line says what it is"
