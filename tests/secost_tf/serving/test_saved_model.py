"""The served model against the live network, in Python and in TensorFlow's C++ loader.

Bad requests are errors that name what was expected.
"""

import io
import os
import re
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from secost_tf.runs import StageFolder
from secost_tf.runs.stage_folder import StageRecord
from secost_tf.serving.checks import compare, compare_top_k
from secost_tf.serving.cpp_loader import ServableError
from secost_tf.serving.layout import ServingConfig
from secost_tf.serving.waveforms import bytes_array, encode_wav, pad_together
from tfrecord_tools.audio.loading import load_audio
from tfrecord_tools.log_mel import log_mel

RATE = 16000


def noise(clips: int, samples: int, seed: int = 0) -> np.ndarray:
    """Of another level in each clip."""
    generator = np.random.default_rng(seed)
    levels = 10.0 ** generator.uniform(-3, -0.5, (clips, 1))
    return np.clip(levels * generator.standard_normal((clips, samples)), -1, 1).astype(np.float32)


@pytest.fixture(scope="module")
def record(untrained_run) -> StageRecord:
    return StageFolder(untrained_run, 2).record


@pytest.fixture(scope="module")
def python_model(kept_export):
    return tf.saved_model.load(kept_export)


@pytest.fixture(scope="module")
def check(kept_servable, python_model, kept_live, record):
    """Ask both loaders, and compare with the live network's answer to the same or to other
    inputs: within 1e-5.
    """

    def checked(signature: str, live=None, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        live = live or kept_live(inputs, every_frame=signature == "every_frame")
        tensors = {
            name: tf.constant(value.tolist() if value.dtype.hasobject else value)
            for name, value in inputs.items()
        }
        loaded = python_model.signatures[signature](**tensors)
        answer = kept_servable.run(signature, inputs)
        for given in (answer, {name: value.numpy() for name, value in loaded.items()}):
            if signature == "top_k":
                compare_top_k(signature, given, live["scores"], record, ServingConfig(top_k=3))
            else:
                compare(signature, given, live)
        return answer

    return checked


# === Agreement ===


@pytest.mark.parametrize("seconds", [1, 10, 60])
@pytest.mark.parametrize("clips", [1, 2, 17])
def test_all_signatures_agree_with_the_live_network(check, kept_live, record, clips, seconds):
    wavs = [encode_wav(clip, RATE) for clip in noise(clips, seconds * RATE)]
    waveform = np.stack([soundfile.read(io.BytesIO(wav), dtype="float32")[0] for wav in wavs])
    log_mels = np.stack([log_mel(clip, record.log_mel) for clip in waveform])
    live = kept_live({"log_mel": log_mels})
    answer = check("serving_default", live, waveform=waveform)
    segments = record.config.network.num_segments(record.log_mel.num_frames(seconds * RATE))
    assert answer["scores"].shape == (clips, 4)
    assert answer["segment_scores"].shape == (clips, segments, 4)
    onsets = np.tile(np.arange(segments) * 0.32, (clips, 1)).astype(np.float32)
    np.testing.assert_array_equal(answer["segment_onsets"], onsets)
    assert check("top_k", live, waveform=waveform)["labels"].shape == (clips, 3)
    check("log_mel", live, log_mel=log_mels)
    check("wav_bytes", live, wav_bytes=bytes_array(wavs))
    lengths = np.linspace(seconds * RATE, 400, clips).astype(np.int32)
    check("padded", waveform=waveform, lengths=lengths)
    fine = check("every_frame", log_mel=log_mels)
    np.testing.assert_allclose(
        fine["segment_scores"][:, ::32], answer["segment_scores"], rtol=0, atol=1e-5
    )
    np.testing.assert_allclose(
        fine["segment_onsets"][0], np.arange(32 * segments) * 0.01, atol=1e-5
    )


@pytest.mark.esc10
def test_recordings(check):
    folder = os.environ.get("SECOST_SHARED_DATA")
    if not folder or not Path(folder, "esc10").is_dir():
        pytest.skip("SECOST_SHARED_DATA does not name a folder that holds esc10")
    files = sorted(Path(folder, "esc10").glob("*/*.ogg"))[::23]
    clips = [load_audio(str(path), RATE).waveform for path in files]
    assert len(clips) >= 17
    lengths = np.array([len(clip) for clip in clips], np.int32)
    check("padded", waveform=pad_together(clips), lengths=lengths)
    check("wav_bytes", wav_bytes=bytes_array([encode_wav(clip, RATE) for clip in clips]))
    for signature in ("serving_default", "top_k"):
        check(signature, waveform=np.concatenate(clips)[None, : 60 * RATE])
        check(signature, waveform=pad_together(clips[:2]))


@pytest.mark.parametrize("samples", [400, 401, 559, 560, 5519, 5520, 5521])
def test_any_length_from_one_window_up(check, samples):
    check("serving_default", waveform=noise(2, samples))


def test_a_clip_s_scores_do_not_depend_on_its_batch(kept_servable):
    waveform, lengths = noise(3, 5 * RATE), np.array([400, 5 * RATE, 2 * RATE], np.int32)
    together = kept_servable.run("padded", {"waveform": waveform, "lengths": lengths})
    for row, length in enumerate(lengths):
        alone = kept_servable.run("serving_default", {"waveform": waveform[row : row + 1, :length]})
        own = alone["segment_scores"].shape[1]
        np.testing.assert_allclose(together["scores"][row], alone["scores"][0], rtol=0, atol=1e-6)
        np.testing.assert_allclose(
            together["segment_scores"][row, :own], alone["segment_scores"][0], rtol=0, atol=1e-6
        )
        assert not together["segment_scores"][row, own:].any()


def test_stereo_is_the_mean_of_its_channels(kept_servable):
    both = noise(2, RATE)
    stereo = encode_wav(both.T, RATE)
    answer = kept_servable.run("wav_bytes", {"wav_bytes": bytes_array([stereo])})
    expected = kept_servable.run("serving_default", {"waveform": both.mean(axis=0, keepdims=True)})
    np.testing.assert_allclose(answer["scores"], expected["scores"], atol=1e-3)  # 16 bits


# === Bad requests ===


def wav(rate: int = RATE, width: int = 2, seconds: float = 1.0) -> bytes:
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(1), file.setsampwidth(width), file.setframerate(rate)
        file.writeframes(bytes(round(seconds * rate) * width))
    return stream.getvalue()


SECOND = np.zeros((1, RATE), np.float32)
BAD = [
    (
        "serving_default",
        {"waveform": SECOND[0]},
        r"waveform.*\[16000\] is not compatible with expected shape \[\?,\?\]",
    ),
    ("serving_default", {"waveform": SECOND[None]}, r"waveform.*\[1,1,16000\] is not compatible"),
    (
        "serving_default",
        {"waveform": SECOND * np.float32(np.nan)},
        "waveform: expected finite numbers, got NaN or infinity",
    ),
    (
        "top_k",
        {"waveform": SECOND + np.float32(np.inf)},
        "waveform: expected finite numbers, got NaN or infinity",
    ),
    ("serving_default", {"waveform": SECOND[:0]}, "waveform: expected one clip or more, got none"),
    (
        "serving_default",
        {"waveform": SECOND[:, :399]},
        r"waveform: expected 400 samples or more in a clip, got\] \[399\]",
    ),
    (
        "serving_default",
        {"waveform": np.zeros((1200, RATE), np.float32)},
        r"waveform: expected at most 1100 seconds of sound in a request, got\] \[1200\]",
    ),
    (
        "padded",
        {"waveform": SECOND, "lengths": np.array([399], np.int32)},
        "lengths: expected 400 samples or more each",
    ),
    (
        "padded",
        {"waveform": SECOND, "lengths": np.array([16001], np.int32)},
        r"lengths: .*at most the\] \[16000\] \[of the waveforms, got\] \[16001\]",
    ),
    (
        "padded",
        {"waveform": SECOND, "lengths": np.array([400, 400], np.int32)},
        r"lengths: expected one for each of\] \[1\]",
    ),
    (
        "log_mel",
        {"log_mel": np.zeros((1, 9, 31), np.float32)},
        r"log_mel.*\[1,9,31\] is not compatible .* \[\?,\?,32\]",
    ),
    (
        "log_mel",
        {"log_mel": np.zeros((1, 0, 32), np.float32)},
        "log_mel: expected one frame or more, got none",
    ),
    (
        "log_mel",
        {"log_mel": np.zeros((0, 9, 32), np.float32)},
        "log_mel: expected one clip or more, got none",
    ),
    (
        "log_mel",
        {"log_mel": np.full((1, 9, 32), np.nan, np.float32)},
        "log_mel: expected finite numbers",
    ),
    (
        "log_mel",
        {"log_mel": np.zeros((2, 60000, 32), np.float32)},
        r"log_mel: expected at most 109998 frames .*\[120000\]",
    ),
    ("wav_bytes", {"wav_bytes": bytes_array([])}, "wav_bytes: expected one file or more, got none"),
    (
        "wav_bytes",
        {"wav_bytes": bytes_array([b"a text, not a wav file"])},
        "(?s)Expected RIFF but found a te.*wav_bytes",
    ),
    (
        "wav_bytes",
        {"wav_bytes": bytes_array([wav(), wav()[:-100]])},
        "(?s)Data too short.*wav_bytes",
    ),
    ("wav_bytes", {"wav_bytes": bytes_array([wav()[:20]])}, "(?s)Data too short.*wav_bytes"),
    (
        "wav_bytes",
        {"wav_bytes": bytes_array([wav(width=1)])},
        "Can only read 16-bit WAV files, but received 8",
    ),
    (
        "wav_bytes",
        {"wav_bytes": bytes_array([wav(width=3)])},
        "Can only read 16-bit WAV files, but received 24",
    ),
    (
        "wav_bytes",
        {"wav_bytes": bytes_array([wav(), wav(44100)])},
        r"wav_bytes: expected a sample rate of 16000 Hz \(resample it first\), got\] \[44100\] "
        r"\[in clip\] \[1\]",
    ),
    (
        "wav_bytes",
        {"wav_bytes": bytes_array([wav(seconds=0.02)])},
        r"wav_bytes: expected 400 samples .*\[320\]",
    ),
]


@pytest.mark.parametrize(
    ("signature", "inputs", "message"),
    BAD,
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_request_is_refused_with_a_reason_and_the_next_is_answered(
    kept_servable, signature, inputs, message
):
    with pytest.raises(ServableError, match=message) as raised:
        kept_servable.run(signature, inputs)
    assert raised.value.code == "INVALID_ARGUMENT"
    assert kept_servable.run("serving_default", {"waveform": SECOND})["scores"].shape == (1, 4)


def test_an_hour_of_sound_is_refused(kept_servable):
    hour = 3600 * RATE
    for signature, inputs in (
        ("serving_default", {"waveform": np.zeros((1, hour), np.float32)}),
        ("wav_bytes", {"wav_bytes": bytes_array([wav(seconds=3600)])}),
        ("log_mel", {"log_mel": np.zeros((1, hour // 160, 32), np.float32)}),
    ):
        with pytest.raises(ServableError, match=r"expected at most .* in a request, got\] \[36"):
            kept_servable.run(signature, inputs)
    assert kept_servable.run("serving_default", {"waveform": SECOND})["scores"].shape == (1, 4)


# === What is in it ===


def read_graph(folder: str) -> saved_model_pb2.SavedModel:
    return saved_model_pb2.SavedModel.FromString(Path(folder, "saved_model.pb").read_bytes())


def test_the_graph_holds_plain_operations_alone(kept_export):
    (meta_graph,) = read_graph(kept_export).meta_graphs
    library = meta_graph.graph_def.library
    nodes = [
        *meta_graph.graph_def.node,
        *(node for function in library.function for node in function.node_def),
    ]
    kinds = {node.op for node in nodes}
    assert "Conv2D" in kinds and not {kind for kind in kinds if "Py" in kind or "Custom" in kind}
    own = {function.signature.name for function in library.function}
    assert kinds - own <= set(dir(tf.raw_ops)), "an operation that is not TensorFlow's own"
    assert not [node.name for node in nodes if "_gradient_op_type" in node.attr]
    assert not library.gradient and not library.registered_gradients


def test_there_is_no_path_of_this_machine(kept_export, untrained_run):
    places = {
        untrained_run,
        kept_export,
        str(Path(__file__).parents[3]),
        sys.prefix,
        os.path.expanduser("~"),
        "site-packages",
    }
    for path in Path(kept_export).rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not [place for place in places if place.encode() in content], path
            assert not re.search(rb"/(?:tmp|home|root|usr|opt|var)/", content), path


def test_the_class_list_is_the_data_s(kept_export, untrained_run, record, kept_servable, kept_live):
    assert Path(kept_export, "assets", "classes.csv").read_text() == record.class_map.to_csv()
    assets = read_graph(kept_export).meta_graphs[0].asset_file_def
    assert [asset.filename for asset in assets] == ["classes.csv"]
    waveform = noise(1, RATE)
    labels = kept_servable.run("top_k", {"waveform": waveform})["labels"][0]
    best = np.argsort(-kept_live({"waveform": waveform})["scores"][0])[:3]
    assert [label.decode() for label in labels] == [
        record.class_map.display_names[index] for index in best
    ]


def test_no_weights_but_the_student_s(kept_export):
    names = [
        name
        for name, _ in tf.train.list_variables(str(Path(kept_export, "variables", "variables")))
    ]
    assert all(
        name.startswith("weights/") or name == "_CHECKPOINTABLE_OBJECT_GRAPH" for name in names
    )
    assert not Path(kept_export, "keras_metadata.pb").exists()
