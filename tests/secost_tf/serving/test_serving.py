"""The served model under load and under bad requests, and the configuration in serving/.

The server is a stand-in for TensorFlow Serving that runs the model in the same C++ loader; first it
has to answer the documentation's own examples.
"""

import base64
import http.client
import io
import itertools
import json
import re
import wave
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from secost_tf.serving.waveforms import bytes_array, encode_wav

RATE = 16000
SERVING = Path(__file__).parents[3] / "serving"


def post(port: int, path: str, body: bytes) -> tuple[int, dict]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=250)
    try:
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        assert response.headers["Content-Type"] == "application/json"
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def predict(server, **request) -> tuple[int, dict]:
    return post(server.rest, "/v1/models/secost:predict", json.dumps(request).encode())


def assert_close(actual, expected: np.ndarray) -> None:
    """Assert that arrays are as equal as two processes are, whose threads differ."""
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6)


def wav_b64(sound: np.ndarray, rate: int = RATE) -> dict[str, str]:
    return {"b64": base64.b64encode(encode_wav(sound, rate)).decode()}


# === The stand-in answers as the documentation says ===


@pytest.fixture(scope="module")
def half_plus_three(tmp_path_factory, run_server):
    """The documentation's model: x / 2 + 3."""

    class HalfPlusThree(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
        def y(self, x):
            return {"y": 0.5 * x + 3.0}

    folder, model = tmp_path_factory.mktemp("models") / "half_plus_three", HalfPlusThree()
    tf.saved_model.save(
        model, str(folder / "123"), {"serving_default": model.y.get_concrete_function()}
    )
    with run_server(folder, grpc=False) as server:
        yield server


def test_the_documentation_s_examples(half_plus_three):
    port = half_plus_three.rest
    answer = post(port, "/v1/models/half_plus_three:predict", b'{"instances": [1.0,2.0,5.0]}')
    assert answer == (200, {"predictions": [3.5, 4.0, 5.5]})
    answer = post(
        port, "/v1/models/half_plus_three/versions/123:predict", b'{"inputs": [1.0,2.0,5.0]}'
    )
    assert answer == (200, {"outputs": [3.5, 4.0, 5.5]})
    answer = post(port, "/v1/models/half:predict", b'{"instances": [1.0,5.0]}')
    assert answer == (404, {"error": "Servable not found for request: Latest(half)"})
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/v1/models/half_plus_three")
    state = {"error_code": "OK", "error_message": ""}
    assert json.loads(connection.getresponse().read()) == {
        "model_version_status": [{"version": "123", "state": "AVAILABLE", "status": state}]
    }
    connection.close()


# === The model's answers ===


def test_rows_and_columns(kept_server, kept_servable):
    sounds = np.random.default_rng(0).uniform(-0.5, 0.5, (2, RATE)).astype(np.float32)
    expected = kept_servable.run(
        "wav_bytes", {"wav_bytes": bytes_array([encode_wav(sound, RATE) for sound in sounds])}
    )
    wavs = [wav_b64(sound) for sound in sounds]
    rows = [
        {"signature_name": "wav_bytes", "instances": wavs},
        {"signature_name": "wav_bytes", "instances": [{"wav_bytes": wav} for wav in wavs]},
    ]
    for request in rows:
        status, answer = predict(kept_server, **request)
        assert status == 200 and list(answer) == ["predictions"] and len(answer["predictions"]) == 2
        for row, prediction in enumerate(answer["predictions"]):
            assert set(prediction) == set(expected)
            for name, value in expected.items():
                assert_close(prediction[name], value[row])
    for inputs in (wavs, {"wav_bytes": wavs}):
        status, answer = predict(kept_server, signature_name="wav_bytes", inputs=inputs)
        assert status == 200 and list(answer) == ["outputs"]
        for name, value in expected.items():
            assert_close(answer["outputs"][name], value)


def test_rows_of_several_inputs(kept_server, kept_servable):
    sounds = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 800)).astype(np.float32)
    lengths = np.array([400, 800], np.int32)
    expected = kept_servable.run("padded", {"waveform": sounds, "lengths": lengths})
    instances = [
        {"waveform": sound.tolist(), "lengths": int(length)}
        for sound, length in zip(sounds, lengths, strict=True)
    ]
    status, answer = predict(kept_server, signature_name="padded", instances=instances)
    assert status == 200
    assert_close([clip["scores"] for clip in answer["predictions"]], expected["scores"])


