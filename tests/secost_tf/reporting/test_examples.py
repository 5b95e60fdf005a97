import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from secost_tf.reporting import examples
from secost_tf.reporting.examples import (
    KINDS,
    Choice,
    choose_examples,
    clip_sounds,
    encode_flac,
    explain,
    leading_classes,
    margins,
)
from tfrecord_tools.shards.records import ClipRecord

LABELS = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0], [1, 1, 1], [0, 1, 0]], bool)
SCORES = np.array(
    [[0.9, 0.2, 0.5], [0.9, 0.3, 0.5], [0.9, 0.2, 0.5], [0.9, 0.2, 0.5], [0.1, 0.4, 0.4]]
)


def test_margins_of_hand_worked_clips():
    # 0.9 - 0.5; 0.3 - 0.5; no label; nothing but labels; a tie is not above
    np.testing.assert_allclose(
        margins(LABELS, SCORES), [0.4, -0.2, np.nan, np.nan, 0.0], atol=1e-12
    )


def of_margins(*values: float) -> tuple[np.ndarray, np.ndarray]:
    """Clips of two classes, the first of which is the label, with these margins."""
    labels = np.zeros((len(values), 2), bool)
    labels[:, 0] = True
    return labels, np.array([[0.5 + value / 2, 0.5 - value / 2] for value in values])


def test_each_kind_is_chosen_by_its_rule():
    # clip:            0     1     2     3     4     5     6
    before = (-0.2, -0.9, 0.3, 0.3, -0.5, -0.1, 0.8)
    after = (0.8, 0.5, 0.4, 0.1, -0.3, -0.7, -0.1)
    labels, base = of_margins(*before)
    _, last = of_margins(*after)
    # gained most: clip 1 (1.4 against 1.0). The right ones are 0 to 3, their median margin 0.45:
    # clip 2 is nearest of those that were right too. Wrong by most both times: clip 5. Lost most:
    # clip 6.
    assert choose_examples(labels, base, last, 4) == list(map(Choice, KINDS, (1, 2, 5, 6)))
    assert choose_examples(labels, base, last, 2) == [Choice("put right", 1), Choice("typical", 2)]
    chosen = choose_examples(labels, base, last, 100)
    assert sorted(choice.clip for choice in chosen) == list(range(7))
    assert [choice.kind for choice in chosen] == sorted((c.kind for c in chosen), key=KINDS.index)


def test_other_labels_go_before_labels_that_were_shown():
    labels = np.array([[1, 0], [1, 0], [0, 1]], bool)
    base = np.array([[0.0, 1.0], [0.1, 0.9], [0.5, 0.5]])
    last = np.array([[1.0, 0.0], [0.9, 0.1], [0.4, 0.6]])
    chosen = choose_examples(labels, base, last, 2)
    assert [choice.clip for choice in chosen] == [0, 2]
    assert [choice.clip for choice in choose_examples(labels, base, last, 3)] == [0, 2, 1]


def test_of_equal_clips_the_first_is_taken_and_one_stage_compares_with_nothing():
    labels, scores = of_margins(*[0.5] * 4, *[-0.5] * 4)
    assert choose_examples(labels, None, scores, 2) == [
        Choice("typical", 0),
        Choice("still wrong", 4),
    ]
    assert {c.kind for c in choose_examples(labels, None, scores, 8)} == {"typical", "still wrong"}


def test_clips_that_cannot_be_right_or_wrong_are_not_chosen():
    assert choose_examples(LABELS[2:4], None, SCORES[2:4], 5) == []
    assert choose_examples(LABELS, None, SCORES, 0) == []


@pytest.mark.parametrize(
    ("labels", "count", "expected"),
    [
        ((0, 1, 0, 1), 3, [3, 1, 2]),  # labels by falling score, then the highest of the others
        ((1, 1, 0, 1), 3, [3, 0, 2]),  # there is always one of the others
        ((1, 1, 1, 1), 2, [2, 3]),
        ((0, 0, 0, 0), 2, [2, 3]),
        ((0, 1, 0, 0), 9, [1, 2, 3, 0]),
    ],
)
def test_leading_classes(labels, count, expected):
    scores = np.array([0.3, 0.1, 0.9, 0.8])
    assert leading_classes(np.array(labels), scores, count) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_explained(kind):
    text = explain(Choice(kind, 0), ["Bark"], "Bell", 0, 2)
    assert "tage 2" in text and text.endswith(".") and ("Bell" in text) == (kind != "typical")


