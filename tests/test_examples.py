"""Every example in a docstring runs as it stands, and everything public has one."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil

import pytest

import numbaglm
from numbaglm import plotting

# Examples that need a network are shown, not run.
NOT_RUN = {"numbaglm.datasets.localizer.fetch_localizer"}


def public():
    """Functions, classes and methods by their names, as the reference lists them."""
    for name in set(numbaglm.__all__) - {"__version__"}:
        one = getattr(numbaglm, name)
        yield name, one
        if inspect.isclass(one):
            methods = inspect.getmembers(one, callable)
            yield from ((f"{name}.{method}", found) for method, found in methods if not method.startswith("_"))
    for name, one in inspect.getmembers(plotting, inspect.isfunction):
        if name in plotting.__all__:
            yield f"plotting.{name}", one


def examples():
    """All docstrings with examples, of all modules, each with an empty namespace."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    for found in pkgutil.walk_packages(numbaglm.__path__, "numbaglm."):
        if not found.name.endswith("__main__"):
            yield from finder.find(importlib.import_module(found.name), found.name, globs={})


EXAMPLES = {one.name: one for one in examples() if one.examples}


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_example(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report = []
    doctest.DocTestRunner(verbose=False).run(EXAMPLES[name], out=report.append)
    assert not report, "".join(report)
    assert any(doctest.SKIP in one.options for one in EXAMPLES[name].examples) is (name in NOT_RUN)


@pytest.mark.parametrize(("name", "one"), [pytest.param(*found, id=found[0]) for found in sorted(public())])
def test_everything_public_has_an_example(name, one):
    text = inspect.getdoc(one) or ""
    assert "\nExamples\n--------\n>>> " in text
    one = inspect.unwrap(getattr(one, "__func__", one))
    assert f"{one.__module__}.{one.__qualname__}" in EXAMPLES
