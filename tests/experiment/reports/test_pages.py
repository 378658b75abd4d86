"""Documents as HTML, Markdown and LaTeX: nothing in them can break a page, or needs the network."""

from __future__ import annotations

import base64
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mtrl_ntk.experiment.reports.pages import (
    Document,
    Link,
    Picture,
    Section,
    Table,
    to_html,
    to_latex,
    to_markdown,
)

TABLE = Table(["method", "over <b>a|b</b>"], [["my_method & 5%", "0.91 ± 0.03"], ["b", "–"]])
LINKS = (Link("x | <y>", "../a%20b/c"), Link("z", "d"))
DRAWING = b"<svg> made up"


@pytest.fixture
def document(tmp_path: Path) -> Document:
    (tmp_path / "one.svg").write_bytes(DRAWING)
    sections = [
        Section("First", 'Note "of" <i>it</i>.', [Picture("one", 'A "curve"')], TABLE),
        Section("Second", table=Table(["of", "value"], [["a", LINKS]], is_numeric=False)),
    ]
    return Document("A & B", "What <it> is over.", ["Mind <this>."], sections)


class Reader(HTMLParser):
    """Collects tags and text, and checks that every tag is closed in its order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.text.append(data.strip())


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


def test_the_page_shows_every_text_as_it_is(document: Document, tmp_path: Path) -> None:
    reader = read(to_html(document, tmp_path))
    for text in ("A & B", "What <it> is over.", "Mind <this>.", 'Note "of" <i>it</i>.'):
        assert text in reader.text
    assert [cell for cell in reader.text if cell in {*TABLE.columns, *TABLE.rows[0]}] == [
        *TABLE.columns,
        *TABLE.rows[0],
    ]
    assert not {tag for tag, _ in reader.tags} & {"b", "i", "it", "this", "script", "link"}


def test_the_page_needs_no_other_file(document: Document, tmp_path: Path) -> None:
    page = to_html(document, tmp_path)
    (picture,) = [attributes for tag, attributes in read(page).tags if tag == "img"]
    source = picture["src"] or ""
    assert base64.b64decode(source.removeprefix("data:image/svg+xml;base64,")) == DRAWING
    assert picture["alt"] == 'A "curve"'
    assert "http" not in page
    assert "url(" not in page


def test_only_numbers_stand_at_the_right(document: Document, tmp_path: Path) -> None:
    tables = [a for tag, a in read(to_html(document, tmp_path)).tags if tag == "table"]
    assert tables == [{"class": "numbers"}, {}]
    markdown = to_markdown(document)
    assert "| --- | ---: |" in markdown
    assert "| --- | --- |" in markdown


def test_the_cells_of_a_markdown_table_stay_in_their_columns(document: Document) -> None:
    markdown = to_markdown(document)
    rows = [line.replace(r"\|", "") for line in markdown.splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} == {3}
    assert '![A "curve"](one.png)' in markdown
    assert "## First" in markdown.splitlines()


def test_latex_has_no_character_with_a_meaning_of_its_own() -> None:
    latex = to_latex(TABLE, "100 % of_it")
    assert r"my\_method \& 5\% & 0.91 $\pm$ 0.03 \\" in latex.splitlines()
    assert r"b & -- \\" in latex.splitlines()
    assert r"\caption{100 \% of\_it}" in latex.splitlines()
    assert r"\begin{tabular}{lr}" in latex.splitlines()
    arrows = to_latex(Table(["a ↑", "< 30° ↓"], []), "")
    assert r"a $\uparrow$ & $<$ 30$^\circ$ $\downarrow$ \\" in arrows.splitlines()
    assert latex.count(r"\begin{") == latex.count(r"\end{") == 2
    assert to_latex(Table([r"a\b~c^d"], []), "").splitlines()[5] == (
        r"a\textbackslash{}b\textasciitilde{}c\textasciicircum{}d \\"
    )


def test_links_can_be_followed(document: Document, tmp_path: Path) -> None:
    reader = read(to_html(document, tmp_path))
    followed = [values["href"] for tag, values in reader.tags if tag == "a"]
    assert followed[-2:] == ["../a%20b/c", "d"]
    assert "x | <y>" in reader.text
    assert r"| a | [x \| <y>](../a%20b/c), [z](d) |" in to_markdown(document)
    assert r"x | $<$y$>$, z \\" in to_latex(document.sections[1].tables[0], "")