def test_labels_are_text(kept_server):
    status, answer = predict(kept_server, signature_name="top_k", instances=[[0.0] * 400])
    (prediction,) = answer["predictions"]
    assert status == 200 and len(prediction["labels"]) == 3
    assert set(prediction["labels"]) <= {"Bark", "Bell", "Rain", "Siren"}


SECOND = np.zeros(RATE, np.float32)
BAD = {
    "wrong rank": ({"instances": [0.0] * RATE}, "not compatible with expected shape"),
    "NaN": ({"inputs": [[float("nan")] * 400]}, "expected finite numbers, got NaN"),
    "an empty batch": ({"instances": []}, "No values in 'instances' array"),
    "an empty batch in columns": (
        {"inputs": []},
        "not compatible with expected shape|one clip or more",
    ),
    "clips of different lengths": (
        {"instances": [[0.0] * 400, [0.0] * 401]},
        "list at unexpected size: 401",
    ),
    "text for numbers": ({"instances": [["loud", "louder"]]}, "not of expected type: float"),
    "text for a wav": (
        {"signature_name": "wav_bytes", "instances": ["a text"]},
        "Expected RIFF but found a te",
    ),
    "base64 that is none": (
        {"signature_name": "wav_bytes", "instances": [{"b64": "?"}]},
        "Unable to base64 decode",
    ),
    "a truncated wav": (
        {
            "signature_name": "wav_bytes",
            "instances": [{"b64": base64.b64encode(encode_wav(SECOND, RATE)[:999]).decode()}],
        },
        "Data too short",
    ),
    "44.1 kHz": (
        {"signature_name": "wav_bytes", "instances": [wav_b64(SECOND, 44100)]},
        "expected a sample rate of 16000 Hz",
    ),
    "another signature": (
        {"signature_name": "tags", "instances": [1]},
        '"tags" not found in signature def',
    ),
    "another input": ({"inputs": {"sound": [[0.0] * 400]}}, "Missing named input: waveform"),
    "nothing": ({}, "Missing 'inputs' or 'instances' key"),
}


def assert_next_is_answered(server) -> None:
    status, answer = predict(server, instances=[[0.0] * 400])
    assert status == 200 and len(answer["predictions"][0]["scores"]) == 4


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_request_is_an_error_and_the_next_is_answered(kept_server, kind):
    request, message = BAD[kind]
    status, answer = predict(kept_server, **request)
    assert status == 400 and list(answer) == ["error"] and re.search(message, answer["error"]), (
        answer
    )
    assert_next_is_answered(kept_server)


def test_bad_bytes(kept_server):
    for body, message in (
        (b"RIFF", "JSON Parse error"),
        (b"", "JSON Parse error"),
        (b"[1]", "Is not object"),
    ):
        status, answer = post(kept_server.rest, "/v1/models/secost:predict", body)
        assert status == 400 and message in answer["error"]
    eight_bit = bytearray(encode_wav(SECOND, RATE))
    eight_bit[32:36] = (1).to_bytes(2, "little") + (8).to_bytes(
        2, "little"
    )  # bytes a frame, bits a sample
    status, answer = predict(
        kept_server,
        signature_name="wav_bytes",
        instances=[{"b64": base64.b64encode(eight_bit).decode()}],
    )
    assert status == 400 and re.search("16-bit|bits", answer["error"]), answer
    assert_next_is_answered(kept_server)


