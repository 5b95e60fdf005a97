from pathlib import Path

import pytest

from tfrecord_tools.datasets import ClassMap, read_class_values, write_class_values

CLASS_MAP = ClassMap(("/m/a", "/m/b", "/m/c", "/m/d"), ("Bark", "Bell", "Rain, heavy", "Siren"))


@pytest.mark.parametrize(
    "text",
    [
        "mid,alpha\n/m/b,0.5\n/m/c,0\n",
        'alpha,display_name,note\n0,"Rain, heavy",\n.5,Bell,loud\n',
        '# mine\nindex,mid,display_name,alpha\n7,/m/b,another name,5e-1\n8,,"Rain, heavy",0.0\n',
    ],
)
def test_classes_are_found_by_mid_or_name(tmp_path, text):
    (tmp_path / "alphas.csv").write_text(text)
    assert read_class_values(str(tmp_path / "alphas.csv"), CLASS_MAP, "alpha") == (
        None,
        0.5,
        0.0,
        None,
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "mid,alpha\n/m/a,0.5\nBerk,0.5\n",
            r"alphas\.csv, line 3: unknown class 'Berk'; did you mean 'Bark'",
        ),
        (
            "mid,alpha\n/m/a,0.5\nBark,0.5\n",
            r"line 3: 'Bark' was there before, at .*alphas\.csv, line 2",
        ),
        (
            "mid,alpha\n/m/a,1.5\n",
            r"line 2: alpha: expected a number in \[0, 1\], got '1\.5'",
        ),
        ("mid,alpha\n/m/a,\n", r"line 2: alpha: expected a number in \[0, 1\], got ''"),
        ("mid,alpha\n/m/a,nan\n", r"line 2: alpha: expected a number in \[0, 1\], got 'nan'"),
        ("mid,weight\n/m/a,0.5\n", r"line 1: expected a column 'alpha'; found mid, weight"),
        (
            "class,alpha\nBark,0.5\n",
            r"line 2: expected a class in a column 'mid' or 'display_name', got none",
        ),
        ("mid,alpha\n", r"alphas\.csv: expected a line for at least one class, got none"),
    ],
)
def test_tables_that_say_nothing(tmp_path, text, message):
    (tmp_path / "alphas.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_class_values(str(tmp_path / "alphas.csv"), CLASS_MAP, "alpha")


def test_what_is_written_is_read(tmp_path):
    path, alphas = str(tmp_path / "alphas.csv"), (0.3, 0.1234, 0.0, 1.0)
    write_class_values(path, CLASS_MAP, {"alpha": alphas, "note": ["", "x", "", ""]})
    lines = Path(path).read_text().splitlines()
    assert lines[:3] == ["mid,display_name,alpha,note", "/m/a,Bark,0.3,", "/m/b,Bell,0.1234,x"]
    assert read_class_values(path, CLASS_MAP, "alpha") == alphas
