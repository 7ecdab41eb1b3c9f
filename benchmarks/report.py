"""Measure this machine, side by side with other packages: `python benchmarks/report.py`.

A whole run of full size writes benchmarks/results.md, results.png and scaling.png, and the table of the README.
Anything less prints what it measures, and writes the first three only where --out says; with --update sections of
full size take the place of theirs in benchmarks/results.md.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import figures
import mrtrix
from cases import SIZES
from measure import Section, figure, load, machine, markdown_table, times, versions
from numbaglm.datasets.simulated import brain_geometry
from sections import SECTIONS

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
BEGIN, END = "<!-- speed table -->", "<!-- end of the speed table -->"
COMMAND = "python benchmarks/report.py"
# What stands beside ours in the README, by section.
PEERS = {
    "kernel": "sgemm alone",
    "nilearn": "nilearn",
    "mrtrix": "MRtrix3",
    "tfce": "`tfce`, in C",
    "surface": "`tfce`, in C",
    "memory": "nilearn",
    "conversion": "gzip.decompress",
}


def measure(size: str, wanted: list[str]) -> dict[str, Section]:
    """Run sections one after another, and print each as it comes."""
    measured = {}
    for key in wanted:
        begun = time.perf_counter()
        section = SECTIONS[key](SIZES[size])
        measured[key] = section if size == "full" else section.without_budgets()
        print(f"{measured[key].markdown()}\n\n({time.perf_counter() - begun:.0f} s)\n", flush=True)
    return measured


def setting() -> str:
    """Machine and versions."""
    found = mrtrix.version()
    return f"{machine()}; {versions(*([f'MRtrix3 {found}'] if found else []))}"


def results(sections: Mapping[str, Section], size: str, before: str, drawn: Sequence[str]) -> str:
    """All sections as Markdown."""
    command = COMMAND if size == "full" else f"{COMMAND} --size {size}"
    head = (
        f"# Results\n\nWritten by `{command}`. {setting()}; {before} when it began. Medians of rounds in which both "
        "sides take turns."
    )
    pictures = [f"![{name}]({name})" for name in drawn]
    return "\n\n".join([head, *(section.markdown() for section in sections.values()), *pictures]) + "\n"


def updated(text: str, sections: Mapping[str, Section], before: str) -> str:
    """Text of results.md with some sections measured anew, each where it was, or before the pictures."""
    parts = re.split(r"(?m)^(?=## |!\[)", text)
    for key, section in sections.items():
        told = f"{section.note} Measured by `{COMMAND} --only {key} --update`: {setting()}; {before} when it began."
        new = f"{replace(section, note=told).markdown()}\n\n"
        named = [i for i, part in enumerate(parts) if part.startswith(f"## {section.title}\n")]
        last = next((i for i, part in enumerate(parts) if part.startswith("![")), len(parts))
        parts[named[0] if named else last : (named[0] + 1) if named else last] = [new]
    return "".join(parts).rstrip("\n") + "\n"


def speed_table(sections: Mapping[str, Section], n_voxels: int) -> str:
    """The README's table, between its markers."""
    lines = []
    for key, section in sections.items():
        for row in section.rows:
            if row.headline is not None:
                peer = PEERS.get(key) if row.other is not None else None
                beside = f"{figure(row.other, row.unit)} ({peer})" if peer else ""
                lines.append([row.headline, figure(row.ours, row.unit), beside, times(row.ratio) if peer else ""])
    table = markdown_table(["", "numbaglm", "beside it", "ratio"], lines)
    told = f"Measured by `{COMMAND}` on maps of {n_voxels:,} voxels. {setting()}."
    picture = "![A shuffling of numbaglm, nilearn and MRtrix3, and TFCE of a map](benchmarks/results.png)"
    return f"{BEGIN}\n{table}\n\n{picture}\n\n{told}\n{END}"


def into_readme(text: str, table: str) -> str:
    """Text of a README with the table in its place."""
    before, found, rest = text.partition(BEGIN)
    if not found:
        raise ValueError(f"README.md has no line {BEGIN}, after which the table goes.")
    _, ended, after = rest.partition(END)
    return before + table + (after if ended else rest)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=list(SIZES), default="full")
    parser.add_argument(
        "--only",
        type=lambda text: text.split(","),
        default=list(SECTIONS),
        metavar="SECTION,...",
        help=f"sections to run: {', '.join(SECTIONS)}",
    )
    parser.add_argument("--out", type=Path, help="folder for results.md, results.png and scaling.png")
    parser.add_argument("--update", action="store_true", help="put what is measured into benchmarks/results.md")
    asked = parser.parse_args()
    if asked.update and asked.size != "full":
        parser.error("--update takes measurements of full size")
    if unknown := set(asked.only) - set(SECTIONS):
        parser.error(f"no section {', '.join(sorted(unknown))}: there are {', '.join(SECTIONS)}")
    before = load()
    sections = measure(asked.size, asked.only)
    complete = asked.size == "full" and set(asked.only) == set(SECTIONS)
    folder = asked.out or (HERE if complete else None)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        draw = {"results.png": figures.beside, "scaling.png": figures.growth}
        drawn = [name for name, one in draw.items() if one(sections, folder / name)]
        (folder / "results.md").write_text(results(sections, asked.size, before, drawn))
    elif asked.update:
        file = HERE / "results.md"
        file.write_text(updated(file.read_text(), sections, before))
    if complete:
        table = speed_table(sections, brain_geometry(SIZES["full"].voxel_size).n_voxels)
        README.write_text(into_readme(README.read_text(), table))


if __name__ == "__main__":
    main()
