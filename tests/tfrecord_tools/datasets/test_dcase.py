import pytest

from tfrecord_tools.datasets import dcase, read_dataset

WEAK = (
    "filename\tevent_labels\nYa_30.000_40.000.wav\tSpeech,Dog\nY-b_0.000_10.000.wav\t\nc.wav\tCat\n"
)
STRONG = (
    "filename\tonset\toffset\tevent_label\n"
    "c.wav\t5.000\t6.25\tCat\n"
    "Ya_30.000_40.000.wav\t2.5\t10.000\tDog\n"
    "Ya_30.000_40.000.wav\t0.000\t3.000\tSpeech\n"
    "Ya_30.000_40.000.wav\t0.000\t3.000\tDog\n"
    "Y-b_0.000_10.000.wav\t\t\t\n"
)
IDS = ["Ya_30.000_40.000", "Y-b_0.000_10.000", "c"]
EVENTS = ((4, 0.0, 3.0), (8, 0.0, 3.0), (4, 2.5, 10.0))  # by time; Dog is class 4, Speech 8


@pytest.fixture
def read(tmp_path):
    """Read lists given as text, with the audio in `tmp_path / "audio"`."""

    def read_texts(weak=None, strong=None, **options):
        for name, text in (("weak_tsv", weak), ("strong_tsv", strong)):
            if text is not None:
                path = tmp_path / f"{name[:-4]}.tsv"
                path.write_bytes(text.encode())
                options[name] = str(path)
        return dcase.read_dcase(audio_dir=str(tmp_path / "audio"), **options)

    return read_texts


def test_weak_list(read, tmp_path, write_noise):
    path = write_noise(tmp_path / "audio" / "Y-b_0.000_10.000.wav")
    clips, class_map = read(WEAK)
    assert class_map.mids == class_map.display_names == dcase.DESED_CLASSES and len(class_map) == 10
    assert [clip.id for clip in clips] == IDS
    assert [clip.labels for clip in clips] == [(4, 8), (), (2,)]
    assert [clip.path for clip in clips] == [None, str(path), None]
    assert clips[0].missing == f"no file {tmp_path / 'audio' / 'Ya_30.000_40.000.wav'}"
    assert {(c.events, c.start_seconds, c.end_seconds, c.file_start_seconds) for c in clips} == {
        ((), 0.0, None, 0.0)
    }


def test_strong_list(read):
    clips, _ = read(strong=STRONG)
    assert [clip.id for clip in clips] == ["c", *IDS[:2]]
    assert [clip.labels for clip in clips] == [(2,), (4, 8), ()]
    assert [clip.events for clip in clips] == [((2, 5.0, 6.25),), EVENTS, ()]


def test_weak_list_with_the_events_of_a_strong_one(read, tmp_path):
    weak = (
        WEAK.replace("\tCat", "\tCat,Frying") + "d.wav\tBlender\n"
    )  # labels whose events nobody marked
    clips, class_map = read(weak, STRONG)
    assert [clip.id for clip in clips] == [*IDS, "d"]
    assert [clip.labels for clip in clips] == [(4, 8), (), (2, 6), (1,)]
    assert [clip.events for clip in clips] == [EVENTS, (), ((2, 5.0, 6.25),), ()]
    options = {name: str(tmp_path / f"{name[:-4]}.tsv") for name in ("weak_tsv", "strong_tsv")}
    options["audio_dir"] = str(tmp_path / "audio")
    assert read_dataset("dcase", "train", options) == (clips, class_map)


def test_header_names_byte_order_mark_and_line_ends(read):
    def altered(text, name, alias):
        return "\ufeff" + text.replace(f"\t{name}\n", f"\t{alias}\n").replace("\n", "\r\n")

    assert read(altered(WEAK, "event_labels", "event_label")) == read(WEAK)
    assert read(strong=altered(STRONG, "event_label", "event_labels")) == read(strong=STRONG)


