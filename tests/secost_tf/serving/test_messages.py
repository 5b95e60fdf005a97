"""The messages against TensorFlow's and TensorFlow Serving's own."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2

from secost_tf.serving import messages
from secost_tf.serving.waveforms import bytes_array

ARRAYS = [
    np.arange(6, dtype=np.float32).reshape(2, 3),
    np.array(7, np.int32),
    np.array([1, -(2**40)], np.int64),
    np.zeros((0, 3), np.float32),
    bytes_array([b"bell\0\0", b"", "żab".encode()]),
    bytes_array([]),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}{array.shape}")
def test_tensors_are_those_of_tensorflow(array):
    message = messages.tensor(array)
    theirs = tf.make_ndarray(tensor_pb2.TensorProto.FromString(message.SerializeToString()))
    np.testing.assert_array_equal(theirs, array)
    back = messages.array(message)
    assert back.dtype == array.dtype and back.shape == array.shape
    np.testing.assert_array_equal(back, array)


@pytest.mark.parametrize(
    "array", ARRAYS[:3] + ARRAYS[4:5], ids=lambda array: f"{array.dtype}{array.shape}"
)
def test_tensors_of_tensorflow_are_read(array):
    for values in (array, array.tolist()):  # as bytes, and as a list
        theirs = tf.make_tensor_proto(
            values, tf.as_dtype(array.dtype), array.shape
        ).SerializeToString()
        np.testing.assert_array_equal(messages.array(messages.parse("Tensor", theirs)), array)


def test_a_repeated_number_takes_few_bytes():
    message = messages.repeated_tensor(-1.5, (2, 30000))
    assert len(message.SerializeToString()) < 30
    expected = np.full((2, 30000), -1.5, np.float32)
    np.testing.assert_array_equal(messages.array(message), expected)
    theirs = tensor_pb2.TensorProto.FromString(message.SerializeToString())
    np.testing.assert_array_equal(tf.make_ndarray(theirs), expected)


def test_a_request_comes_back():
    inputs = {"waveform": np.ones((1, 3), np.float32), "lengths": np.array([3], np.int32)}
    log = messages.prediction_log(
        "secost", "padded", {name: messages.tensor(value) for name, value in inputs.items()}
    )
    signature, back = messages.request_of(log)
    assert signature == "padded" and list(back) == list(inputs)
    for name, value in inputs.items():
        np.testing.assert_array_equal(back[name], value)


def test_outputs_come_back():
    outputs = {"labels": bytes_array([b"Bell"]), "scores": np.array([[0.5]], np.float32)}
    back = messages.outputs_of(messages.response(outputs))
    assert list(back) == list(outputs)
    for name, value in outputs.items():
        np.testing.assert_array_equal(back[name], value)


def test_requests_and_responses_are_those_of_tensorflow_serving():
    reason = "the extra `serving` is not installed"
    logs = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2", reason=reason)
    predict = pytest.importorskip("tensorflow_serving.apis.predict_pb2", reason=reason)
    array = np.ones((1, 3), np.float32)
    log = logs.PredictionLog.FromString(
        messages.prediction_log("secost", "top_k", {"waveform": messages.tensor(array)})
    )
    request = log.predict_log.request
    assert log.WhichOneof("log_type") == "predict_log"
    assert (request.model_spec.name, request.model_spec.signature_name) == ("secost", "top_k")
    np.testing.assert_array_equal(tf.make_ndarray(request.inputs["waveform"]), array)
    signature, inputs = messages.request_of(log.SerializeToString())
    assert signature == "top_k"
    np.testing.assert_array_equal(inputs["waveform"], array)
    response = predict.PredictResponse.FromString(messages.response({"scores": array}))
    np.testing.assert_array_equal(tf.make_ndarray(response.outputs["scores"]), array)
    outputs = messages.outputs_of(response.SerializeToString())
    np.testing.assert_array_equal(outputs["scores"], array)
