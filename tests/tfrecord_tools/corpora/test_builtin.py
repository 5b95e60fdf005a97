import dataclasses
import wave
from pathlib import Path

import pytest

from tfrecord_tools import conversion
from tfrecord_tools.corpora import builtin
from tfrecord_tools.corpora.mixing import SoundscapeConfig
from tfrecord_tools.shards import info as shards

TINY = SoundscapeConfig(num_train=5, num_eval=3, min_seconds=1.0, max_seconds=1.2, max_events=1)


def test_the_corpus_is_made_once_and_then_kept(tmp_path, files_of, monkeypatch):
    data_dir = builtin.make_builtin_data(TINY, tmp_path / "tiny")
    assert data_dir == str(tmp_path / "tiny" / "data")
    for split, clips in (("train", 5), ("eval", 3)):
        info = shards.read_dataset_info(data_dir, split)
        assert info.num_clips == clips and len(info.class_map) == 12 and info.failures == {}
        assert sum(info.positives) == clips  # one event each
        assert len(list((tmp_path / "tiny" / "corpus" / split).glob("*.wav"))) == clips
    with wave.open(str(next((tmp_path / "tiny" / "corpus" / "train").glob("*.wav")))) as sound:
        assert 1.0 <= sound.getnframes() / sound.getframerate() <= 1.2

    before = files_of(tmp_path)
    for name in ("make_corpus", "convert_dataset"):
        monkeypatch.setattr(builtin, name, lambda *args: pytest.fail("made again"))
    assert builtin.make_builtin_data(TINY, tmp_path / "tiny") == data_dir
    assert files_of(tmp_path) == before


def test_a_corpus_that_was_not_finished_is_finished(tmp_path, monkeypatch):
    plain, made = conversion.convert_dataset, []

    def convert(clips, class_map, config, out_dir):
        made.append(config.split)
        if made == ["train", "eval"]:
            raise KeyboardInterrupt
        return plain(clips, class_map, config, out_dir)

    monkeypatch.setattr(builtin, "convert_dataset", convert)
    with pytest.raises(KeyboardInterrupt):
        builtin.make_builtin_data(TINY, tmp_path)
    assert shards.list_splits(str(tmp_path / "data")) == ["train"]
    builtin.make_builtin_data(TINY, tmp_path)
    assert shards.list_splits(str(tmp_path / "data")) == ["eval", "train"]


@pytest.mark.parametrize(
    ("variable", "folder"),
    [("cache", "cache/secost_tf"), ("", "home/.cache/secost_tf"), (None, "home/.cache/secost_tf")],
)
def test_where_the_corpus_is_kept(tmp_path, monkeypatch, variable, folder):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    if variable is None:
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", variable and str(tmp_path / variable))
    assert builtin.cache_dir() == tmp_path / folder


def test_each_corpus_has_a_folder_of_its_own_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made = []
    monkeypatch.setattr(
        builtin, "make_corpus", lambda config, folder: made.append((config, folder.parent))
    )
    monkeypatch.setattr(builtin, "read_audioset", lambda **paths: ([], "classes"))
    monkeypatch.setattr(builtin, "convert_dataset", lambda clips, classes, config, data_dir: None)
    noisy = dataclasses.replace(TINY, missing_rate=0.2)
    folders = [
        Path(builtin.make_builtin_data(*arguments)).parent
        for arguments in ((), (TINY,), (noisy,), (TINY,))
    ]
    assert made == list(zip((SoundscapeConfig(), TINY, noisy, TINY), folders, strict=True))
    assert len(set(folders)) == 3 and {folder.parent for folder in folders} == {
        tmp_path / "secost_tf"
    }
