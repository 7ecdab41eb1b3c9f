"""What `numbaglm palm` does: tests of PALM's files, results under PALM's names."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numbaglm.arrays import Floats
from numbaglm.data.storage.files import write_file
from numbaglm.errors import InputError, OutputError, ShufflingError, worded
from numbaglm.faces.palm.files import read_labels
from numbaglm.faces.palm.inputs import Input, read_inputs, who_stays
from numbaglm.faces.palm.model import Model, Tested, read_models
from numbaglm.faces.palm.names import UNIVARIATE, Demeaned, Joint, Pearson, glm_maps, maps_of, nulls_of, suffix
from numbaglm.faces.palm.request import MULTIVARIATE, Request, Spatial
from numbaglm.inference.permutation_test import permutation_test
from numbaglm.results.result import PermutationResult
from numbaglm.stats.shuffling.blocks import parse_blocks
from numbaglm.stats.shuffling.trees import orbits

log = logging.getLogger("numbaglm")

MOST_SHUFFLINGS = 2**20
"""How many are enumerated where all are asked for."""

_TERMS = {"errors='ise'": "-ise", "errors='ee'": "-ee"}


@dataclass(frozen=True, eq=False)
class Call:
    """A call of `numbaglm.permutation_test`.

    Attributes
    ----------
    inputs
        By modality, from 1.
    joint
        What is made of several: by number of the test, or None where all tests are one; empty where each is tested by
        itself.
    options
        Of the call.
    """

    model: Model
    tests: tuple[Tested, ...]
    inputs: Mapping[int, Input]
    spatial: Spatial
    stat: str
    joint: Mapping[int | None, Joint]
    options: Mapping[str, Any]

    def run(self, **more: Any) -> dict[tuple[int | None, int | None], Any]:
        """Results, or plans, by modality and number of the test; None where one is of all."""
        named = {f"m{number}": one.cohort for number, one in self.inputs.items()}
        maps = named if len(named) > 1 else next(iter(named.values()))
        contrasts = {one.name: one.weights if one.is_f else one.weights[0] for one in self.tests}
        with _worded():
            found: Any = permutation_test(maps, self.model.matrix, contrasts, **self.options, **more)
        together = self.options.get("combine_contrasts")
        if self.joint and together != "within":
            found = {None: found}
        else:
            found = {k: found[f"m{k}"] if len(named) > 1 else found for k in self.inputs}
        return {
            (modality, number): its if number is None else its[f"c{number}"]
            for modality, its in found.items()
            for number in ((None,) if together else [one.number for one in self.tests])
        }


def run_request(request: Request, progress: bool) -> tuple[dict[str, Any], str]:
    """Read, test and write.

    Each file is written whole or not at all, those of a test when it is done.

    Returns
    -------
    A summary, as JSON types and as text.
    """
    _check_root(request.root)
    kept = who_stays(request)
    inputs = read_inputs(request, progress, kept)
    n_subjects = inputs[0].cohort.n_subjects
    n_rows = n_subjects if kept is None else kept.size
    models = read_models(request, n_rows, kept)
    how = _shuffling(request, n_rows, kept)
    if request.absent:
        how["missing"] = "element"
    if kept is not None:
        log.info("%d subjects whose designs are not whole (-dmiss) are left out.", n_rows - n_subjects)
    if request.over_contrasts and not request.as_z and any(model.mixes_ranks for model in models):
        log.info("-corrcon compares contrasts of different ranks as z: -zstat is on.")
        request = replace(request, as_z=True)
    calls = [call for model in models for call in _calls(request, model, inputs, how)]
    for call in calls:  # what can't be tested is refused before the first takes its time
        _check_numbers(request, call.run(dry_run=True))
    counts = {
        "m": len(inputs),
        "d": len(models),
        "c": max(len(model.tests) for model in models),
    }
    files = _save_masks(request, inputs) if request.save_masks else []
    outcomes = []
    for call in calls:
        for (modality, number), result in call.run(progress=progress).items():
            numbers = {"m": modality, "d": call.model.number, "c": number}
            outcomes.append(_write(request, call, result, modality, number, suffix(request, counts, numbers)))
    summary = {"prefix": request.root, "n_subjects": n_subjects, "masks": files, "tests": outcomes}
    lines = [f"{one['test']}: {_found(one)}\n  " + "\n  ".join(one["files"]) for one in outcomes]
    return summary, "\n".join([*files, *lines])


@contextmanager
def _worded() -> Iterator[None]:
    """Word refusals of shufflings as they are typed."""
    try:
        yield
    except ShufflingError as error:
        if error.refusal is None:
            raise
        text = worded(error.refusal.template, lambda python: _TERMS.get(python, python))
        raise ShufflingError(text) from error


def _check_root(root: str) -> None:
    """Refuse early a prefix that nothing can be written under."""
    folder = Path(f"{root}_").expanduser().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"-o {root}: {folder} is not a folder that may be written to. Make it first.")


def _shuffling(request: Request, n_subjects: int, kept: NDArray[np.bool_] | None) -> dict[str, Any]:
    """Options of all calls on shufflings, of those of ``n_subjects`` that are kept."""
    stay = slice(None) if kept is None else kept
    found: dict[str, Any] = {"seed": request.seed, "errors": request.errors, "method": request.method}
    blocks = None
    if request.blocks is not None:
        blocks = read_labels(request.blocks)
        _check_rows(request.blocks, blocks, n_subjects)
        blocks = blocks[stay]
        single = blocks.shape[1] == 1
        blocks = blocks[:, 0] if single else blocks
        found |= {"exchangeability_blocks": blocks, "block_scheme": request.block_scheme if single else "within"}
        if not single and request.block_scheme != "within":
            log.info("-whole and -within are left aside: the signs of multi-level blocks tell what changes places.")
    if request.groups == "auto":
        assert blocks is not None
        tree = parse_blocks(blocks, found["block_scheme"], len(blocks))
        found["variance_groups"] = orbits(tree)
    elif request.groups is not None:
        groups = read_labels(request.groups)
        _check_rows(request.groups, groups, n_subjects)
        found["variance_groups"] = groups[stay, 0]
    found["n_perm"] = request.n_shufflings - 1 if request.n_shufflings else MOST_SHUFFLINGS
    return found


def _check_rows(path: str, values: NDArray[Any], n_subjects: int) -> None:
    if len(values) != n_subjects:
        raise InputError(f"{path} has {len(values)} rows, but there are {n_subjects} maps. It needs one row for each.")


def _calls(request: Request, model: Model, inputs: Sequence[Input], how: Mapping[str, Any]) -> list[Call]:
    """What is to be called for a design: joint tests last."""
    numbered = dict(enumerate(inputs, 1))
    calls = []
    if request.tests_each:
        together = [numbered] if request.over_modalities else [{number: one} for number, one in numbered.items()]
        for some in together:
            for tests, shufflings in _parts(request, model, request.univariate):
                calls.append(
                    Call(
                        model,
                        tests,
                        some,
                        request.univariate,
                        "",
                        {},
                        _options(request, model, tests, request.univariate, {**how, **shufflings}),
                    )
                )
    if request.combine_contrasts:
        calls += _over_contrasts(request, model, numbered, how)
    elif request.combine_modalities:
        n = len(inputs)
        for tests, shufflings in _parts(request, model, request.of_joint):
            joint: dict[int | None, Joint] = {
                one.number: Joint(request.function, n, len(one.weights), model.dof, request.concordant) for one in tests
            }
            options = _options(request, model, tests, request.of_joint, {**how, **shufflings})
            options |= _combining(request)
            calls.append(Call(model, tests, numbered, request.of_joint, f"npc_{request.function}", joint, options))
    if request.multivariate is not None:
        calls += _multivariate(request, model, numbered, how)
    return calls


def _combining(request: Request) -> dict[str, Any]:
    """Options of a combination."""
    two_sided = request.two_sided or request.concordant
    return {"combine": request.function, "concordant": request.concordant, "two_sided": two_sided}


def _over_contrasts(request: Request, model: Model, inputs: Mapping[int, Input], how: Mapping[str, Any]) -> list[Call]:
    """Combinations of contrasts: of all modalities at once, or of each."""
    ((tests, shufflings),) = _parts(request, model, request.of_joint)
    within = not request.combine_modalities
    n = len(tests) * (1 if within else len(inputs))
    joint: dict[int | None, Joint] = {None: Joint(request.function, n, 1, model.dof, request.concordant)}
    options = _options(request, model, tests, request.of_joint, {**how, **shufflings}) | _combining(request)
    options |= {"combine_contrasts": "within" if within else True, "fwe_across_contrasts": False}
    together = not within or request.over_modalities
    some = [inputs] if together else [{number: one} for number, one in inputs.items()]
    stat = f"npc_{request.function}"
    return [Call(model, tests, each, request.of_joint, stat, joint, options) for each in some]


def _multivariate(request: Request, model: Model, inputs: Mapping[int, Input], how: Mapping[str, Any]) -> list[Call]:
    """Multivariate tests, a call a statistic."""
    by_statistic: dict[tuple[str, str, bytes], list[Tested]] = {}
    for one in model.tests:
        name = request.multivariate or ("wilks" if one.is_f else "hotellingtsq")
        called = (name, name) if request.correlates else MULTIVARIATE[name]
        D = b"" if one.of_variables is None else one.of_variables.tobytes()
        by_statistic.setdefault((*called, D), []).append(one)
    if request.over_contrasts and len(by_statistic) > 1:
        raise InputError(
            "-corrcon with -mv needs one statistic, of the same variables, for all contrasts: name it, such as -mv "
            "Wilks, and give one matrix in the second file of -con."
        )
    calls = []
    for (function, stat, _), some in by_statistic.items():
        mix = some[0].of_variables
        n = len(inputs) if mix is None else len(mix)
        for tests, shufflings in _parts(request, model, request.of_joint, some):
            joint: dict[int | None, Joint] = {
                one.number: Joint(function, n, len(one.weights), model.dof, False) for one in tests
            }
            options = _options(request, model, tests, request.of_joint, {**how, **shufflings})
            options |= {"combine": function, "two_sided": False, "modality_contrast": mix}
            calls.append(Call(model, tests, inputs, request.of_joint, stat, joint, options))
    return calls


def _parts(
    request: Request, model: Model, spatial: Spatial, tests: Sequence[Tested] | None = None
) -> list[tuple[tuple[Tested, ...], dict[str, Any]]]:
    """Tests that go into one call, and the shufflings that were given for them."""
    tests = tuple(model.tests if tests is None else tests)
    files = request.shufflings
    if len(files) > 1:
        if len(files) != len(model.tests) or request.over_contrasts:
            raise InputError(
                f"--shufflings is there {len(files)} times. Allowed: one for all contrasts, or, without -corrcon, one "
                f"for each of the {len(model.tests)}."
            )
        places = [model.tests.index(one) for one in tests]
        return [((one,), {"shufflings": files[k]}) for one, k in zip(tests, places, strict=True)]
    given = {"shufflings": files[0]} if files else {}
    if (request.demean or request.pearson) and spatial.threshold is not None and not request.over_contrasts:
        return [((one,), given) for one in tests]
    return [(tests, given)]


def _options(
    request: Request, model: Model, tests: Sequence[Tested], spatial: Spatial, how: Mapping[str, Any]
) -> dict[str, Any]:
    threshold = spatial.threshold
    adjusted = _adjusted(request, model, tests[0])
    if threshold is not None and adjusted is not None:
        if len({len(one.weights) for one in tests}) > 1:
            raise InputError(
                "-demean and -pearson with -C and -corrcon go with contrasts of one rank: leave one of them out."
            )
        threshold = adjusted.threshold(threshold)
    found: dict[str, Any] = {
        **how,
        "two_sided": request.two_sided,
        "cluster_forming_threshold": None if threshold is None else ("z", threshold),
        "tfce": spatial.tfce,
        "tfce_uncorrected": spatial.tfce and (request.uncorrected or request.fdr is not None),
        "fwe_across_contrasts": request.over_contrasts and len(tests) > 1,
        "tail": request.tail,
        "correlation": request.pearson,
        "conventions": "palm",
        "tfce_E": 0.5,
        "tfce_H": 2.0,
        **request.tfce_options,
    }
    if request.fdr is not None:
        found["fdr"] = request.fdr
    if model.own:
        found["regressors"] = {one.name: one.name for one in model.own}
    if "shufflings" in found:
        del found["n_perm"], found["seed"]
    return found


def _adjusted(request: Request, model: Model, test: Tested) -> Demeaned | Pearson | None:
    """What is to be made of our numbers, where PALM's are on another scale."""
    if not (request.demean or request.pearson):
        return None
    kind = Pearson if request.pearson else Demeaned
    return kind.of(model.dof, test.is_f, len(test.weights))


