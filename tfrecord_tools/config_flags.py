"""Flags of a command, made of its settings, and settings made of the flags.

    define_flags(EvaluateSettings, PostProcessing)
    ...
    settings = read_flags(EvaluateSettings)

`tfrecord_tools.commands.run_command` defines the flags of the classes that it is given. Only a
command's face calls `read_flags`.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Collection, Iterator
from typing import Any, TypeVar

from absl import flags

from tfrecord_tools.config import (
    Config,
    Kind,
    Setting,
    describe_expectation,
    get_setting,
    is_allowed,
    setting_kinds,
)

T = TypeVar("T", bound=Config)


class _TextParser(flags.ArgumentParser):
    """Turns a flag's text into the value of a setting, and checks it as the setting is checked.

    Args:
        about: the setting.
        kind: its type.
    """

    def __init__(self, about: Setting, kind: Kind):
        self._about, self._kind = about, kind
        expectation = describe_expectation(about, kind)
        if kind.is_tuple:
            listed = "a comma separated list"
            expectation = f"{listed} of {expectation}" if expectation else listed
        self.syntactic_help = expectation

    def parse(self, argument: Any) -> Any:
        """Return the value of a text; a value is returned as it is."""
        value = argument
        if isinstance(argument, str):
            try:
                value = self._convert(argument)
            except ValueError:
                raise ValueError(f"expected {self.syntactic_help}") from None
        if not is_allowed(value, self._about, self._kind):
            raise ValueError(f"expected {self.syntactic_help}")
        return value

    def _convert(self, text: str) -> Any:
        base = self._kind.base if self._kind.base in (int, float) else str
        if self._kind.is_tuple:
            return tuple(base(item) for item in flags.ListParser().parse(text))
        return base(text)

    def flag_type(self) -> str:
        """Return the name that `--helpxml` shows."""
        return "comma separated list" if self._kind.is_tuple else self._kind.base.__name__


class _TextSerializer(flags.ArgumentSerializer):
    """Turns the value of a setting into a flag's text."""

    def serialize(self, value: Any) -> str:
        """Return the text that `_TextParser` turns into this value."""
        if isinstance(value, tuple):
            return flags.CsvListSerializer(",").serialize([str(item) for item in value])
        return str(value)


def _flags_of(config_class: type[Config]) -> Iterator[tuple[str, dataclasses.Field, Setting]]:
    """Yield the flag's name, the field and the setting, for each setting that has a flag."""
    for field in dataclasses.fields(config_class):
        about = get_setting(field)
        if about and about.has_flag:
            yield about.flag or field.name, field, about


def flag_names(*config_classes: type[Config]) -> list[str]:
    """Return the names of the flags that `define_flags` makes of these classes."""
    return [name for config_class in config_classes for name, _, _ in _flags_of(config_class)]


def define_flags(
    *config_classes: type[Config], flag_values: flags.FlagValues = flags.FLAGS
) -> None:
    """Define a flag for each setting, among those that the running command's `--help` shows.

    A setting without default makes a flag that must be given.

    Raises:
        absl.flags.DuplicateFlagError: if two settings have the same flag.
    """
    for config_class in config_classes:
        kinds = setting_kinds(config_class)
        for name, field, about in _flags_of(config_class):
            is_required = field.default is dataclasses.MISSING
            default = None if is_required else field.default
            flag = _make_flag(name, default, about, kinds[field.name])
            # absl's --help shows the flags of the module sys.argv[0], however the command was
            # started.
            flags.DEFINE_flag(flag, flag_values, sys.argv[0], required=is_required)
            for alias in about.aliases:
                flags.DEFINE_alias(alias, name, flag_values, sys.argv[0])


def _make_flag(name: str, default: Any, about: Setting, kind: Kind) -> flags.Flag:
    if kind.base is bool:
        return flags.BooleanFlag(name, default, about.help)
    parser: flags.ArgumentParser = _TextParser(about, kind)
    help_text = about.help
    if about.choices:
        parser = flags.EnumParser(about.choices)
        help_text = f"<{'|'.join(about.choices)}>: {about.help}"
    return flags.Flag(parser, _TextSerializer(), name, default, help_text)


def given_flags(
    *config_classes: type[Config],
    leave_out: Collection[str] = (),
    flag_values: flags.FlagValues = flags.FLAGS,
) -> str:
    """Return the flags of these classes that were given, but for some, as lines of a flagfile."""
    given = [flag_values[name] for name in flag_names(*config_classes) if flag_values[name].present]
    return "".join(f"{flag.serialize()}\n" for flag in given if flag.name not in leave_out)


def read_flag_values(
    config_class: type[Config], flag_values: flags.FlagValues = flags.FLAGS
) -> dict[str, Any]:
    """Return the values of a class's flags by the names of its fields."""
    return {field.name: flag_values[name].value for name, field, _ in _flags_of(config_class)}


def read_flags(
    config_class: type[T], *, flag_values: flags.FlagValues = flags.FLAGS, **values: Any
) -> T:
    """Return the settings that the flags ask for.

    Args:
        config_class: the class of the settings, whose flags are defined.
        flag_values: where they are defined.
        **values: of fields, in place of what the flags say; those of fields that have no flag.

    Raises:
        ValueError: if settings do not go together.
    """
    return config_class(**{**read_flag_values(config_class, flag_values), **values})
