import pickle

import pytest

from tfrecord_tools.datasets.clips import ClassMap, read_class_map


def test_csv_round_trip(class_map, class_labels_csv):
    assert read_class_map(class_labels_csv) == class_map
    with open(class_labels_csv, encoding="utf-8") as stream:
        assert stream.read().splitlines()[:3] == [
            "index,mid,display_name",
            "0,/m/1,Speech",
            '1,/m/2,"Male speech, man speaking"',
        ]


def test_index_by_mid_or_display_name(class_map):
    assert class_map.index("/m/2") == class_map.index("Male speech, man speaking") == 1
    assert pickle.loads(pickle.dumps(class_map)) == class_map
    with pytest.raises(ValueError, match="unknown class 'Speach'; did you mean 'Speech'"):
        class_map.index("Speach")
    with pytest.raises(ValueError, match="unknown class 'xyz'; there are 3 classes"):
        class_map.index("xyz")


def test_a_mid_goes_before_a_display_name():
    assert ClassMap(("b", "a"), ("a", "b")).index("a") == 1


def test_bad_maps(tmp_path):
    with pytest.raises(ValueError, match="as many mids as display names"):
        ClassMap(("a",), ())
    with pytest.raises(ValueError, match="classes given twice: a"):
        ClassMap(("a", "a"), ("x", "y"))
    for text, message in {
        "index,mid,display_name\n0,a,A\n2,b,B\n": "line 3: index: expected 1, the next class",
        "index,mid,display_name\n0,a,A\n1,a,B\n": "classes given twice: a",
        "index,mid,display_name\n": "at least one class",
        "index,mid\n0,a\n": "line 1: expected a column 'display_name'",
    }.items():
        path = tmp_path / "classes.csv"
        path.write_text(text)
        with pytest.raises(ValueError, match=rf"classes\.csv(: |, ).*{message}"):
            read_class_map(str(path))


def test_differences():
    classes, others = ClassMap(("a", "b"), ("A", "B")), ClassMap(("b", "c"), ("B", "C"))
    assert classes.differences(classes) == ""
    assert classes.differences(others) == "2 classes here, 2 there; only here: a; only there: c"
    assert "another order" in classes.differences(ClassMap(("b", "a"), ("B", "A")))