def _check_numbers(request: Request, plans: Mapping[tuple[int | None, int | None], Any]) -> None:
    """Refuse to enumerate more than can be done."""
    if request.n_shufflings or request.shufflings:
        return
    for (_, number), plan in plans.items():
        if plan.ranges[-1][1] > MOST_SHUFFLINGS:
            what = "all contrasts" if number is None else f"contrast {number}"
            raise InputError(
                f"-n 0 asks for all shufflings of {what}, and there are more than the {MOST_SHUFFLINGS:,} that are "
                "enumerated: give a number, such as -n 10000."
            )


def _save_masks(request: Request, inputs: Sequence[Input]) -> list[str]:
    files = []
    for number, one in enumerate(inputs, 1):
        end = f"_m{number}" if len(inputs) > 1 or request.long_names else ""
        files.append(one.save_mask(f"{request.root}_mask{end}", shared=False))
    if request.shares_voxels and len(inputs) > 1:
        files.append(inputs[0].save_mask(f"{request.root}_intersection_mask", shared=True))
    return files


def _write(
    request: Request, call: Call, result: PermutationResult, modality: int | None, number: int | None, end: str
) -> dict[str, Any]:
    """Write what is asked for of one result, and tell what was found."""
    where = next(iter(call.inputs.values())) if modality is None else call.inputs[modality]
    joint = call.joint.get(number)
    stat = call.stat or UNIVARIATE[result.statistic]
    test = next((one for one in call.tests if one.number == number), call.tests[0])
    adjusted = None if joint is not None else _adjusted(request, call.model, test)
    demeaned = adjusted if isinstance(adjusted, Demeaned) else None
    found = maps_of(request, result, where.unit, stat, call.spatial, joint is not None, demeaned)
    if request.glm and joint is None and not test.is_f:
        found += glm_maps(result, where.unit, call.model.glm(test.number), demeaned)
    files = []
    for one in found:
        name = "_".join(part for part in (request.root, one.stem, one.kind) if part) + end
        values, left_out = one.values, 0.0
        if one.is_p:
            values, left_out = _as_asked(request, values), float(_as_asked(request, np.ones(1))[0])
        files.append(where.save(values, name, left_out))
    if request.nulls and result.h0:
        for stem, null in nulls_of(request, result, where.unit, stat, call.spatial, joint, adjusted).items():
            files.append(f"{request.root}_{stem}_max{end}.csv")
            write_file(Path(files[-1]).expanduser(), "".join(f"{one:.17g}\n" for one in null).encode(), "null")
    if request.dof:
        files.append(f"{request.root}_{where.unit}_{stat}{end}.dof")
        write_file(Path(files[-1]).expanduser(), f"{_dof(result, where)}\n".encode(), "degrees of freedom")
    least = {name: float(result.maps[name].min()) for name in result.maps if name.startswith("p_fwe_")}
    return {
        "test": f"{stat}{end}",
        "dof": _dof(result, where),
        "n_shufflings": result.provenance["n_shufflings"],
        "shuffling": result.provenance["shuffling"],
        "largest_statistic": float(np.max(result.maps[result.statistic])),
        "least_corrected_p": least,
        "files": files,
    }


def _dof(result: PermutationResult, where: Input) -> Any:
    """Degrees of freedom of the residuals, of those who are there: they are the same at all elements of an input."""
    there = result.maps.get("n_subjects")
    return result.provenance["dof"] - (0 if there is None else where.cohort.n_subjects - int(there.max()))


def _as_asked(request: Request, p: Floats) -> Floats:
    """p as it is to be written."""
    if request.log_p:
        return np.asarray(-np.log10(p))
    return 1.0 - p if request.one_minus_p else p


def _found(outcome: dict[str, Any]) -> str:
    least = ", ".join(f"{kind.removeprefix('p_fwe_')} {p:.4f}" for kind, p in outcome["least_corrected_p"].items())
    text = f"up to {outcome['largest_statistic']:.2f}"
    return f"{text}; least corrected p of {outcome['n_shufflings']:,} shufflings: {least}" if least else text
