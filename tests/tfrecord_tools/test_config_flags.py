"""Flags made of settings, and settings made of flags."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest
from absl import flags

from tfrecord_tools.config import Config, setting
from tfrecord_tools.config_flags import (
    define_flags,
    flag_names,
    given_flags,
    read_flag_values,
    read_flags,
)


@dataclasses.dataclass(frozen=True)
class Tone(Config):
    """A tone of every kind of flag."""

    name: str = setting(help="Its name.")
    path: str | None = setting(None, "File of it. Default: none.")
    level: float = setting(0.5, "Level, of full scale.", minimum=0, maximum=1)
    share: float = setting(0.1, "Share that is faded.", minimum=0, below=1, flag="fade_share")
    rate: int = setting(16000, "Sample rate, in Hz.", minimum=1, aliases=("rate_hz",))
    count: int = setting(1, "How often.")
    shape: str = setting("sine", "Form of the wave.", choices=("sine", "square"), aliases=("form",))
    loud: bool = setting(False, "Play it loud.")
    soft: bool | None = setting(None, "Play it softly. Default: at night.")
    channel: int | None = setting(None, "Channel. Default: all.", minimum=0)
    gains: tuple[float, ...] = setting((1.0, 2.0), "Gain of each band.", above=0)
    words: tuple[str, ...] = setting((), "Words, with commas or not.")
    inner: int = setting(3, "No flag.", flag=False)
    plain: int = 7

    def __post_init__(self):
        super().__post_init__()
        self._require(not (self.loud and self.level == 0), "level", "more than 0 where loud")


@dataclasses.dataclass(frozen=True)
class Place(Config):
    """Where it is played."""

    room: str = setting("hall", "The room.")


@pytest.fixture
def parse():
    """Defines the flags of a tone and a place apart from all others, and parses arguments."""

    def parsed(*arguments: str) -> flags.FlagValues:
        values = flags.FlagValues()
        define_flags(Tone, Place, flag_values=values)
        values([sys.argv[0], *arguments])
        return values

    return parsed


def test_flags_not_given_are_the_defaults(parse):
    values = parse("--name=a")
    assert read_flags(Tone, flag_values=values) == Tone("a")
    assert read_flags(Place, flag_values=values) == Place()


def test_each_kind_of_flag(parse):
    values = parse(
        *(
            "--name=a",
            "--path=x.wav",
            "--level=0.25",
            "--fade_share=0",
            "--rate=8000",
            "--count=-2",
        ),
        *("--shape=square", "--loud", "--nosoft", "--channel=0", "--gains=1,0.5,1e-3"),
        *('--words=a,"b,c"', "--room=attic"),
    )
    assert read_flags(Tone, flag_values=values) == Tone(
        name="a",
        path="x.wav",
        level=0.25,
        share=0.0,
        rate=8000,
        count=-2,
        shape="square",
        loud=True,
        soft=False,
        channel=0,
        gains=(1.0, 0.5, 0.001),
        words=("a", "b,c"),
    )
    assert read_flags(Place, flag_values=values) == Place("attic")
    assert read_flag_values(Place, values) == {"room": "attic"}


def test_an_empty_list(parse):
    assert read_flags(Tone, flag_values=parse("--name=a", "--gains=")).gains == ()


def test_aliases_and_values_in_place_of_flags(parse):
    values = parse("--name=a", "--rate_hz=8000", "--form=square")
    tone = read_flags(Tone, flag_values=values, inner=4, plain=8, level=1.0)
    assert tone == Tone("a", rate=8000, shape="square", inner=4, plain=8, level=1.0)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--level=2", "flag --level=2: expected a number from 0 to 1"),
        ("--level=nan", "flag --level=nan: expected a number from 0 to 1"),
        ("--level=loud", "flag --level=loud: expected a number from 0 to 1"),
        ("--fade_share=1", "flag --fade_share=1: expected a number, 0 or more, below 1"),
        ("--rate=0", "flag --rate=0: expected a whole number, at least 1"),
        ("--rate=1.5", "flag --rate=1.5: expected a whole number, at least 1"),
        ("--shape=saw", "flag --shape=saw: value should be one of <sine|square>"),
        ("--gains=1,0", "flag --gains=1,0: expected a comma separated list of positive numbers"),
        ("--gains=1,x", "flag --gains=1,x: expected a comma separated list of positive numbers"),
        ("--inner=3", "Unknown command line flag 'inner'"),
        ("--plain=3", "Unknown command line flag 'plain'"),
    ],
)
def test_a_flag_with_a_value_that_is_not_allowed(parse, argument, message):
    with pytest.raises(flags.Error, match=f"^{message}"):
        parse("--name=a", argument)


def test_a_flag_that_must_be_given(parse):
    with pytest.raises(flags.IllegalFlagValueError, match="Flag --name must have a value"):
        parse()


def test_settings_that_do_not_go_together(parse):
    with pytest.raises(ValueError, match=r"level: .* more than 0 where loud, got 0\.0"):
        read_flags(Tone, flag_values=parse("--name=a", "--loud", "--level=0"))


def test_a_flag_goes_to_a_flagfile_and_back(parse, tmp_path):
    given = parse(
        *("--name=a", "--gains=1,0.5", '--words=a,"b,c"', "--level=0.25", "--noloud"),
        *("--form=square", "--room=attic"),
    )
    text = given_flags(Tone, Place, leave_out=["room"], flag_values=given)
    assert text == (
        '--name=a\n--level=0.25\n--shape=square\n--noloud\n--gains=1.0,0.5\n--words=a,"b,c"\n'
    )
    flagfile = tmp_path / "flags.txt"
    flagfile.write_text(text)
    again = read_flags(Tone, flag_values=parse(f"--flagfile={flagfile}"))
    assert again == read_flags(Tone, flag_values=given)


def test_one_flag_of_two_settings():
    @dataclasses.dataclass(frozen=True)
    class Other(Config):
        room: str = setting("cellar", "Another room.")

    with pytest.raises(flags.DuplicateFlagError, match="room"):
        define_flags(Place, Other, flag_values=flags.FlagValues())


def test_names_of_flags():
    assert flag_names(Place, Tone)[:5] == ["room", "name", "path", "level", "fade_share"]


def test_help_shows_name_text_default_and_what_is_allowed(parse):
    values = parse("--name=a")
    shown = values.main_module_help()
    for lines in (
        "  --name: Its name.\n  --path: File of it.",
        "  --level: Level, of full scale.\n    (default: '0.5')\n    (a number from 0 to 1)\n",
        "  --rate: Sample rate, in Hz.\n    (default: '16000')\n    (a whole number, at least 1)\n",
        "  --rate_hz: Alias for --rate.\n",
        "  --shape: <sine|square>: Form of the wave.\n    (default: 'sine')\n",
        "  --[no]loud: Play it loud.\n    (default: 'false')\n",
        "  --[no]soft: Play it softly. Default: at night.\n",
        "  --channel: Channel. Default: all.\n    (a whole number, 0 or more)\n",
        "  --gains: Gain of each band.\n    (default: '1.0,2.0')\n"
        "    (a comma separated list of positive numbers)\n",
        "  --words: Words, with commas or not.\n    (default: '')\n    (a comma separated list)",
        "  --room: The room.\n    (default: 'hall')",
    ):
        assert lines in shown


def test_help_of_an_installed_command_shows_its_flags(tmp_path):
    """absl shows the flags of the module that was started, which for a console script is the
    script.
    """
    (tmp_path / "some_command.py").write_text(
        "'''Does something.'''\n"
        "import dataclasses\n"
        "from tfrecord_tools.commands import run_command\n"
        "from tfrecord_tools.config import Config, setting\n"
        "@dataclasses.dataclass(frozen=True)\n"
        "class Settings(Config):\n"
        "    number: int = setting(1, 'A number.', minimum=0)\n"
        "def main(argv):\n"
        "    pass\n"
        "def run():\n"
        "    run_command(main, Settings)\n"
    )
    script = tmp_path / "some-command"
    script.write_text("import some_command\nsome_command.run()\n")
    done = subprocess.run(
        [sys.executable, str(script), "--help"], capture_output=True, text=True, check=False
    )
    assert done.stdout.startswith("Does something.")
    assert (
        "  --number: A number.\n    (default: '1')\n    (a whole number, 0 or more)" in done.stdout
    )
