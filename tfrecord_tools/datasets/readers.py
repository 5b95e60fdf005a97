"""The readers of data sets. The keyword arguments of each are its options, flags of these names."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from tfrecord_tools.datasets import audioset, dcase, esc50, fsd50k, manifest, urbansound8k
from tfrecord_tools.datasets.clips import ClassMap, Clip

Reader = Callable[..., tuple[list[Clip], ClassMap]]

READERS: dict[str, Reader] = {
    "audioset": audioset.read_audioset,
    "dcase": dcase.read_dcase,
    "esc50": esc50.read_esc50,
    "fsd50k": fsd50k.read_fsd50k,
    "manifest": manifest.read_manifest,
    "urbansound8k": urbansound8k.read_urbansound8k,
}


def read_dataset(name: str, split: str, options: Mapping[str, Any]) -> tuple[list[Clip], ClassMap]:
    """Read the clips of a split with the reader `name`.

    Args:
        name: a key of `READERS`.
        split: the split to read, for readers whose labels name splits.
        options: the reader's other options; an empty one counts as not given.

    Raises:
        ValueError: if the reader is unknown, or an option is missing or is not one of its own; and
            what it raises.
    """
    if name not in READERS:
        raise ValueError(f"--dataset: expected one of {', '.join(READERS)}, got {name!r}")
    parameters = inspect.signature(READERS[name]).parameters
    given = {option: value for option, value in options.items() if value}
    if "split" in parameters:
        given["split"] = split
    missing = [
        f"--{option}"
        for option, parameter in parameters.items()
        if parameter.default is parameter.empty and option not in given
    ]
    if missing:
        raise ValueError(f"--dataset={name} needs {', '.join(missing)}")
    if foreign := sorted(set(given) - set(parameters)):
        takes = ", ".join(f"--{option}" for option in parameters if option != "split")
        raise ValueError(
            f"--dataset={name} has no use for {', '.join(f'--{option}' for option in foreign)}; "
            f"it takes {takes}"
        )
    return READERS[name](**given)
