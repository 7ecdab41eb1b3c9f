"""What these pages need beside Sphinx's own: links, prose in docstrings, and the help of the command line."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.nodes import make_id, make_refnode

DOCS = Path(__file__).resolve().parents[1]

# Files of the repository that are pages here.
PAGES = (
    {"README.md": "index.md", "CHANGELOG.md": "changelog.md"}
    | {
        f"benchmarks/{source}.md": f"{page}.md"
        for source, page in (("validity", "validity"), ("results", "measurements"), ("large", "measurements"))
    }
    | {f"notebooks/{one.name}": f"notebooks/{one.stem}.md" for one in (DOCS.parent / "notebooks").glob("*.ipynb")}
)

_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)")
_SECTION = re.compile(r"(?m)^(\w[\w ]*)\n-{3,}$")
_ALIAS = re.compile(r"TypeAliasForwardRef\('(\w+)'\)")
_OBJECT = re.compile(r"(?:ng\.|numbaglm\.)?([A-Za-z_][\w.]*)(?:\(.*\))?", re.DOTALL)


def relinked(text: str, folder: Path, up: str = "") -> str:
    """Markdown of a file in a folder of the repository, with links as they must be in a page of these.

    up
        Way from the page to the folder of all.
    """

    def link(found: re.Match[str]) -> str:
        target = (folder / found[1]).resolve()
        name = target.relative_to(DOCS.parent).as_posix()
        page = PAGES.get(name) or (name.removeprefix("docs/") if name.startswith("docs/") else f"../{name}")
        return f"{up}{page}"

    return _LINK.sub(link, text)


def on_source(app: Sphinx, name: str, content: list[str]) -> None:
    """Let links to files of the repository lead to their pages."""
    if "/" not in name:
        content[0] = relinked(content[0], DOCS)


def on_include(app: Sphinx, path: Path, parent: str, content: list[str]) -> None:
    """See `on_source`."""
    content[0] = relinked(content[0], (DOCS / path).parent)


def prose_of_returns(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Let what is returned, and what a property is, be prose: napoleon would take it for a type before a colon."""
    if what == "property":
        lines[:0] = ["..", ""]  # an empty comment
        return
    parts = _SECTION.split("\n".join(lines))
    for number in range(1, len(parts), 2):
        if parts[number] == "Returns":
            body = parts[number + 1].strip("\n").splitlines()
            field = "\n".join([f":Returns: {body[0]}", *(f"    {line}" if line else "" for line in body[1:])])
            parts[number : number + 2] = [f"\n{field}\n\n", ""]
            continue
        if parts[number] == "Attributes":  # of several names napoleon escapes the last alone
            parts[number + 1] = re.sub(
                r"(?m)^\w.*,.*$", lambda names: names[0].replace("_,", r"\_,"), parts[number + 1]
            )
        parts[number] = f"{parts[number]}\n{'-' * len(parts[number])}"
    lines[:] = "".join(parts).splitlines()


def whole_signatures(app: Sphinx) -> None:
    """Show the signature of `permutation_test` itself, not those that tell type checkers what it returns."""
    analyzer = ModuleAnalyzer.for_module("numbaglm.inference.permutation_test")
    analyzer.analyze()
    analyzer.overloads.clear()


def plain_aliases(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None] | None:
    """Write aliases by their names within unions too, where Sphinx 9.0 shows how it holds them."""
    return (_ALIAS.sub(r"\1", signature), returns) if signature else None


class LinkCode(SphinxPostTransform):
    """Link code in a text that names something public."""

    default_priority = 5

    def run(self, **kwargs: Any) -> None:
        """Look at every literal."""
        objects = self.env.domains.python_domain.objects
        for literal in list(self.document.findall(nodes.literal)):
            found = _OBJECT.fullmatch(literal.astext())
            linked = isinstance(literal.parent, nodes.reference | nodes.title)
            one = objects.get(f"numbaglm.{found[1]}") if found and not linked else None
            if one is not None:
                reference = make_refnode(
                    self.app.builder, self.env.docname, one.docname, one.node_id, [literal.deepcopy()]
                )
                literal.replace_self(reference)


class CommandHelp(Directive):
    """The help of every command, as it is printed: a section each."""

    def run(self) -> list[nodes.Node]:
        """Ask the commands themselves."""
        from numbaglm.faces.commands import commands

        sections: list[nodes.Node] = []
        root = click.Context(commands, info_name="numbaglm", terminal_width=88, **commands.context_settings)
        children = [click.Context(commands.command_named(name), root, name) for name in commands.commands]
        for context in (root, *children):
            title, text = context.command_path, context.get_help()
            section = nodes.section(ids=[make_id(self.state.document.settings.env, self.state.document, term=title)])
            section += nodes.title(title, title)
            section += nodes.literal_block(text, text, language="text", classes=["help"])
            sections.append(section)
        return sections


class Table(Directive):
    """A table that code holds: `contents` of a saved result, `methods`, or `conventions`."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Write it as Markdown, and let that be read."""
        head, *rows = {"contents": contents, "methods": methods, "conventions": conventions}[self.arguments[0]]()
        lines = [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]
        node = nodes.container()
        self.state.nested_parse(StringList(lines, self.arguments[0]), self.content_offset, node)
        return node.children


def contents() -> list[tuple[str, ...]]:
    """Files of a saved result, without those that come beside every p and those of other commands."""
    from numbaglm.faces.cli.demo import MARKER
    from numbaglm.results.vocabulary import CONTENTS, README

    beside = re.compile(r"log|source_|p_.*_(lower|upper|contrasts)\.nii\.gz$")
    elsewhere = [MARKER, "fit.json", "cohort.zarr", "truth.nii.gz", "sub-*.nii.gz", "dataset_description.json"]
    elsewhere += ["subjects.png", "z.png", "variance.nii.gz", README]
    kept = {name: text for name, text in CONTENTS.items() if name not in elsewhere and not beside.match(name)}
    return [("file", "what it holds"), *((f"`{name}`", text) for name, text in kept.items())]


def methods() -> list[tuple[str, ...]]:
    """Regression methods."""
    from numbaglm.stats.methods import METHODS

    return [("method", "model", "source"), *((f"`{m.name}`", f"`{m.model}`", m.reference) for m in METHODS.values())]


def conventions() -> list[tuple[str, ...]]:
    """Conventions, a row an option."""
    from numbaglm.stats.conventions import CONVENTIONS

    names = [one.name for one in fields(next(iter(CONVENTIONS.values()))) if one.name != "name"]
    rows = [
        (
            f"`{name}`",
            *(
                f"{getattr(one, name):.3g}" if isinstance(getattr(one, name), float) else f"{getattr(one, name)}"
                for one in CONVENTIONS.values()
            ),
        )
        for name in names
    ]
    return [("", *(f"`{name}`" for name in CONVENTIONS)), *rows]


def setup(app: Sphinx) -> dict[str, Any]:
    """Tell Sphinx of all this."""
    app.connect("source-read", on_source)
    app.connect("include-read", on_include)
    app.connect("autodoc-process-docstring", prose_of_returns, priority=400)
    app.connect("autodoc-process-signature", plain_aliases)
    app.connect("builder-inited", whole_signatures)
    app.add_post_transform(LinkCode)
    app.add_directive("command-help", CommandHelp)
    app.add_directive("table-of", Table)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
