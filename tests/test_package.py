"""What is installed: a light import, the right files, commands that exist."""

import configparser
import importlib
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PACKAGES = ("secost_tf", "tfrecord_tools")


def test_importing_the_packages_loads_no_tensorflow():
    script = (
        "import sys, secost_tf, tfrecord_tools\n"
        "from tfrecord_tools import convert, inspect, soundscapes\n"
        "import secost_tf.train, secost_tf.runs, secost_tf.runs.stage_folder\n"
        "print([name for name in ('tensorflow', 'keras', 'tensorflow_io') if name in sys.modules])"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert loaded.stdout == "[]\n", loaded.stderr


@pytest.mark.parametrize(("value", "expected"), [(None, "1"), ("0", "0")])
def test_onednn_is_on_unless_the_user_says_otherwise(monkeypatch, value, expected):
    if value is None:
        monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    else:
        monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", value)
    script = "import os, secost_tf; print(os.environ['TF_ENABLE_ONEDNN_OPTS'])"
    shown = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert shown.stdout == f"{expected}\n", shown.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from a copy of the tree with its flagfiles and tests, which must stay out."""
    source = tmp_path_factory.mktemp("source")
    for name in (*PACKAGES, "flags", "tests"):
        shutil.copytree(
            REPOSITORY / name, source / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    command = [
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--skip-dependency-check",
        "--outdir",
        "dist",
        ".",
    ]
    built = subprocess.run([sys.executable, *command], cwd=source, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = (source / "dist").iterdir()
    return path


@pytest.mark.slow
def test_the_wheel_holds_both_packages_and_nothing_else(wheel):
    names = [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]
    files = [
        path.relative_to(REPOSITORY).as_posix()
        for package in PACKAGES
        for path in (REPOSITORY / package).rglob("*")
        if path.suffix in (".py", ".j2", ".css", ".js")
    ]
    assert sorted(names) == sorted(files)
    assert "tfrecord_tools/datasets/audioset.py" in names
    assert "secost_tf/reporting/templates/sections/stages.html.j2" in names


@pytest.mark.slow
def test_console_scripts_are_functions_that_exist(wheel):
    archive = zipfile.ZipFile(wheel)
    (path,) = (name for name in archive.namelist() if name.endswith(".dist-info/entry_points.txt"))
    entries = configparser.ConfigParser()
    entries.read_string(archive.read(path).decode())
    scripts = dict(entries["console_scripts"])
    assert {"secost-train", "secost-evaluate", "tfrecord-convert", "tfrecord-inspect"} <= set(
        scripts
    )
    for name, target in scripts.items():
        module, function = target.split(":")
        assert callable(getattr(importlib.import_module(module), function)), name
        assert name.split("-")[1] == module.split(".")[1]
