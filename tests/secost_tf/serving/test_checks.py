"""The comparison itself; that a good export passes it, and a bad one does not, is in
test_export.py.
"""

import numpy as np
import pytest

from secost_tf.runs import StageFolder
from secost_tf.runs.stage_folder import StageRecord
from secost_tf.serving import checks
from secost_tf.serving.checks import compare, compare_top_k
from secost_tf.serving.layout import ServingConfig
from secost_tf.serving.waveforms import bytes_array

EXPECTED = {
    "scores": np.array([[0.1, 0.9]], np.float32),
    "segment_onsets": np.zeros((1, 1), np.float32),
}


def test_the_largest_difference():
    actual = {**EXPECTED, "scores": EXPECTED["scores"] + np.array([[0, 4e-6]], np.float32)}
    assert compare("here", actual, EXPECTED) == pytest.approx(4e-6, rel=0.05)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"scores": EXPECTED["scores"] + np.float32(2e-5)},
            "here: scores differ by 2.0e-05 .* 1e-05 at most",
        ),
        ({"scores": EXPECTED["scores"] * np.float32(np.nan)}, "here: scores differ by nan"),
        ({"scores": EXPECTED["scores"][0]}, r"here: scores: expected shape \(1, 2\), got \(2,\)"),
        (
            {"more": EXPECTED["scores"]},
            "here: expected the outputs scores, segment_onsets, got .*more",
        ),
    ],
)
def test_what_differs(changed, message):
    with pytest.raises(ValueError, match=message):
        compare("here", {**EXPECTED, **changed}, EXPECTED)


@pytest.fixture(scope="module")
def record(untrained_run) -> StageRecord:
    return StageFolder(untrained_run, 2).record  # Bark, Bell, Rain, Siren


def top(labels, scores) -> dict[str, np.ndarray]:
    return {"labels": bytes_array(labels)[None], "scores": np.array([scores], np.float32)}


def test_labels_may_change_places_where_scores_are_equal(record):
    live = np.array([[0.5, 0.3, 0.3 + 3e-6, 0.1]], np.float32)
    config = ServingConfig(top_k=2)
    for labels in ([b"Bark", b"Bell"], [b"Bark", b"Rain"]):
        assert compare_top_k("here", top(labels, [0.5, 0.3]), live, record, config) < 4e-6
    for labels, message in (
        ([b"Siren", b"Bell"], r"here: 'Siren' has 0.500000, and \[0.1"),
        ([b"Bark", b"Cat"], r"here: 'Cat' has 0.300000, and \[\] in the live model"),
    ):
        with pytest.raises(ValueError, match=message):
            compare_top_k("here", top(labels, [0.5, 0.3]), live, record, config)
    with pytest.raises(ValueError, match=r"here: scores: expected shape \(1, 2\)"):
        compare_top_k("here", top([b"Bark"], [0.5]), live, record, config)


def test_every_signature_is_asked_with_every_sound(record):
    requests = checks.probe_requests(record.log_mel)
    asked = [signature for signature, _ in requests]
    assert {name: asked.count(name) for name in set(asked)} == {
        "serving_default": 4,
        "top_k": 4,
        "log_mel": 4,
        "every_frame": 4,
        "padded": 1,
        "wav_bytes": 1,
    }
    silence, noise, sine, soundscape = checks.probe_sounds(16000)
    assert not silence.any() and 0.05 < noise.std() < 0.2 and np.abs(sine).max() <= 0.5
    assert (
        soundscape.std() > 1e-3 and len({len(silence), len(noise), len(sine), len(soundscape)}) == 4
    )
