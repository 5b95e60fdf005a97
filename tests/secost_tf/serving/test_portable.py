import numpy as np
import pytest
import tensorflow as tf

from secost_tf.runs import StageFolder, load_student
from secost_tf.runs.stage_folder import StageRecord
from secost_tf.serving.layout import PortableConfig
from secost_tf.serving.portable import (
    check_portable,
    describe_signature,
    fit_frames,
    fit_samples,
    make_graph,
    probes,
)
from tfrecord_tools.log_mel import LogMelConfig, log_mel

BOTH = ("scores", "segment_scores")


@pytest.fixture(scope="module")
def student(untrained_run):
    return load_student(untrained_run, 2)


@pytest.fixture(scope="module")
def record(untrained_run) -> StageRecord:
    return StageFolder(untrained_run, 2).record


def test_clips_of_one_length():
    np.testing.assert_array_equal(fit_samples(np.array([1.0, 2.0, 3.0]), 2), [1, 2])
    np.testing.assert_array_equal(fit_samples(np.array([1.0, 2.0]), 4), [1, 2, 0, 0])
    config, clip = LogMelConfig(), np.ones((3, 2), np.float16)
    assert fit_frames(clip, 2, config).shape == (2, 2)
    longer = fit_frames(clip, 5, config)
    assert longer.dtype == np.float32
    # What follows is the log-mel of silence.
    np.testing.assert_allclose(
        longer[3:], log_mel(np.zeros(560, np.float32), config)[:, :2], rtol=1e-6
    )


@pytest.mark.parametrize("model_input", ["waveform", "log_mel"])
def test_the_graph_is_the_live_network(student, record, kept_live, model_input):
    waveform = np.random.default_rng(0).uniform(-0.3, 0.3, (2, 8000)).astype(np.float32)
    graph = make_graph(student, record, PortableConfig(model_input), tf.float64)
    value = (
        waveform
        if model_input == "waveform"
        else np.stack([log_mel(sound, record.log_mel) for sound in waveform])
    )
    expected = kept_live({"waveform": waveform})
    for name, actual in graph(tf.constant(value)).items():
        np.testing.assert_allclose(actual, expected[name], rtol=0, atol=1e-5)


def test_the_probes(record):
    sounds = probes(record, PortableConfig("waveform"), None)
    assert len({len(sound) for sound in sounds}) == 4 and not sounds[0].any()
    assert {len(sound) for sound in probes(record, PortableConfig("waveform"), 8000)} == {8000}
    assert {clip.shape for clip in probes(record, PortableConfig("log_mel"), 8000)} == {(48, 32)}


def test_a_runtime_that_errs_is_found(student, record, kept_live):
    config = PortableConfig("waveform")
    clips = probes(record, config, 8000)[1:3]

    def check(error: float, names=BOTH) -> float:
        def run(waveform: np.ndarray) -> dict[str, np.ndarray]:
            given = kept_live({"waveform": waveform})
            return {name: given[name] + np.float32(error) for name in names}

        return check_portable(run, student, record, config, clips, 1e-3)

    assert check(0.0) == 0
    assert check(5e-4) == pytest.approx(5e-4, rel=1e-3)
    for error, names, message in (
        (
            0.02,
            BOTH,
            "the exported model: scores differ by 2.0e-02 from the live model, by 1e-03 at most",
        ),
        (np.nan, BOTH, "the exported model: scores differ by nan"),
        (
            0.0,
            ("scores",),
            "the exported model: expected the outputs scores, segment_scores, got scores",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            check(error, names)


def test_signatures(record):
    assert describe_signature(record, PortableConfig("log_mel"), 32000) == {
        "serving_default": {
            "inputs": {"log_mel": "float32 [1, 198, 32]"},
            "outputs": {"scores": "float32 [1, 4]", "segment_scores": "float32 [1, 5, 4]"},
        }
    }
    of_any_length = describe_signature(record, PortableConfig("waveform"), None)["serving_default"]
    assert of_any_length["inputs"] == {"waveform": "float32 [?, ?]"}
    assert of_any_length["outputs"]["segment_scores"] == "float32 [?, ?, 4]"
