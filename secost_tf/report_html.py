"""Pieces of HTML from plain data: tables that scroll in a box of their own, figures, numbers. All text is escaped."""

from __future__ import annotations

import base64
import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure of the page.

    Attributes:
        data: the file, SVG text or PNG bytes.
        alt: what it shows, for those who do not see it.
        caption: the text below it.
        size: width and height in CSS pixels at which it is drawn, before it is scaled to the page.
        wide: whether it takes a row of its own.
        scrolls: whether it keeps a width that can be read on a narrow screen, and scrolls in a box of its own there.
    """

    data: str | bytes
    alt: str
    caption: str
    size: tuple[int, int]
    wide: bool = False
    scrolls: bool = False

    @property
    def is_drawing(self) -> bool:
        """Lines on white paper, whose colours may be turned for a dark page, and not a photograph of data."""
        return isinstance(self.data, str)


Row = Sequence[
    "str | tuple[str, float | None]"
]  # of a table: each cell a text, or a text and what it is sorted by


def figure(picture: Picture) -> str:
    """A picture that lies in the page itself, with its caption."""
    drawn = picture.is_drawing
    kind, data = ("svg+xml", picture.data.encode()) if drawn else ("png", picture.data)
    width, height = picture.size
    drawing = ' class="drawing"' if drawn else ""
    image = (
        f'<img{drawing} alt="{escape(picture.alt)}" width="{width}" height="{height}" '
        f'src="data:image/{kind};base64,{base64.b64encode(data).decode()}">'
    )
    if picture.scrolls:
        image = f'<div class="picture" role="region" aria-label="Picture" tabindex="0">{image}</div>'
    caption = f"<figcaption>{escape(picture.caption)}</figcaption>" if picture.caption else ""
    wide = ' class="wide"' if picture.wide else ""
    return f"<figure{wide}>{image}{caption}</figure>\n"


def table(
    label: str,
    caption: str,
    columns: Mapping[str, str],
    groups: Mapping[str, Iterable[Row]],
    sorted_id: str = "",
) -> str:
    """A table in a box of its own, in which it scrolls, also by keyboard.

    Args:
        label: names the box.
        caption: stands above the table.
        columns: `text`, `number` or `change` (a number coloured by its sign), by heading. The first is of texts.
        groups: rows by the heading above them; "" for none.
        sorted_id: id of a table that can be sorted by any column, and whose rows fall by the last one; empty: can't be.
    """
    identity = f' id="{sorted_id}" class="sortable"' if sorted_id else ""
    box = "scroll tall" if sorted_id else "scroll"
    heads = "".join(
        _head(name, kind, ["none", "descending"][place == len(columns)] if sorted_id else "")
        for place, (name, kind) in enumerate(columns.items(), 1)
    )
    bodies = []
    for group, rows in groups.items():
        head = (
            f'<tr><th scope="rowgroup" colspan="{len(columns)}">{escape(group)}</th></tr>\n' if group else ""
        )
        bodies.append(f"<tbody>\n{head}{''.join(_row(row, columns.values()) for row in rows)}</tbody>\n")
    return (
        f'<div class="{box}" role="region" aria-label="{escape(label)}" tabindex="0">\n<table{identity}>\n'
        f"<caption><span>{escape(caption)}</span></caption>\n<thead><tr>{heads}</tr></thead>\n{''.join(bodies)}</table>\n</div>\n"
    )


def _head(name: str, kind: str, order: str) -> str:
    attributes = "" if kind == "text" else ' class="number"'
    if not order:
        return f'<th scope="col"{attributes}>{escape(name)}</th>'
    return (
        f'<th scope="col"{attributes} aria-sort="{order}"><button type="button">{escape(name)}</button></th>'
    )


def _row(row: Row, kinds: Iterable[str]) -> str:
    head, *cells = row
    _, *kinds = kinds
    others = "".join(_cell(cell, kind) for cell, kind in zip(cells, kinds, strict=True))
    return f'<tr><th scope="row">{escape(head)}</th>{others}</tr>\n'


def _cell(cell: str | tuple[str, float | None], kind: str) -> str:
    text, *values = cell if isinstance(cell, tuple) else (cell,)
    classes = [] if kind == "text" else ["number"]
    if kind == "change" and text.strip("+−0.() %"):  # not if it is rounded to 0
        classes += {"+": ["up"], "−": ["down"]}.get(text[0], [])
    attributes = f' class="{" ".join(classes)}"' if classes else ""
    for value in values:
        attributes += f' data-value="{"" if value is None else f"{value:.6g}"}"'
    return f"<td{attributes}>{escape(text)}</td>"


def number(value: float | None, digits: int = 4) -> str:
    """`0.1234`; a dash for what is not known."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}f}".replace("-", "−")


def signed(value: float | None, digits: int = 4) -> str:
    """`+0.1234`; a dash for what is not known."""
    return "–" if value is None or not math.isfinite(value) else f"{value:+.{digits}f}".replace("-", "−")


def share(part: int, whole: int) -> str:
    """`67%`; a dash if there is nothing to have a share in."""
    return f"{part / whole:.0%}" if whole else "–"
