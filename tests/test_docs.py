"""The pages of the documentation: their Python runs and prints what they say, commands parse, links lead somewhere."""

from __future__ import annotations

import ast
import inspect
import io
import json
import re
import shlex
import shutil
from contextlib import redirect_stdout
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

import numbaglm as ng
from numbaglm import plotting
from numbaglm.faces.commands import commands
from numbaglm.results.reporting.words import methods_paragraph

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
GALLERY = ROOT / "docs" / "gallery.md"
PLOTTING = ("numbaglm.display.maps.brains", "numbaglm.display.carpet")
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
        if language != "python" or remark.startswith(("not run: ", "slurm", "pbs", "sge")):
            continue
        printed = io.StringIO()
        with redirect_stdout(printed):
            exec(compile(code, f"{page.name}", "exec"), names)
        if following == "text":
            assert printed.getvalue() == text


def rows(page):
    """Cells of each row of the first table of a page."""
    table = re.search(r"(?m)^\|[-| ]+\|\n((?:\|.*\n)+)", (ROOT / "docs" / page).read_text())
    return [[cell.strip() for cell in row.split("|")[1:-1]] for row in table[1].splitlines()]


@pytest.fixture(scope="module")
def people():
    """Sixteen maps: eight pairs, of twins or of visits."""
    pair = np.repeat(np.arange(8), 2)
    return pd.DataFrame(
        {
            "subject_label": [f"sub-{k:02d}" for k in range(1, 17)],
            "person": [f"P{k}" for k in pair],
            "visit": np.tile([1, 2], 8),
            "group": np.where(pair < 4, "control", "patient"),
            "arm": np.array(["a", "b", "c"])[pair % 3],
            "sex": np.array(["f", "m", "m", "f"])[np.arange(16) % 4],
            "site": np.where(np.arange(16) < 9, "Basel", "Lyon"),
            **dict(
                zip(("age", "score", "volume", "motion"), np.random.default_rng(0).normal(40, 9, (4, 16)), strict=True)
            ),
        }
    )


