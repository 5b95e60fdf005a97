import dataclasses
import os

import pytest

from tfrecord_tools.corpora.recordings import read_sources


@pytest.fixture
def manifest(tmp_path):
    """Write a manifest, and an empty file for each path in it: listing opens none."""

    def write(header: str, *rows: str) -> str:
        path = tmp_path / "labels.csv"
        path.write_text("\n".join([header, *rows]) + "\n")
        for row in rows:
            file = tmp_path / row.split(",")[0]
            if not file.name.startswith("gone"):
                file.parent.mkdir(parents=True, exist_ok=True)
                file.touch()
        return str(path)

    return write


@pytest.fixture
def folder(tmp_path):
    """Two classes, of eight and five recordings."""
    for name, count in (("Dog bark", 8), ("rain, heavy", 5)):
        (tmp_path / "sounds" / name / "more").mkdir(parents=True)
        for index in range(count):
            below = "more" if index == 1 else "."
            (tmp_path / "sounds" / name / below / f"{index}.{'wav' if index else 'OGG'}").touch()
    (tmp_path / "sounds" / "readme.txt").touch()
    (tmp_path / "sounds" / ".git").mkdir()
    (tmp_path / "sounds" / ".git" / "x.wav").touch()
    return str(tmp_path / "sounds")


def names(sources, split):
    return [os.path.basename(clip.path) for clip in sources.clips[split]]


FOLDS = ["a1.ogg,a,1", "b1.ogg,b,1", "a2.ogg,a,2", "b2.ogg,b,2", "a3.ogg,a,3", "b3.ogg,b,3"]


def test_folds_of_a_manifest(manifest):
    sources = read_sources(manifest("filename,label,fold", *FOLDS), eval_folds=[3, 1])
    assert sources.class_map.display_names == ("a", "b")
    assert names(sources, "train") == ["a2.ogg", "b2.ogg"]
    assert names(sources, "eval") == ["a1.ogg", "b1.ogg", "a3.ogg", "b3.ogg"]
    assert [clip.labels for clip in sources.clips["train"]] == [(0,), (1,)]
    assert (sources.settings["eval_folds"], sources.settings["eval_share"]) == ([1, 3], None)


def test_splits_of_a_manifest(manifest):
    rows = [
        "a1.wav,a,train",
        "a2.wav,a,eval",
        "b1.wav,b,eval",
        "b2.wav,b,train",
        "c.wav,a,validation",
    ]
    sources = read_sources(manifest("path,labels,split", *rows))
    assert names(sources, "train") == ["a1.wav", "b2.wav"]
    assert names(sources, "eval") == ["a2.wav", "b1.wav"]


def test_only_recordings_of_one_class_are_used(manifest):
    rows = [
        "a1.wav,a,train",
        "a2.wav,a,eval",
        "ab.wav,a;b,train",
        "none.wav,,train",
        "c1.wav,c;a,train",
    ]
    rows += ["d1.wav,d,train", "d2.wav,d,eval"]
    sources = read_sources(manifest("path,labels,split", *rows))
    assert sources.class_map.mids == ("a", "d")
    assert names(sources, "train") == ["a1.wav", "d1.wav"]
    assert [clip.labels for clip in sources.clips["eval"]] == [(0,), (1,)]


def test_a_folder_of_classes_is_split_by_share(folder):
    sources = read_sources(folder, eval_share=0.4)
    assert sources.class_map.display_names == ("Dog bark", "rain, heavy")
    assert sources.class_map.mids == (
        "Dog_bark",
        "rain_heavy",
    )  # as they can stand in AudioSet's csv
    clips = {split: [clip.id for clip in sources.clips[split]] for split in ("train", "eval")}
    assert len(clips["train"]) == 8 and len(clips["eval"]) == 5
    assert sum(name.startswith("rain") for name in clips["eval"]) == 2
    together = clips["train"] + clips["eval"]
    assert (
        len(set(together)) == 13
        and "Dog bark/more/1.wav" in together
        and "Dog bark/0.OGG" in together
    )


def test_the_share_does_not_depend_on_where_the_folder_lies(folder, tmp_path, monkeypatch):
    before = read_sources(folder)
    os.rename(folder, tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path / "elsewhere")
    after = read_sources(".")
    assert [c.id for c in after.clips["eval"]] == [c.id for c in before.clips["eval"]]
    assert after.settings == before.settings
    assert before.settings["eval_share"] == 0.25


def test_spans_of_one_recording_stay_together(manifest):
    rows = [
        f"long{i}.wav,{label},{start},{start + 1}"
        for i in range(6)
        for start, label in enumerate("aabb")
    ]
    sources = read_sources(
        manifest("path,labels,start,end,id", *(f"{row},{n}" for n, row in enumerate(rows)))
    )
    train, evaluation = set(names(sources, "train")), set(names(sources, "eval"))
    assert not train & evaluation and len(train | evaluation) == 6
    assert len(evaluation) == 2 and len(sources.clips["eval"]) == 8  # a quarter of six, rounded
    assert [clip.end_seconds for clip in sources.clips["eval"][:2]] == [1, 2]


