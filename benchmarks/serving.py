"""Waveforms of ten seconds through the exported SavedModel against the Keras model on log-mels that
are ready.

    python benchmarks/serving.py [--widths=1,0.25]

One side runs the signature `serving_default` in TensorFlow's C++ loader, as TensorFlow Serving
does: log-mel, network and checks. The other is the same network in Keras, traced once, without the
log-mel. Both have all cores. The ratio is how many times as long the first one takes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable

import numpy as np
import pairs

CLASSES, RATE, SECONDS = 527, 16000, 10
BATCHES = (1, 16)


def record(width: float):
    """The settings of an untrained stage with AudioSet's number of classes."""
    from secost_tf.models.config import WelsNetConfig
    from secost_tf.runs.settings import StageConfig, TrainConfig
    from secost_tf.runs.stage_folder import StageRecord
    from tfrecord_tools.datasets.clips import ClassMap
    from tfrecord_tools.log_mel import LogMelConfig

    names = tuple(f"class {index}" for index in range(CLASSES))
    stage = StageConfig(0, 1.0, (), WelsNetConfig(CLASSES, width=width), TrainConfig())
    return StageRecord(stage, "", ClassMap(names, names), LogMelConfig())


def waveforms(batch: int) -> np.ndarray:
    noise = np.random.default_rng(0).standard_normal((batch, SECONDS * RATE))
    return (0.1 * noise).astype(np.float32)


def export(width: float, folder: str) -> None:
    """Writes the SavedModel of an untrained network."""
    from secost_tf.serving.layout import ServingConfig
    from secost_tf.serving.saved_model import save_model
    from secost_tf.training.stage import build_student

    known = record(width)
    save_model(build_student(known), known, ServingConfig(), "secost", folder)


def servable(arguments) -> Callable[[], object]:
    from secost_tf.serving.cpp_loader import Servable

    model, inputs = Servable(arguments.saved_model), {"waveform": waveforms(arguments.batch)}
    return lambda: model.run("serving_default", inputs)


def keras_model(arguments) -> Callable[[], object]:
    import tensorflow as tf

    from secost_tf.training.stage import build_student
    from tfrecord_tools.log_mel import log_mel

    known = record(arguments.width)
    student = build_student(known)
    clips = np.stack([log_mel(one, known.log_mel) for one in waveforms(arguments.batch)])
    inputs = {"log_mel": tf.constant(clips), "num_frames": tf.fill([len(clips)], clips.shape[1])}
    scores = tf.function(lambda inputs: tf.sigmoid(student(inputs, training=False)["logits"]))
    return lambda: scores(inputs).numpy()


SIDES = {
    "saved_model": (servable, ("tensorflow", "numpy")),
    "keras": (keras_model, ("tensorflow", "keras")),
}


def main() -> None:
    options = pairs.parser(__doc__)
    options.add_argument(
        "--widths", default="1,0.25", help="widths of the network (default 1,0.25)"
    )
    for name, kind in (("width", float), ("batch", int), ("saved_model", str)):  # of a side
        options.add_argument(f"--{name}", type=kind, help=argparse.SUPPRESS)
    arguments = options.parse_args()
    if arguments.serve:
        prepare, packages = SIDES[arguments.serve]
        repeats = 1 if arguments.batch * arguments.width > 1 else 5

        def prepared() -> Callable[[], object]:
            work = prepare(arguments)
            return lambda: [work() for _ in range(repeats)]

        pairs.serve(prepared, packages)
        return
    sys.path.insert(0, str(pairs.ROOT))
    rows = []
    for width in map(float, arguments.widths.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            export(width, folder)
            for batch in BATCHES:
                own = [f"--width={width}", f"--batch={batch}", f"--saved_model={folder}"]
                one, other = (
                    pairs.Side(__file__, name, sys.executable, None, own)
                    for name in ("keras", "saved_model")
                )
                what = f"width {width:g}, batch {batch}"
                what += ": SavedModel on waveforms, time / that of Keras on log-mels"
                rows.append(
                    {
                        "what": what,
                        "bar": "at most 1.15",
                        **pairs.compare(one, other, arguments.pairs),
                    }
                )
                one.close(), other.close()
    pairs.show("serving, clips of ten seconds, 527 classes", rows, arguments.json)


if __name__ == "__main__":
    main()
