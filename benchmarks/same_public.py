"""What of a checkout its users may have written: names, parameters, and options of commands, as trees of leaves.

A leaf is named by its path; one that a release lacks is a name, parameter or option that was lost. `python
benchmarks/same_public.py CHECKOUT` prints the trees, with that checkout on PYTHONPATH.
"""

from __future__ import annotations

import importlib
import inspect
import json
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any

import click

OWN = ("numbaglm", "numbaglm.errors")
"""Modules all of whose public names are there for everybody."""

DOCUMENTED = {
    "numbaglm.data.geometry": ("Geometry",),
    "numbaglm.datasets": (
        "LocalizerCohort",
        "SimulatedCohort",
        "SimulatedStudy",
        "brain_geometry",
        "fetch_localizer",
        "simulate_button_press",
        "simulate_maps",
        "simulate_study",
    ),
    "numbaglm.engine.plan": ("Plan",),
    "numbaglm.faces.html_report": ("HTMLReport",),
    "numbaglm.faces.plotting": (
        "carpet",
        "design_matrix",
        "glass_brain",
        "logp_panel",
        "null_histograms",
        "quality",
        "slices",
        "subject_grid",
    ),
    "numbaglm.faces.report": ("write_report",),
    "numbaglm.stats.conventions": ("CONVENTIONS", "Conventions"),
    "numbaglm.stats.effects": ("cohens_d", "confidence_interval", "hedges_g", "partial_r2", "swing"),
    "numbaglm.stats.formula": ("design_from_formula",),
    "numbaglm.stats.methods": ("METHODS", "Method"),
}
"""Further names that the reference of release 0.1 gives, by their modules."""


def names() -> dict[str, Any]:
    """Every public name of the package that is imported."""
    found: dict[str, Any] = {}
    for path in (*OWN, *DOCUMENTED):
        try:
            module = importlib.import_module(path)
        except ModuleNotFoundError:
            continue
        for name in DOCUMENTED.get(path) or getattr(module, "__all__", None) or _own(module):
            if hasattr(module, name):
                found[f"{path}.{name}"] = _told(getattr(module, name))
    return found


def commands(folder: str | Path) -> dict[str, Any]:
    """Every command of the checkout's program, with its options; those that are hidden are not there for anybody."""
    scripts = tomllib.loads((Path(folder) / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    group = importlib.import_module(scripts["numbaglm"].partition(":")[0]).commands
    return _command(group, click.Context(group, info_name="numbaglm"))


def _own(module: Any) -> list[str]:
    """Public names that a module makes."""
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", "") == module.__name__
    ]


def _told(value: Any) -> Any:
    if inspect.isclass(value):
        return _class(value)
    if callable(value):
        return _parameters(value)
    if isinstance(value, dict):
        return {str(key): "there" for key in value}
    return "there"


def _class(kind: type) -> dict[str, Any]:
    """How it is made, and its public members."""
    told: dict[str, Any] = {}
    if issubclass(kind, BaseException):  # what it is caught as
        told["is a"] = {base.__name__: "there" for base in kind.__mro__[1:-1]}
        return told
    told["made"] = _parameters(kind)
    for name in dir(kind):
        if name.startswith("_"):
            continue
        member = inspect.getattr_static(kind, name)
        if isinstance(member, classmethod | staticmethod) or inspect.isfunction(member):
            told[name] = _parameters(getattr(kind, name))
        else:
            told[name] = "there"
    if is_dataclass(kind):
        told |= {field.name: "there" for field in fields(kind) if not field.name.startswith("_")}
    return told


def _parameters(function: Callable[..., Any]) -> dict[str, Any]:
    """Each parameter's place and default, and which must be given."""
    try:
        listed = [one for one in inspect.signature(function).parameters.values() if one.name != "self"]
    except ValueError:
        return {}
    told: dict[str, Any] = {}
    for place, one in enumerate(listed):
        by_place = one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)
        told[one.name] = {
            "place": str(place) if by_place else str(one.kind.description),
            "default": "none" if one.default is one.empty else _default(one.default),
        }
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [one.name for one in listed if one.default is one.empty and one.kind not in several]
    return {"parameters": told, "needed": ", ".join(needed)}


def _default(value: Any) -> str:
    """A default without where in memory it is, as it is where it is made anew for each object."""
    return "made anew" if value is MISSING or " at 0x" in repr(value) or "factory" in repr(value) else repr(value)


def _command(command: click.Command, context: click.Context) -> dict[str, Any]:
    told = {"options": dict(_options(command))}
    needed = [one.name or "" for one in command.params if one.required]
    told["needed"] = {"": ", ".join(sorted(needed))}
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.resolve_command(context, [name])[1]  # loads what stands for it in the program's help
            if inner is not None and not inner.hidden:
                told[name] = _command(inner, click.Context(inner, parent=context, info_name=name))
    return told


def _options(command: click.Command) -> Iterator[tuple[str, Any]]:
    """Every name of every option, and arguments in their order."""
    place = 0
    for one in command.params:
        if getattr(one, "hidden", False):
            continue
        named = list(one.opts) + list(one.secondary_opts)
        if isinstance(one, click.Argument):
            named, place = [f"argument {place}"], place + 1
        kind = one.type.to_info_dict()
        told = {
            "values": "flag" if getattr(one, "is_flag", False) else str(one.nargs),
            "repeated": str(one.multiple) if isinstance(one, click.Option) else "",
            # Versions of click say differently that there is none.
            "default": str(one.default)
            if isinstance(one.default, str | int | float) and one.default is not False
            else "none",
            "type": {key: str(kind[key]) for key in ("name", "min", "max") if key in kind},
            "choices": {str(choice): "there" for choice in kind.get("choices", ())},
        }
        for name in named:
            yield name, told


def main(folder: str) -> None:
    """Print both trees, a name or command a line."""
    trees = {"names": names(), "commands": commands(folder)}
    parts = (
        f'"{tree}": {{\n'
        + ",\n".join(f"{json.dumps(name)}: {json.dumps(told)}" for name, told in found.items())
        + "\n}"
        for tree, found in trees.items()
    )
    print("{" + ",\n".join(parts) + "}")


if __name__ == "__main__":
    main(sys.argv[1])
