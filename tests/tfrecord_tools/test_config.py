"""Settings told once: checks, JSON and documentation, all from the fields."""

from __future__ import annotations

import dataclasses
import doctest
import json
import re
import subprocess
import sys

import numpy as np
import pytest

from tfrecord_tools import config
from tfrecord_tools.config import (
    Config,
    Kind,
    check_same_settings,
    describe_differences,
    setting,
)


@dataclasses.dataclass(frozen=True)
class Filter(Config):
    """A filter before everything else."""

    taps: int = setting(3, "Samples that it reaches over.", minimum=1)


@dataclasses.dataclass(frozen=True)
class Sound(Config):
    """A sound of every kind of setting.

    Two paragraphs.
    """

    name: str = setting(help="Its name, as --title shows it.")
    level: float = setting(0.5, "Level, of full scale.", minimum=0, maximum=1)
    share: float = setting(0.1, "Share that is faded.", minimum=0, below=1, flag="fade_share")
    rate: int = setting(16000, "Sample rate, in Hz.", above=0, aliases=("rate_hz",))
    shape: str = setting("sine", "Form of the wave.", choices=("sine", "square"))
    loud: bool = setting(False, "Play it loud.")
    channel: int | None = setting(None, "Channel. Default: all.", minimum=0)
    gains: tuple[float, ...] = setting((1.0, 2.0), "Gain of each band.", above=0)
    words: tuple[str, ...] = setting((), "Words, with commas or not.")
    weights: tuple[float | None, ...] = setting(
        (), "A weight or none of each class, of as many as there are.", flag=False
    )
    filter: Filter = setting(Filter, "What is done first.", flag=False)
    plain: int = 7

    def __post_init__(self):
        super().__post_init__()
        self._require(not (self.loud and self.level == 0), "level", "more than 0 where loud")


@dataclasses.dataclass(frozen=True)
class Chord(Sound):
    """Several."""

    tones: int = setting(3, "Tones of it.", minimum=2)
    level: float = setting(0.25, "Level of each tone.", maximum=0.5)


SOUND = Sound("tone")


def test_defaults():
    assert (SOUND.level, SOUND.shape, SOUND.channel, SOUND.filter) == (0.5, "sine", None, Filter(3))


