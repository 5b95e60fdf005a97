import os

import pytest

from tfrecord_tools.datasets import audioset, read_dataset

YTID = "Y-a_bcdefgh"  # eleven characters, and every one that misleads


@pytest.fixture
def read(tmp_path, class_labels_csv):
    """Read segments, given as the text of a csv, with the audio in `tmp_path / "audio"`."""

    def read_text(text: str, **options):
        path = tmp_path / "segments.csv"
        path.write_bytes(text.encode())
        (tmp_path / "audio").mkdir(exist_ok=True)
        options.setdefault("audio_dir", str(tmp_path / "audio"))
        return audioset.read_audioset(
            segments_csv=str(path), class_labels_csv=class_labels_csv, **options
        )

    return read_text


@pytest.fixture
def add(tmp_path):
    """Put an empty file into the audio folder: readers look at names only."""

    def add_file(name: str) -> str:
        path = tmp_path / "audio" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        return str(path)

    return add_file


def test_google_s_format(read, class_map):
    text = (
        "\ufeff# Segments csv created Sun Mar  5 10:54:25 2017\r\n# num_ytids=3\r\n"
        "# YTID, start_seconds, end_seconds, positive_labels\r\n"
        '--PJHxphWEs, 30.000, 40.000, "/m/2,/m/1"\r\n'
        '-_aaaaaaaa1, 239.800, 249.800, "/t/dd3"\r\n'
        'aaaaaaaaaaa, 0.000, 8.000, ""\r\n'
    )
    clips, classes = read(text)
    assert classes == class_map
    assert [(c.id, c.start_seconds, c.end_seconds, c.labels) for c in clips] == [
        ("--PJHxphWEs", 30.0, 40.0, (0, 1)),
        ("-_aaaaaaaa1", 239.8, 249.8, (2,)),
        ("aaaaaaaaaaa", 0.0, 8.0, ()),
    ]
    assert all(clip.path is None and "no file of that name" in clip.missing for clip in clips)


def test_several_segments_of_a_recording_have_their_start_in_the_id(read, add):
    whole, part = add(f"{YTID}.wav"), add(f"{YTID}_30000.wav")
    clips, _ = read(f'{YTID},30,40,"/m/1"\n{YTID},5.5,15.5,"/m/2"\nbbbbbbbbbbb,0,10,"/m/1"\n')
    assert [clip.id for clip in clips] == [f"{YTID}_30000", f"{YTID}_5500", "bbbbbbbbbbb"]
    assert [(clip.path, clip.file_start_seconds) for clip in clips[:2]] == [
        (part, 30.0),
        (whole, None),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('aaaaaaaaaaa, 0, 10, "/m/9"', "positive_labels: unknown class '/m/9'"),
        ("aaaaaaaaaaa, 0, 10", r"expected 4 cells \(YTID, .*\), got 3"),
        ("aaaaaaaaaaa, 0, 10, /m/1, /m/2", r"expected 4 cells \(.*, the labels in quotes\), got 5"),
        ('aaaaaaaaaaa, zero, 10, "/m/1"', "start_seconds: expected a time"),
        ('aaaaaaaaaaa, 0, , "/m/1"', "end_seconds: expected a time"),
        ('aaaaaaaaaaa, 10, 10, "/m/1"', "expected an end after the start"),
        (
            '../../etc/x, 0, 10, "/m/1"',
            r"YTID: expected letters, digits, '_' and '-' only, got '\.\./\.\./etc/x'",
        ),
        ('.., 0, 10, "/m/1"', "YTID: expected letters"),
        ('bbbbbbbbbbb, 0, 10, "/m/1"', r"bbbbbbbbbbb from 0 s was there before, at .*, line 3"),
    ],
)
def test_bad_lines(read, line, message):
    with pytest.raises(ValueError, match=rf"segments\.csv, line 4: {message}"):
        read(
            "# comment\nYTID, start_seconds, end_seconds, positive_labels\n"
            f'bbbbbbbbbbb, 0, 10, ""\n{line}\n'
        )


def test_no_segments_and_no_folder(read, tmp_path):
    with pytest.raises(ValueError, match="no segment in it"):
        read("# comment\n")
    with pytest.raises(
        ValueError, match="--audio_dir: expected a folder of audio files, got 'nowhere'"
    ):
        read('aaaaaaaaaaa,0,1,""\n', audio_dir="nowhere")


@pytest.mark.parametrize(
    ("name", "file_start"),
    [
        ("{}.wav", None),
        ("Y{}.flac", None),
        ("{}.OPUS", None),
        ("{}_30000.wav", 30.0),
        ("{}_30000_40000.mp3", 30.0),
        ("{}_30.wav", 30.0),
        ("{}_30.000.wav", 30.0),
        ("{}_30.000_40.000.flac", 30.0),
        ("Y{}_30000.wav", 30.0),
        ("Y{}_30_40.ogg", 30.0),
        ("Y{}_30.000_40.000.aiff", 30.0),
    ],
)
@pytest.mark.parametrize("ytid", [YTID, "aaaaaaaaaaa", "-__________", "abcdefg_300", "YYYYYYYYYYY"])
def test_usual_file_names(read, add, name, file_start, ytid):
    path = add("some/where/" + name.format(ytid))
    (clip,), _ = read(f'{ytid}, 30.000, 40.000, "/m/1"\n')
    assert (clip.path, clip.file_start_seconds, clip.missing) == (path, file_start, "")


