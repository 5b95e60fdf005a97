"""Size and mAP of a stage as TFLite and ONNX models, against the live network, on recordings.

    python benchmarks/portable_formats.py --run_dir=RUN_DIR --manifest=ESC-10/labels.csv --folds=5
    --calibration_folds=1,2,3,4

Clips are cut, or followed by silence, to --seconds for all models alike.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from secost_tf.evaluation.metrics import evaluate_scores
from secost_tf.runs import StageFolder, load_student
from secost_tf.runs.stage_folder import StageRecord
from secost_tf.serving import onnx, tflite
from secost_tf.serving.checks import LiveModel
from secost_tf.serving.layout import PortableConfig
from secost_tf.serving.portable import fit_samples
from tfrecord_tools.audio.loading import load_audio
from tfrecord_tools.datasets import manifest
from tfrecord_tools.log_mel import log_mel

VARIANTS = [("tflite", precision) for precision in ("float32", "float16", "int8")] + [
    ("onnx", "float32")
]


def read_clips(
    path: str, folds: str, record: StageRecord, samples: int
) -> tuple[list[np.ndarray], np.ndarray]:
    """Waveforms [samples] of the clips of some folds, and their labels [clips, classes]."""
    clips, class_map = manifest.read_manifest(
        manifest=path, split="eval", folds=tuple(map(int, folds.split(",")))
    )
    if difference := record.class_map.differences(class_map):
        raise SystemExit(f"{path} has other classes than the run: {difference}")
    labels = np.zeros((len(clips), len(class_map)), bool)
    for row, clip in zip(labels, clips, strict=True):
        row[list(clip.labels)] = True
    rate = record.log_mel.sample_rate_hz
    sounds = [
        load_audio(clip.path, rate, clip.start_seconds, clip.end_seconds).waveform for clip in clips
    ]
    return [fit_samples(sound, samples) for sound in sounds], labels


def mean_average_precision(labels: np.ndarray, scores: Sequence[np.ndarray]) -> float:
    return evaluate_scores(labels.astype(np.float32), np.stack(scores)).scalars()["mAP"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run_dir", required=True)
    parser.add_argument("--stage", type=int, default=0)
    parser.add_argument(
        "--manifest",
        required=True,
        help="csv of recordings (tfrecord_tools.convert --dataset=manifest)",
    )
    parser.add_argument("--folds", required=True, help="folds to evaluate on")
    parser.add_argument(
        "--calibration_folds", required=True, help="folds that int8 is calibrated on"
    )
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--json", help="file for the figures")
    arguments = parser.parse_args()

    student, record = (
        load_student(arguments.run_dir, arguments.stage),
        StageFolder(arguments.run_dir, arguments.stage).record,
    )
    samples = tflite.clip_samples(record, PortableConfig(seconds=arguments.seconds))
    sounds, labels = read_clips(arguments.manifest, arguments.folds, record, samples)
    others, _ = read_clips(arguments.manifest, arguments.calibration_folds, record, samples)
    live_model = LiveModel(student, record)
    live = [live_model({"waveform": sound[None]})["scores"][0] for sound in sounds]
    base = mean_average_precision(labels, live)
    rows = [{"what": "live network", "mAP": base}]
    for model_format, precision in VARIANTS:
        for model_input in ("waveform", "log_mel"):
            config = PortableConfig(model_input, arguments.seconds, precision)
            kinds = {
                "waveform": lambda sound: sound,
                "log_mel": lambda sound: log_mel(sound, record.log_mel),
            }
            prepare = kinds[model_input]
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, "model")
                if model_format == "onnx":
                    onnx.write_onnx(student, record, config, str(path))
                    run = onnx.runtime(str(path))
                else:
                    calibration = [
                        prepare(sound) for sound in others[:: max(1, len(others) // 200)]
                    ]
                    tflite.write_tflite(student, record, config, str(path), calibration)
                    run = tflite.interpreter(path.read_bytes(), config)
                size = path.stat().st_size
                scores = [run(prepare(sound)[None])["scores"][0] for sound in sounds]
            rows.append(
                {
                    "what": f"{model_format}, {precision}, {model_input}",
                    "bytes": size,
                    "mAP": mean_average_precision(labels, scores),
                    "largest_difference": float(np.abs(np.array(scores) - live).max()),
                }
            )
    print(
        f"| model | MB | mAP ({len(sounds)} clips) | change | largest difference of a score "
        f"|\n|---|---|---|---|---|"
    )
    for row in rows:
        size = f"{row['bytes'] / 1e6:.2f}" if "bytes" in row else ""
        difference = f"{row['largest_difference']:.1g}" if "bytes" in row else ""
        change = f"{row['mAP'] - base:+.4f}" if "bytes" in row else ""
        print(f"| {row['what']} | {size} | {row['mAP']:.4f} | {change} | {difference} |")
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