def test_a_class_list_gives_the_mids(manifest, class_labels_csv):
    rows = ["s1.wav,/m/1,train", "s2.wav,Speech,eval", "t1.wav,/t/dd3,train", "t2.wav,/t/dd3,eval"]
    sources = read_sources(manifest("path,labels,split", *rows), class_labels_csv=class_labels_csv)
    assert sources.class_map.mids == ("/m/1", "/t/dd3")  # those that have recordings
    assert sources.class_map.display_names == ("Speech", "Siren")


def test_the_digest_tells_collections_apart(manifest, tmp_path):
    path = manifest("filename,label,fold", *FOLDS)
    digests = [
        read_sources(path, eval_folds=folds).settings["source_digest"] for folds in ([3], [3], [2])
    ]
    (tmp_path / "a1.ogg").write_bytes(b"longer")
    digests.append(read_sources(path, eval_folds=[3]).settings["source_digest"])
    assert digests[0] == digests[1] and len(set(digests)) == 3


def test_a_missing_file_is_left_to_whoever_decodes(manifest):
    rows = ["gone.wav,a,train", "a1.wav,a,train", "a2.wav,a,eval"]
    first, second = read_sources(manifest("path,labels,split", *rows)).clips["train"]
    assert first.path is None and "no file" in first.missing and second.path


@pytest.mark.parametrize(
    ("header", "rows", "options", "message"),
    [
        (
            "filename,label,fold",
            FOLDS,
            {"eval_folds": [4]},
            r"expected some of the folds of .*, 1, 2, 3, .* got 4",
        ),
        (
            "filename,label,fold",
            FOLDS,
            {"eval_folds": [1, 2, 3]},
            "others left for train, got 1, 2, 3",
        ),
        (
            "filename,label,fold",
            FOLDS,
            {},
            r"has a column 'fold': say which folds are for eval \(--eval_folds\)",
        ),
        ("path,labels", ["a,a"], {"eval_folds": [1]}, "line 1: eval_folds needs a column 'fold'"),
        ("path,labels,fold,split", ["a,a,1,train"], {"eval_folds": [1]}, "leave eval_folds out"),
        ("path,labels,split", ["a,a,train"], {"eval_share": 0.5}, "leave eval_share out"),
        ("path,labels,split", ["a,a,train"], {}, "asked for split eval, the manifest has 'train'"),
        (
            "path,labels",
            ["a,a"],
            {"eval_share": 1.0},
            "eval_share: expected a number between 0 and 1, got 1",
        ),
        (
            "path,labels",
            ["a,a"],
            {"eval_share": 0.5, "eval_folds": [1]},
            "does not go with eval_folds",
        ),
        ("path,labels", [], {}, "no rows below the header"),
        ("path,labels", ["a,a;b"], {}, "source: no recording has exactly one label"),
        (
            "path,labels",
            ["a,a", "b,a", "c,c"],
            {},
            "1 of 2 classes have no recording for eval: 'c'; every class",
        ),
        (
            "path,labels,split,id",
            ["x.wav,a,train,1", "x.wav,a,eval,2"],
            {},
            r"1 recordings are in train and in eval, .* such as .*x\.wav",
        ),
        (
            "path,labels",
            ["../a,a"],
            {},
            "line 2: path: expected a file's path relative to, and inside",
        ),
    ],
)
def test_what_can_t_be_split(manifest, header, rows, options, message):
    with pytest.raises(ValueError, match=message):
        read_sources(manifest(header, *rows), **options)


def test_a_link_to_a_train_recording_is_no_eval_recording(manifest, tmp_path):
    path = manifest("path,labels,split", "gone.wav,a,eval", "a.wav,a,train")
    (tmp_path / "gone.wav").symlink_to(tmp_path / "a.wav")
    with pytest.raises(ValueError, match="1 recordings are in train and in eval"):
        read_sources(path)


def test_what_is_no_collection(folder, tmp_path, class_labels_csv):
    with pytest.raises(ValueError, match="expected a csv file there, found nothing"):
        read_sources(str(tmp_path / "nowhere"))
    (tmp_path / "empty" / "dogs").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"found no recording \(\.wav, .*\) in 1 sub-folders"):
        read_sources(str(tmp_path / "empty"))
    with pytest.raises(ValueError, match="a folder, which has no folds; give eval_share"):
        read_sources(folder, eval_folds=[1])
    with pytest.raises(ValueError, match=r"Dog bark: unknown class 'Dog bark'"):
        read_sources(folder, class_labels_csv=class_labels_csv)


def test_sources_are_frozen(folder):
    with pytest.raises(dataclasses.FrozenInstanceError):
        read_sources(folder).clips = {}
