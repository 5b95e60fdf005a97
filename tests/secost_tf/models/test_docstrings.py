"""The examples in the docstrings of the models run, and what is public has one."""

import doctest
import importlib
import inspect
import pkgutil
import re

import pytest

import secost_tf
from secost_tf import models

MODULES = sorted(module.name for module in pkgutil.iter_modules(models.__path__))
PUBLIC = (
    "SeCoSTLoss",
    "TeacherDistillation",
    "WeightAverage",
    "WelsNetConfig",
    "wels_net",
    "Pooling",
    "LogMel",
    "secost_loss",
    "secost_target",
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_a_module(name):
    module = importlib.import_module(f"secost_tf.models.{name}")
    assert doctest.testmod(module, optionflags=doctest.REPORT_NDIFF).failed == 0


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_object_tells_all_that_its_user_needs(name):
    text = inspect.getdoc(getattr(secost_tf, name))
    for heading in ("Source:", "Raises:", "Example:"):
        assert f"\n{heading}" in text
    assert re.search(rf">>> from secost_tf import .*\b{name}\b", text)