# === Sound ===


def record(video_id: str, start: float = 0.0, end: float = 1.0) -> ClipRecord:
    return ClipRecord(video_id, np.zeros((1, 1), np.float32), (), start, end)


def write_level(path: Path, *levels: float, rate_hz: int = 16000) -> None:
    """A file of one second at each level."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.repeat(levels, rate_hz), rate_hz)


def levels(sound: bytes) -> list[float]:
    """The level in the middle of each second."""
    samples, rate_hz = soundfile.read(io.BytesIO(sound))
    assert rate_hz == 16000 and samples.ndim == 1
    return np.round(samples[8000::16000], 3).tolist()


def test_sounds_are_found_by_id_as_the_converter_finds_them(tmp_path):
    write_level(tmp_path / "a" / "whole.wav", 0.1, 0.2, 0.3)
    write_level(tmp_path / "b" / "Yspan.flac", 0.4)
    write_level(tmp_path / "timed_30000.wav", 0.5)
    write_level(tmp_path / "cut.wav", 0.6)
    write_level(tmp_path / "one" / "same.wav", 0.7)
    write_level(tmp_path / "two" / "same.wav", 0.8)
    clips = [
        record("whole", 1, 3),  # of a file that holds the whole recording
        record("span"),  # a name that begins with Y
        record("timed", 30, 31),  # a name with the segment's start
        record(
            "cut_30000", 30, 31
        ),  # one of several segments of a recording; the file holds it alone
        record("two/same"),  # a manifest's id, which is a path
        record("lost"),
    ]
    sounds = clip_sounds(str(tmp_path), clips)
    assert {clip_id: levels(sound) for clip_id, sound in sounds.items()} == {
        "whole": [0.2, 0.3],
        "span": [0.4],
        "timed": [0.5],
        "cut_30000": [0.6],
        "two/same": [0.8],
    }


def test_a_sound_is_resampled_and_cut_to_the_most_seconds(tmp_path):
    write_level(tmp_path / "long.wav", *[0.25] * 14, rate_hz=8000)
    (sound,) = clip_sounds(str(tmp_path), [record("long", 0, 14)]).values()
    assert soundfile.info(io.BytesIO(sound)).duration == examples.MOST_SECONDS
    assert soundfile.info(io.BytesIO(sound)).samplerate == 16000


def test_what_is_too_much_or_cannot_be_read_is_left_out(tmp_path, monkeypatch):
    generator = np.random.default_rng(0)
    for name in "abc":
        soundfile.write(tmp_path / f"{name}.wav", generator.uniform(-1, 1, 16000), 16000)
    (tmp_path / "text.wav").write_text("no sound")
    clips = [record(name) for name in ("text", "a", "b", "c")]
    assert list(clip_sounds(str(tmp_path), clips)) == ["a", "b", "c"]
    monkeypatch.setattr(examples, "MOST_BYTES", 70_000)  # a second of noise takes 32 kB
    assert list(clip_sounds(str(tmp_path), clips)) == ["a", "b"]


def test_flac_keeps_the_samples_to_16_bits_and_clips_what_is_too_loud():
    waveform = np.array([0.0, 0.5, -0.25, 1.5, -2.0], np.float32)
    samples, _ = soundfile.read(io.BytesIO(encode_flac(waveform)))
    np.testing.assert_allclose(samples, [0, 0.5, -0.25, 1, -1], atol=2**-15)


@pytest.mark.parametrize("folder", ["gs://bucket/audio", "missing"])
def test_a_folder_that_is_none_is_said(folder):
    with pytest.raises(
        ValueError, match=f"audio_dir: expected a local folder of recordings, got '{folder}'"
    ):
        clip_sounds(folder, [])
