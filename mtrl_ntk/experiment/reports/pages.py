"""A document of tables and pictures, as one HTML page, as Markdown, and its tables as LaTeX."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined


class Link(NamedTuple):
    """Something to follow."""

    text: str
    """What stands there."""
    target: str
    """Its address, as seen from the document's folder."""


Cell = str | tuple[Link, ...]


@dataclass(frozen=True)
class Table:
    """Text or links in rows; the first column names them, the others hold numbers."""

    columns: Sequence[str]
    """Headings."""
    rows: Sequence[Sequence[Cell]]
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


_TEMPLATES = Environment(
    loader=PackageLoader("mtrl_ntk.experiment.reports", "."),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    keep_trailing_newline=True,
)


def to_html(document: Document, folder: Path) -> str:
    """One page that needs no other file: the pictures of the folder are inside."""

    def content(picture: Picture) -> str:
        return base64.b64encode((folder / f"{picture.name}.svg").read_bytes()).decode()

    return _TEMPLATES.get_template("page.html").render(vars(document), content=content)


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
    lines = [[_markdown(cell) for cell in row] for row in (table.columns, *table.rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], rule, *lines[1:]))


def _markdown(cell: Cell) -> str:
    if isinstance(cell, str):
        return cell.replace("|", "\\|")
    return ", ".join(f"[{_markdown(link.text)}]({link.target})" for link in cell)


def plain(cell: Cell) -> str:
    """A cell without its links."""
    return cell if isinstance(cell, str) else ", ".join(link.text for link in cell)


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
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "°": r"$^\circ$",
    "<": "$<$",
    ">": "$>$",
    "–": "--",
    "−": "$-$",
}


def _latex_row(cells: Sequence[Cell]) -> str:
    return " & ".join(_latex(plain(cell)) for cell in cells) + r" \\"


def _latex(text: str) -> str:
    return re.sub(".", lambda match: _LATEX.get(match[0], match[0]), text)
