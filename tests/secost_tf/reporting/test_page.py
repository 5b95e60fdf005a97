import base64
import dataclasses
import hashlib
import itertools
import re
from html.parser import HTMLParser

import pytest

from secost_tf.reporting.page import (
    Analysis,
    ClassFigures,
    EventFigures,
    Example,
    ExampleScore,
    LabelError,
    Page,
    Picture,
    StageFigures,
    direction,
    number,
    percent,
    render,
    share,
    signed,
)
from tfrecord_tools.text import format_size

EVIL = "<script>alert(\"x\")</script> & 'y'"
VOID = {"meta", "link", "img", "br", "input"}


class Reader(HTMLParser):
    """Reads a page: its elements in order as (tag, attributes), the text in each; fails where tags
    do not match.
    """

    def __init__(self, html: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []  # (innermost tag, text)
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs), f"{tag}: an attribute is given twice: {attrs}"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def text(self, tag: str) -> list[str]:
        return [text for name, text in self.texts if name == tag]


def stage(number: int, mAP: float | None, change: float | None = None) -> StageFigures:
    relative = change and change / 0.5
    return StageFigures(
        number,
        0.3 if number else 1.0,
        "–",
        mAP,
        change,
        relative,
        0.9,
        1.8,
        0.7,
        5,
        8,
        "2 min 10 s",
    )


DRAWING = Picture(
    '<svg xmlns="http://www.w3.org/2000/svg"/>',
    f"drawing of {EVIL}",
    f"caption of {EVIL}",
    (640, 400),
)
PHOTOGRAPH = Picture(b"\x89PNG", f"picture of {EVIL}", "", (640, 400))
PAGE = Page(
    name=f"run {EVIL}",
    run_dir=f"/runs/{EVIL}",
    split="eval",
    num_clips=20371,
    num_classes=4,
    chance=0.125,
    stages=(stage(0, 0.5), stage(1, 0.45, -0.05), stage(2, 0.6, 0.1)),
    classes=(
        ClassFigures("Bell", 3, (0.5, 0.5, 0.4)),
        ClassFigures(EVIL, 1200, (0.5, 0.6, 0.75)),
        ClassFigures("Nothing", 0, (None, None, None)),
        ClassFigures("Rain", 7, (0.25, 0.25, 0.25)),
    ),
    settings={
        f"Group {EVIL}": [(f"name {EVIL}", f"value {EVIL}")],
        "Log-mel": [("mel_bins", "64")],
    },
    pictures={"stages": DRAWING, "gain": DRAWING, "curves": DRAWING},
    analysis=Analysis(
        0.02,
        0.18,
        facts=(("worse", "1"),),
        label_errors=(
            LabelError(f"clip {EVIL}", EVIL, True, 0.01),
            LabelError("b", "Bell", False, 0.99),
        ),
        num_label_errors=1234,
    ),
    examples=(
        Example(
            f"title {EVIL}",
            f"reason {EVIL}",
            f"id {EVIL}",
            (EVIL, "Bell"),
            PHOTOGRAPH,
            (ExampleScore(EVIL, True, 0.1, 0.9), ExampleScore("Rain", False, 0.8, 0.2)),
            b"fLaC",
        ),
        Example("Typical", "Because.", "plain", (), PHOTOGRAPH, (), None),
    ),
    notes=(f"note {EVIL}",),
    made_by=f"made by {EVIL}",
)
ONE_STAGE = dataclasses.replace(
    PAGE,
    stages=PAGE.stages[:1],
    classes=tuple(
        dataclasses.replace(row, average_precision=row.average_precision[:1])
        for row in PAGE.classes
    ),
    analysis=None,
    pictures={},
    settings={},
    notes=(),
    examples=(dataclasses.replace(PAGE.examples[0], sound=None),),
)


@pytest.fixture(params=[PAGE, ONE_STAGE], ids=["full", "one stage"])
def html(request) -> str:
    return render(request.param)


def test_the_page_is_well_formed_and_asks_the_network_for_nothing(html):
    page = Reader(html)
    for tag, attributes in page.elements:
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            assert attributes.get(name, "#").startswith(("data:", "#")), (tag, attributes)
        assert not any(name.startswith("on") or name == "style" for name in attributes), (
            tag,
            attributes,
        )
    assert "url(" not in html and "@import" not in html and "fetch" not in html
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in page.elements:
        for name in ("aria-labelledby", "for", "data-table"):
            assert attributes.get(name, ids[0]) in ids, (tag, attributes)
    assert {link["href"][1:] for link in page.all("a")} <= set(ids)


