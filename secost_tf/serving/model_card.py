"""The files beside an exported model: `export.json` for programs, `model_card.md` for people.

They hold no path of the machine that made them. The card's text stands in `templates`.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import hashlib
import os
import re
from collections.abc import Callable, Mapping
from typing import Any

import jinja2
from markupsafe import Markup

from secost_tf.runs import StageFolder, StageRecord, library_versions
from secost_tf.serving import layout
from secost_tf.serving.layout import PortableConfig, ServingConfig
from tfrecord_tools import shards, storage

_METRICS = ("mAP", "mAUC", "d_prime", "lwlrap", "chance", "num_clips", "classes_without_positives")
# An underscore within a word is no markup.
_MARKDOWN = re.compile(r"[\\`*\[<&|~$]|(?<![0-9A-Za-z])_|_(?![0-9A-Za-z])")

# By name: `inputs` and `outputs`, by name: type and shape, such as `float32 [?, 10]`.
Signatures = dict[str, dict[str, dict[str, str]]]


@dataclasses.dataclass(frozen=True)
class Check:
    """The result of running an exported model.

    Attributes:
        runtime: the one in which it ran.
        largest_difference: between its scores and the live network's.
        tolerance: the largest that is accepted.
    """

    runtime: str
    largest_difference: float
    tolerance: float


@dataclasses.dataclass(frozen=True)
class Exported:
    """An exported model by itself.

    Attributes:
        name, version: of the model.
        model_format: one of `layout.MODEL_FILES`.
        config: its settings.
        folder: where it lies.
        signatures: inputs and outputs, described.
        check: of its scores.
    """

    name: str
    version: int
    model_format: str
    config: ServingConfig | PortableConfig
    folder: str
    signatures: Signatures
    check: Check


def facts(folder: StageFolder, exported: Exported) -> dict[str, Any]:
    """Return the content of `export.json`.

    Args:
        folder: the stage.
        exported: what was made of it.
    """
    record, metrics = folder.record, folder.metrics
    stage = record.config
    weights = hashlib.sha256(folder.weights()).hexdigest()
    return {
        "model": exported.name,
        "version": exported.version,
        "format": exported.model_format,
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "data": _data(record),
        "stage": stage.to_dict(),
        "metrics": {"split": metrics["split"], **{key: metrics[key] for key in _METRICS}},
        "best_epoch": metrics["best_epoch"],
        "parameters": metrics["parameters"],
        "log_mel": record.log_mel.to_dict(),
        "settings": exported.config.to_dict(),
        "signatures": exported.signatures,
        "check": dataclasses.asdict(exported.check),
        "versions": {"trained_with": folder.versions, "exported_with": library_versions()},
        "digest": {"model": layout.digest(exported.folder), "student_weights": weights},
    }


def _data(record: StageRecord) -> dict[str, Any]:
    """Describe the training data, without its place; with less if it is no longer there."""
    known: dict[str, Any] = {
        "folder": os.path.basename(record.data_dir.rstrip("/")),
        "classes": len(record.class_map),
    }
    if shards.has_split(record.data_dir, "train"):
        info = shards.read_dataset_info(record.data_dir, "train", check_shards=False)
        known |= {
            "dataset": info.dataset,
            "training_clips": info.num_clips,
            "training_hours": round(info.seconds / 3600, 3),
        }
    return known


def write(facts: Mapping[str, Any], record: StageRecord, folder: str) -> None:
    """Write `export.json` and `model_card.md` into the model's folder."""
    card = _environment().get_template("model_card.md.j2").render(facts=facts, record=record)
    storage.write_json(storage.join(folder, layout.EXPORT_JSON), facts)
    with storage.atomic_write(storage.join(folder, layout.MODEL_CARD)) as stream:
        stream.write(card)


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("secost_tf", "serving/templates"),
        finalize=escape_markdown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    filters: dict[str, Callable[..., str]] = {
        "code": code_span,
        "paragraph": lambda text: " ".join(text.split()) + "\n",
        "software": lambda versions: ", ".join(map(" ".join, versions.items())),
        "tensors": _describe_tensors,
    }
    environment.filters.update(filters)
    return environment


def escape_markdown(value: object) -> str:
    r"""Return a value as text that Markdown shows as it is, on one line.

    A `Markup` is Markdown already and stays as it is.

    >>> escape_markdown("a *b* | c_d [e](f)")
    'a \\*b\\* \\| c_d \\[e](f)'
    """
    if isinstance(value, Markup):
        return value
    return _MARKDOWN.sub(r"\\\g<0>", " ".join(str(value).split()))


def code_span(text: str) -> Markup:
    """Return text as code of Markdown, whatever backticks it holds."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence, space = "`" * (longest + 1), " " if longest else ""
    return Markup(f"{fence}{space}{text}{space}{fence}")


def _describe_tensors(tensors: Mapping[str, str]) -> Markup:
    """Return the names, types and shapes of a signature's inputs or outputs, as Markdown."""
    return Markup("; ".join(f"{code_span(name)} {kind}" for name, kind in tensors.items()))
