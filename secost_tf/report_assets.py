"""The style sheet and the script of the report's page."""

STYLE = """
:root {
  color-scheme: light dark;
  --page: #ffffff; --text: #1b1f24; --muted: #57606a; --line: #d0d7de; --panel: #f6f8fa; --link: #0a5bb5;
  --up: #0a5bb5; --down: #a04100; --focus: #0a5bb5;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14181d; --text: #e6e9ed; --muted: #a0a9b4; --line: #39424d; --panel: #1c2229; --link: #79b8ff;
    --up: #79b8ff; --down: #ffa657; --focus: #79b8ff;
  }
  /* Drawings are made for white paper: inverted, with their hues turned back, and what was paper, now black, left out.
     Spectrograms keep their colours. */
  img.drawing { filter: invert(1) hue-rotate(180deg); mix-blend-mode: screen; }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--page); color: var(--text); overflow-wrap: break-word;
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
header, main, footer { max-width: 72rem; margin: 0 auto; padding: 0 1rem; }
header { padding-top: 1.5rem; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .25rem; }
h2 { font-size: 1.3rem; margin: 2.5rem 0 .5rem; padding-top: .5rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 0 0 .25rem; }
p, ul { margin: .5rem 0; max-width: 48rem; }
a { color: var(--link); }
code { font: .9em ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
:focus-visible { outline: 2px solid var(--focus); outline-offset: 2px; }
.skip { position: absolute; left: -100vw; }
.skip:focus { left: 1rem; top: .5rem; background: var(--page); padding: .25rem .5rem; }
.muted, figcaption, caption, .note { color: var(--muted); }
.note { border-left: 3px solid var(--line); padding-left: .75rem; }
nav ul { display: flex; flex-wrap: wrap; gap: 0 1.25rem; padding: 0; margin: .75rem 0 0; list-style: none; }
nav a { display: inline-block; padding: .25rem 0; }
dl.facts { display: flex; flex-wrap: wrap; gap: .75rem; margin: 1.25rem 0; }
dl.facts div { flex: 1 1 8.5rem; background: var(--panel); border: 1px solid var(--line); border-radius: 8px; padding: .6rem .8rem; }
dl.facts dt { color: var(--muted); font-size: .85rem; line-height: 1.3; }
dl.facts dd { margin: 0; }
dl.facts dd.value { font-size: 1.45rem; font-weight: 600; line-height: 1.4; font-variant-numeric: tabular-nums; }
dl.facts dd.more { font-size: .85rem; line-height: 1.3; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 27rem), 1fr)); gap: 1.5rem;
  align-items: start; margin: 1rem 0; }
figure { margin: 0; min-width: 0; }
figure.wide { grid-column: 1 / -1; }
figure img { display: block; max-width: 100%; height: auto; }
figcaption { font-size: .9rem; margin-top: .4rem; }
.scroll { overflow: auto; max-width: 100%; margin: .75rem 0; border: 1px solid var(--line); border-radius: 8px; }
.scroll.tall { max-height: 75vh; }
table { border-collapse: separate; border-spacing: 0; width: 100%; font-size: .92rem;
  font-variant-numeric: tabular-nums; }
caption { text-align: left; padding: .5rem 0; font-size: .9rem; }
/* Words and the first column stay in sight while the rest scrolls below them. */
caption span { display: inline-block; position: sticky; left: 0; padding: 0 .75rem; max-width: calc(100vw - 2.2rem); }
tbody th, thead th:first-child { position: sticky; left: 0; z-index: 1; background: var(--page); }
th, td { padding: .35rem .75rem; text-align: left; border-top: 1px solid var(--line); }
th.number, td.number { text-align: right; white-space: nowrap; }
tbody th { font-weight: 500; max-width: 45vw; }
thead th, thead th:first-child { background: var(--panel); vertical-align: bottom; border-top: 0; border-bottom: 1px solid var(--line); }
tbody tr:first-child > * { border-top: 0; }
.tall thead th { position: sticky; top: 0; z-index: 2; }
.tall thead th:first-child { z-index: 3; }
thead button { font: inherit; font-weight: 600; color: inherit; background: none; border: 0; padding: .15rem 0;
  cursor: pointer; text-align: inherit; white-space: nowrap; }
thead button:hover { text-decoration: underline; }
thead button::after { content: " \\2195"; color: var(--muted); }
th[aria-sort="ascending"] button::after { content: " \\2191"; color: inherit; }
th[aria-sort="descending"] button::after { content: " \\2193"; color: inherit; }
.up { color: var(--up); } .down { color: var(--down); }
.filter { display: flex; flex-wrap: wrap; align-items: center; gap: .5rem 1rem; margin: .75rem 0; }
.filter[hidden], tr[hidden] { display: none; }
.filter input { font: inherit; color: inherit; background: var(--page); border: 1px solid var(--muted);
  border-radius: 6px; padding: .35rem .6rem; width: 16rem; max-width: 100%; }
details { border: 1px solid var(--line); border-radius: 8px; padding: 0 .75rem; margin: .75rem 0; }
details[open] { padding-bottom: .75rem; }
summary { cursor: pointer; padding: .5rem 0; font-weight: 600; }
details td { overflow-wrap: anywhere; }
.example { border: 1px solid var(--line); border-radius: 8px; padding: .8rem; margin: 1.25rem 0; min-width: 0; }
.example p { margin: .25rem 0 .6rem; font-size: .92rem; }
.picture { background: #ffffff; border-radius: 4px; overflow-x: auto; }
.picture img { width: 100%; max-width: none; min-width: 36rem; margin: 0 auto; }
.example th, .example td { padding: .3rem .5rem; }
.example tbody th { max-width: 9.5rem; overflow-wrap: anywhere; }
@media (min-width: 60rem) { .example { display: grid; grid-template-columns: minmax(0, 1fr) 23rem; gap: 0 1.25rem; }
  .example h3, .example > p { grid-column: 1 / -1; max-width: none; } }
audio { display: block; width: 100%; margin: .75rem 0; }
footer { padding-top: 1.5rem; padding-bottom: 3rem; margin-top: 2.5rem; font-size: .9rem; color: var(--muted); }
@media (max-width: 32rem) { th, td { padding: .35rem .45rem; } .example th, .example td { padding: .3rem .3rem; } }
@media print { .filter, nav, audio { display: none; } .scroll.tall { max-height: none; } }
"""

