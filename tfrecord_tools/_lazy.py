"""Doors of packages: public names, each loaded when it is used first (PEP 562)."""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Callable


def lazy_names(package: str) -> tuple[list[str], Callable[[str], object], Callable[[], list[str]]]:
    """Return a package's `__all__`, `__getattr__` and `__dir__`, which load its names on first use.

    The names stand once, as imports under `if TYPE_CHECKING:` in the package's `__init__.py`, where
    type checkers and editors read them too.

    Args:
        package: `__name__` of the package.

    Returns:
        The names, the function that loads one of them, and the function that lists them.
    """
    module = sys.modules[package]
    source = module.__spec__.loader.get_source(package)  # type: ignore[union-attr]
    homes = {
        alias.name: statement.module
        for block in ast.parse(source).body
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for statement in block.body
        if isinstance(statement, ast.ImportFrom) and statement.module
        for alias in statement.names
    }

    def load(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(homes[name]), name)
        setattr(module, name, value)
        return value

    return sorted(homes), load, lambda: sorted({*vars(module), *homes})
