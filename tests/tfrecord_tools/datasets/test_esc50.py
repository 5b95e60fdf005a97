import pytest

from tfrecord_tools.datasets import esc50

HEADER = ["filename", "fold", "target", "category", "esc10", "src_file", "take"]
ROWS = [
    ["1-1-A-14.wav", 1, 14, "chirping_birds", "False", 1, "A"],
    ["1-2-A-0.wav", 1, 0, "dog", "True", 2, "A"],
    ["2-3-A-0.wav", 2, 0, "dog", "True", 3, "A"],
    ["3-4-A-36.wav", 3, 36, "vacuum_cleaner", "False", 4, "A"],
    ["3-5-A-38.wav", 3, 38, "clock_tick", "True", 5, "A"],
]


@pytest.fixture
def read(tmp_path, write_table):
    def read_rows(rows=ROWS, **options):
        write_table(tmp_path / "meta" / "esc50.csv", HEADER, rows)
        return esc50.read_esc50(audio_dir=str(tmp_path), **options)

    return read_rows


def test_published_tree(read, tmp_path):
    (tmp_path / "audio").mkdir()
    (tmp_path / "audio" / "2-3-A-0.wav").touch()
    clips, class_map = read()
    assert class_map.mids == ("dog", "chirping_birds", "vacuum_cleaner", "clock_tick")  # by target
    assert [(clip.id, clip.labels) for clip in clips][:2] == [("1-1-A-14", (1,)), ("1-2-A-0", (0,))]
    assert [bool(clip.path) for clip in clips] == [False, False, True, False, False]
    assert clips[0].missing == f"no file {tmp_path / 'audio' / '1-1-A-14.wav'}"


def test_folds_have_the_classes_of_all(read):
    clips, class_map = read(folds=(2, 3))
    assert [clip.id for clip in clips] == ["2-3-A-0", "3-4-A-36", "3-5-A-38"] and len(
        class_map
    ) == 4


def test_esc10_only(read):
    clips, class_map = read(esc10_only=True)
    assert class_map.mids == ("dog", "clock_tick") and [clip.labels for clip in clips] == [
        (0,),
        (0,),
        (1,),
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({1: "one"}, "line 7: fold: expected a whole number"),
        ({2: "x"}, "line 7: target: expected a whole number"),
        ({3: "cat"}, "line 7: target 0 is 'dog' above, here 'cat'"),
        ({4: "yes"}, "line 7: esc10: expected True or False, got 'yes'"),
        ({0: "../x.wav"}, "line 7: path: expected a file's path relative to"),
        ({0: "1-1-A-14.wav"}, "line 7: clip id '1-1-A-14' was there before, at .*, line 2"),
    ],
)
def test_bad_rows(read, change, message):
    row = ["5-9-A-0.wav", 1, 0, "dog", "True", 9, "A"]
    for place, value in change.items():
        row[place] = value
    with pytest.raises(ValueError, match=rf"esc50\.csv, {message}"):
        read([*ROWS, row], folds=(1,))


def test_nothing_selected_or_there(read, tmp_path):
    with pytest.raises(ValueError, match=r"no row is selected; asked for folds \(7,\), it has"):
        read(folds=(7,))
    with pytest.raises(ValueError, match=r"esc50\.csv: expected a csv file there, found nothing"):
        esc50.read_esc50(audio_dir=str(tmp_path / "nowhere"))
