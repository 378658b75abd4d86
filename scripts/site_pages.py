"""What the documentation site has besides the pages in `docs`: a hook of MkDocs, see `mkdocs.yml`.

Files of the repository's root and notebooks become pages, so that nothing is written twice. Links
between them and the pages are brought in line; those to other files of the repository lead to
`repo_url`, where `mkdocs.yml` names one, and are plain text where it does not.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
ROOT_PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
}
"""Files of the repository's root, and the pages made of them."""
LINK = re.compile(r"(!?\[[^\]\n]*(?:\n[^\]\n]*)?\])\(([^)#\s:]+)((?:#[^)\s]*)?)\)")
"""A link to a file: its text, the path, and the place in it."""
ROLE = re.compile(r":(?:attr|class|data|func|meth|mod):<code>~?")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are made of other files."""
    for path, page in ROOT_PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / path).read_text("utf-8")))
    for notebook in [file for file in files if file.src_uri.endswith(".ipynb")]:
        page = notebook.src_uri.removesuffix("ipynb") + "md"
        cells = json.loads(notebook.content_string)["cells"]
        files.append(File.generated(config, page, content="\n\n".join(map(cell_text, cells))))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Brings the links of a page in line with where the site has the files."""
    uri = page.file.src_uri
    sources = {site: path for path, site in ROOT_PAGES.items()}
    text = relinked(markdown, sources.get(uri, f"docs/{uri}"), uri, config.repo_url)
    notebook = Path(uri).with_suffix(".ipynb")
    if files.get_file_from_path(notebook.as_posix()) is None:
        return text
    return f"{text}\n\n[This page as a notebook]({notebook.name})\n"


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Shows names in docstrings, which have roles of Sphinx, as names."""
    del page, config, files
    return ROLE.sub("<code>", html)


def relinked(markdown: str, source: str, page: str, repo_url: str | None) -> str:
    """A page's text with its links as the site needs them.

    Args:
        markdown: The text.
        source: Where the text stands in the repository.
        page: Where the page stands in the site.
        repo_url: Where the repository can be read.
    """

    def link(match: re.Match[str]) -> str:
        text, path, place = match.groups()
        target = os.path.normpath(Path(source).parent / path)
        if target in ROOT_PAGES or target.startswith("docs/"):
            to = ROOT_PAGES.get(target, target.removeprefix("docs/")).replace(".ipynb", ".md")
            return f"{text}({os.path.relpath(to, Path(page).parent)}{place})"
        if not (ROOT / target).exists():
            return match[0]  # code that looks like a link; MkDocs refuses what is one
        return f"{text}({repo_url.rstrip('/')}/blob/main/{target})" if repo_url else text[1:-1]

    return LINK.sub(link, markdown)


def cell_text(cell: Mapping[str, Any]) -> str:
    """A cell of a notebook as Markdown, with what it printed and drew."""
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return source
    return "\n\n".join([f"```python\n{source}\n```", *map(_output_text, cell["outputs"])])


def _output_text(output: Mapping[str, Any]) -> str:
    data = output.get("data", {})
    if "image/png" in data:
        return f"![What the cell drew](data:image/png;base64,{''.join(data['image/png']).strip()})"
    return f"```text\n{''.join(output.get('text', data.get('text/plain', ''))).rstrip()}\n```"