@pytest.mark.parametrize(
    "changes",
    [
        {"level": 0},
        {"level": 1},
        {"level": np.float32(0.5)},
        {"share": 0.0},
        {"rate": np.int64(1)},
        {"channel": 0},
        {"gains": ()},
        {"gains": (1, 0.5)},
        {"weights": (None, 0.3)},
        {"words": ("a,b",)},
        {"loud": True},
    ],
)
def test_values_that_are_allowed(changes):
    dataclasses.replace(SOUND, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"level": -0.1}, "level: expected a number from 0 to 1, got -0.1"),
        ({"level": 1.5}, "level: expected a number from 0 to 1, got 1.5"),
        ({"level": float("nan")}, "level: expected a number from 0 to 1, got nan"),
        ({"level": "0.5"}, "level: expected a number from 0 to 1, got '0.5'"),
        ({"level": None}, "level: expected a number from 0 to 1, got None"),
        ({"share": 1.0}, "share: expected a number, 0 or more, below 1, got 1.0"),
        ({"rate": 0}, "rate: expected a positive whole number, got 0"),
        ({"rate": 1.5}, "rate: expected a positive whole number, got 1.5"),
        ({"rate": True}, "rate: expected a positive whole number, got True"),
        ({"shape": "saw"}, "shape: expected one of sine, square, got 'saw'"),
        ({"channel": -1}, "channel: expected a whole number, 0 or more, got -1"),
        ({"gains": (1.0, 0.0)}, r"gains: expected positive numbers, got \(1\.0, 0\.0\)"),
        ({"gains": (1.0, float("inf"))}, "gains: expected positive numbers, got"),
        ({"gains": (1.0, None)}, "gains: expected positive numbers, got"),
        ({"gains": 1.0}, "gains: expected positive numbers, got 1.0"),
        ({"loud": True, "level": 0.0}, "level: expected more than 0 where loud, got 0.0"),
    ],
)
def test_errors_name_the_setting_what_was_expected_and_what_came(changes, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        dataclasses.replace(SOUND, **changes)


def test_nested_settings_are_checked():
    with pytest.raises(ValueError, match="taps: expected a whole number, at least 1, got 0"):
        Sound.from_dict({"name": "tone", "filter": {"taps": 0}})


def test_a_subclass_may_tell_a_setting_anew():
    assert Chord("c").level == 0.25
    with pytest.raises(ValueError, match=r"level: .* number, at most 0\.5, got 0\.75"):
        Chord("c", level=0.75)
    with pytest.raises(ValueError, match="tones: expected a whole number, at least 2, got 1"):
        Chord("c", tones=1)


def test_json_round_trip():
    sound = Sound("tone", gains=(0.5,), words=("a,b", "c"), weights=(None, 1.0), filter=Filter(5))
    restored = Sound.from_dict(json.loads(json.dumps(sound.to_dict())))
    assert restored == sound and restored.gains == (0.5,) and restored.filter == Filter(5)
    assert Sound.from_dict({"name": "tone"}) == SOUND
    with pytest.raises(ValueError, match="Sound has no colour, sise"):
        Sound.from_dict({"name": "tone", "sise": 1, "colour": 2})


def test_differences():
    other = dataclasses.replace(SOUND, level=0.25, filter=Filter(5), shape="square")
    assert SOUND.differences(SOUND) == ""
    assert SOUND.differences(other) == "level: 0.5 != 0.25; shape: 'sine' != 'square'; taps: 3 != 5"
    long = dataclasses.replace(SOUND, gains=(1.0,) * 9)
    assert (
        long.differences(dataclasses.replace(long, gains=(1.0,) * 8 + (2.0,)))
        == "gains[8]: 1.0 != 2.0"
    )
    assert long.differences(SOUND) == "gains: 9 values != (1.0, 2.0)"


def test_settings_of_files():
    there = {"a": 1, "b": {"c": [0.5], "d": 0.0}, "older": [], "gone": 2}
    asked = {"a": 1, "b": {"c": [0.3], "d": None}, "newer": False}
    assert describe_differences(there, there) == ""
    difference = "c: [0.5] != [0.3]; d: 0.0 != None; gone: 2 != None"
    assert describe_differences(there, asked) == difference
    check_same_settings("x was made", SOUND, dataclasses.replace(SOUND), "Give another.")
    message = f"x was made with other settings (there != asked): {difference}. Give another."
    with pytest.raises(ValueError, match=re.escape(message)):
        check_same_settings("x was made", there, asked, "Give another.")


@pytest.mark.parametrize(
    ("hint", "kind"),
    [
        (int, Kind(int)),
        (float | None, Kind(float, may_be_none=True)),
        (tuple[int, ...], Kind(int, is_tuple=True)),
        (tuple[float | None, ...], Kind(float, is_tuple=True, may_be_none=True)),
        (int | str, Kind(object)),
        (dict[str, int], Kind(object)),
    ],
)
def test_kinds(hint, kind):
    assert Kind.of(hint) == kind


def test_a_bound_that_there_is_not():
    with pytest.raises(TypeError, match="least"):
        setting(1, "A number.", least=0)


def test_the_documentation_has_what_the_fields_say():
    assert Sound.__doc__.split("\n\n") == [
        "A sound of every kind of setting.",
        "Two paragraphs.",
        "\n".join(
            [
                "Attributes:",
                "    name (str): Its name, as `title` shows it.",
                "    level (float): Level, of full scale. Default: 0.5; a number from 0 to 1.",
                "    share (float): Share that is faded. Default: 0.1; a number, 0 or more, below "
                "1.",
                "    rate (int): Sample rate, in Hz. Default: 16000; a positive whole number.",
                "    shape (str): Form of the wave. Default: 'sine'; one of sine, square.",
                "    loud (bool): Play it loud. Default: False.",
                "    channel (int | None): Channel. Default: all. A whole number, 0 or more.",
                "    gains (tuple[float, ...]): Gain of each band. Default: (1.0, 2.0); positive "
                "numbers.",
                "    words (tuple[str, ...]): Words, with commas or not. Default: ().",
                "    weights (tuple[float | None, ...]): A weight or none of each class, of as "
                "many as there",
                "        are. Default: (); numbers.",
                "    filter (Filter): What is done first.",
            ]
        ),
    ]
    assert max(map(len, Sound.__doc__.splitlines())) <= 92


def test_the_documentation_of_a_subclass_begins_with_what_it_inherits():
    lines = Chord.__doc__.splitlines()
    assert lines[:4] == [
        "Several.",
        "",
        "Attributes:",
        "    name (str): Its name, as `title` shows it.",
    ]
    assert (
        lines[4] == "    level (float): Level of each tone. Default: 0.25; a number, at most 0.5."
    )
    assert lines[-1] == "    tones (int): Tones of it. Default: 3; a whole number, at least 2."


def test_settings_without_help_of_their_own_keep_their_docstring():
    @dataclasses.dataclass(frozen=True)
    class Record(Config):
        """What is kept."""

        number: int = 3

    assert Record.__doc__ == "What is kept."
    assert Record.from_dict({"number": 4}) == Record(4)


def test_the_example_of_the_module():
    names = {"dataclasses": dataclasses}
    assert doctest.testmod(config, extraglobs=names).failed == 0


def test_settings_need_the_standard_library_alone():
    code = (
        "import sys; from tfrecord_tools import config; "
        "assert not {'numpy', 'absl', 'tensorflow', 'keras', 'matplotlib'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
