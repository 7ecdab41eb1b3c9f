"""What package indexes are given."""

from __future__ import annotations

import re
import runpy
import tomllib
from pathlib import Path

import yaml

import numbaglm

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
described = runpy.run_path(str(ROOT / "setup.py"))["described"]


def test_links_that_lead_nowhere_from_there_are_words():
    text = "a [page](docs/a.md#b), [a paper](https://doi.org/1)\n\n![A picture](docs/a.png)\n\n<!-- c -->\nb\n"
    assert described(text) == "a page, [a paper](https://doi.org/1)\n\nb\n"
    shown = described(README)
    assert "](" in README
    assert [to for to in re.findall(r"\]\(([^)]*)\)", shown) if not to.startswith("https://")] == []
    assert "<" not in re.sub(r"```.*?```|`[^`]*`", "", shown, flags=re.DOTALL)
    assert re.findall(r"(?m)^#+ .*", shown) == re.findall(r"(?m)^#+ .*", README)
    assert shown.count("|") == README.count("|")


def test_all_that_names_the_version_has_the_same():
    top = re.search(r"(?m)^## (\S+) \((?:unreleased|\d{4}-\d\d-\d\d)\)$", (ROOT / "CHANGELOG.md").read_text("utf-8"))
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert top[1] == cited["version"] == numbaglm.__version__


def test_what_builds_the_package_from_a_folder_takes_all_that_it_needs():
    for file in (".ci/run", "packaging/Containerfile", "packaging/numbaglm.def"):
        text = (ROOT / file).read_text("utf-8")
        for needed in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
            assert needed in text, file
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert set(project["dynamic"]) == {"version", "readme"}


def test_containers_take_the_same_steps_which_are_those_of_the_readme():
    """One copies what the other does, and what CI installs; both install it by pip, and run the command."""
    docker, apptainer, ci = (
        (ROOT / file).read_text("utf-8") for file in ("packaging/Containerfile", "packaging/numbaglm.def", ".ci/run")
    )
    copied = {name for line in re.findall(r"(?m)^COPY (.*) \S+$", docker) for name in line.split()}
    sections = dict(re.findall(r"(?ms)^%(\w+)\n(.*?)(?=^%|\Z)", apptainer))
    assert copied == {line.split()[0] for line in sections["files"].splitlines() if line.strip()}
    assert copied == set(re.search(r"cp -r (.*?) \"", ci)[1].split())
    (steps,) = re.findall(r"(?m)^RUN (.*)$", docker)
    assert steps.split(" && ") == [line.strip() for line in sections["post"].splitlines() if line.strip()]
    assert re.search(r"(?m)^FROM (\S+)$", docker)[1] == re.search(r"(?m)^From: (\S+)$", apptainer)[1]
    (first, _, last) = re.search(r"```bash\n(.*numbaglm demo)\n```", README)[1].split(" && ")
    assert first.startswith("python3 -m venv")  # a container is one itself
    assert re.search(r"python3 -m pip .*install .*-e \.", README)
    assert steps.startswith("python3 -m pip install ")
    assert last.split()[0].endswith("/numbaglm")
    assert 'ENTRYPOINT ["numbaglm"]' in docker
    assert sections["runscript"].split() == ["exec", "numbaglm", '"$@"']


def test_where_the_project_is_hosted_stands_in_one_place():
    """In pyproject.toml; the citation repeats it, all else reads it, and no page or template names a host by itself."""
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"].get("urls", {})
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert cited.get("repository-code") == urls.get("Source")
    assert "url" not in cited
    hosts = re.compile(r"https?://[^\s)\"'>]*(?:git(?:hub|lab)|bitbucket|codeberg|readthedocs|pypi)[^\s)\"'>]*numbaglm")
    for file in (
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / ".github").rglob("*.*"),
        *(ROOT / "packaging").rglob("*.*"),
        *(ROOT / "numbaglm").rglob("*.py"),
        *(ROOT / "numbaglm" / "display" / "templates").iterdir(),
        *(ROOT / name for name in ("README.md", "CHANGELOG.md", "setup.py")),
    ):
        if file.is_file() and file.suffix != ".png":
            assert hosts.findall(file.read_text("utf-8")) == [], file
