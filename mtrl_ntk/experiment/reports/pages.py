"""A document of tables and pictures, as one HTML page, as Markdown, and its tables as LaTeX."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path


@dataclass(frozen=True)
class Table:
    """Text in rows; the first column names them, the others hold numbers."""

    columns: Sequence[str]
    """Headings."""
    rows: Sequence[Sequence[str]]
    """Cells, as many in each row as there are headings."""
    is_numeric: bool = True
    """Whether the cells after the first are numbers, which stand at the right."""


@dataclass(frozen=True)
class Picture:
    """A picture in the document's folder, as a PNG and as an SVG file."""

    name: str
    """Name of both files without its ending."""
    description: str
    """What it shows, for who cannot see it."""


@dataclass(frozen=True)
class Section:
    """A heading with what belongs below it."""

    title: str
    """The heading."""
    note: str = ""
    """How to read it."""
    pictures: Sequence[Picture] = ()
    """Pictures, before the table."""
    table: Table | None = None
    """The table."""
    more: Sequence[Table] = ()
    """Further tables."""

    @property
    def tables(self) -> list[Table]:
        """All tables."""
        return [*([self.table] if self.table else []), *self.more]


@dataclass(frozen=True)
class Document:
    """A whole report."""

    title: str
    """Its title."""
    summary: str
    """What it is over."""
    warnings: Sequence[str] = ()
    """What a reader must know before any number."""
    sections: Sequence[Section] = field(default_factory=tuple)
    """The rest."""


def to_html(document: Document, folder: Path) -> str:
    """One page that needs no other file: the pictures of the folder are inside."""
    parts = [f"<h1>{escape(document.title)}</h1>", f"<p>{escape(document.summary)}</p>"]
    parts += [f'<p class="warning">{escape(warning)}</p>' for warning in document.warnings]
    parts += [_html_contents(document.sections)] if document.sections else []
    for number, section in enumerate(document.sections, 1):
        parts.append(f'<h2 id="section-{number}">{escape(section.title)}</h2>')
        parts += [f"<p>{escape(section.note)}</p>"] if section.note else []
        parts += [_html_picture(picture, folder) for picture in section.pictures]
        parts += [_html_table(table) for table in section.tables]
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(document.title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


_STYLE = """
:root { color-scheme: light dark; --ink: #222; --paper: #fff; --line: #e6e6e6; --rule: #b0b0b0;
  --link: #1f6fb5; --note: #fff3d6; }
@media (prefers-color-scheme: dark) { :root { --ink: #ddd; --paper: #16181b; --line: #33373c;
  --rule: #6b7178; --link: #7db8ee; --note: #3a2f12; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 64rem; margin: 2rem auto; padding: 0 1rem; overflow-wrap: break-word; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
nav { columns: 16rem; margin: 1.5rem 0; font-size: .92rem; } nav a { display: block; }
a { color: var(--link); text-decoration: none; } a:hover { text-decoration: underline; }
.warning { background: var(--note); border-left: 4px solid #ffa90e; padding: .5rem .8rem; }
.scroll { overflow-x: auto; margin: .5rem 0 1rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem; }
th, td { padding: .3rem .8rem; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; }
th { border-bottom: 2px solid var(--rule); vertical-align: bottom; }
table.numbers th:not(:first-child), table.numbers td:not(:first-child) { text-align: right;
  white-space: nowrap; }
table.numbers th:first-child, table.numbers td:first-child { position: sticky; left: 0;
  background: var(--paper); }
img { max-width: 100%; height: auto; display: block; background: #fff; border-radius: .4rem; }
@media (max-width: 48rem) { .picture img { max-width: none; width: 44rem; } }
@media print { :root { --ink: #000; --paper: #fff; --line: #ccc; --note: #fff; }
  body { max-width: none; margin: 0; font-size: 11pt; } nav { display: none; }
  .scroll { overflow: visible; } table { font-size: .8em; } th, td { padding: .2rem .4rem; }
  h2, h2 + p { break-after: avoid; } tr, img { break-inside: avoid; } }
"""


def _html_contents(sections: Sequence[Section]) -> str:
    links = [
        f'<a href="#section-{number}">{escape(section.title)}</a>'
        for number, section in enumerate(sections, 1)
    ]
    return f"<nav>{''.join(links)}</nav>"


def _html_picture(picture: Picture, folder: Path) -> str:
    data = base64.b64encode((folder / f"{picture.name}.svg").read_bytes()).decode()
    source = f"data:image/svg+xml;base64,{data}"
    alt = escape(picture.description)
    return f'<div class="scroll picture"><img alt="{alt}" src="{source}"></div>'


def _html_table(table: Table) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in table.columns)
    rows = [
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows
    ]
    kind = ' class="numbers"' if table.is_numeric else ""
    body = "\n".join(rows)
    return (
        f'<div class="scroll"><table{kind}>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody>\n</table></div>"
    )


def to_markdown(document: Document) -> str:
    """The document as Markdown, whose pictures lie beside it."""
    parts = [f"# {document.title}", document.summary]
    parts += [f"> **Note:** {warning}" for warning in document.warnings]
    for section in document.sections:
        parts.append(f"## {section.title}")
        parts += [section.note] if section.note else []
        parts += [f"![{picture.description}]({picture.name}.png)" for picture in section.pictures]
        parts += [_markdown_table(table) for table in section.tables]
    return "\n\n".join(parts) + "\n"


def _markdown_table(table: Table) -> str:
    other = "---:" if table.is_numeric else "---"
    rule = ["---", *[other] * (len(table.columns) - 1)]
    lines = [[cell.replace("|", "\\|") for cell in row] for row in (table.columns, *table.rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], rule, *lines[1:]))


def to_latex(table: Table, caption: str) -> str:
    """A table for a paper that loads the package booktabs."""
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_latex(caption)}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(table.columns) - 1)}}}",
        r"\toprule",
        _latex_row(table.columns),
        r"\midrule",
        *map(_latex_row, table.rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "Δ": r"$\Delta$",
    "–": "--",
    "−": "$-$",
}


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(map(_latex, cells)) + r" \\"


def _latex(text: str) -> str:
    return re.sub(".", lambda match: _LATEX.get(match[0], match[0]), text)
