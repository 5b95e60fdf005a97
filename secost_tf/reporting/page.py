"""The report's page: one HTML file made of plain data, which asks the network for nothing.

The HTML stands in `reporting/templates`, the style sheet and the script in `reporting/assets`. The
template escapes whatever comes from data, and the page's policy lets no script run but its own.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import hashlib
import importlib.resources
from collections.abc import Mapping, Sequence

import jinja2

from secost_tf.runs import alpha_text
from tfrecord_tools.text import format_figure, format_size

LABEL_ERRORS = "analysis/label_errors.csv"

_SIZE = "0.00 MB"  # stands for the file's size until that is known


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure of the page.

    Attributes:
        data: the file, SVG text or PNG bytes.
        alt: a description for those who do not see it.
        caption: the text below it.
        size: width and height in CSS pixels at which it is drawn, before it is scaled to the page.
        wide: True if it takes a row of its own.
        scrolls: True if it keeps a width that can be read on a narrow screen, and scrolls in a box
            of its own there.
    """

    data: str | bytes
    alt: str
    caption: str
    size: tuple[int, int]
    wide: bool = False
    scrolls: bool = False

    @property
    def is_drawing(self) -> bool:
        """True for lines on white paper, whose colours may be turned for a dark page."""
        return isinstance(self.data, str)

    @property
    def data_url(self) -> str:
        """The picture as an address that holds it whole."""
        if isinstance(self.data, str):
            return data_url(self.data.encode(), "image/svg+xml")
        return data_url(self.data, "image/png")


@dataclasses.dataclass(frozen=True)
class StageFigures:
    """A row of the table of stages; None where a figure is not known."""

    stage: int
    alpha: float
    teacher: str
    mAP: float | None
    change: float | None
    relative_change: float | None
    mAUC: float | None
    d_prime: float | None
    lwlrap: float | None
    best_epoch: int
    epochs: int
    time: str
    alpha_note: str = ""


@dataclasses.dataclass(frozen=True)
class ClassFigures:
    """A row of the table of classes: positive clips, and AP at each stage, None if it has none."""

    name: str
    positives: int
    average_precision: tuple[float | None, ...]

    @property
    def gain(self) -> float | None:
        """AP of the last stage less that of the first; None if one of the two does not exist."""
        first, last = self.average_precision[0], self.average_precision[-1]
        if len(self.average_precision) == 1 or first is None or last is None:
            return None
        return last - first


@dataclasses.dataclass(frozen=True)
class LabelError:
    """A label of the training clips that is likely wrong, or missing."""

    clip_id: str
    class_name: str
    labelled: bool
    score: float


@dataclasses.dataclass(frozen=True)
class Analysis:
    """The analysis of the last stage against the first.

    Attributes:
        low, high: bootstrap interval of the change of mAP; None if it is not known.
        confidence: of the interval, such as 0.95.
        facts: further (name, value) pairs.
        label_errors: the likeliest ones.
        num_label_errors: how many the analysis lists in all.
    """

    low: float | None = None
    high: float | None = None
    confidence: float = 0.95
    facts: tuple[tuple[str, str], ...] = ()
    label_errors: tuple[LabelError, ...] = ()
    num_label_errors: int = 0


@dataclasses.dataclass(frozen=True)
class ExampleScore:
    """A class's clip score in an example, at the base and the last stage."""

    class_name: str
    labelled: bool
    base: float | None
    last: float


@dataclasses.dataclass(frozen=True)
class Example:
    """A clip to look at and to listen to.

    Attributes:
        title, reason: why it is shown.
        clip_id: its id.
        labels: the display names of its labels.
        picture: the spectrogram with segment scores.
        scores: of some classes.
        sound: a FLAC file; None gives no player.
    """

    title: str
    reason: str
    clip_id: str
    labels: tuple[str, ...]
    picture: Picture
    scores: tuple[ExampleScore, ...]
    sound: bytes | None = None


@dataclasses.dataclass(frozen=True)
class EventFigures:
    """A row of the table of localisation: a stage, or a baseline; None for a missing figure."""

    name: str
    segment_F1: float | None
    event_F1: float | None
    PSDS_1: float | None
    PSDS_2: float | None


