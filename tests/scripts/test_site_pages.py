"""Pages of the site that are made of other files, and links between all of them."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("mkdocs", reason="the oldest versions are tried without the extra docs")

from scripts.site_pages import ROLE, ROOT, cell_text, relinked

URL = "https://example.org/owner/repository/"


@pytest.mark.parametrize(
    ("source", "page", "text", "wanted"),
    [
        ("README.md", "index.md", "[a](docs/api.md#use)", "[a](api.md#use)"),
        ("README.md", "index.md", "![a\nb](docs/figures/x.png)", "![a\nb](figures/x.png)"),
        ("README.md", "index.md", "[a](CHANGELOG.md)", "[a](changelog.md)"),
        ("docs/api.md", "api.md", "[a](../README.md#methods)", "[a](index.md#methods)"),
        ("docs/api.md", "api.md", "[a](methods.md)", "[a](methods.md)"),
        ("docs/a/b.md", "a/b.md", "[a](../api.md)", "[a](../api.md)"),
        ("docs/a/b.md", "a/b.md", "[a](../../CONTRIBUTING.md)", "[a](../contributing.md)"),
        ("README.md", "index.md", "[a](docs/first_agent.ipynb)", "[a](first_agent.md)"),
        ("README.md", "index.md", "[the licence](LICENSE)", "the licence"),
        ("README.md", "index.md", "[a](missing.md)", "[a](missing.md)"),
        ("docs/api.md", "api.md", "`METHODS[name](tasks, config)`", None),
        ("docs/api.md", "api.md", "[a](https://example.org/x.md) [b](#here)", None),
    ],
)
def test_links_lead_to_where_the_site_has_the_files(
    source: str, page: str, text: str, wanted: str | None
) -> None:
    assert relinked(text, source, page, None) == (text if wanted is None else wanted)


def test_other_files_are_links_once_the_repository_has_an_address() -> None:
    found = relinked("[a](../configs/smoke.yaml)", "docs/api.md", "api.md", URL)
    assert found == f"[a]({URL}blob/main/configs/smoke.yaml)"


def test_a_notebook_is_shown_with_what_it_printed_and_drew() -> None:
    cells = json.loads((ROOT / "docs" / "first_agent.ipynb").read_text("utf-8"))["cells"]
    texts = [cell_text(cell) for cell in cells]
    assert texts[0].startswith("# A first agent\n")
    assert any(text.startswith("```python\n") and "```text\n" in text for text in texts)
    assert sum("](data:image/png;base64," in text for text in texts) == 2


def test_no_notebook_shows_a_warning_or_a_path_of_a_machine() -> None:
    for notebook in (ROOT / "docs").glob("*.ipynb"):
        outputs = [
            output
            for cell in json.loads(notebook.read_text("utf-8"))["cells"]
            for output in cell.get("outputs", [])
        ]
        assert outputs
        assert {output.get("name", "stdout") for output in outputs} == {"stdout"}
        assert "site-packages" not in json.dumps(outputs)


def test_names_in_docstrings_are_shown_without_their_roles() -> None:
    html = "See :class:<code>~mtrl_ntk.Policy</code>, :meth:<code>predict</code>; a:<code>b</code>"
    plain = "See <code>mtrl_ntk.Policy</code>, <code>predict</code>; a:<code>b</code>"
    assert ROLE.sub("<code>", html) == plain