SCRIPT = """
"use strict";

function sortTable(table, head) {
  const numeric = head.classList.contains("number");
  const now = head.getAttribute("aria-sort");
  const order = now === "none" ? (numeric ? "descending" : "ascending")
    : now === "ascending" ? "descending" : "ascending";
  for (const other of table.tHead.rows[0].cells) {
    if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", other === head ? order : "none");
  }
  const sign = order === "ascending" ? 1 : -1;
  const value = (row) => row.cells[head.cellIndex].dataset.value ?? row.cells[head.cellIndex].textContent;
  const compare = (a, b) => {
    if (!numeric) return sign * a.localeCompare(b);
    if (a === "" || b === "") return (a === "") - (b === "");  // what is not known comes last, either way
    return sign * (Number(a) - Number(b));
  };
  const body = table.tBodies[0];
  body.append(...[...body.rows].sort((a, b) => compare(value(a), value(b))));
}

for (const table of document.querySelectorAll("table.sortable")) {
  for (const head of table.tHead.rows[0].cells) {
    head.querySelector("button").addEventListener("click", () => sortTable(table, head));
  }
}

for (const filter of document.querySelectorAll(".filter")) {
  const rows = [...document.getElementById(filter.dataset.table).tBodies[0].rows];
  const count = filter.querySelector("output");
  const input = filter.querySelector("input");
  const apply = () => {
    const wanted = input.value.trim().toLowerCase();
    for (const row of rows) row.hidden = !row.cells[0].textContent.toLowerCase().includes(wanted);
    count.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} classes`;
  };
  input.addEventListener("input", apply);
  apply();
  filter.hidden = false;
}

const players = [...document.querySelectorAll("audio")];
for (const player of players) {
  player.addEventListener("play", () => players.forEach((other) => other === player || other.pause()));
}
"""
