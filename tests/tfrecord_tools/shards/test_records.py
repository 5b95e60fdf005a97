import numpy as np
import pytest

from tfrecord_tools.log_mel import LogMelConfig, log_mel
from tfrecord_tools.shards import records
from tfrecord_tools.shards.records import ClipRecord


def clip(**changes) -> ClipRecord:
    values = {
        "video_id": "Ä-_b",
        "log_mel": np.arange(12, dtype=np.float16).reshape(3, 4),
        "labels": (0, 2),
        "start_time_seconds": 30.0,
        "end_time_seconds": 40.0,
        "events": ((2, 0.5, 1.25), (0, 1.0, 2.0)),
    }
    return ClipRecord(**{**values, **changes})


@pytest.mark.parametrize("dtype", records.FEATURE_DTYPES)
def test_round_trip(dtype):
    record = clip(log_mel=np.random.default_rng(0).standard_normal((3, 4)).astype(dtype))
    decoded = records.decode(records.encode(record), dtype, 4)
    np.testing.assert_array_equal(decoded.log_mel, record.log_mel)
    for name in ("video_id", "labels", "start_time_seconds", "end_time_seconds", "events"):
        assert getattr(decoded, name) == getattr(record, name)
    assert records.encode(record) == records.encode(clip(log_mel=record.log_mel))


def test_clip_with_no_label_and_no_event():
    decoded = records.decode(records.encode(clip(labels=(), events=())), "float16", 4)
    assert decoded.labels == () and decoded.events == ()


@pytest.mark.parametrize(
    "log_mel",
    [
        np.zeros((0, 4), np.float16),
        np.zeros(4, np.float16),
        np.zeros((3, 4)),
        np.full((3, 4), np.nan, np.float32),
    ],
)
def test_encode_refuses(log_mel):
    with pytest.raises(ValueError, match="clip Ä-_b: log_mel"):
        records.encode(clip(log_mel=log_mel))


def test_decode_refuses_what_is_no_such_record():
    data = records.encode(clip())
    for wrong in (b"", b"nonsense", records.encode_teacher_scores("a", np.zeros(3))):
        with pytest.raises(ValueError, match="not a clip record"):
            records.decode(wrong, "float16", 4)
    with pytest.raises(ValueError, match="not a clip record"):
        records.decode(data, "float16", 5)
    with pytest.raises(ValueError, match="not a clip record"):
        records.decode(data, "float32", 4)
    with pytest.raises(ValueError, match="not a teacher score record"):
        records.decode_teacher_scores(data)


def test_teacher_scores_round_trip():
    video_id, scores = records.decode_teacher_scores(
        records.encode_teacher_scores("a", np.array([0.25, 1.0]))
    )
    assert video_id == "a" and scores.dtype == np.float32 and scores.tolist() == [0.25, 1.0]


def test_uint8_covers_silence_to_full_scale():
    config = LogMelConfig()
    low, high = value_range = records.feature_range(config, "uint8")
    assert (
        records.feature_range(config, "float16") is records.feature_range(config, "float32") is None
    )
    silence = log_mel(np.zeros(1600, np.float32), config)
    tone = log_mel(np.sin(2 * np.pi * 1000 / 16000 * np.arange(1600)).astype(np.float32), config)
    assert silence.max() == pytest.approx(low, abs=1e-5) and high - 2 < tone.max() < high
    assert (records.quantize(silence, "uint8", value_range) == 0).all()
    for values in (silence, tone):
        stored = records.quantize(values, "uint8", value_range)
        assert stored.dtype == np.uint8
        error = np.abs(records.dequantize(stored, value_range) - values).max()
        assert error <= (high - low) / 255 / 2 + 1e-5 and (high - low) / 255 < 0.1
        again = records.quantize(records.dequantize(stored, value_range), "uint8", value_range)
        np.testing.assert_array_equal(again, stored)
    assert records.quantize(np.float32([-99, 99]), "uint8", value_range).tolist() == [0, 255]


def test_tensorflow_reads_uint8():
    tf = pytest.importorskip("tensorflow")
    stored = np.array([[0, 255], [51, 204]], np.uint8)
    data = [
        records.encode(records.ClipRecord("a", values, (0,))) for values in (stored, stored[:1])
    ]
    parsed = records.parse(tf.constant(data), "uint8", (-14.0, 11.0), 2, 1)
    assert parsed["num_frames"].numpy().tolist() == [2, 1]
    np.testing.assert_allclose(
        parsed["log_mel"].numpy(), [[[-14, 11], [-9, 6]], [[-14, 11], [0, 0]]], atol=1e-5
    )
    np.testing.assert_allclose(
        records.dequantize(stored, (-14.0, 11.0)), [[-14, 11], [-9, 6]], atol=1e-5
    )


def test_tensorflow_reads_what_is_encoded():
    tf = pytest.importorskip("tensorflow")
    data = records.encode(clip())
    assert tf.train.Example.FromString(data).features.feature["labels"].int64_list.value == [0, 2]
    nothing = records.encode(clip(labels=(), events=()))
    parsed = records.parse(tf.constant([data, nothing]), "float16", None, 4, 3)
    assert parsed["video_id"].numpy()[0].decode() == "Ä-_b"
    assert parsed["log_mel"].dtype == tf.float32
    assert parsed["log_mel"].numpy().tolist() == [clip().log_mel.tolist()] * 2
    assert parsed["num_frames"].numpy().tolist() == [3, 3]
    assert parsed["labels"].numpy().tolist() == [[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    video_id, scores = records.parse_teacher_scores(
        tf.constant([records.encode_teacher_scores("a", np.array([0.25, 1.0]))]), 2
    )
    assert video_id.numpy().tolist() == [b"a"] and scores.numpy().tolist() == [[0.25, 1.0]]
