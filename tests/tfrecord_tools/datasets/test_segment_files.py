import pytest

from tfrecord_tools.datasets.segment_files import SegmentFile, choose_file, index_files


@pytest.fixture
def audio_dir(tmp_path):
    for name in (
        "a.wav",
        "a.flac",
        "nested/Ya_30.000_40.000.mp3",
        "a_b.wav",
        "a.txt",
        "c_1000.wav",
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return str(tmp_path)


def test_names_with_times_come_first(audio_dir):
    files = index_files(audio_dir, {"a", "a_b", "d"})
    assert set(files) == {"a", "a_b"}
    names = [(file.path.removeprefix(audio_dir)[1:], file.start, file.end) for file in files["a"]]
    assert names[0] == ("nested/Ya_30.000_40.000.mp3", "30.000", "40.000")
    assert sorted(names[1:]) == [("a.flac", None, None), ("a.wav", None, None)]


def test_a_link_back_is_followed_once(audio_dir, tmp_path):
    (tmp_path / "nested" / "back").symlink_to(tmp_path, target_is_directory=True)
    assert len(index_files(audio_dir, {"a"})["a"]) == 3


@pytest.mark.parametrize(
    ("start", "end", "holds"),
    [
        (None, None, True),
        ("30", None, True),
        ("30000", None, True),
        ("30.000", "40.000", True),
        ("30.000", "41.000", False),
        ("31", None, False),
    ],
)
def test_times_in_a_name_are_seconds_or_milliseconds(start, end, holds):
    file = SegmentFile("x/a.wav", start, end)
    missing = "only other segments of it are there (a.wav)"
    assert choose_file([file], 30000, 40000, "x") == ((file, "") if holds else (None, missing))


def test_no_file_at_all_names_the_folder():
    assert choose_file([], 0, 1000, "recordings") == (None, "no file of that name in recordings")
