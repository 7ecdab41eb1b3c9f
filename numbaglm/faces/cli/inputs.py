"""From what is typed to what the calls take: maps, design, contrast, blocks, thresholds, a scheduler."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import pandas as pd

from numbaglm.cohort import Cohort, as_cohort
from numbaglm.data.labels import (
    MapLabels,
    labels_of,
    match_rows,
    require_more_than_labels,
    rows_without,
    texts,
    were_moved,
    without_labels,
)
from numbaglm.data.peers.first_levels import find_first_levels
from numbaglm.data.storage.places import Place
from numbaglm.data.tables import read_lines, read_table
from numbaglm.engine.schedule import connect
from numbaglm.errors import DesignError, InputError, MissingFileError, invalid, near
from numbaglm.faces.cli.bids_options import ENTITY_OF
from numbaglm.inference.arguments import LEAST_PRESENT, listed_subjects
from numbaglm.results.bids.maps import find_maps
from numbaglm.results.bids.names import SHORT
from numbaglm.stats.formula import design_from_formula
from numbaglm.stats.model.contrasts import listed as columns_listed

if TYPE_CHECKING:
    from numbaglm.results.result import PermutationResult

log = logging.getLogger("numbaglm")


def pop_maps(arguments: Sequence[str], options: dict[str, Any]) -> tuple[Any, pd.DataFrame | None]:
    """Maps by MAPS, by --bids-dir or by --spm-dir, whose options are taken out of ``options``; covariates with them.

    Raises
    ------
    click.UsageError
        There are none or several of these, or what picks maps is without a dataset.
    MissingFileError, InputError
        As `listed_maps`, `find_maps` and `find_first_levels`.
    """
    without = options["leave_out"]
    levels = _pop_first_levels(arguments, options)
    folder, entities, others = _pop_entities(options)
    if folder is None:
        if levels is not None:
            return levels, None
        if not arguments:
            raise click.UsageError(
                "Missing argument 'MAPS...': name the maps, or a dataset with --bids-dir, or SPM's first levels with "
                "--spm-dir."
            )
        one = len(arguments) == 1 and is_cohort(arguments[0])
        return listed_maps(arguments) if one else without_subjects(listed_maps(arguments), without), None
    if arguments:
        raise click.UsageError(f"MAPS ({arguments[0]}, ...) and --bids-dir exclude each other: leave one out.")
    if levels is not None:
        raise click.UsageError("--bids-dir and --spm-dir exclude each other: leave one out.")
    wanted: dict[str, list[str] | None] = {ENTITY_OF[name]: list(labels) for name, labels in entities.items() if labels}
    for text in others:
        key, sign, label = text.partition("=")
        if not key or not sign:
            raise click.UsageError(f"--entity {text}: write KEY=LABEL, such as desc=smooth.")
        key = SHORT.get(key, key)
        before = wanted.get(key)
        wanted[key] = [*(before or []), label] if label else None
    found = find_maps(folder, wanted, _as_option)
    found = found.iloc[rows_without(list(found["subject_label"]), without)].reset_index(drop=True)
    log.info("%d maps are taken from %s, such as %s.", len(found), folder, Path(found["effects_map_path"][0]).name)
    covariates = found.drop(columns="effects_map_path")
    return found[["subject_label", "effects_map_path"]], covariates if len(covariates.columns) > 1 else None


def _pop_first_levels(arguments: Sequence[str], options: dict[str, Any]) -> pd.DataFrame | None:
    """Maps by --spm-dir, whose options are taken out of ``options``; None where it is not given."""
    folder, number, inside = options.pop("spm_dir"), options.pop("con"), options.pop("spm_folder")
    without = options.pop("leave_out")
    if folder is None:
        if number is not None or inside is not None:
            raise click.UsageError(f"--{'spm-folder' if number is None else 'con'} is for first levels: add --spm-dir.")
        return None
    if arguments:
        raise click.UsageError(f"MAPS ({arguments[0]}, ...) and --spm-dir exclude each other: leave one out.")
    if number is None:
        raise click.UsageError("--spm-dir needs the number of a contrast: add --con 1.")
    return find_first_levels(folder, number, inside, without)


def without_subjects(listed: Any, leave_out: Sequence[str]) -> Any:
    """MAPS, or a layer of them, as they were listed, without some subjects.

    Raises
    ------
    InputError
        One is not there, or a file holds the maps of several.
    """
    if not leave_out or listed is None:
        return listed
    if isinstance(listed, Cohort):
        rows_without(listed.subjects, leave_out)  # an error then names what was typed
        return listed.without(leave_out)
    if isinstance(listed, Mapping):
        return {name: without_subjects(one, leave_out) for name, one in listed.items()}
    if isinstance(listed, pd.DataFrame):
        labels = listed_subjects(listed)[0].labels if "subject_label" not in listed else texts(listed["subject_label"])
        return listed.iloc[rows_without(labels, leave_out)].reset_index(drop=True)
    if isinstance(listed, list):
        labels = labels_of([Path(one) for one in listed], len(listed))
        return [listed[row] for row in rows_without(labels, leave_out)]
    fix = "Convert it first, and leave them out of the cohort."
    raise InputError(invalid("leave_out", ", ".join(leave_out), f"none of {listed}, a file of all maps", fix))


def _pop_entities(options: dict[str, Any]) -> tuple[str | None, dict[str, Any], Any]:
    """The dataset after --bids-dir, and what picks maps of it, taken out of ``options``.

    Raises
    ------
    click.UsageError
        Something picks maps of no dataset.
    """
    folder = options.pop("bids_dir")
    entities = {name: options.pop(name) for name in ENTITY_OF}
    others = options.pop("entities")
    given = [name for name, labels in entities.items() if labels] + ["entity"] * bool(others)
    if folder is None and given:
        raise click.UsageError(f"--{given[0].replace('_', '-')} picks maps of a dataset: add --bids-dir.")
    return folder, entities, others


_NAMED = re.compile(r"([A-Za-z][\w -]*)=(.+)")


def pop_places(options: dict[str, Any]) -> dict[str, Any]:
    """Mask, and what maps on anything but a volume lie on, as `Cohort.create` takes it; taken out of ``options``."""
    areas = by_side(options.pop("areas"))
    if isinstance(areas, str) and re.fullmatch(r"[\d.]+", areas):
        areas = float(areas)
    nodes = options.pop("nodes")
    return {
        "mask": by_side(options.pop("mask")),
        "surfaces": by_side(options.pop("surfaces")),
        "areas": areas,
        "space": "network" if options.pop("network") else None,
        "nodes": None if nodes is None else read_lines(nodes, "--nodes"),
    }


def by_side(given: Sequence[str]) -> Any:
    """Read SIDE=FILE, each; FILE alone as it is."""
    if not given:
        return None
    sides = dict(text.split("=", 1) for text in given if re.match(r"[A-Za-z ]+=", text))  # folders may hold "=" too
    if len(given) == 1 and not sides:
        return given[0]
    if len(sides) < len(given):
        raise click.UsageError(f"{given[-1]}: write SIDE=FILE for each of several, such as left={given[-1]}.")
    return sides


def _as_option(key: str, label: str | None) -> str:
    """How an entity is picked in the shell."""
    option = next((name for name, entity in ENTITY_OF.items() if entity == key), None)
    if option is None or label is None:
        return f"--entity {key}={label or ''}"
    return f"--{option.replace('_', '-')} {label}"


def listed_maps(arguments: Sequence[str]) -> Any:
    """Understand MAPS: files, one 4D file, one table of paths (.txt, .tsv, .csv), or files by hemisphere.

    Paths in a table are relative to the table's folder. Patterns that the shell left are filled in.
    """
    if sides := _by_hemisphere(arguments):
        return sides
    arguments = [path for argument in arguments for path in _matching(argument)]
    if len(arguments) > 1 or "://" in arguments[0]:
        cohorts = [one for one in arguments if "://" not in one and Path(one).is_dir() and is_cohort(one)]
        others = [one for one in arguments if one not in cohorts[:1]]
        if cohorts and others:
            raise InputError(
                f"{cohorts[0]} is a cohort, which stands alone, or as NAME={cohorts[0]} beside other modalities; got "
                f"also {others[0]!r}. An option takes one value: repeat it for more (--model age --model sex)."
            )
        return list(arguments)
    first = Path(arguments[0]).expanduser()
    if first.suffix.casefold() == ".txt":
        return [str(first.parent / line) for line in read_lines(first, "MAPS")]
    if first.suffix.casefold() in (".tsv", ".csv", ".xlsx"):
        table = read_table(first, "MAPS")
        if "effects_map_path" in table:
            table["effects_map_path"] = [str(first.parent / str(path)) for path in table["effects_map_path"]]
        return table
    return str(first)


def _by_hemisphere(arguments: Sequence[str]) -> dict[str, Any] | None:
    """Files of left=MAPS and right=MAPS, which are one test; None of anything else, and of cohorts by these names."""
    found = [_NAMED.fullmatch(text) for text in arguments]
    named = {one[1].casefold(): one[2] for one in found if one is not None}
    if len(named) != len(arguments) or set(named) != {"left", "right"} or any(map(is_cohort, named.values())):
        return None
    files = {side: _matching(text) for side, text in named.items()}
    return {side: several if len(several) > 1 else several[0] for side, several in files.items()}


def _matching(argument: str) -> list[str]:
    """The files that a pattern in quotes stands for; anything else as it is."""
    if "://" in argument or not any(sign in argument for sign in "*?[") or Path(argument).exists():
        return [argument]
    found = sorted(glob(str(Path(argument).expanduser())))  # noqa: PTH207 - a pattern may be an absolute path
    if not found and "[" not in argument:
        raise MissingFileError(f"No file matches {argument}. Check the folder and the pattern.")
    return found or [argument]


def read_layers(typed: Sequence[str]) -> dict[str, Any] | None:
    """Layers by name of NAME=MAPS, where MAPS is a pattern, or what `listed_maps` takes; None where there are none.

    Raises
    ------
    click.UsageError
        One has no name, or a name comes twice.
    MissingFileError, InputError
        As `listed_maps`.
    """
    layers: dict[str, Any] = {}
    for text in typed:
        name, sign, maps = text.partition("=")
        if not name or not sign or not maps or name in layers:
            raise click.UsageError(f"--layer {text}: write NAME=MAPS, each name once, as in variance='var/*.nii'.")
        layers[name] = listed_maps([maps])
    return layers or None


def read_named(typed: Sequence[str]) -> dict[str, str] | None:
    """Regressors of NAME=LAYER by name; LAYER alone goes by its own. None where there are none.

    Raises
    ------
    click.UsageError
        One is empty, or a name comes twice.
    """
    found: dict[str, str] = {}
    for text in typed:
        name, sign, layer = text.partition("=")
        name, layer = name.strip(), (layer if sign else text).strip()
        if not name or not layer or name in found:
            raise click.UsageError(f"--regressor {text}: write NAME=LAYER, each name once, as in gm=grey_matter.")
        found[name] = layer
    return found or None


def read_weights_by_name(typed: Sequence[str]) -> dict[str, float] | None:
    """Weights of NAME=NUMBER by name; None where there are none.

    Raises
    ------
    click.UsageError
        One has no name or no number.
    """
    found: dict[str, float] = {}
    for text in typed:
        name, _, number = text.rpartition("=")
        try:
            found[name] = float(number)
        except ValueError:
            name = ""
        if not name:
            raise click.UsageError(f"--combine-weight {text}: write NAME=NUMBER, as in thickness=2.")
    return found or None


def have_names(arguments: Sequence[str]) -> bool:
    """Whether MAPS are NAME=MAPS of modalities; a file whose name holds "=" is a file."""
    named = any(_NAMED.fullmatch(text) and not Path(text).exists() for text in arguments)
    return named and _by_hemisphere(arguments) is None


def read_modalities(arguments: Sequence[str], read: Callable[[Sequence[str]], Cohort]) -> dict[str, Cohort]:
    """Cohorts by modality of NAME=MAPS, each.

    Parameters
    ----------
    read
        Makes a cohort of MAPS.

    Raises
    ------
    click.UsageError
        Some have no name, or one comes twice.
    """
    texts: dict[str, str] = {}
    for text in arguments:
        found = _NAMED.fullmatch(text)
        if found is None or found[1] in texts:
            raise click.UsageError(f"{text}: write NAME=MAPS for each modality, each name once, as in area=b.zarr.")
        texts[found[1]] = found[2]
    return {
        name: read(sorted(glob(str(Path(text).expanduser()))) or [text])  # noqa: PTH207 - as in `read_layers`
        for name, text in texts.items()
    }


def is_cohort(path: str) -> bool:
    """Whether a path or a URL names a Zarr group, complete or not."""
    return Place.parse(path, "MAPS").exists("zarr.json")


@dataclass(frozen=True, eq=False)
class Question:
    """What is asked of which data: a cohort, a design matrix and a contrast, or several by name.

    Attributes
    ----------
    covariates
        A row a map, in the order of the maps; columns may hold labels of blocks and groups.
    """

    cohort: Cohort
    design: pd.DataFrame
    contrast: Any
    named: MapLabels
    by_order: bool
    covariates: pd.DataFrame
    modalities: Mapping[str, Cohort] | None = None

    @property
    def data(self) -> Cohort | Mapping[str, Cohort]:
        """What is analysed: the cohort, of which covariates and the order of subjects are, or all by modality."""
        return self.cohort if self.modalities is None else self.modalities

    @classmethod
    def pop(cls, maps: Sequence[str], options: dict[str, Any], progress: bool) -> Question:
        """Understand MAPS, and take the options on images, design and contrast out of ``options``.

        Tables are read before the maps, which may take long.
        """
        design, by_order = options.pop("design_matrix"), options.pop("by_order")
        formula = design if design is not None and "~" in design else None
        design = None if formula else _read_design(design)
        covariates = read_optional(options.pop("covariates"), "--covariates")
        model, intercept = options.pop("model"), options.pop("intercept")
        if (formula or design is not None) and model:
            raise InputError("--design is the whole design matrix: leave --model out, or --design.")
        if covariates is not None and design is not None:
            raise InputError("A --design from a file needs no --covariates: leave them out, or write a formula.")
        if covariates is not None and not formula:
            _check_columns(model, covariates)
        images = {"smoothing_fwhm": options.pop("smoothing_fwhm"), **pop_places(options)}
        leave_out = options["leave_out"]
        images["layers"] = without_subjects(read_layers(options.pop("layers", ())), leave_out)

        def read(some: Sequence[str], listed: Any = None) -> Cohort:
            one = len(some) == 1 and is_cohort(some[0])
            whole = {} if one or options.get("missing") != "element" else {"min_subjects": LEAST_PRESENT}
            if one:
                listed = without_subjects(Cohort.open(some[0]), leave_out)
            elif listed is None:
                listed = without_subjects(listed_maps(some), leave_out)
            return as_cohort(listed, progress=progress, n_workers=options["n_workers"], **images, **whole)

        modalities = None
        if options["bids_dir"] is None and have_names(maps):
            _pop_entities(options)
            _pop_first_levels(maps, options)
            modalities = read_modalities(maps, read)
            cohort, listed, one = next(iter(modalities.values())), None, True
        else:
            listed, table = pop_maps(maps, options)
            if (
                table is None
                and isinstance(listed, pd.DataFrame)
                and {"subject_label", "effects_map_path"} <= set(listed)
            ):
                beside = listed.drop(columns=["effects_map_path", "map_name"], errors="ignore")
                table = beside if beside.shape[1] > 1 else None
            if table is not None and covariates is None:
                images["covariates"] = table
            if by_order and table is not None and covariates is None:
                message = "--by-order is for tables after --design and --covariates: --bids-dir matches by label."
                raise InputError(message)
            one = len(maps) == 1 and is_cohort(maps[0])
            cohort = read(maps, listed)
        named = replace(
            MapLabels.of_table(cohort.store.subjects), moved=not one and were_moved(listed, cohort.subjects)
        )
        table = cohort.covariates if covariates is None else _by_subject(covariates, named, "--covariates", by_order)
        table = table.set_axis(cohort.subjects)
        if design is not None:
            frame = _by_subject(design, named, "--design", by_order)
        else:
            words = re.findall(r"[^\W\d]\w*", formula or "")
            _check_numbers(table, [name for name in map(str, table) if name in words or name in model])
            frame = design_from_formula(formula, table) if formula else _columns(table, model, intercept)
        frame = frame.set_axis(cohort.subjects)
        typed = options.pop("contrast")
        pick = pick_contrasts if isinstance(typed, tuple) else pick_contrast
        return cls(cohort, frame, pick(typed, frame, model), named, by_order, table, modalities)


def read_optional(path: str | None, parameter: str) -> pd.DataFrame | None:
    """Read a table, if one is named.

    Raises
    ------
    InputError, MissingFileError
        As `read_table`.
    """
    return None if path is None else read_table(path, parameter)


def read_covariates(path: str | None, by_order: bool) -> pd.DataFrame | None:
    """Read the table after --covariates, without its labels where its rows are to go by their order.

    Raises
    ------
    click.UsageError
        There is no table that could go by its order.
    InputError, MissingFileError
        As `read_table`.
    """
    table = read_optional(path, "--covariates")
    if by_order and table is None:
        raise click.UsageError("--by-order is for the rows of a table: add --covariates, or leave it out.")
    return without_labels(table) if by_order and table is not None else table


def _check_numbers(table: pd.DataFrame, names: Sequence[str]) -> None:
    """Refuse numbers with a word among them: as text, each value would become a group of its own."""
    for name in names:
        column = table[name].dropna()
        if pd.api.types.is_numeric_dtype(column.dtype):
            continue
        words = column[pd.to_numeric(column, errors="coerce").isna()]
        if 0 < 2 * len(words) < len(column):
            listed = ", ".join(f"{word!r} ({label})" for label, word in words.head(5).items())
            raise DesignError(
                f"The covariate {name!r} holds numbers but for {listed}. Correct them, or write n/a where there is "
                "no value."
            )


def _check_columns(model: Sequence[str], table: pd.DataFrame) -> None:
    lacking = [name for name in model if name not in table]
    if lacking or not model:
        received = ", ".join(lacking) or "nothing"
        formula = any(re.search(r"[+*:()~]", name) for name in lacking)
        fix = f"A formula goes after --design: '~ {' + '.join(model).replace('~', '').strip()}'." if formula else ""
        fix = fix or " ".join(filter(None, (near(name, table) for name in lacking)))
        raise InputError(invalid("model", received, f"columns of the covariates: {list(table.columns)}", fix))


def _columns(table: pd.DataFrame, model: Sequence[str], intercept: bool) -> pd.DataFrame:
    """Make a design of columns of the covariates; of none, a column of ones.

    A column of text becomes an indicator for each of its values, which take the place of the intercept.
    """
    ones = pd.DataFrame({"intercept": np.ones(len(table))}, index=table.index)
    if not model:
        return ones
    _check_columns(model, table)
    texts = [name for name in model if not pd.api.types.is_numeric_dtype(table[name].dtype)]
    if len(texts) > 1:
        formula = " + ".join(name if name.isidentifier() else f"`{name}`" for name in model)
        values = sorted(set(table[texts[0]].dropna().astype(str)))
        example = f" --contrast '{texts[0]}[{values[-1]}]'" if len(values) > 1 else ""
        raise DesignError(
            f"Columns {texts} hold text: one can be coded here, as an indicator for each of its values. "
            f"For more write a formula, which compares with the first value: --design '~ {formula}'{example}."
        )
    parts = []
    for name in model:
        without = list(table.index[table[name].isna()])
        if without:
            raise DesignError(
                f"The covariate {name!r} has no value for {', '.join(map(str, without[:10]))}. "
                "Leave those subjects out, or fill the values in."
            )
        parts.append(pd.get_dummies(table[name], dtype=float) if name in texts else table[[name]].astype(float))
    return pd.concat([*parts, ones] if intercept and not texts else parts, axis=1)


def _by_subject(table: pd.DataFrame, named: MapLabels, option: str, by_order: bool = False) -> pd.DataFrame:
    """Bring a table into the order of the subjects: by label if it has labels."""
    n = len(named.labels)
    if option != "--covariates" and len(table) != n:
        raise DesignError(
            f"The table after {option} has {len(table)} rows, but there are {n} subject maps. "
            "It needs one row for each map."
        )
    what = {"people": option == "--covariates", "regressors": option in ("--covariates", "--design")}
    matched, notes = match_rows(table, named, option, by_order=by_order, **what)
    for sentence in notes:
        log.info(sentence)
    return matched


def pick_contrast(contrast: str | None, design: pd.DataFrame, model: Sequence[str]) -> Any:
    """Take the contrast that was typed; by default the first of the columns, if it is a column of numbers.

    Expressions apart by semicolons make an F test.
    """
    if contrast is None:
        return model[0] if model and model[0] in design else None
    return rows_of(contrast, "contrast", f"a column, or an expression over {columns_listed(list(design.columns))}")


def rows_of(typed: str, parameter: str, allowed: str) -> str | list[str]:
    """One expression, or those that semicolons part.

    Raises
    ------
    InputError
        There is none on a side of one.
    """
    rows = [row.strip() for row in typed.split(";")]
    if not all(rows):
        raise InputError(invalid(parameter, typed, f"{allowed}, on each side of a ';'"))
    return rows[0] if len(rows) == 1 else rows


_CASE = ", and each has a folder: file systems may not tell these apart"


def pick_contrasts(typed: Sequence[str], design: pd.DataFrame, model: Sequence[str]) -> Any:
    """Take the contrasts that were typed, each as `pick_contrast` does: a mapping if they are several, or named.

    A name is what stands before the first "=", which no expression holds outside of backticks; a column that holds
    one goes before.

    Raises
    ------
    InputError
        A name is empty, or two are the same but for their case.
    """
    if not typed:
        return pick_contrast(None, design, model)
    contrasts: dict[str, Any] = {}
    named = len(typed) > 1
    for text in typed:
        name, sign, expression = text.partition("=")
        if not sign or "`" in name or text.split(";")[0].strip() in design:
            contrast = pick_contrast(text, design, model)
            name, expression = contrast if isinstance(contrast, str) else "; ".join(contrast), text
        else:
            contrast, name, named = pick_contrast(expression, design, model), name.strip(), True
        if not name:
            raise InputError(invalid("contrast", text, "NAME=EXPR with a name before the '='"))
        same = next((one for one in contrasts if one.casefold() == name.casefold()), None)
        if same is not None:
            both, why = (f"{name!r}", "") if same == name else (f"{same!r} and {name!r}", _CASE)
            fix = f"Give each a name of its own: --contrast 'NAME={expression}'."
            raise InputError(f"Two contrasts are named {both}{why}. {fix}")
        contrasts[name] = contrast
    return contrasts if named else contrast


@dataclass(frozen=True, eq=False)
class Labels:
    """What a table tells of each subject: a label, or the indices of a multi-level tree.

    Attributes
    ----------
    table
        As it was read, or what stands for it: a word, the name of a column of the covariates, or None.
    path, option
        Where it was read, and the option that named it.
    is_word
        Whether the word is an answer by itself, and no column.
    """

    table: pd.DataFrame | str | None
    path: str | None
    option: str
    is_word: bool = False

    @classmethod
    def read(cls, path: str | None, option: str, word: str = "") -> Labels:
        """Read a table; ``word`` is an answer that is no file. A file of numbers alone, as PALM's, needs no names.

        What is no file, and has not the name of a table, is a column of the covariates.
        """
        if path is None or path == word:
            return cls(path, path, option, is_word=True)
        if not _is_table(path) and not Path(path).expanduser().exists():
            return cls(path, path, option)
        table = read_table(path, option, may_lack_names=True)
        return cls(table, path, option)

    def of(self, question: Question) -> Any:
        """Bring them into the order of the subjects: (n_subjects,) or (n_subjects, n_levels).

        Raises
        ------
        DesignError, InputError
            Rows don't match the subjects, or a subject has none.
        """
        if self.is_word:
            return self.table
        cohort, table = question.cohort, self.table
        if not isinstance(table, pd.DataFrame):
            if table not in question.covariates:
                allowed = f"the path of a .tsv or .csv file, or a column of the covariates: {list(question.covariates)}"
                raise InputError(invalid(self.option, table, allowed, near(table, question.covariates)))
            table = question.covariates[[table]]
        elif len(table.columns) > 1:
            if self.option != "--visits":
                require_more_than_labels(table, self.option)
            table = _by_subject(table, question.named, self.option, question.by_order)
        elif len(table) != cohort.n_subjects:
            raise DesignError(
                f"{self.path} after {self.option} has {len(table)} rows, but there are {cohort.n_subjects} subject "
                "maps. It needs one row for each map."
            )
        without = [label for label, row in zip(cohort.subjects, table.isna().any(axis=1), strict=True) if row]
        if without:
            raise DesignError(
                f"{self.path} after {self.option} has no label for {', '.join(without[:10])}. Give every subject one."
            )
        if len(table.columns) > 1:
            return table.to_numpy()
        labels = table.iloc[:, 0]
        return labels.to_numpy() if pd.api.types.is_integer_dtype(labels.dtype) else labels.astype(str).to_numpy()


def read_weights(typed: str | None) -> Labels:
    """Weights of subjects by a table; what has not the name of one is a layer of the maps."""
    return Labels.read(typed, "--weights", word="" if typed is None or _is_table(typed) else typed)


def _is_table(path: str) -> bool:
    return path.casefold().endswith((".tsv", ".csv", ".xlsx", ".xlsm", ".txt"))


def read_names(typed: str) -> tuple[str, ...]:
    """Names separated by commas."""
    return tuple(name.strip() for name in typed.split(","))


def _are_numbers(names: Any) -> bool:
    """Whether the names of columns are a row of numbers, as in a file without a line of names."""
    try:
        return all(np.isfinite(float(name)) for name in names)
    except ValueError:
        return False


def _read_design(path: str | None) -> pd.DataFrame | None:
    if path is not None and Path(path).suffix not in (".tsv", ".csv") and not Path(path).expanduser().exists():
        raise MissingFileError(
            f"There is no table {path}. Allowed after --design: the path of a .tsv or .csv file, or a formula, which "
            f"begins with '~': --design '~ {path}'."
        )
    design = read_optional(path, "--design")
    if design is not None and _are_numbers(design.columns):
        raise DesignError(f"The first line of {path} holds numbers: --design needs a line of names for its columns.")
    return design


def parse_threshold(text: str) -> float | str | tuple[str, float] | None:
    """Understand a cluster-forming threshold: a p, or "t:3.1", "z:3.1", "f:6", or "none"; or "auto"."""
    if text.lower() in ("none", "auto"):
        return None if text.lower() == "none" else "auto"
    kind, _, value = text.lower().rpartition(":")
    try:
        number = float(value)
        valid = 0 < number < (float("inf") if kind in ("t", "z", "f") else 1)
    except ValueError:
        valid = False
    if not valid or kind not in ("", "p", "t", "z", "f"):
        raise InputError(invalid("cluster_forming_threshold", text, "a p such as 0.001, or t:3.1, z:3.1, f:6, or none"))
    return (kind, number) if kind in ("t", "z", "f") else number


def one_result(folder: str) -> PermutationResult:
    """Load the one result in a folder.

    Raises
    ------
    InputError
        It holds several, or none.
    """
    from numbaglm.results.bids.results import kept_results
    from numbaglm.results.result import PermutationResult

    above = Path(folder).expanduser()
    places = kept_results(above)
    if len(places) > 1:
        named = ", ".join(map(str, places))
        raise InputError(invalid("folder", f"{folder}, which holds {len(places)} results", f"one of {named}"))
    return PermutationResult.load(places[0] if places else above)


def connected(address: str | None) -> AbstractContextManager[Any]:
    """Connection to a Dask scheduler; None for the threads of this process."""
    return nullcontext() if address is None else connect(address)