def test_the_policy_lets_only_the_page_s_own_script_and_style_work(html):
    page = Reader(html)
    (policy,) = [meta["content"] for meta in page.all("meta") if "http-equiv" in meta]
    assert policy.startswith("default-src 'none'; ") and "unsafe" not in policy
    for tag in ("script", "style"):
        (content,) = page.text(tag)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_what_comes_from_data_is_escaped_wherever_it_stands(html):
    page = Reader(html)
    assert len(page.all("script")) == 1 and "<script>alert" not in html
    assert [text for text in page.text("script") if "alert" in text] == []
    assert f"SeCoST: run {EVIL}" in page.text("title") and EVIL in "".join(page.text("th"))
    assert [image["alt"] for image in page.all("img")][-1] == f"picture of {EVIL}"


def test_tables_and_figures_are_described(html):
    page = Reader(html)
    tags = [tag for tag, _ in page.elements]
    assert tags.count("table") == tags.count("caption") == tags.count("thead")
    assert all(head.get("scope") in ("col", "row", "rowgroup") for head in page.all("th"))
    assert all(
        image["alt"] and int(image["width"]) and int(image["height"]) for image in page.all("img")
    )
    levels = [int(tag[1]) for tag in tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(deeper - level <= 1 for level, deeper in itertools.pairwise(levels))
    assert page.all("html") == [{"lang": "en"}]
    boxes = [box for box in page.all("div") if "scroll" in box.get("class", "").split()]
    assert len(boxes) == tags.count("table")
    assert all(
        box["tabindex"] == "0" and box["role"] == "region" and box["aria-label"] for box in boxes
    )


def rows_of(html: str, table: str) -> list[list[str]]:
    """The texts of a table's rows, without its head."""
    (body,) = re.findall(rf'<table id="{table}".*?<tbody>(.*?)</tbody>', html, re.DOTALL)
    return [
        [re.sub("<.*?>", "", cell) for cell in re.findall("<t[hd].*?</t[hd]>", row, re.DOTALL)]
        for row in re.findall("<tr>.*?</tr>", body, re.DOTALL)
    ]


def test_classes_stand_by_falling_gain_with_those_without_one_at_the_end():
    rows = rows_of(render(PAGE), "class-table")
    assert [row[-1] for row in rows] == ["+0.250", "+0.000", "−0.100", "–"]
    assert rows[0][1:] == ["1,200", "0.500", "0.600", "0.750", "+0.250"]
    assert rows[-1][0] == "Nothing"
    assert [row[-1] for row in rows_of(render(ONE_STAGE), "class-table")] == [
        "0.500",
        "0.500",
        "0.250",
        "–",
    ]


def test_the_stages_are_told_with_their_change():
    page = Reader(render(PAGE))
    cells = page.text("td")
    assert "+0.1000 (+20.0 %)" in cells and "−0.0500 (−10.0 %)" in cells and "5 of 8" in cells
    assert page.text("dd")[:3] == ["0.6000", "chance 0.125", "+0.1000"]


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.02, 0.18, "0 lies outside"),
        (-0.18, -0.02, "0 lies outside"),
        (-0.02, 0.1, "0 lies inside"),
    ],
)
def test_the_interval_of_the_change_is_read_for_the_reader(low, high, said):
    analysis = dataclasses.replace(PAGE.analysis, low=low, high=high)
    words = Reader(render(dataclasses.replace(PAGE, analysis=analysis))).text("p")
    text = " ".join(" ".join(words).split())
    assert said in text and "the AP of 1 of 3 classes rose (33%), that of 1 fell" in text


def test_label_errors_are_told_apart():
    cells = Reader(render(PAGE)).text("td")
    assert (
        "labelled, but not heard" in cells
        and "heard, but not labelled" in cells
        and "0.010" in cells
    )


def test_only_what_there_is_has_a_section():
    def titles(page: Page) -> list[str]:
        return Reader(render(page)).text("h2")

    everything = ["Stages", "Base against last stage", "Classes", "Learning curves", "Examples"]
    assert titles(PAGE) == everything
    assert titles(ONE_STAGE) == ["Stages", "Classes", "Examples"]
    assert titles(dataclasses.replace(ONE_STAGE, examples=())) == ["Stages", "Classes"]
    assert "<details>" in render(PAGE) and "<details>" not in render(ONE_STAGE)


def test_an_example_has_a_player_or_the_page_says_how_to_get_one():
    page = Reader(render(PAGE))
    (player,) = page.all("audio")
    assert player["src"] == "data:audio/flac;base64," + base64.b64encode(b"fLaC").decode()
    assert player["aria-label"] == f"Sound of clip id {EVIL}" and "--audio_dir" not in render(PAGE)
    silent = render(ONE_STAGE)
    assert "<audio" not in silent and "--audio_dir=FOLDER" in silent


def test_the_page_states_its_size(html):
    (stated,) = re.findall(r"This file holds all it shows, ([\d.]+) kB,", html)
    assert abs(float(stated) - len(html.encode()) / 1e3) <= 0.6
    assert (format_size(999_600), format_size(1_234_567)) == ("1000 kB", "1.23 MB")


