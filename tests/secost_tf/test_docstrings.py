"""The examples in the docstrings run, and every public name has one."""

from __future__ import annotations

import doctest
import importlib
import inspect
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

import secost_tf

PACKAGE = Path(secost_tf.__file__).parent
MODULES = sorted(
    ".".join(("secost_tf", *path.relative_to(PACKAGE).with_suffix("").parts))
    for path in PACKAGE.rglob("*.py")
    if ">>> " in path.read_text()
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, kept_data, kept_run) -> Path:
    """The folder of the examples: `data`, `runs/secost` and a recording."""
    folder = tmp_path_factory.mktemp("examples")
    (folder / "data").symlink_to(kept_data)
    shutil.copytree(kept_run, folder / "runs" / "secost")
    noise = np.random.default_rng(0).normal(0, 0.1, 32_000)
    soundfile.write(folder / "night.flac", noise, 16_000)
    return folder


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_a_module(name, folder, monkeypatch):
    monkeypatch.chdir(folder)
    module = importlib.import_module(name)
    assert doctest.testmod(module, optionflags=doctest.REPORT_NDIFF).failed == 0


@pytest.mark.parametrize("name", secost_tf.__all__)
def test_a_public_name_tells_all_that_its_user_needs(name):
    value = getattr(secost_tf, name)
    text = inspect.getdoc(value)
    headings = ["Source:", "Raises:", "Example:"]
    if inspect.isfunction(value):
        headings += ["Args:", "Returns:"]
    for heading in headings:
        assert f"\n{heading}" in text
    assert re.search(rf">>> from secost_tf import .*\b{name}\b", text)
