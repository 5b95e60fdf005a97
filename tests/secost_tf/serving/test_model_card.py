import dataclasses
import json
from pathlib import Path

import pytest

from secost_tf.runs import StageFolder
from secost_tf.serving import model_card
from secost_tf.serving.model_card import code_span, escape_markdown
from tfrecord_tools.datasets.clips import ClassMap


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Bark, howl (dog's)", "Bark, howl (dog's)"),
        ("snake_case __init__", r"snake_case \_\_init\_\_"),
        (
            "a*b* `c` [d](e) <f> &amp; g|h ~i~ $j$",
            r"a\*b\* \`c\` \[d](e) \<f> \&amp; g\|h \~i\~ \$j\$",
        ),
        ("back\\slash", r"back\\slash"),
        ("two\n\n# lines", "two # lines"),
        (-0.5, "-0.5"),
        (code_span("*"), "`*`"),
    ],
)
def test_values_stand_as_text(value, expected):
    assert escape_markdown(value) == expected


def test_code_holds_any_backticks():
    assert code_span("plain") == "`plain`"
    assert code_span("a`b``c") == "``` a`b``c ```"


@pytest.fixture
def write_card(kept_export, untrained_run, tmp_path):
    """Write a card of classes of these names; return its lines."""

    def write(*names: str, **facts) -> list[str]:
        known = json.loads(Path(kept_export, "export.json").read_text()) | facts
        record = StageFolder(untrained_run, 2).record
        mids = tuple(f"/m/{place}" for place in range(len(names)))
        record = dataclasses.replace(record, class_map=ClassMap(mids, names))
        model_card.write(known, record, str(tmp_path))
        return (tmp_path / "model_card.md").read_text().splitlines()

    return write


def test_names_are_escaped_and_never_begin_a_line(write_card):
    lines = write_card("- item", "1. item", "[a](b)", "<b>", "c|d", model="my_model*")
    assert lines[0] == r"# my_model\*, version 1"
    (classes,) = [line for line in lines if "item" in line]
    assert classes == (
        r"In the order of the scores: - item, 1. item, \[a](b), \<b>, c\|d. "
        r"All are in `assets/classes.csv`."
    )


def test_of_many_classes_the_first_are_named(write_card):
    text = "\n".join(write_card(*map("class {}".format, range(25))))
    assert "scores of 25 classes" in text
    assert "class 19 and 5 more. All are in" in text and "class 20" not in text


def test_tables_have_a_row_a_line(write_card):
    lines = write_card("Bark")
    tables = [line for line in lines if line.startswith("|")]
    assert tables[0] == "| measure | value |" and tables[7] == "| signature | inputs | outputs |"
    assert {line.count("|") for line in tables[:7]} == {3}
    assert {line.count("|") for line in tables[7:]} == {4}
