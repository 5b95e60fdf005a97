"""The rooms and their doors: what may be imported from where, and what an import loads.

Which room may import which is a contract of import-linter, in `pyproject.toml`; here is which names
may cross, read from the sources.
"""

from __future__ import annotations

import ast
import functools
import importlib
import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import soundfile

from tfrecord_tools.conversion.clip import ConvertConfig, convert_clip
from tfrecord_tools.datasets.clips import Clip
from tfrecord_tools.parallel import ordered_map

REPOSITORY = Path(__file__).parents[1]
PACKAGES = ("secost_tf", "tfrecord_tools")
SLOW_MODULES = {
    *("tensorflow", "keras", "matplotlib", "tensorflow_io", "pandas", "apache_beam"),
}
PUBLIC = {
    *("SeCoSTLoss", "TeacherDistillation", "WeightAverage", "WelsNetConfig", "wels_net"),
    *("Pooling", "LogMel", "secost_loss", "secost_target", "stack_targets", "average_teacher"),
    *("TrainConfig", "StageConfig", "CascadeConfig", "run_cascade"),
    *("ExperimentConfig", "run_experiment", "StageFolder", "load_student"),
    *("evaluate_scores", "evaluate_run", "compare_stages", "export_run", "write_report"),
    *("Detector", "localize_recordings"),
}


def module_name(path: Path) -> str:
    """Return the name under which a source file is imported."""
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {
    module_name(path): ast.parse(path.read_text())
    for package in PACKAGES
    for path in sorted((REPOSITORY / package).rglob("*.py"))
}
ROOMS = sorted(
    module_name(path)
    for package in PACKAGES
    for path in (REPOSITORY / package).glob("*/__init__.py")
)
COMMANDS = sorted(
    name
    for name, tree in SOURCES.items()
    if name.count(".") == 1
    and any(isinstance(node, ast.FunctionDef) and node.name == "run" for node in tree.body)
)


def place_of(module: str) -> str:
    """Return the room of a module, or the module itself where it stands in none."""
    room = ".".join(module.split(".")[:2])
    return room if room in ROOMS else module


@functools.cache
def door_of(room: str) -> frozenset[str]:
    """Return the names that stand in a room's `__init__`."""
    return frozenset(importlib.import_module(room).__all__)


class Use(NamedTuple):
    """A name of one module that another takes, by `from place import name` or `place.name`."""

    user: str
    line: int
    place: str
    name: str


def uses() -> Iterator[Use]:
    """Give every use of a name of either package outside the module that defines it."""
    for user, tree in SOURCES.items():
        modules = {}  # local name of each module that is imported
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    assert alias.name.split(".")[0] not in PACKAGES, f"{user}: import {alias.name}"
            if isinstance(node, ast.ImportFrom):
                assert not node.level, f"{user}:{node.lineno}: an import relative to the module"
                if (node.module or "").split(".")[0] not in PACKAGES:
                    continue
                for alias in node.names:
                    full_name = f"{node.module}.{alias.name}"
                    if full_name in SOURCES:
                        modules[alias.asname or alias.name] = full_name
                    else:
                        yield Use(user, node.lineno, node.module, alias.name)
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id in modules
            ):
                yield Use(user, node.lineno, modules[node.value.id], node.attr)


def crossings() -> Iterator[Use]:
    """Give the uses of names of another room, or of a module that stands in none."""
    return (use for use in uses() if place_of(use.user) != place_of(use.place))


def test_the_sources_are_found():
    assert len(COMMANDS) >= 12 and len(ROOMS) >= 13
    assert len(list(crossings())) > 300


@pytest.mark.parametrize("package", ["secost_tf", *ROOMS])
def test_every_name_of_a_door_resolves(package):
    door = importlib.import_module(package)
    for name in door.__all__:
        value = getattr(door, name)
        assert getattr(value, "__name__", name).split(".")[-1] == name
    assert set(door.__all__) <= set(dir(door))
    with pytest.raises(AttributeError, match=rf"module '{package}' has no attribute 'no_such'"):
        door.no_such  # noqa: B018


