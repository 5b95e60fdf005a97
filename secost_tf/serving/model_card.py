"""What lies beside an exported model: `export.json` for programs, `model_card.md` for people. No
path of this machine.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

import secost_tf
from secost_tf.runs import CONFIG_JSON, METRICS_JSON, WEIGHTS_H5, StageRecord, stage_dir
from secost_tf.serving import layout
from secost_tf.serving.layout import PortableConfig, ServingConfig
from tfrecord_tools import shards, storage

_METRICS = ("mAP", "mAUC", "d_prime", "lwlrap", "chance", "num_clips", "classes_without_positives")

# By name: `inputs` and `outputs`, by name: type and shape, such as `float32 [?, 10]`.
Signatures = dict[str, dict[str, dict[str, str]]]


@dataclasses.dataclass(frozen=True)
class Check:
    """What came of running an exported model.

    Attributes:
        runtime: in which it ran.
        largest_difference: between its scores and the live network's.
        tolerance: the largest that is accepted.
    """

    runtime: str
    largest_difference: float
    tolerance: float


@dataclasses.dataclass(frozen=True)
class Exported:
    """What is known of an exported model by itself.

    Attributes:
        name, version: of the model.
        model_format: one of `export_folder.MODEL_FILES`.
        config: what was chosen.
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


def facts(run_dir: str, record: StageRecord, exported: Exported) -> dict[str, Any]:
    """The content of `export.json`.

    Args:
        run_dir: the run that the stage is of.
        record: of the stage.
        exported: what was made of it.
    """
    stage = record.config
    where = stage_dir(run_dir, stage.stage)
    metrics = storage.read_json(storage.join(where, METRICS_JSON))
    settings = storage.read_json(storage.join(where, CONFIG_JSON))
    with storage.local_copy(storage.join(where, WEIGHTS_H5)) as path, open(path, "rb") as file:
        weights = hashlib.sha256(file.read()).hexdigest()
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
        "versions": {
            "trained_with": settings.get("versions", {}),
            "exported_with": {
                "secost_tf": secost_tf.__version__,
                "tensorflow": tf.__version__,
                "keras": keras.__version__,
            },
        },
        "digest": {"model": layout.digest(exported.folder), "student_weights": weights},
    }


def _data(record: StageRecord) -> dict[str, Any]:
    """What is known of the training data, without its place; less if it is no longer there."""
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


def write(known: Mapping[str, Any], record: StageRecord, folder: str) -> None:
    """Writes `export.json` and `model_card.md` into the model's folder."""
    storage.write_json(storage.join(folder, layout.EXPORT_JSON), known)
    with storage.atomic_write(storage.join(folder, layout.MODEL_CARD)) as stream:
        stream.write(_card(known, record))


def _card(known: Mapping[str, Any], record: StageRecord) -> str:
    stage, data, metrics = record.config, known["data"], known["metrics"]
    names = list(record.class_map.display_names)
    rate = record.log_mel.sample_rate_hz
    learnt = (
        "the labels alone"
        if not stage.teacher_stages
        else f"alpha {stage.alpha:g} of the labels{f' ({stage.alpha_note})' if stage.alpha_note else ''} and "
        f"{1 - stage.alpha:g} of the scores of stage {' and '.join(map(str, stage.teacher_stages))}"
    )
    clips = (
        f"{data['training_clips']} clips, {data['training_hours']:g} hours, converted with `--dataset={data['dataset']}`"
        if "training_clips" in data
        else "converted data that were not there any more when the model was exported"
    )
    figures = [
        (told, "-" if metrics[name] is None else f"{metrics[name]:.{digits}f}")
        for name, told, digits in (
            ("mAP", "mean average precision", 4),
            ("chance", "the same for random scores", 4),
            ("mAUC", "mean area under the ROC curve", 4),
            ("d_prime", "d'", 3),
            ("lwlrap", "label-weighted label-ranking average precision", 4),
        )
    ]
    rows = [
        (f"`{name}`", _names(one["inputs"]), _names(one["outputs"]))
        for name, one in known["signatures"].items()
    ]
    versions = {
        what: ", ".join(f"{name} {version}" for name, version in known["versions"][what].items())
        for what in ("trained_with", "exported_with")
    }
    return f"""# {known["model"]}, version {known["version"]}

Audio event detection: scores of {len(names)} classes for a recording, and for each {_segment_seconds(record):g} s of it, learnt from
labels without times. WELS-Net of width {stage.network.width:g}, {known["parameters"]:,} parameters, pooling `{stage.network.pooling}`;
stage {stage.stage} of a SeCoST cascade (Kumar and Ithapu, ICASSP 2020), which learnt from {learnt}.

## Classes
{", ".join(names[:20])}{f" and {len(names) - 20} more" if len(names) > 20 else ""}. All are in `assets/classes.csv`, in the order of the scores.

## Data
Trained on {clips}.

## Figures
On the {metrics["split"]} clips ({metrics["num_clips"]}; {metrics["classes_without_positives"]} classes without a positive clip are left out):

{_table(("measure", "value"), figures)}

## Input and output
Mono sound at {rate} Hz, full scale -1..1{_lengths(known, record)}; scores are probabilities of each class by itself, in 0..1.

{_table(("signature", "inputs", "outputs"), rows)}

## Limits
- The scores say how likely a class is among clips like those of training; they are not calibrated for other sound.
- Labels that were missing or wrong in training are learnt as such; figures are against the labels of the split named above.
- Times come from learning without times: a segment sees {_window_seconds(record):.2f} s and some context around.

## Provenance
Made {known["created"]}, as {known["format"]}{_precision(known)}. Trained with {versions["trained_with"] or "unknown versions"}; exported with
{versions["exported_with"]}. In {known["check"]["runtime"]} its scores differ by {known["check"]["largest_difference"]:.0e} at most from the
live model's. SHA-256 of the model: `{known["digest"]["model"]}`.
"""


def _precision(known: Mapping[str, Any]) -> str:
    return f" in {known['settings']['precision']}" if known["format"] == "tflite" else ""


def _lengths(known: Mapping[str, Any], record: StageRecord) -> str:
    settings = known["settings"]
    if known["format"] == "tflite":
        return f", clips of {settings['seconds']:g} s (shorter ones followed by silence)"
    shortest = f", of {record.log_mel.window_samples} samples or more"
    return (
        f"{shortest}, {settings['max_seconds']:g} s in a request at most"
        if known["format"] == "saved_model"
        else shortest
    )


def _segment_seconds(record: StageRecord) -> float:
    return (
        record.config.network.stride_frames
        * record.log_mel.hop_samples
        / record.log_mel.sample_rate_hz
    )


def _window_seconds(record: StageRecord) -> float:
    return (
        record.config.network.window_frames
        * record.log_mel.hop_samples
        / record.log_mel.sample_rate_hz
    )


def _names(described: Mapping[str, str]) -> str:
    return "; ".join(f"`{name}` {kind}" for name, kind in described.items())


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
