"""A stage as an ONNX model, of any batch and length. Needs the extra `onnx`."""

from __future__ import annotations

import keras
import tensorflow as tf

from secost_tf.runs import StageRecord
from secost_tf.serving.layout import PortableConfig
from secost_tf.serving.portable import Run, check_portable, input_spec, make_graph, probes
from secost_tf.serving.quiet import quietly

TOLERANCE = 1e-4  # of scores

_OPSET = 17


def write_onnx(
    student: keras.Model, record: StageRecord, config: PortableConfig, path: str
) -> float:
    """Write the model and run it in onnxruntime.

    Args:
        student: a `wels_net`.
        record: of its stage.
        config: what can be chosen; always float32, the log-mel's transform in float64.
        path: the file, local.

    Returns:
        The largest difference between its scores and the live network's.

    Raises:
        ValueError: if they differ by more than `TOLERANCE`, or the extra `onnx` is not installed.
    """
    if config.precision != "float32":
        raise ValueError(
            f"precision: expected float32 for ONNX, got {config.precision}; TFLite has others"
        )
    try:
        import tf2onnx
    except ImportError as error:
        raise ValueError(
            f"ONNX needs the extra onnx ({error}): pip install 'secost_tf[onnx]'"
        ) from error
    spec = [input_spec(record, config, samples=None)]
    graph = tf.function(make_graph(student, record, config, tf.float64), spec)
    with quietly():
        tf2onnx.convert.from_function(graph, spec, opset=_OPSET, output_path=path)
    clips = probes(record, config, samples=None)
    return check_portable(runtime(path), student, record, config, clips, TOLERANCE)


def runtime(path: str) -> Run:
    """Return a function that runs a model in onnxruntime: input with its batch -> outputs."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (name,) = (value.name for value in session.get_inputs())
    names = [value.name for value in session.get_outputs()]
    return lambda value: dict(zip(names, session.run(names, {name: value}), strict=True))
