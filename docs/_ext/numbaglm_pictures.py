"""Pictures that pages make when they are built, and notebooks as pages, with what they print and draw."""

from __future__ import annotations

import base64
import contextlib
import html
import logging
import shutil
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from docutils import nodes
from docutils.parsers.rst import Directive, directives
from nbclient import NotebookClient
from numbaglm_pages import relinked
from sphinx.application import Sphinx

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
MADE = "made"  # a folder of the built pages, for what is made here
_SECONDS = 300  # of a cell

_pages: dict[str, tuple[dict[str, Any], tempfile.TemporaryDirectory[str]]] = {}  # names and folder of each


def place(app: Sphinx, page: str) -> tuple[Path, str]:
    """Folder for what is made, and the way to it from a page."""
    folder = Path(app.outdir) / MADE
    folder.mkdir(parents=True, exist_ok=True)
    return folder, "../" * page.count("/") + MADE


class Picture(Directive):
    """Code that is shown, run, and followed by the ``figure`` that it draws, if it does.

    The blocks of a page share their names, and a folder that is gone once all is built; its .html files are kept.
    """

    has_content = True
    required_arguments = 1
    option_spec = {"alt": directives.unchanged_required}  # noqa: RUF012

    def run(self) -> list[nodes.Node]:
        """Run the code, and save what it draws."""
        env = self.state.document.settings.env
        name, code = self.arguments[0], "\n".join(self.content)
        names, scratch = _pages.setdefault(env.docname, ({}, tempfile.TemporaryDirectory()))
        folder, way = place(env.app, env.docname)
        with contextlib.chdir(scratch.name):
            exec(compile(code, f"{env.docname}, {name}", "exec"), names)
        for file in Path(scratch.name).glob("*.html"):
            shutil.copy(file, folder)
        block = nodes.literal_block(code, code, language="python")
        figure = names.pop("figure", None)
        if figure is None:
            return [block]
        figure.savefig(folder / f"{name}.png", dpi=110)
        alt = html.escape(self.options["alt"], quote=True)
        shown = f'<img class="made" src="{way}/{name}.png" alt="{alt}" loading="lazy">'
        return [block, nodes.raw("", shown, format="html")]


def forget(app: Sphinx, env: Any, page: str) -> None:
    """Let a page that is read anew begin anew."""
    if page in _pages:
        _pages.pop(page)[1].cleanup()


def on_finished(app: Sphinx, error: Exception | None) -> None:
    """Leave nothing behind."""
    for page in list(_pages):
        forget(app, None, page)


def on_source(app: Sphinx, page: str, content: list[str]) -> None:
    """Put a notebook in the place of its page, which is a heading alone."""
    if page.startswith("notebooks/") and page != "notebooks/index":
        file = NOTEBOOKS / f"{Path(page).name}.ipynb"
        app.env.note_dependency(file, docname=page)
        content[0] = as_markdown(file, *place(app, page))


def as_markdown(file: Path, folder: Path, way: str) -> str:
    """Run a notebook, and write it with its outputs as a page.

    Raises
    ------
    CellExecutionError
    """
    notebook = nbformat.read(file, as_version=4)
    with tempfile.TemporaryDirectory() as scratch:
        quiet = ["--log-level=ERROR"]
        there = {"metadata": {"path": scratch}}
        NotebookClient(notebook, timeout=_SECONDS, resources=there, extra_arguments=quiet).execute()
    parts, n_pictures = [], 0
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(relinked(cell.source, file.parent, "../"))
            continue
        parts.append(f"``````python\n{cell.source}\n``````")
        for output in cell.outputs:
            data = {"text/plain": output.text} if output.output_type == "stream" else output.get("data", {})
            if output.get("name") == "stderr":
                continue
            if "image/png" in data:
                n_pictures += 1
                name = f"{file.stem}-{n_pictures}.png"
                (folder / name).write_bytes(base64.b64decode(data["image/png"]))
                data = {"text/html": f'<img class="made" src="{way}/{name}" alt="What the code above draws.">'}
            language, text = ("{raw} html", "text/html") if "text/html" in data else ("text", "text/plain")
            if text in data:
                shown = data[text] if language == "text" else f'<div class="output">{data[text]}</div>'
                parts.append(f"``````{language}\n{shown.rstrip()}\n``````")
    head, _, rest = "\n\n".join(parts).partition("\n")
    link = f"{{download}}`The notebook, to run it yourself <../../notebooks/{file.name}>`"
    return f"{head}\n\n{link}\n\n{rest}"


def setup(app: Sphinx) -> dict[str, Any]:
    """Tell Sphinx of all this."""
    for name in ("numbaglm", "traitlets"):  # plans of tests, and which notebook runs
        logging.getLogger(name).setLevel(logging.WARNING)
    app.connect("source-read", on_source)
    app.connect("env-purge-doc", forget)
    app.connect("build-finished", on_finished)
    app.add_directive("picture", Picture)
    return {"parallel_read_safe": False, "parallel_write_safe": True}