@dataclasses.dataclass(frozen=True)
class Page:
    """All that the page says; it leaves out what is empty.

    Attributes:
        name: of the run.
        run_dir: its folder.
        split, num_clips, num_classes, chance: the evaluated clips, and the mAP of random scores.
        stages, classes: the rows of the tables.
        settings: (name, value) pairs, by group.
        pictures: by place: `stages`, `experiment`, `alpha`, `gain`, `ranges`, `calibration`,
            `curves`.
        analysis: the comparison of two stages.
        events: how well stages, and baselines, tell when classes sound.
        examples: in order.
        notes: one for each part that could not be shown, with the reason.
        made_by: version and date.
    """

    name: str
    run_dir: str
    split: str
    num_clips: int
    num_classes: int
    chance: float | None
    stages: tuple[StageFigures, ...]
    classes: tuple[ClassFigures, ...]
    settings: Mapping[str, Sequence[tuple[str, str]]] = dataclasses.field(default_factory=dict)
    pictures: Mapping[str, Picture] = dataclasses.field(default_factory=dict)
    analysis: Analysis | None = None
    events: tuple[EventFigures, ...] = ()
    examples: tuple[Example, ...] = ()
    notes: tuple[str, ...] = ()
    made_by: str = ""

    @property
    def gains(self) -> list[float]:
        """The gains of the classes that have one."""
        return [row.gain for row in self.classes if row.gain is not None]

    @property
    def num_improved(self) -> int:
        """The number of classes that gained."""
        return sum(gain > 0 for gain in self.gains)

    @property
    def num_worse(self) -> int:
        """The number of classes that lost."""
        return sum(gain < 0 for gain in self.gains)

    @property
    def sorted_classes(self) -> list[ClassFigures]:
        """The classes by falling gain, or AP if there is one stage; those without it at the end."""

        def sort_key(row: ClassFigures) -> tuple[bool, float]:
            value = row.gain if len(self.stages) > 1 else row.average_precision[-1]
            return value is None, -(value or 0.0)

        return sorted(self.classes, key=sort_key)


def render(page: Page) -> str:
    """Return the HTML of a page, to be written as UTF-8; it states its own size."""
    assets = importlib.resources.files("secost_tf") / "reporting" / "assets"
    html = (
        _environment()
        .get_template("report.html.j2")
        .render(
            page=page,
            size=_SIZE,
            style=(assets / "report.css").read_text("utf-8"),
            script=(assets / "report.js").read_text("utf-8"),
        )
    )
    head, _, tail = html.rpartition(_SIZE)
    return f"{head}{format_size(len(html.encode()))}{tail}"


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("secost_tf", "reporting/templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": lambda value: f"{value:,}",
        "data_url": data_url,
        "digest": _digest,
        "direction": direction,
        "number": number,
        "percent": percent,
        "signed": signed,
        "sort_key": lambda value: "" if value is None else f"{value:.6g}",
    }
    environment.globals |= {
        "alpha_text": alpha_text,
        "label_errors_file": LABEL_ERRORS,
        "share": share,
    }
    return environment


def number(value: float | None, digits: int = 4) -> str:
    """Return `0.1234`; a dash for what is not known."""
    return _known(value, f".{digits}f")


def signed(value: float | None, digits: int = 4) -> str:
    """Return `+0.1234`; a dash for what is not known."""
    return _known(value, f"+.{digits}f")


def percent(value: float | None) -> str:
    """Return a share with its sign, `+12.3 %`; a dash for what is not known."""
    return "–" if value is None else f"{signed(100 * value, 1)} %"


def share(part: int, whole: int) -> str:
    """Return `67%`; a dash if there is nothing to have a share in."""
    return f"{part / whole:.0%}" if whole else "–"


def direction(value: float | None, digits: int = 4) -> str:
    """Return the class ` up` or ` down` of a cell with a change; none if that is rounded to 0."""
    text = signed(value, digits)
    if not text.strip("+−0."):
        return ""
    return {"+": " up", "−": " down"}.get(text[0], "")


def data_url(data: bytes, media_type: str) -> str:
    """Return an address that holds a file's content itself, such as `data:image/png;base64,...`."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def _known(value: float | None, specification: str) -> str:
    return format_figure(value, specification, missing="–").replace("-", "−")


def _digest(text: str) -> str:
    """Return the source expression by which a content security policy lets a text work."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