@pytest.mark.parametrize(
    "name",
    [
        "{}x.wav",
        "x{}.wav",
        "{}.txt",
        "{}.wav.part",
        "{}_x.wav",
        "_{}.wav",
        "{}_.wav",
        "{}_1_30_40.wav",
        "y{}.wav",
    ],
)
def test_never_another_file(read, add, name):
    add(name.format(YTID))
    add(YTID[1:] + ".wav")
    add(YTID.lower() + ".wav")
    (clip,), _ = read(f'{YTID}, 30.000, 40.000, "/m/1"\n')
    assert clip.path is None and "no file of that name" in clip.missing


def test_never_another_recording_whose_id_is_alike(read, add):
    """Each file belongs to one of these ids, though each id begins or ends as others do."""
    ids = ["abcdefghijk", "Yabcdefghij", "abcdefghij_", "YYabcdefghi", "abcdefgh_30"]
    names = ["Yabcdefghijk", "Yabcdefghij", "Yabcdefghij__30", "YYYabcdefghi_30", "abcdefgh_30_30"]
    paths = [add(f"{name}.wav") for name in names]
    clips, _ = read("".join(f'{ytid}, 30, 40, "/m/1"\n' for ytid in ids))
    assert [clip.path for clip in clips] == paths


def test_other_segments_of_the_recording_are_no_match(read, add):
    for name in ("_50000", "_30000_35000", "_3", "_300"):
        add(f"{YTID}{name}.wav")
    (clip,), _ = read(f'{YTID}, 30.000, 40.000, "/m/1"\n')
    assert clip.path is None and "only other segments of it are there" in clip.missing


def test_names_with_times_then_lossless_then_first(read, add):
    line = f'{YTID}, 30.000, 40.000, "/m/1"\n'
    order = [f"{YTID}_30.mp3", f"z/{YTID}.wav", f"a/{YTID}.flac", f"b/{YTID}.flac", f"{YTID}.mp3"]
    paths = {name: add(name) for name in reversed(order)}
    for name in order:
        (clip,), _ = read(line)
        assert clip.path == paths[name]
        os.remove(paths[name])


def test_links_are_followed_and_loops_end(read, add, tmp_path):
    add("real/x.txt")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / f"{YTID}.wav").touch()
    (tmp_path / "audio" / "link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "audio" / "real" / "loop").symlink_to(tmp_path / "audio", target_is_directory=True)
    (clip,), _ = read(f'{YTID}, 30.000, 40.000, "/m/1"\n')
    assert clip.path == str(tmp_path / "audio" / "link" / f"{YTID}.wav")


def strong(tmp_path, *rows: str) -> str:
    path = tmp_path / "strong.tsv"
    path.write_text("\n".join(["\t".join(audioset.STRONG_COLUMNS), *rows]) + "\n")
    return str(path)


def test_strong_labels(read, tmp_path):
    tsv = strong(
        tmp_path,
        f"{YTID}_30000\t2.5\t3.000\t/m/2",
        f"{YTID}_30000\t0.0\t1.250\t/t/dd3",
        f"{YTID}_30000\t0.0\t1.000\t/m/unknown",
        "zzzzzzzzzzz_0\t0.0\t1.000\t/m/2",
    )
    clips, _ = read(f'{YTID}, 30.000, 40.000, "/m/1"\nbbbbbbbbbbb,0,10,""\n', strong_tsv=tsv)
    assert clips[0].events == ((2, 0.0, 1.25), (1, 2.5, 3.0)) and clips[1].events == ()


def test_bad_strong_labels(read, tmp_path):
    line = f'{YTID}, 30.000, 40.000, "/m/1"\n'
    with pytest.raises(
        ValueError, match=rf"no event of any segment in the list; expected ids such as {YTID}_30000"
    ):
        read(line, strong_tsv=strong(tmp_path, f"{YTID}\t0\t1\t/m/1"))
    with pytest.raises(ValueError, match=r"strong\.tsv, line 2: end_time_seconds: expected a time"):
        read(line, strong_tsv=strong(tmp_path, f"{YTID}_30000\t0\t?\t/m/1"))


@pytest.mark.parametrize(("name", "rows"), [("balanced_train", 22160), ("eval", 20371)])
def test_published_lists(shared_data, tmp_path, name, rows):
    folder = shared_data / "audioset"
    options = {
        "segments_csv": str(folder / f"{name}_segments.csv"),
        "class_labels_csv": str(folder / "class_labels_indices.csv"),
        "audio_dir": str(tmp_path),
    }
    clips, class_map = read_dataset("audioset", name, options)
    assert len(clips) == len({clip.id for clip in clips}) == rows
    assert len(class_map) == 527 and {len(clip.id) for clip in clips} == {11}
    assert {label for clip in clips for label in clip.labels} == set(range(527))