@pytest.mark.parametrize("row", rows("choosing.md"), ids=lambda row: row[0])
def test_what_to_choose_can_be_called(row, study, people, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    maps = sorted((study / "maps").glob("sub-*"))
    rng, images = np.random.default_rng(1), [nib.load(file) for file in maps]
    layers = {
        "grey_matter": [nib.Nifti1Image(rng.random(one.shape).astype("f4"), one.affine) for one in images],
        "variance": [nib.Nifti1Image(1 + np.abs(one.get_fdata()), one.affine) for one in images],
    }
    cohort = ng.Cohort.from_maps(maps, covariates=people, layers=layers)
    names = {name: cohort.covariates[name] for name in ("person", "site")}
    names["family"] = names["person"].map(lambda name: int(name[1:]) // 2)
    names["tree"] = np.column_stack([np.ones(16), np.repeat(np.arange(1, 9), 2), np.arange(1, 17)])
    design, contrast = (ast.literal_eval(cell.strip("`")) if cell else None for cell in row[1:3])
    asked = [eval(f"dict({code})", names) for code in re.findall(r"`(\w+=[^`]*)`", row[3])]
    options = {name: value for one in asked for name, value in one.items()}
    given = {"first": cohort, "second": cohort} if "combine" in options else cohort
    result = ng.permutation_test(given, design, contrast, n_perm=99, **options)
    shuffling = result.provenance["shuffling"]
    assert ("exchangeability blocks" in shuffling) == ("exchangeability_blocks" in options)
    assert ("sign flips" in shuffling) == (design is None or "covariance" in options)
    usual = "r" if "correlation" in options else "f" if isinstance(contrast, list) else "t"
    assert result.statistic == options.get("combine", usual)


def test_messages_that_puzzle_are_raised_somewhere():
    texts = [
        node.value
        for path in (ROOT / "numbaglm").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    messages = [row[0].strip("`") for row in rows("troubleshooting.md")]
    assert [one for one in messages if not any(one in text for text in texts)] == []


def test_the_paragraph_to_paste_is_that_of_the_report(study):
    maps = sorted(str(path) for path in (study / "maps").glob("sub-*"))
    result = ng.permutation_test(maps, smoothing_fwhm=12.0, n_perm=999, tfce=True)
    quoted = re.findall(r"(?m)^> (.*)$", (ROOT / "docs" / "reading_results.md").read_text())
    versionless = [re.sub(r"numbaglm \S+", "", text) for text in (" ".join(quoted), methods_paragraph(result)[0])]
    assert versionless[0] == versionless[1]


@pytest.mark.parametrize("page", TEXTS, ids=name_of)
def test_commands_can_be_typed(page):
    lines = "\n".join(code for _, language, code in blocks(page) if language == "bash").replace("\\\n", "")
    for line in lines.splitlines():
        if line.startswith("numbaglm "):
            name, *arguments = shlex.split(line, comments=True)[1:]
            commands.command_named(name).make_context(name, arguments, **commands.context_settings)


@pytest.mark.parametrize("page", TEXTS, ids=name_of)
def test_relative_links_resolve(page):
    links = re.findall(r"\]\((?![a-z]+:|#)([^)#\s]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", TEXTS, ids=name_of)
def test_files_that_are_named_are_there(page):
    named = re.findall(r"`((?:numbaglm|tests|benchmarks|notebooks|packaging|\.ci)/[^` *]+)`", page.read_text())
    assert [one for one in named if not (ROOT / one).exists()] == []


def test_rooms_that_are_named_are_there():
    page = ROOT / "docs" / "how_it_works.md"
    rooms = [ROOT / "numbaglm" / one for one in re.findall(r"`((?!tests)[a-z_]+/[a-z_]+)`", page.read_text())]
    assert rooms
    assert [one for one in rooms if not (one.is_dir() or one.with_suffix(".py").exists())] == []


def test_everything_public_is_in_the_reference():
    pages = "\n".join(page.read_text() for page in (ROOT / "docs" / "reference").glob("*.md"))
    there = set(re.findall(r"^\.\. auto(?:function|class):: (\w+)$", pages, re.MULTILINE))
    pictures = {name for name, one in inspect.getmembers(plotting, inspect.isfunction) if one.__module__ in PLOTTING}
    assert {*ng.__all__, *filter(lambda name: name[0] != "_", pictures)} - {"__version__"} <= there


def test_the_gallery_has_a_picture_of_every_function_that_draws():
    drawn = re.findall(r"(?m)^`{4}\{picture\} [\w-]+\n(?::alt: [^\n]+\n)?(.*?)^`{4}$", GALLERY.read_text(), re.DOTALL)
    code = "\n".join(drawn)
    assert [name for name in plotting.__all__ if f"plotting.{name}(" not in code] == []
    assert len(drawn) == GALLERY.read_text().count("{picture}")
    assert max(map(len, code.splitlines())) <= 100, "a line that is wrapped beside both bars"


def test_every_notebook_is_a_page_that_the_menu_and_the_start_lead_to():
    menu, start = ((ROOT / "docs" / name).read_text() for name in ("index.md", "start.md"))
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        title = json.loads(notebook.read_text())["cells"][0]["source"][0].strip()
        assert (ROOT / "docs" / "notebooks" / f"{notebook.stem}.md").read_text().strip() == title
        assert f"notebooks/{notebook.stem}\n" in menu
        assert f"notebooks/{notebook.stem}.ipynb" in start


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


@pytest.mark.parametrize(
    ("remark", "parts"),
    [
        ("pbs example", ("-q normal", "-A project", "-l select=1:ncpus=8:mem=32GB", "-l walltime=04:00:00")),
        ("sge example", ("-q all.q", "-P project", "-l h_vmem=4G", "-l h_rt=04:00:00", "-pe smp 8")),
    ],
)
def test_jobs_of_other_systems_ask_for_what_the_page_says(tmp_path, monkeypatch, remark, parts):
    pytest.importorskip("dask_jobqueue", reason="dask-jobqueue is not installed: pip install dask-jobqueue")
    monkeypatch.chdir(tmp_path)
    names = {}
    here = 'log_directory="logs", scheduler_options={"dashboard_address": "127.0.0.1:0", "host": "127.0.0.1"},'
    try:
        exec(marked(remark).replace('log_directory="logs",', here), names)
        script = names["cluster"].job_script()
    finally:
        if "cluster" in names:
            names["cluster"].close()
    for part in (*parts, "--nthreads 8", "--memory-limit 29.80GiB"):
        assert part in script