def test_public_names():
    assert set(importlib.import_module("secost_tf").__all__) == PUBLIC


def test_rooms_take_only_what_stands_in_a_door():
    wrong = [
        use
        for use in crossings()
        if place_of(use.place) in ROOMS
        and not (use.place in ROOMS and use.name in door_of(use.place))
    ]
    assert not wrong


def test_no_private_name_leaves_its_room():
    assert not [use for use in crossings() if use.name.startswith("_") and use.name[:2] != "__"]


def test_modules_of_a_room_do_not_go_through_its_door():
    assert not [use for use in uses() if use.place in ROOMS and use.place == place_of(use.user)]


def test_no_name_of_a_door_hides_a_module():
    hiding = [(room, name) for room in ROOMS for name in door_of(room)]
    assert not [f"{room}.{name}" for room, name in hiding if f"{room}.{name}" in SOURCES]


def test_every_name_of_a_door_is_taken():
    taken = defaultdict(set)
    for use in crossings():
        taken[use.place].add(use.name)
    idle = {room: sorted(door_of(room) - taken[room]) for room in ROOMS}
    assert not {room: names for room, names in idle.items() if names}


def test_no_function_is_named_as_the_module_of_a_command():
    names = {command.split(".")[1] for command in COMMANDS}
    functions = [
        f"{module}:{node.lineno} {node.name}"
        for module, tree in SOURCES.items()
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name in names
    ]
    assert not functions


def test_few_modules_stand_outside_the_rooms_of_secost_tf():
    assert len(list((REPOSITORY / "secost_tf").glob("*.py"))) <= 14


def slow_modules_after(actions: str) -> dict[str, list[str]]:
    """Return the slow modules that are loaded after each step, which `actions` gives a name."""
    script = (
        f"import importlib, json, sys\nslow, seen = {SLOW_MODULES}, {{}}\n{actions}\n"
        "print(json.dumps(seen), file=sys.stderr)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stderr)


def test_imports_load_nothing_slow():
    names = ["secost_tf", "tfrecord_tools", *ROOMS, *COMMANDS]
    seen = slow_modules_after(
        f"for name in {names}:\n"
        "    importlib.import_module(name)\n"
        "    seen[name] = sorted(slow & set(sys.modules))"
    )
    assert seen == {name: [] for name in names}


def test_help_loads_nothing_slow():
    seen = slow_modules_after(
        "from absl import flags\n"
        f"for name in {COMMANDS}:\n"
        "    sys.argv = [name, '--help']\n"
        "    try:\n"
        "        importlib.import_module(name).run()\n"
        "    except SystemExit:\n"
        "        seen[name] = sorted(slow & set(sys.modules))\n"
        "    for flag in list(flags.FLAGS):\n"
        "        if not flags.FLAGS.find_module_defining_flag(flag).startswith('absl'):\n"
        "            delattr(flags.FLAGS, flag)\n"
        "    flags.FLAGS.unparse_flags()"
    )
    assert seen == {name: [] for name in COMMANDS}


def convert_and_look(clip: Clip) -> tuple[str | None, list[str]]:
    """Return what is wrong with a clip, and the slow modules of the process that converted it."""
    converted = convert_clip(clip, ConvertConfig(split="train", dataset="manifest"))
    failure = converted.failure and str(converted.failure)
    return failure, sorted(SLOW_MODULES & sys.modules.keys())


def test_a_worker_of_the_converter_loads_nothing_slow(tmp_path):
    path = str(tmp_path / "clip.wav")
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 44_100), 44_100)
    clips = [Clip(id=str(index), path=path) for index in range(2)]
    results = list(ordered_map(convert_and_look, clips, 2, lambda *lost: lost))
    assert results == [(None, [])] * 2
