import pytest

from secost_tf.report_html import Picture, figure, number, share, signed, table


def test_numbers_are_written_alike_and_what_is_unknown_is_a_dash():
    assert (number(0.12345), number(-1.5, 1), number(None), number(float("inf"))) == (
        "0.1235",
        "−1.5",
        "–",
        "–",
    )
    assert (signed(0.5, 1), signed(-0.5, 1), signed(0.0, 1), signed(None)) == ("+0.5", "−0.5", "+0.0", "–")
    assert (share(2, 3), share(0, 0)) == ("67%", "–")


@pytest.mark.parametrize(
    ("text", "classes"),
    [
        ("+0.1", "number up"),
        ("−0.1", "number down"),
        ("+0.000", "number"),
        ("−0.0 (−0.0 %)", "number"),
        ("–", "number"),
        ("", "number"),
    ],
)
def test_a_change_is_coloured_by_its_sign(text, classes):
    html = table("T", "C", {"Name": "text", "Change": "change"}, {"": [("a", text)]})
    assert f'<tr><th scope="row">a</th><td class="{classes}">{text}</td></tr>' in html


def test_a_sorted_table_has_a_button_in_each_head_and_values_to_sort_by():
    columns = {"Name": "text", "A": "number", "B": "number"}
    html = table("T", "C", columns, {"": [("a", ("1.0", 1.04), ("–", None))]}, sorted_id="x")
    assert '<table id="x" class="sortable">' in html and 'class="scroll tall"' in html
    assert '<th scope="col" aria-sort="none"><button type="button">Name</button></th>' in html
    assert (
        '<th scope="col" class="number" aria-sort="descending"><button type="button">B</button></th>' in html
    )
    assert '<td class="number" data-value="1.04">1.0</td><td class="number" data-value="">–</td>' in html


def test_rows_stand_in_groups_below_a_heading():
    html = table("T", "C", {"Name": "text", "Value": "text"}, {"One": [("a", "1")], "Two": [("b", "2")]})
    assert html.count("<tbody>") == 2 and '<th scope="rowgroup" colspan="2">Two</th>' in html


def test_rows_of_another_length_than_the_head_are_an_error():
    with pytest.raises(ValueError):
        table("T", "C", {"Name": "text", "Value": "text"}, {"": [("a", "1", "2")]})


@pytest.mark.parametrize(("data", "kind"), [("<svg/>", "svg+xml"), (b"png", "png")])
def test_a_picture_lies_in_the_page(data, kind):
    html = figure(Picture(data, 'say "A" & <B>', "below", (300, 200)))
    assert f'src="data:image/{kind};base64,' in html and 'width="300" height="200"' in html
    assert 'alt="say &quot;A&quot; &amp; &lt;B&gt;"' in html and "<figcaption>below</figcaption>" in html
    assert ('class="drawing"' in html) == (kind == "svg+xml")
    assert "figcaption" not in figure(Picture(data, "alt", "", (1, 1)))