def test_other_classes(read, class_labels_csv, class_map):
    clips, classes = read(
        "filename\tevent_labels\nx.wav\tSiren,/m/1\n", class_labels_csv=class_labels_csv
    )
    assert classes == class_map and clips[0].labels == (0, 2)
    with pytest.raises(
        ValueError,
        match=r"weak\.tsv, line 2: event_labels: unknown class 'Dog'.*"
        r"\(the classes are those of .*class_labels_indices\.csv; "
        r"--class_labels_csv gives others\)",
    ):
        read("filename\tevent_labels\nx.wav\tDog\n", class_labels_csv=class_labels_csv)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            "x.wav\tDogs",
            "event_labels: unknown class 'Dogs'; did you mean 'Dog'.*DESED's ten; --class_labels",
        ),
        ("c.flac\tDog", "clip id 'c' was there before, at .*, line 4"),
        ("c.wav\tCat", "clip id 'c' was there before, at .*, line 4"),
        ("../x.wav\tDog", "path: expected a file's path relative to, .* got '../x.wav'"),
        ("\tDog", "path: expected a file's path relative to, .* got ''"),
        (
            "x.wav\tDog\tCat",
            r"expected 2 cells, as in the header \(filename, event_labels\), got 3",
        ),
    ],
)
def test_bad_weak_rows(read, row, message):
    with pytest.raises(ValueError, match=rf"weak\.tsv, line 5: {message}"):
        read(f"{WEAK}{row}\n")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            "c.wav\t0\t1\tDogs",
            "event_label: unknown class 'Dogs'; did you mean 'Dog'.*--class_labels_csv",
        ),
        ("c.wav\t0\t1\t", "event_label: unknown class ''"),
        ("c.wav\t\t1\tCat", "onset: expected a time in seconds, 0 or more, got ''"),
        ("c.wav\t0\tone\tCat", "offset: expected a time in seconds, 0 or more, got 'one'"),
        ("c.wav\t1\t1\tCat", "expected an end after the start, got 1 to 1 seconds"),
        ("c.flac\t0\t1\tCat", "clip id 'c' was there before, at .*, line 2"),
        ("/x.wav\t0\t1\tCat", "path: expected a file's path relative to, .* got '/x.wav'"),
    ],
)
def test_bad_strong_rows(read, row, message):
    with pytest.raises(ValueError, match=rf"strong\.tsv, line 7: {message}"):
        read(strong=f"{STRONG}{row}\n")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("x.wav\t0\t1\tCat", r"expected a file that .*weak\.tsv lists, got 'x\.wav'"),
        ("x.wav\t\t\t", r"expected a file that .*weak\.tsv lists, got 'x\.wav'"),
        (
            "Ya_30.000_40.000.wav\t0\t1\tCat",
            r"event_label: expected a label that the clip has at .*weak\.tsv, line 2 "
            r"\(Dog, Speech\), got 'Cat'",
        ),
        (
            "Y-b_0.000_10.000.wav\t0\t1\tCat",
            r"event_label: expected a label that the clip has at .*weak\.tsv, line 3 "
            r"\(none\), got 'Cat'",
        ),
    ],
)
def test_a_strong_list_that_contradicts_the_weak_one(read, row, message):
    with pytest.raises(ValueError, match=rf"strong\.tsv, line 7: {message}"):
        read(WEAK, f"{STRONG}{row}\n")


def test_no_list_or_an_empty_one(read):
    with pytest.raises(
        ValueError, match="--weak_tsv, --strong_tsv: expected one of them or both, got neither"
    ):
        read()
    with pytest.raises(ValueError, match=r"weak\.tsv: no clip in it"):
        read("filename\tevent_labels\n")
    with pytest.raises(
        ValueError,
        match=r"weak\.tsv, line 1: expected a column 'event_labels' \(or 'event_label'\)",
    ):
        read("filename\tlabels\nx.wav\tDog\n")
    with pytest.raises(
        ValueError, match=r"strong\.tsv, line 1: expected a column 'onset'; found filename"
    ):
        read(strong=WEAK)
