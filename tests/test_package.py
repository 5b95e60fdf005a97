"""What is installed: a light import, the right files, commands that exist."""

import configparser
import importlib
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PACKAGES = ("secost_tf", "tfrecord_tools")


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


def run(*command: object, **options) -> str:
    """Run a command that succeeds, and return what it printed."""
    ended = subprocess.run(list(map(str, command)), capture_output=True, text=True, **options)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def without_pythonpath() -> dict[str, str]:
    """Return the environment's variables without the one that may lead to the checkout."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from a copy of the tree with its tests, which must stay out."""
    source = tmp_path_factory.mktemp("source")
    for name in (*PACKAGES, "flags", "tests"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / name, source / name, ignore=ignored)
    for name in ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    options = ("--no-isolation", "--skip-dependency-check", "--outdir", "dist")
    run(
        sys.executable, "-m", "build", *options, ".", cwd=source
    )  # an archive, and from it the wheel
    (path,) = (source / "dist").glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The folder of the commands in an environment where the wheel is installed."""
    environment = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", environment)
    python = environment / "bin" / "python"
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet")
    run(*pip, "--no-deps", "--no-index", "--no-compile", wheel, env=without_pythonpath())
    site.joinpath("dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return environment / "bin"


@pytest.fixture
def run_installed(installed, tmp_path):
    """Runs a command of the wheel in an empty folder; gives its exit status and its messages."""

    def run_command(name: str, *arguments: str) -> tuple[int, str]:
        environment = without_pythonpath() | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
        (tmp_path / "empty").mkdir(exist_ok=True)
        ended = subprocess.run(
            [installed / name, *arguments],
            cwd=tmp_path / "empty",
            env=environment,
            capture_output=True,
            text=True,
        )
        return ended.returncode, ended.stdout + ended.stderr

    return run_command


def test_the_wheel_holds_both_packages_and_their_data_and_nothing_else(wheel):
    names = [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]
    files = [
        path.relative_to(REPOSITORY).as_posix()
        for package in PACKAGES
        for path in (REPOSITORY / package).rglob("*")
        if path.suffix in (".py", ".j2", ".css", ".js", ".typed")
    ]
    flagfiles = [
        f"secost_tf/flagfiles/{path.relative_to(REPOSITORY / 'flags').as_posix()}"
        for path in (REPOSITORY / "flags").rglob("*.*")
    ]
    assert sorted(names) == sorted(files + flagfiles)
    assert {
        "tfrecord_tools/datasets/audioset.py",
        "secost_tf/reporting/templates/sections/stages.html.j2",
        "secost_tf/py.typed",
        "tfrecord_tools/py.typed",
        "secost_tf/flagfiles/demo.flags",
        "secost_tf/flagfiles/experiments/esc10_label_precision.csv",
    } <= set(names)


def test_flagfiles_come_with_the_wheel(run_installed):
    status, said = run_installed("tfrecord-soundscapes", "--flagfile=nothing.flags")
    assert status == 1
    assert "error: nothing.flags: there is no such file" in said and ", demo.flags, " in said
    arguments = ("--flagfile=esc10_soundscapes.flags", "--source=missing.csv", "--out=corpus")
    status, said = run_installed("tfrecord-soundscapes", *arguments)
    assert status == 1 and "missing.csv" in said and ".flags" not in said


@pytest.mark.slow
def test_the_demo_trains_from_the_wheel_in_an_empty_folder(run_installed, tmp_path):
    small = ("--epochs=1", "--width=0.0625", "--run_dir=run")
    arguments = ("--flagfile=demo.flags", "--stage=1", "--alpha=0.3", *small)
    status, said = run_installed("secost-train", *arguments)
    assert status == 0, said
    assert (tmp_path / "cache" / "secost_tf").is_dir()
    stages = sorted(path.name for path in (tmp_path / "empty" / "run").glob("stage-*"))
    assert stages == ["stage-0", "stage-1"]


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
