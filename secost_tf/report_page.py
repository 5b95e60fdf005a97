"""The report's page: one HTML file made of plain data, which asks the network for nothing.

Whatever comes from data is escaped here, and the page's policy lets no script run but its own.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from html import escape

from secost_tf.cascade import alpha_text
from secost_tf.report_assets import SCRIPT, STYLE
from secost_tf.report_html import Picture, figure, number, share, signed, table

LABEL_ERRORS = "analysis/label_errors.csv"
_SIZE = "0.00 MB"  # stands for the file's size until that is known


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
    """A row of the table of classes: its positive clips, and its AP at each stage, None where it has none."""

    name: str
    positives: int
    average_precision: tuple[float | None, ...]

    @property
    def gain(self) -> float | None:
        """AP of the last stage less that of the first; None if there is one stage, or no positive clip."""
        first, last = self.average_precision[0], self.average_precision[-1]
        return last - first if len(self.average_precision) > 1 and None not in (first, last) else None


@dataclasses.dataclass(frozen=True)
class LabelError:
    """A label of the training clips that is likely wrong, or missing."""

    clip_id: str
    class_name: str
    labelled: bool
    score: float


@dataclasses.dataclass(frozen=True)
class Analysis:
    """What the analysis of the last stage against the first adds to their figures.

    Attributes:
        low, high: bootstrap interval of the change of mAP; None if it is not known.
        confidence: of the interval, such as 0.95.
        facts: further (name, value) pairs.
        label_errors: the likeliest ones.
        label_errors_found: how many the analysis lists in all.
    """

    low: float | None = None
    high: float | None = None
    confidence: float = 0.95
    facts: tuple[tuple[str, str], ...] = ()
    label_errors: tuple[LabelError, ...] = ()
    label_errors_found: int = 0


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
    """A row of the table of localisation: a stage, or a baseline; None where a figure does not exist."""

    name: str
    segment_F1: float | None
    event_F1: float | None
    PSDS_1: float | None
    PSDS_2: float | None


@dataclasses.dataclass(frozen=True)
class Page:
    """All that the page says; what is empty is left out.

    Attributes:
        name: of the run.
        run_dir: its folder.
        split, num_clips, num_classes, chance: what was evaluated, and the mAP of random scores on it.
        stages, classes: the rows of the tables.
        settings: (name, value) pairs, by group.
        pictures: by place: `stages`, `experiment`, `alpha`, `gain`, `ranges`, `calibration`, `curves`.
        analysis: the comparison of two stages.
        events: how well stages, and baselines, tell when classes sound.
        examples: in order.
        notes: what could not be shown, and why.
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


def render(page: Page) -> str:
    """The HTML of the page, UTF-8; it states its own size."""
    sections = [
        ("stages", "Stages", _stages(page)),
        ("localisation", "Localisation", _localisation(page)),
        ("comparison", "Base against last stage", _comparison(page)),
        ("classes", "Classes", _classes(page)),
        ("curves", "Learning curves", _figures(page, "curves")),
        ("examples", "Examples", _examples(page)),
    ]
    shown = [(name, title, content) for name, title, content in sections if content]
    links = "".join(f'<li><a href="#{name}">{title}</a></li>' for name, title, _ in shown)
    body = "".join(
        f'<section aria-labelledby="{name}">\n<h2 id="{name}">{title}</h2>\n{content}</section>\n'
        for name, title, content in shown
    )
    title = f"SeCoST: {escape(page.name)}"
    policy = (
        "default-src 'none'; img-src data:; media-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src '{_digest(STYLE)}'; script-src '{_digest(SCRIPT)}'"
    )
    html = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>{STYLE}</style>
