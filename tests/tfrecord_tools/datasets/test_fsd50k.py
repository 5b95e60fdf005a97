import pytest

from tfrecord_tools.datasets import fsd50k, read_dataset

VOCABULARY = "0,Accordion,/m/0mkg\n1,Music,/m/04rlf\n2,Bark,/m/05tny_\n3,Dog,/m/0bt9lr\n"
DEV = (
    "fname,labels,mids,split\n"
    '64760,"Accordion,Music","/m/0mkg,/m/04rlf",train\n'
    '16399,"Bark,Dog","/m/05tny_,/m/0bt9lr",val\n'
    "345111,Music,/m/04rlf,train\n"
)
EVAL = 'fname,labels,mids\n37199,"Dog,Music","/m/0bt9lr,/m/04rlf"\n'


@pytest.fixture
def read(tmp_path):
    def read_texts(split="train", dev=DEV, evaluation=EVAL, vocabulary=VOCABULARY):
        folder = tmp_path / "FSD50K.ground_truth"
        folder.mkdir(exist_ok=True)
        for name, text in (("dev", dev), ("eval", evaluation), ("vocabulary", vocabulary)):
            (folder / f"{name}.csv").write_bytes(text.encode())
        return fsd50k.read_fsd50k(audio_dir=str(tmp_path), split=split)

    return read_texts


def test_published_tree(read, tmp_path, write_noise):
    path = write_noise(tmp_path / "FSD50K.dev_audio" / "345111.wav")
    write_noise(tmp_path / "FSD50K.eval_audio" / "64760.wav")  # of the other part
    clips, class_map = read()
    assert class_map.mids == ("/m/0mkg", "/m/04rlf", "/m/05tny_", "/m/0bt9lr")
    assert class_map.display_names == ("Accordion", "Music", "Bark", "Dog")
    assert [(clip.id, clip.path, clip.labels) for clip in clips] == [
        ("64760", None, (0, 1)),
        ("345111", str(path), (1,)),
    ]
    assert clips[0].missing == f"no file {tmp_path / 'FSD50K.dev_audio' / '64760.wav'}"
    assert {(clip.start_seconds, clip.end_seconds, clip.file_start_seconds) for clip in clips} == {
        (0.0, None, 0.0)
    }


def test_splits(read, tmp_path, write_noise):
    dev = write_noise(tmp_path / "FSD50K.dev_audio" / "16399.wav")
    evaluation = write_noise(tmp_path / "FSD50K.eval_audio" / "37199.wav")
    train, validation, held_out = (read(split) for split in ("train", "validation", "eval"))
    assert train[1] == validation[1] == held_out[1]
    assert [(clip.id, clip.path, clip.labels) for clip in validation[0]] == [
        ("16399", str(dev), (2, 3))
    ]
    assert [(clip.id, clip.path, clip.labels) for clip in held_out[0]] == [
        ("37199", str(evaluation), (1, 3))
    ]
    assert read_dataset("fsd50k", "eval", {"audio_dir": str(tmp_path)}) == held_out
    with pytest.raises(
        ValueError, match=r"--split: .* expected one of train, validation, eval, got 'test'"
    ):
        read("test")


def test_byte_order_mark_line_ends_and_spaces(read):
    def marked(text):
        return "\ufeff" + text.replace("\n", "\r\n").replace(",/m", ", /m")

    assert read(dev=marked(DEV), vocabulary=marked(VOCABULARY)) == read()


def test_a_clip_without_labels(read):
    (clip,), _ = read("eval", evaluation="fname,labels,mids\n1,,\n")
    assert clip.labels == ()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1,Dog,/m/9,train", "mids: unknown class '/m/9'; did you mean"),
        ('1,"Dog,Bark",/m/0bt9lr,train', "expected as many labels as mids, got 2 and 1"),
        ("1,Dog,/m/0bt9lr,test", "split: expected train or val, got 'test'"),
        (
            "1,Dog,/m/0bt9lr",
            r"expected 4 cells, as in the header \(fname, labels, mids, split\), got 3",
        ),
        ("../1,Dog,/m/0bt9lr,train", "fname: expected a whole number, got '../1'"),
        (",Dog,/m/0bt9lr,train", "fname: expected a whole number, got ''"),
        ("64760,Dog,/m/0bt9lr,train", "clip id '64760' was there before, at .*, line 2"),
    ],
)
def test_bad_rows(read, row, message):
    with pytest.raises(ValueError, match=rf"dev\.csv, line 5: {message}"):
        read(dev=f"{DEV}{row}\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0,Dog,/m/1\n2,Cat,/m/2\n", ", line 2: index: expected 1, the next class, got 2"),
        ("index,label,mid\n0,Dog,/m/1\n", ", line 1: index: expected a whole number, got 'index'"),
        ("0,Dog\n", r", line 1: expected 3 cells \(index, label, mid\), got 2"),
        ("0,Dog,/m/1\n1,Cat,/m/1\n", ": ClassMap: classes given twice: /m/1"),
        ("", ": ClassMap: .* at least one class"),
    ],
)
def test_bad_vocabularies(read, text, message):
    with pytest.raises(ValueError, match=rf"vocabulary\.csv{message}"):
        read(vocabulary=text)


def test_nothing_selected_or_there(read, tmp_path):
    with pytest.raises(ValueError, match=r"dev\.csv: no row of the split validation"):
        read("validation", dev="fname,labels,mids,split\n1,Dog,/m/0bt9lr,train\n")
    with pytest.raises(
        ValueError, match=r"dev\.csv, line 1: expected a column 'split'; found fname"
    ):
        read(dev=EVAL)
    with pytest.raises(
        ValueError, match=r"vocabulary\.csv: expected a csv file there, found nothing"
    ):
        fsd50k.read_fsd50k(audio_dir=str(tmp_path / "nowhere"), split="train")
