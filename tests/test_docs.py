"""The pages of the documentation: their Python runs and prints what they say, commands parse, links lead somewhere."""

from __future__ import annotations

import inspect
import io
import re
import shlex
import shutil
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import numbaglm as ng
from numbaglm.faces import plotting
from numbaglm.faces.cli import commands

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
PLOTTING = ("numbaglm.faces.plotting", "numbaglm.faces.quality")
TEXTS = [*PAGES, ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "benchmarks").glob("*.md"))]
BLOCK = re.compile(r"(?:<!-- ([^\n]*) -->\n)?^```(python|bash|text)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(page):
    """(remark before it, language, code) of each block of code."""
    return BLOCK.findall(page.read_text())


def name_of(path):
    return path.relative_to(ROOT).as_posix()


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A folder with maps, a mask and a table of participants."""
    folder = tmp_path_factory.mktemp("study")
    simulated = ng.simulate_button_press(folder / "maps", n_subjects=16, voxel_size=10.0)
    shutil.move(simulated.mask, folder / "brain.nii.gz")
    people = {"participant_id": simulated.subjects, "age": np.arange(30, 46), "group": ["patient", "control"] * 8}
    pd.DataFrame(people).to_csv(folder / "participants.tsv", sep="\t", index=False)
    return folder


@pytest.mark.parametrize("page", [page for page in PAGES if "```python" in page.read_text()], ids=name_of)
def test_python_runs_and_prints_what_follows_it(page, study, tmp_path, monkeypatch):
    shutil.copytree(study, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    maps = sorted(str(path) for path in Path("maps").glob("sub-*"))
    people = pd.read_csv("participants.tsv", sep="\t")
    design = pd.get_dummies(people["group"], dtype=float).assign(age=people["age"] - people["age"].mean())
    names = {"maps": maps, "design": design}
    if page.stem == "cluster_computing":
        names["cohort"] = ng.Cohort.create("cohort.zarr", maps, covariates=people)
    found = blocks(page)
    for (remark, language, code), (_, following, text) in zip(found, [*found[1:], ("", "", "")], strict=True):
        if language != "python" or remark.startswith(("not run: ", "slurm")):
            continue
        printed = io.StringIO()
        with redirect_stdout(printed):
            exec(compile(code, f"{page.name}", "exec"), names)
        if following == "text":
            assert printed.getvalue() == text


@pytest.mark.parametrize("page", TEXTS, ids=name_of)
def test_commands_can_be_typed(page):
    lines = "\n".join(code for _, language, code in blocks(page) if language == "bash").replace("\\\n", "")
    for line in lines.splitlines():
        if line.startswith("numbaglm "):
            name, *arguments = shlex.split(line, comments=True)[1:]
            commands.commands[name].make_context(name, arguments, **commands.context_settings)


@pytest.mark.parametrize("page", TEXTS, ids=name_of)
def test_relative_links_resolve(page):
    links = re.findall(r"\]\((?![a-z]+:|#)([^)#\s]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_everything_public_is_in_the_reference():
    pages = "\n".join(page.read_text() for page in (ROOT / "docs" / "reference").glob("*.md"))
    there = set(re.findall(r"^\.\. auto(?:function|class):: (\w+)$", pages, re.MULTILINE))
    pictures = {name for name, one in inspect.getmembers(plotting, inspect.isfunction) if one.__module__ in PLOTTING}
    assert {*ng.__all__, *filter(lambda name: name[0] != "_", pictures)} - {"__version__"} <= there


def marked(remark):
    """Code of the block of the page on clusters that has this remark."""
    (code,) = [code for one, _, code in blocks(ROOT / "docs" / "cluster_computing.md") if one == remark]
    return code


def test_the_job_script_is_what_the_page_shows(tmp_path, monkeypatch):
    pytest.importorskip("dask_jobqueue", reason="dask-jobqueue is not installed: pip install dask-jobqueue")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "do-not-tell")
    names, printed = {}, io.StringIO()
    try:
        with redirect_stdout(printed):
            exec(marked("slurm example"), names)
    finally:
        if "cluster" in names:
            names["cluster"].close()
    script = printed.getvalue()
    # Where Python is and where the scheduler listens differs from one machine to the next.
    script = re.sub(r"\S*/python\S* -m", "python -m", script)
    script = re.sub(r"tcp://\S+", "tcp://SCHEDULER", script)
    assert script.strip() == marked("slurm script").strip()
    for part in ("distributed.cli.dask_worker", "--nthreads 8", "--mem=30G", "--memory-limit 29.80GiB", "-t 04:00:00"):
        assert part in script
    assert "do-not-tell" not in script
    assert not re.search(r"(?i)secret|password|token|access_key", script)