def test_an_hour_of_sound(kept_server):
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(1), file.setsampwidth(2), file.setframerate(RATE)
        file.writeframes(bytes(2 * 3600 * RATE))
    wav = base64.b64encode(stream.getvalue())
    body = b'{"signature_name": "wav_bytes", "instances": [{"b64": "%s"}]}' % wav
    status, answer = post(kept_server.rest, "/v1/models/secost:predict", body)
    assert status == 400 and "at most 1100 seconds of sound" in answer["error"]
    assert_next_is_answered(kept_server)


# === Load ===


def resident_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return 1024 * int(re.search(r"VmRSS:\s+(\d+)", status)[1])


@pytest.mark.slow
@pytest.mark.timeout(900)  # twenty seconds on a machine that does nothing else
def test_two_thousand_requests_of_sixteen_clients(kept_server, kept_servable):
    """Half of them over gRPC: no error, each answer that of its own input, and no memory that is
    kept.
    """
    pytest.importorskip("requests", reason="the extra `serving` is not installed")
    from secost_tf.serving.retries import RetryPolicy
    from secost_tf.serving.transport import connect

    generator = np.random.default_rng(0)
    cases = []
    for samples in (
        400,
        800,
        1600,
        3200,
    ):  # of another loudness each, so that no two answers are alike
        for level in (0.5, 0.05, 0.005):
            sound = np.clip(level * generator.standard_normal(samples), -1, 1).astype(np.float32)
            wav = bytes_array([encode_wav(sound, RATE)])
            cases += [("top_k", {"waveform": sound[None]}), ("wav_bytes", {"wav_bytes": wav})]
    expected = [kept_servable.run(*case)["scores"] for case in cases]
    tops = np.array([scores.max() for scores in expected])
    assert len(np.unique(np.round(tops, 4))) > len(cases) // 2 - 2

    addresses = [f"http://127.0.0.1:{kept_server.rest}", f"grpc://127.0.0.1:{kept_server.grpc}"]
    if not kept_server.grpc:
        addresses.pop()

    def client(number: int, requests: int) -> int:
        address, wrong = addresses[number % len(addresses)], 0
        transport = connect(address, "secost", policy=RetryPolicy(200, retries=0))
        for turn in range(requests):
            case = (number // 2 + turn) % len(cases)
            answer = transport.predict(*cases[case])
            wrong += not np.allclose(answer["scores"], expected[case], rtol=0, atol=1e-5)
        return wrong

    def run(requests: int) -> int:
        with ThreadPoolExecutor(16) as pool:
            return sum(pool.map(client, range(16), itertools.repeat(requests)))

    assert run(20) == 0  # 320 requests to begin with
    before = resident_bytes(kept_server.pid)
    assert run(125) == 0  # 2,000
    grown = resident_bytes(kept_server.pid) - before
    assert grown < 40e6, f"memory grew by {grown / 1e6:.0f} MB over 2,000 requests"


# === Configuration ===


def test_the_model_s_configuration():
    config_pb2 = pytest.importorskip(
        "tensorflow_serving.config.model_server_config_pb2",
        reason="the extra `serving` is not installed",
    )
    from google.protobuf import text_format

    config = text_format.Parse(
        (SERVING / "models.config").read_text(), config_pb2.ModelServerConfig()
    )
    (model,) = config.model_config_list.config
    assert (model.name, model.base_path, model.model_platform) == (
        "secost",
        "/models/secost",
        "tensorflow",
    )
    assert model.model_version_policy.latest.num_versions == 1


def test_the_server_is_pinned_and_reads_what_is_there():
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    service = yaml.safe_load((SERVING / "docker-compose.yml").read_text())["services"]["secost"]
    assert re.fullmatch(r"tensorflow/serving:\d+\.\d+\.\d+", service["image"])
    named = re.findall(r"/config/([\w.]+)", (SERVING / "docker-compose.yml").read_text())
    assert set(named) == {path.name for path in SERVING.glob("*.config")}


def test_clips_are_not_padded_by_the_server():
    assert (
        "pad_variable_length_inputs: false"
        in (SERVING / "batching.config").read_text().splitlines()
    )
