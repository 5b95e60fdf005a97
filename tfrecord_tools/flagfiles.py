"""Flagfiles: those given by path, and those that come with the package, given by name.

A flagfile holds one flag a line, comments (`#`) and `--flagfile=` lines of its own. In a checkout
those that come with the package stand in `flags/`; an installed package holds a copy as its data.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

_PACKAGES = Path(__file__).parents[1]  # the folder that holds both packages

_FOLDERS = (_PACKAGES / "secost_tf" / "flagfiles", _PACKAGES / "flags")  # installed, a checkout's

_DIRECTIVE = re.compile(r"--?flagfile(?:=(.*))?", re.DOTALL)


def list_shipped_files() -> dict[str, Path]:
    """Return the path of each file that comes with the package as a flagfile or beside one, by
    name.
    """
    folder = next(filter(Path.is_dir, _FOLDERS), None)
    if folder is None:
        return {}
    paths = (path for path in folder.rglob("*") if path.suffix in (".flags", ".csv"))
    return {path.name: path for path in sorted(paths)}


def find_file(name: str) -> Path:
    """Return the path of a file given by path, or by the name of one that comes with the package.

    Args:
        name: a path; or a name without a folder. A file in the current directory is taken first.

    Raises:
        ValueError: if there is no such file; the message lists those that come with the package.

    Example:
        >>> find_file("demo.flags").name
        'demo.flags'
    """
    path, shipped = Path(name).expanduser(), list_shipped_files()
    if path.is_file():
        return path
    if name in shipped:
        return shipped[name]
    alike = [other for other in shipped if Path(other).suffix == (path.suffix or ".flags")]
    raise ValueError(
        f"{name}: there is no such file; give the path of one, or the name of one that comes with "
        f"secost_tf: {', '.join(alike) or 'none'}"
    )


def expand_flagfiles(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with the lines of the flagfile in place of each `--flagfile=FILE`.

    Args:
        arguments: of a command. What follows `--` is left as it is.

    Raises:
        ValueError: if a flagfile is missing or holds itself, or no file is named.

    Example:
        >>> expand_flagfiles(["--flagfile=demo.flags", "--stage=1"])[0]
        '--stage=2'
    """
    return list(_expand(arguments, ()))


def _expand(arguments: Sequence[str], parents: tuple[Path, ...]) -> Iterator[str]:
    """Yield the arguments that `parents`, from the outermost flagfile on, lead to."""
    remaining = iter(arguments)
    for argument in remaining:
        if argument == "--":
            yield argument
            yield from remaining
            return
        directive = _DIRECTIVE.fullmatch(argument)
        if not directive:
            yield argument
            continue
        name = directive[1] if directive[1] is not None else next(remaining, "")
        if not name:
            raise ValueError("--flagfile: expected a file, got none: give --flagfile=FILE")
        path = find_file(name)
        if any(os.path.samefile(path, parent) for parent in parents):
            raise ValueError(f"{name}: a flagfile that holds itself: take its --flagfile line out")
        yield from _expand(_read_lines(path), (*parents, path))


def _read_lines(path: Path) -> list[str]:
    lines = map(str.strip, path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith(("#", "//"))]
