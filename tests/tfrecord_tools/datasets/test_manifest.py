import pytest

from tfrecord_tools.datasets.readers import READERS, manifest, read_dataset


@pytest.fixture
def read(tmp_path):
    def read_text(text: str, split: str = "train", **options):
        (tmp_path / "labels.csv").write_text(text)
        return manifest.read_manifest(manifest=str(tmp_path / "labels.csv"), split=split, **options)

    return read_text


def test_all_columns(read, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.wav").touch()
    clips, class_map = read(
        "id,path,start,end,labels,split\n"
        "one,a/x.wav,1.5,2.5,dog; cat ;dog,train\n"
        ",a/y.flac,,,,train\n"
        "three,z.wav,,,zebra,eval\n"
    )
    assert class_map.mids == class_map.display_names == ("cat", "dog", "zebra")  # of all splits
    first, second = clips
    assert (first.id, first.path) == ("one", str(tmp_path / "a" / "x.wav"))
    assert (first.start_seconds, first.end_seconds, first.labels) == (1.5, 2.5, (0, 1))
    assert (second.id, second.path, second.start_seconds, second.end_seconds) == (
        "a/y",
        None,
        0.0,
        None,
    )
    assert second.labels == () and second.missing == f"no file {tmp_path / 'a' / 'y.flac'}"


def test_aliases_and_folds(read, tmp_path):
    text = "filename,label,fold\r\nx.ogg,dog,1\r\ny.ogg,cat,2\r\nz.ogg,cat,3\r\n"
    assert [clip.id for clip in read(text, folds=(1, 3))[0]] == ["x", "z"]
    assert len(read(text)[0]) == 3
    with pytest.raises(
        ValueError, match=r"no row is selected; asked for fold 7, the manifest has '1' \(1 rows\)"
    ):
        read(text, folds=(7,))
    with pytest.raises(ValueError, match="line 1: --folds needs a column 'fold'"):
        read("path,labels\nx,dog\n", folds=(1,))
    with pytest.raises(ValueError, match="line 2: fold: expected a whole number, got 'one'"):
        read("path,labels,fold\nx,dog,one\n", folds=(1,))


def test_audio_dir_and_class_list(read, tmp_path, class_labels_csv):
    clips, class_map = read(
        'path,labels\nx.wav,"/m/1;Male speech, man speaking"\n',
        audio_dir="sounds",
        class_labels_csv=class_labels_csv,
    )
    assert (
        len(class_map) == 3 and clips[0].labels == (0, 1) and "no file sounds" in clips[0].missing
    )
    with pytest.raises(
        ValueError, match="line 2: labels: unknown class 'Sirene'; did you mean 'Siren'"
    ):
        read("path,labels\nx.wav,Sirene\n", class_labels_csv=class_labels_csv)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,labels\n", ": no rows below the header"),
        ("path,labels\nx.wav,\n", ": no row has a label"),
        ("file,labels\nx.wav,dog\n", r", line 1: expected a column 'path' \(or 'filename'\)"),
        (
            "path,labels\nx.wav,dog\nx.flac,dog\n",
            ", line 3: clip id 'x' was there before, at .*, line 2",
        ),
        ("path,labels\n,dog\n", ", line 2: path: expected a file's path relative to"),
        ("path,labels\n/etc/x.wav,dog\n", ", line 2: path: expected .* got '/etc/x.wav'"),
        ("path,labels\n../x.wav,dog\n", ", line 2: path: expected .* got '../x.wav'"),
        ("path,labels\na/../../x.wav,dog\n", ", line 2: path: expected .* got 'a/../../x.wav'"),
        ("path,labels\n.,dog\n", ", line 2: path: expected"),
        ("path,labels,start,end\nx.wav,dog,2,1\n", ", line 2: expected an end after the start"),
        ("path,labels,start\nx.wav,dog,two\n", ", line 2: start: expected a time in seconds"),
        (
            "path,labels,split\nx.wav,dog,eval\n",
            r"asked for split train, the manifest has 'eval' \(1 rows\)",
        ),
    ],
)
def test_bad_manifests(read, text, message):
    with pytest.raises(ValueError, match=rf"labels\.csv.*{message}"):
        read(text)


def test_options_of_readers(collection):
    labels = str(collection / "labels.csv")
    clips, _ = read_dataset(
        "manifest", "eval", {"manifest": labels, "audio_dir": None, "folds": ()}
    )
    assert len(clips) == 4
    with pytest.raises(
        ValueError,
        match="--dataset: expected one of audioset, dcase, esc50, fsd50k, manifest, urbansound8k, "
        "got 'x'",
    ):
        read_dataset("x", "train", {})
    with pytest.raises(ValueError, match="--dataset=audioset needs --segments_csv, --audio_dir"):
        read_dataset("audioset", "train", {"class_labels_csv": "x"})
    with pytest.raises(
        ValueError, match="--dataset=manifest has no use for --segments_csv; it takes --manifest"
    ):
        read_dataset("manifest", "train", {"manifest": labels, "segments_csv": "x"})
    assert set(READERS) == {"audioset", "dcase", "esc50", "fsd50k", "manifest", "urbansound8k"}


def test_esc10_labels(shared_data):
    clips, class_map = read_dataset(
        "manifest",
        "train",
        {"manifest": str(shared_data / "esc10" / "labels.csv"), "folds": (1, 2, 3, 4)},
    )
    assert len(clips) == 320 and len(class_map) == 10 and all(clip.path for clip in clips)
