import pytest

from tfrecord_tools import storage
from tfrecord_tools.datasets.readers import read_dataset, urbansound8k

HEADER = ["slice_file_name", "fsID", "start", "end", "salience", "fold", "classID", "class"]
ROWS = [
    ["100-3-0-0.wav", 100, 0.0, 0.317551, 1, 5, 3, "dog_bark"],
    ["200-2-0-117.wav", 200, 58.5, 62.5, 1, 5, 2, "children_playing"],
    ["300-3-1-0.wav", 300, 4.8, 5.2, 2, 10, 3, "dog_bark"],
    ["400-9-0-0.wav", 400, 0.0, 4.0, 1, 1, 9, "street_music"],
]


@pytest.fixture
def read(tmp_path, write_table):
    def read_rows(rows=ROWS, **options):
        write_table(tmp_path / "metadata" / "UrbanSound8K.csv", HEADER, rows)
        return urbansound8k.read_urbansound8k(audio_dir=str(tmp_path), **options)

    return read_rows


def test_published_tree(read, tmp_path, write_noise):
    path = write_noise(tmp_path / "audio" / "fold5" / "200-2-0-117.wav")
    write_noise(tmp_path / "audio" / "fold5" / "300-3-1-0.wav")  # it belongs to another fold
    (tmp_path / "audio" / "fold1" / "400-9-0-0.wav").mkdir(parents=True)
    clips, class_map = read()
    assert (
        class_map.mids
        == class_map.display_names
        == ("children_playing", "dog_bark", "street_music")
    )
    assert [(clip.id, clip.labels) for clip in clips] == [
        ("100-3-0-0", (1,)),
        ("200-2-0-117", (0,)),
        ("300-3-1-0", (1,)),
        ("400-9-0-0", (2,)),
    ]
    assert [clip.path for clip in clips] == [None, str(path), None, None]
    assert clips[2].missing == f"no file {tmp_path / 'audio' / 'fold10' / '300-3-1-0.wav'}"
    assert clips[1].missing == ""


def test_a_slice_is_a_whole_file(read):
    clips, _ = read()
    assert {(clip.start_seconds, clip.end_seconds, clip.file_start_seconds) for clip in clips} == {
        (0.0, None, 0.0)
    }


def test_folds_have_the_classes_of_all(read, tmp_path):
    clips, class_map = read(folds=(1, 10))
    assert [clip.id for clip in clips] == ["300-3-1-0", "400-9-0-0"] and len(class_map) == 3
    options = {"audio_dir": str(tmp_path), "folds": (1, 10)}
    assert read_dataset("urbansound8k", "train", options) == (clips, class_map)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({5: "five"}, "line 6: fold: expected a whole number, got 'five'"),
        ({6: "x"}, "line 6: classID: expected a whole number, got 'x'"),
        ({7: "siren"}, "line 6: classID 3 is 'dog_bark' above, here 'siren'"),
        ({6: 8}, "line 6: 'dog_bark' has classID 3 above, here 8"),
        (
            {0: "../x.wav"},
            "line 6: path: expected a file's path relative to, .*fold1, got '../x.wav'",
        ),
        ({0: "100-3-0-0.wav"}, "line 6: clip id '100-3-0-0' was there before, at .*, line 2"),
    ],
)
def test_bad_rows(read, change, message):
    row = ["500-3-0-0.wav", 500, 0.0, 1.0, 1, 1, 3, "dog_bark"]
    for place, value in change.items():
        row[place] = value
    with pytest.raises(ValueError, match=rf"UrbanSound8K\.csv, {message}"):
        read([*ROWS, row])


def test_nothing_selected_or_there(read, tmp_path):
    with pytest.raises(
        ValueError, match=r"no row is selected; asked for folds \(7,\), it has \[1, 5, 10\]"
    ):
        read(folds=(7,))
    with pytest.raises(ValueError, match=r"no row is selected; asked for folds all, it has \[\]"):
        read([])
    with pytest.raises(
        ValueError, match=r"UrbanSound8K\.csv: expected a csv file there, found nothing"
    ):
        urbansound8k.read_urbansound8k(audio_dir=str(tmp_path / "nowhere"))


def test_remote_folder():
    """Read from `ram://`, TensorFlow's file system in memory."""
    pytest.importorskip("tensorflow")
    folder = "ram://urbansound8k"
    table = storage.join(folder, "metadata", "UrbanSound8K.csv")
    rows = "\n".join(",".join(map(str, row)) for row in (HEADER, *ROWS))
    present = f"{folder}/audio/fold5/100-3-0-0.wav"
    storage.make_dirs(f"{folder}/audio/fold1/400-9-0-0.wav")
    for path, text in ((table, rows), (present, "")):
        storage.make_dirs(path.rsplit("/", 1)[0])
        with storage.open_file(path, "w") as stream:
            stream.write(text)
    clips, _ = urbansound8k.read_urbansound8k(audio_dir=folder)
    assert [clip.path for clip in clips] == [present, None, None, None]
    assert clips[3].missing == f"no file {folder}/audio/fold1/400-9-0-0.wav"