def test_what_is_unknown_is_a_dash():
    unknown = dataclasses.replace(
        PAGE.stages[2], mAP=None, change=None, relative_change=None, mAUC=None, d_prime=None
    )
    html = render(
        dataclasses.replace(PAGE, stages=(*PAGE.stages[:2], unknown), chance=None, analysis=None)
    )
    assert "None" not in html and "nan" not in html and "– (–)" in html


def test_a_page_of_audioset_s_size_stays_small():
    classes = tuple(ClassFigures(f"Class number {i}", i, (0.1 + i / 1000,) * 5) for i in range(527))
    page = dataclasses.replace(PAGE, stages=tuple(stage(i, 0.3) for i in range(5)), classes=classes)
    assert len(render(page)) < 400_000


def test_localisation_is_a_table_of_stages_and_baselines():
    events = (
        EventFigures("Stage 0", 0.6052, 0.1178, None, 0.5),
        EventFigures("Random", 0.1, 0.0, 0.0, 0.0),
    )
    page = Reader(render(dataclasses.replace(PAGE, events=events)))
    assert "Localisation" in page.text("h2") and "Localisation" not in Reader(render(PAGE)).text(
        "h2"
    )
    cells = page.text("td")
    place = cells.index("0.6052")
    assert cells[place : place + 8] == [
        "0.6052",
        "0.1178",
        "–",
        "0.5000",
        "0.1000",
        "0.0000",
        "0.0000",
        "0.0000",
    ]
    assert {"Stage 0", "Random", "PSDS 1"} <= set(page.text("th"))


def test_numbers_are_written_alike_and_what_is_unknown_is_a_dash():
    assert (number(0.12345), number(-1.5, 1)) == ("0.1235", "−1.5")
    assert (signed(0.5, 1), signed(-0.5, 1), signed(0.0, 1)) == ("+0.5", "−0.5", "+0.0")
    assert (number(None), number(float("inf")), signed(None), percent(None)) == ("–",) * 4
    assert (percent(0.1234), percent(-0.5)) == ("+12.3 %", "−50.0 %")
    assert (share(2, 3), share(0, 0)) == ("67%", "–")


@pytest.mark.parametrize(
    ("value", "shown"), [(0.06, " up"), (-0.06, " down"), (0.04, ""), (-0.04, ""), (None, "")]
)
def test_a_change_is_coloured_by_its_sign_unless_it_is_rounded_to_0(value, shown):
    assert direction(value, 1) == shown


def test_gains_are_coloured():
    cells = [cell["class"] for cell in Reader(render(PAGE)).all("td") if "data-value" in cell]
    assert cells[4::5] == ["number up", "number", "number down", "number"]


def test_a_sorted_table_has_a_button_in_each_head_and_values_to_sort_by(html):
    (table,) = re.findall(r'<table id="class-table" class="sortable">.*?</table>', html, re.DOTALL)
    page = Reader(table)
    assert len(page.all("button")) == table.count('scope="col"') == table.count("aria-sort=")
    assert re.findall('aria-sort="descending".*?>(.*?)<', table)
    values = [cell["data-value"] for cell in page.all("td")]
    assert {"1200", "0.5", ""} <= set(values)


def test_rows_are_as_long_as_the_head(html):
    for table in re.findall("<table.*?</table>", html, re.DOTALL):
        head, *rows = re.findall("<tr>.*?</tr>", table, re.DOTALL)
        rows = [row for row in rows if "rowgroup" not in row]
        assert rows == [] or {len(re.findall("<t[hd]", row)) for row in rows} == {
            len(re.findall("<t[hd]", head))
        }


def test_settings_stand_in_groups_below_a_heading():
    page = Reader(render(PAGE))
    assert sum(head.get("scope") == "rowgroup" for head in page.all("th")) == 2
    assert page.text("th").index("Log-mel") + 1 == page.text("th").index("mel_bins")


@pytest.mark.parametrize(("data", "kind"), [("<svg/>", "svg+xml"), (b"png", "png")])
def test_a_picture_lies_in_the_page(data, kind):
    def shown(caption: str) -> Reader:
        picture = Picture(data, 'say "A" & <B>', caption, (300, 200), wide=True)
        html = render(dataclasses.replace(ONE_STAGE, examples=(), pictures={"curves": picture}))
        return Reader(html)

    page = shown("below")
    (image,) = page.all("img")
    assert image["src"].startswith(f"data:image/{kind};base64,")
    assert (image["width"], image["height"], image["alt"]) == ("300", "200", 'say "A" & <B>')
    assert (image.get("class") == "drawing") == (kind == "svg+xml")
    assert page.all("figure") == [{"class": "wide"}]
    assert page.text("figcaption") == ["below"] and shown("").text("figcaption") == []
