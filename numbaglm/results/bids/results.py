"""Results under the names of BIDS: a derivatives dataset with sidecars, made of what the results write themselves."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from numbaglm.data.images import save_maps
from numbaglm.errors import InputError, invalid
from numbaglm.results.bids.names import INHERITED, LABEL, SHORT, labels_of, stem_of
from numbaglm.results.record import MARKER as RESULT
from numbaglm.results.record import Record
from numbaglm.results.saved import CLUSTERS, PROVENANCE, QUALITY, SPACE, SPACE_ARRAYS
from numbaglm.results.vocabulary import COLUMNS, CONTENTS, NULLS, README, map_of, meaning_of, parse_file
from numbaglm.spaces.space import Space
from numbaglm.version import __version__

SEVERAL = "contrasts.json"
"""The file by which a folder of several results is known: what was found, by contrast."""

MARKER = f"numbaglm/{SEVERAL}"
"""The file by which a dataset is known as ours: label -> name of each contrast."""

FIT = "fit.json"
"""The file by which the folder of a fit is known: what was found."""

BIDS_VERSION = "1.10.0"
GROUP = "group"
_KEPT = (RESULT, PROVENANCE, CLUSTERS, QUALITY, FIT, SPACE, SPACE_ARRAYS)
# What BIDS has no names for yet: its validator is told to pass it by.
_IGNORED = (GROUP, "numbaglm", "figures", "*.html")

_CORRECTIONS = {"fwe": "family-wise error", "fdr": "false discovery rate", "bonferroni": "Bonferroni"}
_FACTS_OF_FIT = {
    "Contrast": "contrast",
    "Statistic": "statistic",
    "DegreesOfFreedom": "dof",
    "NumberOfSubjects": "n_subjects",
    "NumberOfVoxels": "n_voxels",
    "SmoothingFWHM": "smoothing_fwhm",
    "CohortFingerprint": "cohort_fingerprint",
    "SoftwareVersions": "versions",
}


@dataclass(frozen=True)
class Folder:
    """Where one contrast is written, and what all its sidecars say.

    Attributes
    ----------
    dataset
        Folder of the dataset.
    label
        Of the contrast.
    entities
        What the maps that went in share.
    facts
        What every sidecar holds.
    """

    dataset: Path
    label: str
    entities: Mapping[str, str]
    facts: Mapping[str, Any]

    @property
    def group(self) -> Path:
        """Where the files are."""
        return self.dataset / GROUP

    @property
    def kept(self) -> Path:
        """Where the files are that BIDS has no names for."""
        return self.dataset / "numbaglm" / f"contrast-{self.label}"

    def name(self, suffix: str, **entities: str) -> str:
        """Name of a file, without its extension."""
        return f"{stem_of(self.entities, contrast=self.label, **entities)}_{suffix}"

    def adopt(self, native: Path) -> None:
        """Move what a result or a fit wrote by names of its own to names of BIDS, each image with a sidecar.

        The folder ``native`` goes, and what is of no use here.
        """
        self.kept.mkdir(parents=True)
        for path in sorted(native.iterdir()):
            found = parse_file(path.name)
            if found is None:
                if path.name in _KEPT:
                    path.rename(self.kept / path.name)
                continue
            name, hemisphere, ending = found
            here = self if not hemisphere else replace(self, entities={**self.entities, "hemi": hemisphere})
            if name == "mask":
                told = {"Description": CONTENTS["mask.nii.gz"], "Type": "Brain"}
                here._move(path, here.name("mask"), ending, told)
            else:
                one = map_of(name)
                own = here.name(one.suffix, stat=one.stat, desc=one.desc)
                here._move(path, own, ending, {"Description": one.sentence, **_of_map(name), **self.facts})
        design = pd.read_csv(native / "design.tsv", sep="\t", dtype=str, keep_default_na=False)
        design = design.rename(columns={design.columns[0]: "participant_id"})
        told = {str(name): "regressor" for name in design.columns} | {"participant_id": "label of the subject"}
        self.table(design, "design", told)
        shutil.rmtree(native)

    def _move(self, path: Path, name: str, ending: str, told: Mapping[str, Any]) -> None:
        path.rename(self.group / f"{name}.{ending}")
        write_json(self.group / f"{name}.json", told)

    def table(self, frame: pd.DataFrame, suffix: str, columns: Mapping[str, str]) -> None:
        """Write a table and its data dictionary."""
        name = self.name(suffix)
        frame.to_csv(self.group / f"{name}.tsv", sep="\t", index=False, na_rep="n/a")
        told = {name: {"Description": columns[name]} for name in map(str, frame) if name in columns}
        write_json(self.group / f"{name}.json", told)


def check_entities(entities: Mapping[str, str]) -> dict[str, str]:
    """Entities by the keys of names.

    Raises
    ------
    InputError
        One can't be in the name of a group's result, or its label holds more than letters and digits.
    """
    shared = {SHORT.get(key, key): str(label) for key, label in entities.items()}
    for key, label in shared.items():
        if key not in (*INHERITED, "contrast", "stat"):
            raise InputError(invalid("entities", key, f"{', '.join(INHERITED)}, contrast and stat"))
        if not re.fullmatch(LABEL, label):
            raise InputError(invalid(f"entities[{key!r}]", label, "letters and digits"))
    return shared


def write_results(results: Sequence[Record], dataset: Path, entities: Mapping[str, str]) -> None:
    """Write results into a folder that is there and empty.

    Parameters
    ----------
    results
        Of different contrasts.
    dataset
        Where to write.
    entities
        What the maps that went in share.
    """
    names = [result.asked.contrast for result in results]
    labels = start_dataset(dataset, names, "Group-level permutation tests", [result.markdown() for result in results])
    for name, result in zip(names, results, strict=True):
        shared = _on(result.space, entities)
        folder = Folder(dataset, labels[name], shared, _facts(result) | _of_input(entities))
        native = dataset / ".native"
        native.mkdir()
        result.write(native)
        if "effect_se" in result.maps:  # the convention has the variance
            for path in native.iterdir():
                if (parse_file(path.name) or ("",))[0] == "effect_se":
                    path.unlink()
            meaning = meaning_of("variance", result.asked.dof, result.asked.n_rows)
            save_maps(
                result.space, {"variance": result.maps["effect_se"] ** 2}, native, {"variance": meaning}.__getitem__
            )
        folder.adopt(native)
        if "p_fwe_size" in result.maps:
            folder.table(
                result.clusters, "clusters", {name: COLUMNS[name].sentence for name in map(str, result.clusters)}
            )
        if result.h0:
            folder.table(pd.DataFrame(dict(result.h0)), "nulls", {name: one.sentence for name, one in NULLS.items()})


def _on(space: Space, entities: Mapping[str, str]) -> dict[str, str]:
    """Entities of results: with "den", how many vertices a surface has, as BIDS says it: "32k".

    Where there are two hemispheres "hemi" is that of each file alone.
    """
    n = space.density
    shared = {} if n is None else {"den": f"{round(n / 1000)}k" if n >= 1000 else str(n)}
    shared |= entities
    return {key: label for key, label in shared.items() if key != "hemi" or len(space.parts) == 1}


def write_fit(
    native: Path, dataset: Path, summary: Mapping[str, Any], text: str, entities: Mapping[str, str], space: Space
) -> None:
    """Make a dataset of a parametric fit.

    Parameters
    ----------
    native
        Folder of its files by names of their own; it goes.
    dataset
        Where to write.
    summary, text
        What was found, as JSON types and to be read.
    entities
        What the maps that went in share.
    space
        Where the elements lie.
    """
    name = summary["contrast"]
    label = start_dataset(dataset, [name], "Group-level parametric model", [f"```text\n{text}\n```"])[name]
    facts = {key: summary[name] for key, name in _FACTS_OF_FIT.items() if summary[name] is not None}
    Folder(dataset, label, _on(space, entities), facts | _of_input(entities)).adopt(native)


def start_dataset(dataset: Path, names: Sequence[str], what: str, summaries: Iterable[str]) -> dict[str, str]:
    """Write what a dataset needs beside its data; return the labels of the contrasts.

    Raises
    ------
    ContrastError
        Two contrasts have the same label.
    """
    labels = labels_of(names)
    (dataset / GROUP).mkdir()
    (dataset / MARKER).parent.mkdir()
    write_json(dataset / MARKER, {label: name for name, label in labels.items()})
    write_json(
        dataset / "dataset_description.json",
        {
            "Name": f"{what}: {', '.join(names)}",
            "BIDSVersion": BIDS_VERSION,
            "DatasetType": "derivative",
            "GeneratedBy": [{"Name": "numbaglm", "Version": __version__, "Description": what}],
        },
    )
    (dataset / ".bidsignore").write_text("".join(f"{pattern}\n" for pattern in _IGNORED))
    contrasts = "\n\n".join(
        f"## contrast-{labels[name]}: {name}\n\n{summary}" for name, summary in zip(names, summaries, strict=True)
    )
    (dataset / README).write_text(f"# {what}\n\n{contrasts}\n\n{_WHAT_IS_WHAT}", encoding="utf-8")
    return labels


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON to be read by people too."""
    path.write_text(json.dumps(dict(content), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def kept_results(dataset: Path) -> list[Path]:
    """Folders of the loadable results in a dataset, or in a folder of several; none if it is neither."""
    above = next((place for place in (dataset, (dataset / MARKER).parent) if (place / SEVERAL).is_file()), None)
    return [] if above is None else sorted(path.parent for path in above.glob(f"*/{RESULT}"))


def kept_fit(folder: Path) -> Path | None:
    """File of what was found by the fit that wrote a folder, a dataset or not; None if none did."""
    places = [folder / FIT, *sorted(folder.glob(f"numbaglm/*/{FIT}"))]
    return next((path for path in places if path.is_file()), None)


_WHAT_IS_WHAT = f"""## What is what

- `{GROUP}/*_statmap.*`: maps, in the format of those that went in; the .json beside each says what it is and how it
  was made. Named after BIDS extension proposal 41: `stat` is what the values are, `desc` of a p how it is
  corrected. BIDS itself has no place for results of groups yet: `.bidsignore` tells its validator to pass them by.
- `{GROUP}/*_clusters.tsv`, `*_nulls.tsv`, `*_design.tsv`: clusters, maxima of each shuffling (the observed data
  first), and the design matrix, each with a data dictionary beside it.
- `numbaglm/`: the same at full precision, for programs (`numbaglm.PermutationResult.load`), and the provenance.
- `figures/`: the same to look at, if it was drawn; `report.html`: all of it on one page, if it was written.
"""


def _facts(result: Record) -> dict[str, Any]:
    """What all sidecars of a result say."""
    asked = result.asked
    rows = [dict(zip(asked.terms, row, strict=True)) for row in asked.weights.tolist()]
    facts = {
        "Contrast": asked.contrast,
        "ContrastWeights": rows[0] if len(rows) == 1 else rows,
        "Statistic": result.statistic,
        "DegreesOfFreedom": asked.dof,
        "TwoSided": asked.two_sided,
        "Weights": asked.weighted_by,
        "VarianceBetweenSubjects": asked.between,
        "EffectTest": asked.test,
        "NumberOfSubjects": asked.n_subjects,
        "NumberOfVoxels": asked.n_voxels,
        "SmoothingFWHM": asked.smoothing_fwhm,
        "VarianceSmoothingFWHM": asked.variance_smoothing_fwhm,
        "NumberOfShufflings": asked.n_shufflings,
        "Exhaustive": asked.exhaustive,
        "Shuffling": asked.shuffling,
        "OwnShufflings": asked.own_shufflings,
        "Method": asked.method,
        "Seed": asked.seed,
        "TailOfP": asked.tail,
        "ClusterFormingThreshold": asked.cluster_forming_statistic,
        "ClusterFormingStatistic": "z" if asked.compares_z else asked.statistic,
        "Conventions": dict(asked.conventions),
        "CohortFingerprint": asked.cohort_fingerprint,
        "SoftwareVersions": dict(asked.versions),
    }
    return {name: value for name, value in facts.items() if value is not None}


def _of_input(entities: Mapping[str, str]) -> dict[str, str]:
    named = {"contrast": "FirstLevelContrast", "stat": "InputStatistic"}
    return {named[key]: label for key, label in entities.items() if key in named}


def _of_map(name: str) -> dict[str, Any]:
    """What the sidecar of one map says beside that."""
    if not re.match("(log)?p_", name):
        unit = map_of(name).unit
        return {"Units": unit} if unit and "input" not in unit else {}
    correction = next((text for key, text in _CORRECTIONS.items() if key in name), "none")
    return {"MultipleComparisonCorrection": correction}
