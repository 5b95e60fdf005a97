"""The examples in the docstrings run, where there are a run and a recording."""

import doctest
import importlib
import os

import numpy as np
import pytest
import soundfile


@pytest.mark.parametrize("name", ["detector", "localization"])
def test_examples_of_a_module(name, untrained_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkdir("runs")
    os.symlink(untrained_run, os.path.join("runs", "secost"))
    soundfile.write("night.flac", np.random.default_rng(0).normal(0, 0.1, 32000), 16000)
    module = importlib.import_module(f"secost_tf.detection.{name}")
    done = doctest.testmod(module, optionflags=doctest.REPORT_NDIFF)
    assert done.failed == 0 and done.attempted > 2