</head>
<body>
<a class="skip" href="#content">Skip to the content</a>
<header>
<h1>{title}</h1>
<p class="muted">Sequential co-supervision: each stage after stage 0 learns from labels and from the stage before.
Run in <code>{escape(page.run_dir)}</code>.</p>
{_facts(page)}<nav aria-label="Sections"><ul>{links}</ul></nav>
</header>
<main id="content">
{_settings(page)}{"".join(f'<p class="note">{escape(note)}</p>' for note in page.notes)}
{body}</main>
<footer>
<p>{escape(page.made_by)} This file holds all it shows, {_SIZE}, and asks the network for nothing.</p>
</footer>
<script>{SCRIPT}</script>
</body>
</html>
"""
    head, _, tail = html.rpartition(_SIZE)
    return f"{head}{format_size(len(html.encode()))}{tail}"


def format_size(num_bytes: int) -> str:
    """`812 kB` or `1.42 MB`."""
    return f"{num_bytes / 1e6:.2f} MB" if num_bytes >= 1e6 else f"{num_bytes / 1e3:.0f} kB"


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


# === Parts ===


def _facts(page: Page) -> str:
    """The figures that one looks for first."""
    first, last, analysis = page.stages[0], page.stages[-1], page.analysis
    facts = [(f"mAP, stage {last.stage}", number(last.mAP), f"chance {number(page.chance, 3)}")]
    if last is not first:
        facts.append(
            (f"change against stage {first.stage}", signed(last.change), _relative(last, " relative"))
        )
    if analysis and analysis.low is not None:
        interval = f"{signed(analysis.low, 3)} to {signed(analysis.high, 3)}"
        facts.append((f"{analysis.confidence:.0%} interval of the change", interval, "bootstrap over clips"))
    if gains := _gains(page):
        improved = sum(gain > 0 for gain in gains)
        facts.append(("classes improved", f"{improved} of {len(gains)}", share(improved, len(gains))))
    size = f"{page.num_classes} classes, {len(page.stages)} stages"
    facts.append((f"clips of {page.split}", f"{page.num_clips:,}", size))
    cards = "".join(
        f'<div><dt>{escape(name)}</dt><dd class="value">{escape(value)}</dd>'
        f'<dd class="more muted">{escape(more)}</dd></div>\n'
        for name, value, more in facts
    )
    return f'<dl class="facts">\n{cards}</dl>\n'


def _settings(page: Page) -> str:
    if not page.settings:
        return ""
    caption = "Where stages differ, the stages are named."
    content = table("Settings", caption, {"Setting": "text", "Value": "text"}, page.settings)
    return f"<details>\n<summary>Settings</summary>\n{content}</details>\n"


def _stages(page: Page) -> str:
    base = page.stages[0]
    columns = {
        "Stage": "text",
        "α": "number",
        "Teacher": "text",
        "mAP": "number",
        f"Change against stage {base.stage}": "change",
        "mAUC": "number",
        "d′": "number",
        "lwlrap": "number",
        "Best epoch": "number",
        "Time": "number",
    }
    rows = [
        (
            str(row.stage),
            alpha_text(row.alpha, row.alpha_note),
            row.teacher,
            number(row.mAP),
            "" if row is base else f"{signed(row.change)} ({_relative(row)})",
            number(row.mAUC),
            number(row.d_prime, 3),
            number(row.lwlrap),
            f"{row.best_epoch} of {row.epochs}",
            row.time,
        )
        for row in page.stages
    ]
    caption = (
        f"Split {page.split}, {page.num_clips:,} clips; random scores would reach a mAP of {number(page.chance)}. "
        "α: weight of the labels in the targets. Teacher: the stages whose scores taught."
    )
    return table("Stages", caption, columns, {"": rows}) + _figures(page, "stages", "experiment", "alpha")


def _localisation(page: Page) -> str:
    if not page.events:
        return ""
    figures = {"segment F1": "segment_F1", "event F1": "event_F1", "PSDS 1": "PSDS_1", "PSDS 2": "PSDS_2"}
    rows = [(row.name, *(number(getattr(row, field)) for field in figures.values())) for row in page.events]
    caption = (
        f"When classes sound, against the true onsets and offsets of split {page.split}. Segment F1: segments of 1 s; event F1: "
        "onset to 200 ms, offset to 200 ms or a fifth of the event; means over classes. PSDS: over all thresholds."
    )
    return table(
        "Localisation", caption, {"Scores of": "text", **dict.fromkeys(figures, "number")}, {"": rows}
    )


def _comparison(page: Page) -> str:
    gains, analysis, first, last = _gains(page), page.analysis, page.stages[0], page.stages[-1]
    if not gains:
        return ""
    improved = sum(gain > 0 for gain in gains)
    text = (
        f"From stage {first.stage} to stage {last.stage}, the AP of {improved} of {len(gains)} classes rose "
        f"({share(improved, len(gains))}), that of {sum(gain < 0 for gain in gains)} fell."
    )
    if analysis and analysis.low is not None:
        sure = (
            "0 lies outside"
            if analysis.low > 0 or analysis.high < 0
            else "0 lies inside, so on this many clips the change may be chance"
        )
        text += (
            f" mAP changed by {signed(last.change)}, with a {analysis.confidence:.0%} bootstrap interval of "
            f"{signed(analysis.low)} to {signed(analysis.high)}: {sure}. The interval speaks of other clips, not of "
            "other seeds."
        )
    parts = [f"<p>{escape(text)}</p>\n", _figures(page, "gain", "ranges", "calibration")]
    if analysis is None:
        return "".join(parts)
    if analysis.facts:
        columns = {"Figure": "text", "Value": "number"}
        parts.append(table("Further figures", "Further figures", columns, {"": analysis.facts}))
    if analysis.label_errors:
        columns = {"Clip": "text", "Class": "text", "What is odd": "text", "Score": "number"}
        rows = [
            (
                error.clip_id,
                error.class_name,
                "labelled, but not heard" if error.labelled else "heard, but not labelled",
                number(error.score, 3),
            )
            for error in analysis.label_errors
        ]
        caption = (
            f"Labels of the training clips that are likely wrong or missing, of each kind the likeliest; {analysis.label_errors_found:,} "
            f"are listed in {LABEL_ERRORS}. Score: that of stage {last.stage}."
        )
        parts.append(table("Likely label errors", caption, columns, {"": rows}))
    return "".join(parts)


def _gains(page: Page) -> list[float]:
    """The gains of the classes that have one."""
    return [row.gain for row in page.classes if row.gain is not None]


def _classes(page: Page) -> str:
    """The table of classes, by falling gain, or AP where there is one stage."""
    stages = [row.stage for row in page.stages]
    columns = {"Class": "text", "Clips": "number", **{f"AP, stage {stage}": "number" for stage in stages}}
    gain = ""
    if len(stages) > 1:
        columns["Gain"] = "change"
        gain = f" Gain: AP of stage {stages[-1]} less that of stage {stages[0]}."
    rows = []
    for row in page.classes:
        values = [row.positives, *row.average_precision, *([row.gain] if len(stages) > 1 else [])]
        texts = [f"{row.positives:,}", *(number(value, 3) for value in row.average_precision)]
        texts += [signed(row.gain, 3)] if len(stages) > 1 else []
        rows.append((row.name, *zip(texts, values, strict=True)))
    rows.sort(key=lambda cells: (cells[-1][1] is None, -(cells[-1][1] or 0.0)))
    caption = (
        f"Average precision (AP) of each class on split {page.split}; clips: those that have the label.{gain}"
    )
    filtering = (
        '<div class="filter" data-table="class-table" hidden><label for="class-filter">Show classes whose name holds'
        '</label> <input type="search" id="class-filter" autocomplete="off" spellcheck="false"> '
        '<output for="class-filter"></output></div>\n'
    )
    return filtering + table("Classes", caption, columns, {"": rows}, sorted_id="class-table")


def _examples(page: Page) -> str:
    if not page.examples:
        return ""
    intro = (
        "Clips of the evaluated split, chosen by rule. The curves are the last stage's segment scores: when it hears a "
        "class, though it was trained without times."
    )
    if not any(example.sound for example in page.examples):
        intro += (
            " The converted data hold no sound; to listen, make the report with --audio_dir=FOLDER, the folder of the "
            "recordings."
        )
    articles = "".join(_example(example, place, page) for place, example in enumerate(page.examples, 1))
    return f"<p>{escape(intro)}</p>\n{articles}"


def _example(example: Example, place: int, page: Page) -> str:
    first, last = page.stages[0].stage, page.stages[-1].stage
    columns = {"Class": "text", "Label": "text", f"Stage {first}": "number", f"Stage {last}": "number"}
    rows = [
        (score.class_name, "yes" if score.labelled else "no", number(score.base, 3), number(score.last, 3))
        for score in example.scores
    ]
    if len(page.stages) == 1:
        columns.pop(f"Stage {first}", None)
        columns[f"Stage {last}"] = "number"
        rows = [(name, labelled, score) for name, labelled, _, score in rows]
    player = ""
    if example.sound:
        player = (
            f'<audio controls preload="metadata" aria-label="Sound of clip {escape(example.clip_id)}" '
            f'src="data:audio/flac;base64,{base64.b64encode(example.sound).decode()}"></audio>\n'
        )
    labels = escape("; ".join(example.labels) or "none")
    return (
        f'<article class="example" aria-labelledby="example-{place}">\n'
        f'<h3 id="example-{place}">{escape(example.title)}</h3>\n'
        f"<p>{escape(example.reason)} Clip <code>{escape(example.clip_id)}</code>, labels: "
        f"<strong>{labels}</strong>.</p>\n{figure(example.picture)}<div>\n{player}"
        f"{table(f'Clip scores of example {place}', 'Clip scores', columns, {'': rows})}</div>\n</article>\n"
    )


def _figures(page: Page, *places: str) -> str:
    """The pictures of some places that there are, side by side where there is room."""
    shown = "".join(figure(page.pictures[place]) for place in places if place in page.pictures)
    return f'<div class="grid">\n{shown}</div>\n' if shown else ""


def _relative(row: StageFigures, what: str = "") -> str:
    return "–" if row.relative_change is None else f"{signed(100 * row.relative_change, 1)} %{what}"
