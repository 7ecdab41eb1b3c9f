"""From maps to a cohort: the arguments, checked once."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from numbaglm.data import images  # what is of elements is loaded where it is used
from numbaglm.data.cohort.layout import DATA, Header
from numbaglm.data.cohort.store import CohortStore
from numbaglm.data.images import (
    MapSource,
    codes_of,
    grid_of,
    is_elements,
    list_maps,
    load_mask,
    statistic_of,
)
from numbaglm.data.images.raw import is_compressed
from numbaglm.data.labels import (
    MapLabels,
    check_labels,
    in_another_order_by_files,
    labels_are_known,
    labels_of_visits,
    match_order,
    match_rows,
    plain_label,
    were_moved,
)
from numbaglm.data.storage.files import DEVICE
from numbaglm.data.tables import OWN_COLUMNS, listed, read_table, repeated
from numbaglm.engine.conversion.coverage import MaskRule, parse_min_coverage, parse_min_subjects
from numbaglm.errors import GridError, InputError, invalid, term
from numbaglm.spaces.smoothing import Fwhm, parse_fwhm
from numbaglm.spaces.space import Template
from numbaglm.spaces.volume import Grid

if TYPE_CHECKING:
    from numbaglm.data.images import ElementSource

    Source = MapSource | ElementSource

log = logging.getLogger("numbaglm")

_HEADERS_AT_ONCE = 16


@dataclass(frozen=True, eq=False)
class Inputs:
    """The arguments of a conversion, checked: everything that can be known before a map's values are read.

    Attributes
    ----------
    sources
        The maps.
    subjects
        The subject table, a row a map.
    grid
        What all maps lie on: a grid, or the template of those that are on anything but a volume.
    mask
        (nx, ny, nz), or (grid.n,): the mask that was given, if one was.
    smoothing_fwhm
        In mm.
    notes
        Sentences on what was done with covariates, and with maps on other grids.
    rule
        When a voxel stays in the mask.
    layers
        Further maps of the same subjects, by name.
    """

    sources: Sequence[MapSource] | Sequence[ElementSource]
    subjects: pd.DataFrame
    grid: Grid | Template
    mask: NDArray[np.bool_] | None
    smoothing_fwhm: Fwhm
    notes: tuple[str, ...]
    rule: MaskRule
    layers: Mapping[str, list[MapSource]]

    @property
    def labels(self) -> list[str]:
        """(n_subjects,) labels."""
        return list(self.subjects["subject_label"])

    @property
    def read_on(self) -> Grid | Template:
        """What tasks must know of `grid` to read maps."""
        return self.grid.for_reading if isinstance(self.grid, Template) else self.grid

    @property
    def given_mask(self) -> str:
        """Hash of the mask that was given, "" if none was."""
        return "" if self.mask is None else hashlib.sha256(np.packbits(self.mask).tobytes()).hexdigest()

    @property
    def stays_here(self) -> bool:
        """Whether other machines should not be sent the maps: images in memory, or one file to read in its order."""
        every = [self.sources, *self.layers.values()]
        return self.reel is not None or any(source.path is None for sources in every for source in sources)

    @property
    def reel(self) -> Path | None:
        """The one compressed file that all maps are volumes of, if it is one: best read from its begin to its end."""
        first = self.sources[0]
        alike = all(source.path == first.path and source.volume is not None for source in self.sources)
        return first.path if alike and first.path is not None and is_compressed(first.path) else None


def parse_inputs(
    maps: Any,
    mask: Any,
    smoothing_fwhm: Any,
    subjects: Any,
    covariates: Any,
    *,
    min_coverage: Any = 1.0,
    min_subjects: Any = None,
    zero_is_missing: bool | None = None,
    resample: bool = False,
    layers: Any = None,
    durable: bool,
    surfaces: Any = None,
    areas: Any = None,
    space: Any = None,
    nodes: Any = None,
) -> Inputs:
    """Check the arguments of a new cohort; opens every file, reads no data.

    Parameters
    ----------
    maps, mask, smoothing_fwhm, subjects, covariates, min_coverage, min_subjects, zero_is_missing, resample, layers
        As in `numbaglm.Cohort.create`.
    surfaces, areas, space, nodes
        As in `numbaglm.Cohort.create`.
    durable
        Whether the state of each map is noted, so that a resumed conversion can tell whether the map changed.

    Raises
    ------
    InputError, MissingFileError, ImageError, GridError, MaskError
    """
    fwhm = parse_fwhm(smoothing_fwhm)
    if zero_is_missing is not None and not isinstance(zero_is_missing, bool | np.bool_):
        raise InputError(invalid("zero_is_missing", zero_is_missing, "True, False, or None for the rule of the mask"))
    if is_elements(maps, space):
        if resample:
            raise InputError(invalid("resample", resample, "False: maps of volumes alone are resampled"))
        listed_maps = images.list_elements(maps, surfaces=surfaces, areas=areas, space=space, nodes=nodes)
        template, elements = listed_maps.template, listed_maps.sources
        template.smooth(np.zeros(template.n, np.float32), fwhm)  # refuses now what can't be smoothed
        labels = check_labels(listed_maps.labels if subjects is None else subjects, len(elements))
        known = subjects is not None or labels_are_known(labels)
        named = MapLabels(labels, known, _paths(elements), were_moved(maps, labels))
        table, notes = _subject_table(elements, named, covariates, durable=durable)
        _warn_of_statistics(elements, "")
        inside = images.load_element_mask(mask, template)
        further = _parse_layers(layers, named, template, resample)
        _note_layers(table, further)
        rule = _rule(bool(zero_is_missing), min_coverage, min_subjects, len(elements))
        return Inputs(elements, table, template, inside, fwhm, tuple(notes), rule, further)
    for name, given in (("surfaces", surfaces), ("areas", areas), ("nodes", nodes)):
        if given is not None:
            raise InputError(invalid(name, type(given).__name__, "None: these maps are volumes"))
    sources, labels, frame = list_maps(maps)
    zeros = mask is None if zero_is_missing is None else bool(zero_is_missing)
    rule = _rule(zeros, min_coverage, min_subjects, len(sources))
    if subjects is not None:
        if frame is not None:
            raise InputError(
                invalid(
                    "subjects",
                    "labels beside a DataFrame of maps",
                    "None: the DataFrame has its labels already",
                )
            )
        labels = subjects
    labels = check_labels(labels, len(sources))
    known = subjects is not None or labels_are_known(labels)
    named = MapLabels(labels, known, _paths(sources), were_moved(maps, labels))
    table, notes = _subject_table(sources, named, covariates, durable=durable)
    _warn_of_repeats(sources)
    _warn_of_statistics(sources, statistic_of(sources[0]))
    geometry = load_mask(mask)
    grid = Grid(*grid_of(sources[0]), sources[0].name, codes_of(sources[0]))
    if geometry is not None:
        name = f"the mask {mask}" if isinstance(mask, str | os.PathLike) else "the mask"
        if resample:
            grid = Grid(geometry.shape, geometry.affine, name, grid.codes)  # mm stay those of the maps
        else:
            grid.check(geometry.shape, geometry.affine, name)
    if resample:
        sources, more = _onto(sources, grid, zero_is_missing=rule.zero_is_missing)
        notes += more
    else:
        _check_headers(sources, grid)
    further = _parse_layers(layers, named, grid, resample)
    _note_layers(table, further)
    inside = None if geometry is None else geometry.mask
    return Inputs(sources, table, grid, inside, fwhm, tuple(notes), rule, further)


def _rule(zero_is_missing: bool, min_coverage: Any, min_subjects: Any, n_subjects: int) -> MaskRule:
    """When an element stays, and what becomes of what is missing there."""
    coverage = parse_min_coverage(min_coverage)
    if coverage < 1:
        other = "min_subjects= is left aside: m" if min_subjects is not None else "M"
        log.warning(
            "%sin_coverage=%g has missing values counted as 0, which draws effects towards 0. min_subjects= keeps them "
            "missing, and missing='element' tests each element with the subjects that it has.",
            other,
            coverage,
        )
        return MaskRule(zero_is_missing, coverage)
    if min_subjects is None:
        return MaskRule(zero_is_missing)
    return MaskRule(zero_is_missing, parse_min_subjects(min_subjects, n_subjects), keeps_missing=True)


def parse_additions(
    store: CohortStore, maps: Any, subjects: Any, covariates: Any, *, resample: bool = False, layers: Any = None
) -> Inputs:
    """Check the arguments of an append, against the cohort that is there."""
    sources, labels, grid = _more_maps(store, maps, resample=resample)
    of_visits = all("_ses-" in str(label) for label in store.subjects["subject_label"])
    if subjects is not None:
        labels = subjects
    elif of_visits and not isinstance(maps, pd.DataFrame) and (visits := labels_of_visits(_paths(sources))):
        labels = visits  # of a wave, whose subjects alone tell its maps apart
    elif not labels_are_known(labels):
        labels = [f"subject-{store.n_subjects + number:03d}" for number in range(1, len(sources) + 1)]
    labels = check_labels(labels, len(sources))
    present = sorted(set(labels) & set(store.subjects["subject_label"]))
    if present:
        raise InputError(
            invalid(
                "maps",
                f"{', '.join(present[:5])}, already in the cohort",
                "new subjects",
                f"Pass {term('subjects=')} with other labels.",
            )
        )
    known = subjects is not None or labels_are_known(labels)
    durable = store.location is not None
    named = MapLabels(labels, known, _paths(sources), were_moved(maps, labels))
    table, notes = _subject_table(sources, named, covariates, durable=durable)
    old, new = _covariate_names(store.subjects), _covariate_names(table)
    if set(old) != set(new):
        fix = "Bring the table into that form."
        if covariates is None:
            fix = f"Pass {term('covariates=')} with a row for each new map."
        received = f"columns {new}" if new else "no columns"
        raise InputError(invalid("covariates", received, f"the cohort's columns {old}", fix))
    is_volume = isinstance(grid, Grid)
    zeros = store.header.zero_is_missing
    if zeros is None:  # of cohorts that do not say
        zeros = is_volume and store.header.mask_rule == "intersection"
    rule = MaskRule(zeros, store.header.min_coverage, store.header.keeps_missing)
    if isinstance(grid, Grid) and resample:
        sources, more = _onto(sources, grid, zero_is_missing=rule.zero_is_missing)
        notes += more
    elif isinstance(grid, Grid):
        _check_headers(sources, grid)
    further = _parse_layers(layers, named, grid, resample)
    if set(further) != set(store.layers[1:]):
        allowed = f"the cohort's layers: {', '.join(store.layers[1:]) or 'none beside the maps'}"
        raise InputError(invalid("layers", sorted(further), allowed))
    further = {name: further[name] for name in store.layers[1:]}
    _note_layers(table, further)
    return Inputs(sources, table, grid, store.space.mask, store.smoothing_fwhm, tuple(notes), rule, further)


def _parse_layers(layers: Any, named: MapLabels, grid: Grid | Template, resample: bool) -> dict[str, Any]:
    """Check further maps of the same subjects: as many, on the same grid, in the same order where they have labels."""
    allowed = "a dict from names (letters a to z, digits and _) to maps of the same subjects"
    if layers is None:
        return {}
    if not isinstance(layers, Mapping):
        raise InputError(invalid("layers", type(layers).__name__, allowed))
    found: dict[str, Any] = {}
    labels = named.labels
    for name, maps in layers.items():
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII) or name == DATA:
            raise InputError(invalid("layers", name, f'{allowed}; "{DATA}" are the maps themselves'))
        if DEVICE.fullmatch(name):
            raise InputError(invalid("layers", name, "a name that is no device of Windows: a layer has a folder"))
        if name.casefold() in map(str.casefold, found):
            raise InputError(invalid("layers", name, "names that differ by more than their case: folders may not"))
        sources: Any
        if isinstance(grid, Template):
            sources, theirs = _on_template(grid, maps)
        else:
            sources, theirs, _ = list_maps(maps, minimum=1)
        if len(sources) != len(labels):
            received = f"{len(sources)} maps as {name!r}"
            raise InputError(invalid("layers", received, f"one for each of the {len(labels)} maps"))
        order = None
        if named.known and labels_are_known(theirs):
            order = match_order(theirs, labels)
            if order is None and (common := set(map(plain_label, theirs)) & set(map(plain_label, labels))):
                lacking = [label for label in labels if plain_label(label) not in common][:5]
                received = f"no map of {', '.join(lacking)} as {name!r}"
                raise InputError(invalid("layers", received, "a map of each subject, by label"))
            of_subjects = isinstance(maps, pd.DataFrame) or all(_is_subject(one) for one in (*theirs, *labels))
            if order is None and of_subjects:  # by more than their files
                received = f"maps of {listed(theirs, 3)} as {name!r}, for maps of {listed(labels, 3)}"
                raise InputError(invalid("layers", received, "maps of the same subjects"))
        if order is None and named.moved:
            received = f"maps by their order as {name!r}, for maps that were sorted by their labels"
            fix = "Or sort the table of the maps by theirs."
            raise InputError(invalid("layers", received, "a table of them with a column subject_label", fix))
        if order is None and in_another_order_by_files(_paths(sources), named):
            received = f"{listed(theirs, 3)} as {name!r} for {listed(labels, 3)}, which are alike in another order"
            fix = "Sort them as the maps are, or give a table of them with a column subject_label."
            raise InputError(invalid("layers", received, "maps of the same subjects, in one order", fix))
        sources = sources if order is None else [sources[row] for row in order]
        if isinstance(grid, Grid) and resample:
            sources, _ = _onto(sources, grid, zero_is_missing=False)
        elif isinstance(grid, Grid):
            _check_headers(sources, grid, f" of the layer {name!r}")
        found[name] = sources
    return found


def _is_subject(label: str) -> bool:
    """Whether a label tells a person, as BIDS has it, and not a file."""
    return re.match(r"sub-[0-9a-zA-Z]+", label) is not None


def _note_layers(table: pd.DataFrame, layers: Mapping[str, Sequence[Source]]) -> None:
    """Add the state of further maps to that of each map, where it is noted: a change of any of them counts."""
    if "source_state" not in table:
        return
    for name, sources in layers.items():
        states = [f"; {name}: {n_bytes} bytes, {text}" for n_bytes, text in map(_state, sources)]
        table["source_state"] = table["source_state"] + pd.Series(states, dtype="str")


def _more_maps(store: CohortStore, maps: Any, *, resample: bool) -> tuple[Any, list[str], Grid | Template]:
    """List the maps of an append, and what they are to lie on."""
    space, name = store.space, f"the cohort {store.location or 'in memory'}"
    if space.is_volume:
        there, (volumes, labels, _) = space.volume, list_maps(maps, minimum=1)
        return volumes, labels, Grid(there.shape, there.affine, name, there.codes)
    template = space.template
    if template is None or resample:
        raise InputError(invalid("resample", resample, "False: maps of volumes alone are resampled"))
    sources, labels = _on_template(replace(template, name=name), maps)
    return sources, labels, replace(template, name=name)


def _on_template(template: Template, maps: Any) -> tuple[list[ElementSource], list[str]]:
    """List more maps, of which it is known what they must lie on; see `list_elements`."""
    part: Any = template.parts[0]
    options: dict[str, Any] = {}
    if part.kind == "network" and template.files["format"] == "matrix":
        options = {"space": "network", "nodes": part.nodes}
    elif part.kind == "graph":
        options = {"space": part}
    more = images.list_elements(maps, minimum=1, **options)
    if not template.lists_the_same(more.template):
        raise GridError(
            f"{more.template.name} and {template.name} do not lie on the same elements. Bring all maps to one mesh, "
            "or to one list of regions, first."
        )
    return more.sources, more.labels


def differences(header: Header, inputs: Inputs, unread: NDArray[np.bool_] | None = None) -> list[str]:
    """Tell a half-written cohort from the arguments that it is to be continued with.

    Parameters
    ----------
    header, inputs
        Of the one, and the others.
    unread
        (n_subjects,) maps of which nothing is known yet: their files may have changed.
    """
    old, new, new_layers = header.subjects, inputs.subjects, bool(inputs.layers)
    found = []
    if header.smoothing_fwhm != inputs.smoothing_fwhm:
        found.append(f"smoothing_fwhm was {header.smoothing_fwhm}, now {inputs.smoothing_fwhm}")
    if header.given_mask != inputs.given_mask:
        found.append("mask is another")
    if header.layers[1:] != tuple(inputs.layers):
        found.append(f"layers were {list(header.layers[1:])}, now {list(inputs.layers)}")
    if header.min_coverage != inputs.rule.min_coverage:
        found.append(f"min_coverage was {header.min_coverage:g}, now {inputs.rule.min_coverage:g}")
    if header.keeps_missing != inputs.rule.keeps_missing:
        found.append(f"min_subjects was {'' if header.keeps_missing else 'not '}given, now it is otherwise")
    if header.zero_is_missing not in (None, inputs.rule.zero_is_missing):
        found.append(f"zero_is_missing was {header.zero_is_missing}, now {inputs.rule.zero_is_missing}")
    if len(old) != len(new):
        found.append(f"there were {len(old)} maps, now {len(new)}")
        return found
    if _covariate_names(old) != _covariate_names(new):
        found.append(f"covariates were {_covariate_names(old)}, now {_covariate_names(new)}")
        return found
    for column in new.columns:
        of_files = column in ("source_bytes", "source_state")
        differ = ~((old[column] == new[column]) | (old[column].isna() & new[column].isna())).to_numpy()
        changed = np.flatnonzero(differ & ~unread if of_files and unread is not None else differ)
        if len(changed):
            row = int(changed[0])
            what = (
                f"the file of {new['source'][row]}{', or of a layer of it,' if new_layers else ''} changed"
                if of_files
                else (f"{column} of map {row + 1} was {old[column][row]}, now {new[column][row]}")
            )
            found.append(f"{what} ({len(changed)} such)")
    return found


def _covariate_names(table: pd.DataFrame) -> list[str]:
    return [str(name) for name in table.columns if name not in OWN_COLUMNS]


def _grids(sources: Sequence[MapSource]) -> list[tuple[tuple[int, int, int], NDArray[np.float64]]]:
    """Shape and affine of each map, from the headers. They are read at once: storage that is far away answers late."""
    own = [
        k == 0 or one.volume is None or (one.path, one.image) != (sources[k - 1].path, sources[k - 1].image)
        for k, one in enumerate(sources)
    ]  # other volumes of a 4D file share its header
    first = [source for source, is_own in zip(sources, own, strict=True) if is_own]
    parts = [first[i : i + _HEADERS_AT_ONCE] for i in range(0, len(first), _HEADERS_AT_ONCE)]
    with ThreadPoolExecutor(_HEADERS_AT_ONCE) as pool:
        found = iter([grid for part in pool.map(lambda part: list(map(grid_of, part)), parts) for grid in part])
    grids: list[Any] = []
    for is_own in own:
        grids.append(next(found) if is_own else grids[-1])
    return grids


def _check_headers(sources: Sequence[MapSource], grid: Grid, of: str = "") -> None:
    for source, found in zip(sources, _grids(sources), strict=True):
        grid.check(*found, f"{source.name}{of}")


def _onto(sources: Sequence[MapSource], grid: Grid, *, zero_is_missing: bool) -> tuple[list[MapSource], list[str]]:
    """Have the maps that lie on other grids resampled, and say how many they are."""
    moved = [not grid.holds(*found) for found in _grids(sources)]
    ready = [
        replace(source, onto=grid, zero_is_missing=zero_is_missing) if is_moved else source
        for source, is_moved in zip(sources, moved, strict=True)
    ]
    n_moved = sum(moved)
    if not n_moved:
        return ready, []
    return ready, [
        f"{n_moved} of {len(sources)} maps lie on another grid and are resampled, linearly, to that of {grid.name}."
    ]


def _subject_table(
    sources: Sequence[Source], named: MapLabels, covariates: Any, *, durable: bool
) -> tuple[pd.DataFrame, list[str]]:
    matched: pd.DataFrame | None = None
    notes: list[str] = []
    if covariates is not None:
        frame = covariates if isinstance(covariates, pd.DataFrame) else read_table(covariates, "covariates")
        matched, notes = match_rows(frame, named, "covariates", people=True)
        matched = matched.rename(columns=str)
        taken = sorted(set(matched.columns) & set(OWN_COLUMNS))
        if taken:
            raise InputError(invalid("covariates", f"a column {taken[0]!r}", "other column names", "Rename it."))
    table = pd.DataFrame({"subject_label": named.labels, "source": [_where(source) for source in sources]}, dtype="str")
    if durable:
        states = [_state(source) for source in sources]
        table["source_bytes"] = np.array([size for size, _ in states], np.int64)
        table["source_state"] = pd.Series([state for _, state in states], dtype="str")
    return (table if matched is None else pd.concat([table, matched], axis=1)), notes


def _paths(sources: Sequence[Source]) -> tuple[str, ...]:
    """Files of the maps, where each has one of its own."""
    paths = [str(source.file) for source in sources if source.file is not None and source.volume is None]
    return tuple(paths) if len(paths) == len(sources) else ()


def _warn_of_repeats(sources: Sequence[MapSource]) -> None:
    """Tell of a file that stands twice among the maps."""
    files = repeated([_where(source) for source in sources if source.path is not None])
    if files:
        log.warning("The same file is there more than once among the maps: %s.", listed(files))


def _warn_of_statistics(sources: Sequence[Source], told: str) -> None:
    """Tell of maps that are t, F or z of each subject: by the names of their files, or by the first one's header."""
    named = [(source.name, _STATISTIC.search(source.path.name)) for source in sources if source.path is not None]
    odd = next(((name, found.group(found.lastindex or 0).lower()) for name, found in named if found), None)
    odd = odd or ((sources[0].name, told) if told else None)
    if odd is not None:
        log.warning(
            "%s looks like a map of %s, not of an effect: a statistic of one subject mixes its effect with how well "
            "that was measured. A group analysis takes effects, such as con_0001.nii, cope1.nii.gz or beta maps.",
            odd[0],
            odd[1].replace("f", "F"),
        )


