import numpy as np
import pytest
import soundfile

from tfrecord_tools.audio.loading import load_audio
from tfrecord_tools.conversion.clip import ConvertConfig, ConvertedClip, convert_clip
from tfrecord_tools.datasets.clips import Clip
from tfrecord_tools.log_mel import log_mel
from tfrecord_tools.shards import files, records

CONFIG = ConvertConfig("train", "manifest")


def decode(folder, converted: ConvertedClip, config: ConvertConfig) -> records.ClipRecord:
    """Return the record of a shard of one clip."""
    path = str(folder / "one.tfrecord")
    files.write_frames(path, [converted.record])
    (data,) = files.read_records(path, config.compression)
    return records.decode(data, config.feature_dtype, 64)


@pytest.mark.parametrize("compression", files.COMPRESSIONS)
@pytest.mark.parametrize("dtype", records.FEATURE_DTYPES)
def test_record_is_the_log_mel_of_the_span(tmp_path, write_noise, dtype, compression):
    path = str(write_noise(tmp_path / "a.wav", 2.0, 44100))
    config = ConvertConfig("train", "manifest", feature_dtype=dtype, compression=compression)
    clip = Clip("a", path, 0.5, 1.5, (2, 1), ((1, 0.25, 0.5),))
    converted = convert_clip(clip, config)
    record = decode(tmp_path, converted, config)
    features = log_mel(load_audio(path, 16000, 0.5, 1.5).waveform, config.log_mel)
    expected = records.quantize(features, dtype, config.feature_range)
    assert expected.dtype == dtype
    np.testing.assert_array_equal(record.log_mel, expected)
    assert (record.video_id, record.labels, record.events) == ("a", (1, 2), ((1, 0.25, 0.5),))
    assert (record.start_time_seconds, record.end_time_seconds) == (0.5, 1.5)
    assert (converted.num_frames, converted.seconds) == (98, 1.0)
    assert converted.failure is None and converted.warnings == ()
    exact = records.dequantize(expected, config.feature_range).astype(np.float64)
    np.testing.assert_allclose(converted.total, exact.sum(axis=0))
    np.testing.assert_allclose(converted.total_of_squares, (exact**2).sum(axis=0))


def test_times_are_those_of_the_recording_and_true(tmp_path, write_noise):
    path = str(write_noise(tmp_path / "a.wav", 0.75))
    converted = convert_clip(Clip("a", path, 30.0, 31.0, file_start_seconds=None), CONFIG)
    record = decode(tmp_path, converted, CONFIG)
    assert (record.start_time_seconds, record.end_time_seconds) == (30.0, 30.75)
    (problem,) = converted.warnings
    assert (problem.id, problem.path, problem.kind) == ("a", path, "short")


def test_whatever_is_wrong_is_a_problem(tmp_path, write_noise, monkeypatch):
    write_noise(tmp_path / "short.wav", 399 / 16000)
    soundfile.write(tmp_path / "huge.wav", np.full(1600, 1e30), 16000, subtype="FLOAT")
    (tmp_path / "empty.wav").touch()

    def kind_of(path: str | None) -> str:
        converted = convert_clip(Clip("a", path, missing="no such file"), CONFIG)
        assert converted.record is None and converted.failure.id == "a" and converted.failure.detail
        return converted.failure.kind

    assert kind_of(None) == "missing"
    assert kind_of(str(tmp_path / "gone.wav")) == "missing"
    assert kind_of(str(tmp_path / "short.wav")) == "too_short"
    assert kind_of(str(tmp_path / "huge.wav")) == "non_finite"
    assert kind_of(str(tmp_path / "empty.wav")) == "empty"
    assert kind_of("not\udcfftext.wav") == "missing"
    monkeypatch.setattr("tfrecord_tools.conversion.clip.load_audio", lambda *args: 1 / 0)
    assert kind_of(str(tmp_path / "short.wav")) == "unexpected"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"split": "a/b"}, "split: expected letters"),
        ({"split": ""}, "split: expected letters"),
        (
            {"feature_dtype": "int8"},
            "feature_dtype: expected one of float16, float32, uint8, got 'int8'",
        ),
        ({"compression": "ZIP"}, "compression: expected one of NONE, GZIP, got 'ZIP'"),
        ({"clips_per_shard": -1}, "clips_per_shard: expected a whole number, 0 or more, got -1"),
    ],
)
def test_bad_config(settings, message):
    with pytest.raises(ValueError, match=message):
        ConvertConfig(**{"split": "train", "dataset": "manifest", **settings})


@pytest.mark.parametrize(
    ("clips", "shards"), [(1, 1), (16, 1), (17, 2), (320, 8), (8192, 8), (8193, 9), (22160, 22)]
)
def test_num_shards(clips, shards):
    assert CONFIG.num_shards(clips) == shards
    assert ConvertConfig("train", "manifest", clips_per_shard=10).num_shards(clips) == -(
        -clips // 10
    )
