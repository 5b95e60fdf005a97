"""Settings that are told once: frozen dataclasses whose fields carry default, help text and bounds.

A field made by `setting` is checked when its object is made, it is documented in its class, and
`tfrecord_tools.config_flags` makes a command's flag of it:

    >>> @dataclasses.dataclass(frozen=True)
    ... class Fade(Config):
    ...     '''How a sound begins.'''
    ...
    ...     seconds: float = setting(0.5, "Length of the fade, in seconds.", minimum=0)
    >>> Fade(seconds=-1.0)
    Traceback (most recent call last):
        ...
    ValueError: seconds: expected a number, 0 or more, got -1.0
    >>> print(Fade.__doc__)
    How a sound begins.
    <BLANKLINE>
    Attributes:
        seconds (float): Length of the fade, in seconds. Default: 0.5; a number, 0 or more.

This module imports the standard library alone.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import numbers
import re
import textwrap
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

T = TypeVar("T", bound="Config")

_LONG = 8  # a list with more items is not shown whole

_METADATA_KEY = "setting"

_LINE_WIDTH = 92  # of a docstring, which its class may indent


# === A setting ===
@dataclasses.dataclass(frozen=True)
class Setting:
    """The help text and the bounds of a field; made by `setting`."""

    help: str
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    below: float | None = None
    choices: tuple[str, ...] = ()
    flag: str | None = None
    has_flag: bool = True
    aliases: tuple[str, ...] = ()


def setting(
    default: Any = dataclasses.MISSING,
    help: str = "",
    *,
    flag: str | bool = True,
    aliases: Sequence[str] = (),
    choices: Sequence[str] = (),
    **bounds: float,
) -> Any:
    """Make a field of a `Config`.

    Args:
        default: its value where none is given; left out, it must be given. A `Config` class as
            default means that class with its own defaults.
        help: sentences for people, with units. `--name` in it is another setting of the command;
            the class's documentation shows it without the dashes.
        flag: name of the command's flag if it is another one than the field's; False: no flag.
        aliases: other names under which the command knows the flag.
        choices: the values that a text may have.
        **bounds: of a number, or of each number of a tuple: `minimum`, `maximum` (themselves
            allowed), `above`, `below` (not allowed).

    Returns:
        What `dataclasses.field` returns.

    Raises:
        TypeError: if a bound is none of the four.
    """
    metadata = Setting(
        help=help,
        choices=tuple(choices),
        flag=flag if isinstance(flag, str) else None,
        has_flag=flag is not False,
        aliases=tuple(aliases),
        **bounds,
    )
    if isinstance(default, type):
        return dataclasses.field(default_factory=default, metadata={_METADATA_KEY: metadata})
    return dataclasses.field(default=default, metadata={_METADATA_KEY: metadata})


@dataclasses.dataclass(frozen=True)
class Kind:
    """The type of a setting, taken apart.

    Attributes:
        base: the type of the value, or of each item of a tuple; `object` where there are several.
        is_tuple: the value is a tuple of any length.
        may_be_none: None is allowed, as the value or as an item.
    """

    base: type
    is_tuple: bool = False
    may_be_none: bool = False

    @classmethod
    def of(cls, hint: Any) -> Kind:
        """Take a type hint apart, such as `int`, `float | None` or `tuple[int, ...]`."""
        if typing.get_origin(hint) is tuple:
            items = cls.of(typing.get_args(hint)[0])
            return dataclasses.replace(items, is_tuple=True)
        if typing.get_origin(hint) in (typing.Union, types.UnionType):
            others = [kind for kind in typing.get_args(hint) if kind is not type(None)]
            if len(others) < len(typing.get_args(hint)) and len(others) == 1:
                return dataclasses.replace(cls.of(others[0]), may_be_none=True)
        return cls(hint if isinstance(hint, type) else object)


def setting_kinds(config_class: type[Config]) -> dict[str, Kind]:
    """Return the kind of each field of a class of settings."""
    hints = typing.get_type_hints(config_class)
    return {field.name: Kind.of(hints[field.name]) for field in dataclasses.fields(config_class)}


def get_setting(field: dataclasses.Field) -> Setting | None:
    """Return what `setting` said of a field; None for a plain field."""
    return field.metadata.get(_METADATA_KEY)


def describe_expectation(about: Setting, kind: Kind) -> str:
    """Return in words what values a setting may have, such as "a number from 0 to 1".

    Empty where any value goes.
    """
    if about.choices:
        return f"one of {', '.join(about.choices)}"
    nouns = {int: "whole number", float: "number"}
    if kind.base not in nouns:
        return ""
    low, high, above, below = about.minimum, about.maximum, about.above, about.below
    noun = f"positive {nouns[kind.base]}" if above == 0 else nouns[kind.base]
    noun, above = f"{noun}s" if kind.is_tuple else f"a {noun}", above or None
    if low is not None and high is not None:
        noun = f"{noun} from {low} to {high}"
    elif low is not None:
        noun = f"{noun}, {'0 or more' if low == 0 else f'at least {low}'}"
    elif high is not None:
        noun = f"{noun}, at most {high}"
    limits = [
        f"{word} {limit}"
        for word, limit in (("above", above), ("below", below))
        if limit is not None
    ]
    return f"{noun}, {' and '.join(limits)}" if limits else noun


def is_allowed(value: Any, about: Setting, kind: Kind) -> bool:
    """Return whether a setting may have this value."""
    if value is None and kind.may_be_none:
        return True
    if kind.is_tuple:
        item_kind = dataclasses.replace(kind, is_tuple=False)
        return isinstance(value, (tuple, list)) and all(
            is_allowed(item, about, item_kind) for item in value
        )
    if about.choices:
        return value in about.choices
    if kind.base not in (int, float):
        return True
    wanted = numbers.Integral if kind.base is int else numbers.Real
    if isinstance(value, bool) or not isinstance(value, wanted) or not math.isfinite(value):
        return False
    number = float(value)
    return (
        (about.minimum is None or number >= about.minimum)
        and (about.maximum is None or number <= about.maximum)
        and (about.above is None or number > about.above)
        and (about.below is None or number < about.below)
    )


# === A class of settings ===
@dataclasses.dataclass(frozen=True)
class Config:
    """A frozen dataclass of plain values that goes to JSON and back.

    Subclasses are frozen dataclasses as well. Their docstring gets the section "Attributes" from
    their settings. One with checks across its fields calls `super().__post_init__()` first.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if attributes := _document_settings(cls):
            cls.__doc__ = f"{inspect.cleandoc(cls.__dict__.get('__doc__') or '')}\n\n{attributes}"

    def __post_init__(self) -> None:
        kinds = setting_kinds(type(self))
        for field in dataclasses.fields(self):
            about, kind = get_setting(field), kinds[field.name]
            if about and not is_allowed(getattr(self, field.name), about, kind):
                self._require(False, field.name, describe_expectation(about, kind))

    def _require(self, ok: bool, name: str, expected: str) -> None:
        """Raise a `ValueError` that names the setting, what was expected and came, if not ok."""
        if not ok:
            raise ValueError(f"{name}: expected {expected}, got {getattr(self, name)!r}")

    def to_dict(self) -> dict:
        """Return plain values, for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls: type[T], values: dict) -> T:
        """Return the settings that `to_dict` gave, also after a trip through JSON.

        Raises:
            ValueError: if a key is unknown, or a value is not allowed.
        """
        hints = typing.get_type_hints(cls)
        unknown = sorted(set(values) - {field.name for field in dataclasses.fields(cls)})
        if unknown:
            raise ValueError(f"{cls.__name__} has no {', '.join(unknown)}")
        return cls(**{name: _restore(hints[name], value) for name, value in values.items()})

    def differences(self: T, other: T) -> str:
        """Return `name: mine != theirs; ...` for each value that differs, also in nested settings.

        Empty if none does.
        """
        return describe_differences(vars(self), vars(other))


def check_same_settings(
    what: str, there: Mapping[str, Any] | Config, asked: Mapping[str, Any] | Config, advice: str
) -> None:
    """Raise `ValueError` if what is there was made with other settings than those asked for.

    Args:
        what: begins the message, such as "FOLDER was made".
        there, asked: the settings by name, also nested; one that is absent is off.
        advice: ends the message: what to do.
    """
    if difference := describe_differences(there, asked):
        raise ValueError(f"{what} with other settings (there != asked): {difference}. {advice}")


def describe_differences(
    mine: Mapping[str, Any] | Config, theirs: Mapping[str, Any] | Config
) -> str:
    """Return `name: mine != theirs; ...` for each setting that differs, also in nested ones.

    Empty if none does. A setting that is absent on one side, as in older files, is off.
    """
    mine, theirs = (side if isinstance(side, Mapping) else vars(side) for side in (mine, theirs))
    parts = []
    for name in {**mine, **theirs}:
        left, right = mine.get(name), theirs.get(name)
        if isinstance(left, (Mapping, Config)) and isinstance(right, (Mapping, Config)):
            parts.append(describe_differences(left, right))
        elif left != right and (left or right or (name in mine and name in theirs)):
            parts.append(_describe_difference(name, left, right))
    return "; ".join(filter(None, parts))


def _describe_difference(name: str, mine: Any, theirs: Any) -> str:
    """Return `name: mine != theirs`; of long lists the first item that differs, or the lengths."""
    both = (mine, theirs)
    if all(isinstance(value, (list, tuple)) for value in both) and len(mine) == len(theirs) > _LONG:
        pairs = zip(*both, strict=True)
        place = next(index for index, (left, right) in enumerate(pairs) if left != right)
        return _describe_difference(f"{name}[{place}]", mine[place], theirs[place])
    shown = [
        f"{len(value)} values"
        if isinstance(value, (list, tuple)) and len(value) > _LONG
        else repr(value)
        for value in both
    ]
    return f"{name}: {shown[0]} != {shown[1]}"


def _restore(hint: Any, value: Any) -> Any:
    if isinstance(value, dict) and isinstance(hint, type) and issubclass(hint, Config):
        return hint.from_dict(value)
    if isinstance(value, list):
        return tuple(_restore(None, item) for item in value)
    return value


# === Documentation ===
def _document_settings(config_class: type[Config]) -> str:
    """Return the section "Attributes" of a class whose dataclass decorator has not run yet."""
    described: dict[str, str] = {}
    for base in reversed(config_class.__mro__):
        own = inspect.get_annotations(base)
        fields = base.__dict__.get("__dataclass_fields__", {})
        for name, hint in own.items():
            field = fields.get(name) or base.__dict__.get(name)
            if isinstance(field, dataclasses.Field) and (about := get_setting(field)):
                described[name] = _document_setting(name, hint, field, about)
    return "\n".join(["Attributes:", *described.values()]) if described else ""


def _document_setting(name: str, hint: Any, field: dataclasses.Field, about: Setting) -> str:
    hint = hint if isinstance(hint, str) else inspect.formatannotation(hint)
    facts = []
    if field.default not in (dataclasses.MISSING, None):
        facts.append(f"Default: {field.default!r}")
    base = hint.partition("[")[2] or hint
    kind = Kind({"int": int, "float": float}.get(re.split(r"\W", base)[0], object), "tuple" in hint)
    if expectation := describe_expectation(about, kind):
        facts.append(expectation if facts else expectation[0].upper() + expectation[1:])
    help_text = re.sub(r"--([a-z]\w*)", r"`\1`", about.help)
    text = f"{name} ({hint}): {help_text} {'; '.join(facts)}".rstrip()
    text = text if text.endswith(".") else f"{text}."
    return textwrap.fill(
        text,
        _LINE_WIDTH,
        initial_indent=" " * 4,
        subsequent_indent=" " * 8,
        break_long_words=False,
        break_on_hyphens=False,
    )