_STATISTIC = re.compile(r"^spm([tf])_\d+\.|(?:^|[_-])([tfz])stats?\d*\.nii|(?:^|_)stat-([tfz])_", re.IGNORECASE)
"""SPM's, FSL's and BIDS's names of statistics."""


def _where(source: Source) -> str:
    if source.path is None or not isinstance(source, MapSource):
        return source.name
    return f"{source.path}" if source.volume is None else f"{source.path} (volume {source.volume})"


def _state(source: Source) -> tuple[int, str]:
    """Size of a map in bytes, and a text that changes when the map does."""
    if not isinstance(source, MapSource):
        return _state_of_elements(source)
    file = source.file
    with suppress(OSError, ValueError):  # what is wrong is told where it is opened
        if file is not None:
            stat = file.stat()
            return stat.st_size, f"modified {stat.st_mtime_ns}"
    if source.image is None:
        return 0, "missing"
    values: Any = np.ascontiguousarray(
        source.image.dataobj if source.volume is None else source.image.dataobj[..., source.volume]
    )
    return values.nbytes, f"sha256 {hashlib.sha256(values).hexdigest()}"


def _state_of_elements(source: ElementSource) -> tuple[int, str]:
    """As `_state`: of all files together, or of the values in memory."""
    with suppress(OSError, ValueError):  # what is wrong is told where it is opened
        stats = [file.stat() for file in source.files]
        if stats:
            return sum(stat.st_size for stat in stats), f"modified {max(stat.st_mtime_ns for stat in stats)}"
    values = [np.ascontiguousarray(one) for one in source.values]
    digest = hashlib.sha256(b"".join(one.tobytes() for one in values)).hexdigest()
    return sum(one.nbytes for one in values), f"sha256 {digest}"
