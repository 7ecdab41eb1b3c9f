from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from numbaglm.data.cohort.layout import Arrays
from numbaglm.data.cohort.presence import pack
from numbaglm.data.cohort.store import CohortStore
from numbaglm.data.runs.ledger import MemoryLedger
from numbaglm.data.runs.maps import MemoryMaps
from numbaglm.engine.permutation.plan import Plan
from numbaglm.engine.permutation.records import ObservedBlock
from numbaglm.engine.permutation.voxels import DrawTable, Source, draw_batch, permute_block, prepare_block
from numbaglm.spaces.volume import Geometry
from numbaglm.stats.families.family import PRESENCE, Prepared
from numbaglm.stats.model.hypothesis import Hypothesis
from numbaglm.stats.shuffling.shufflings import plan_shufflings
from reference.specs import spec_of

N_VOXELS = 150
DATA = np.random.default_rng(0).normal(0.3, 1, (12, N_VOXELS)).astype(np.float32)
DATA[:, 7] = 0
STORE = CohortStore.from_array(DATA, Geometry(np.ones((N_VOXELS, 1, 1), bool), np.eye(4)))


@pytest.mark.parametrize("errors", ["ee", "ise", "both"])
def test_shufflings_are_the_same_from_a_table(errors):
    class Spec:
        shufflings = plan_shufflings(12, 50, 3, design_rows=np.arange(12.0)[:, None], errors=errors)

    ledger = MemoryLedger()
    shared = ledger.share("spec", Spec)
    for number in range(3):
        drawn = draw_batch(shared, 20 * number, min(20 * number + 20, 51))
        assert (drawn.index is None, drawn.flips is None) == (errors == "ise", errors == "ee")
        ledger.put(f"draw/{number:05d}", drawn)
    table = DrawTable(ledger, "draw", 20, 51, 12)
    for start, stop in ((0, 20), (5, 9), (43, 51)):
        for found, expected in zip(table.draw(start, stop), Spec.shufflings.draw(start, stop), strict=True):
            np.testing.assert_array_equal(found, expected)
            assert found.dtype == expected.dtype


def test_a_block_is_observed_and_at_unit_length():
    spec = spec_of(precision="float64")
    block = prepare_block(STORE, spec, 0, N_VOXELS)
    data = DATA.astype(float)
    varies = np.arange(N_VOXELS) != 7
    rho = data.sum(axis=0)[varies] / np.sqrt(12 * (data**2).sum(axis=0)[varies])
    np.testing.assert_allclose(block.observed.score[varies], rho, rtol=1e-10)
    np.testing.assert_allclose(block.observed.effect[0], data.mean(axis=0), atol=1e-7)
    np.testing.assert_array_equal(block.observed.degenerate, ~varies)
    assert block.observed.z[7] == block.observed.score[7] == 0
    E = block.tiles.transpose(1, 0, 2).reshape(12, -1)
    np.testing.assert_allclose(np.linalg.norm(E[:, :N_VOXELS][:, varies], axis=0), 1, rtol=1e-6)
    np.testing.assert_array_equal(E[:, N_VOXELS:], E[:, N_VOXELS - 1 : N_VOXELS].repeat(E.shape[1] - N_VOXELS, axis=1))


def test_blocks_and_ranges_change_nothing():
    spec, ledger = spec_of(threshold=0.5), MemoryLedger()
    plan = Plan(batch=16, blocks=((0, N_VOXELS),), ranges=((0, 401),), resident=True, drawn=64)
    kept = {}
    source = Source(STORE, ledger.share("spec", spec), plan, None, kept)
    maps = MemoryMaps(np.empty((401, N_VOXELS), np.float32))
    whole = permute_block(source, 0, N_VOXELS, 0, 401, ledger, "observed", (maps,))
    parts = [permute_block(source, 0, N_VOXELS, *span, ledger, None, ()) for span in ((0, 100), (100, 401))]
    np.testing.assert_array_equal(np.concatenate([part.maxima for part in parts]), whole.maxima)
    np.testing.assert_array_equal(sum(part.counts for part in parts), whole.counts)
    np.testing.assert_array_equal(np.concatenate([part.voxel for part in parts]), whole.voxel)
    assert list(kept) == [0]
    np.testing.assert_array_equal(whole.maxima, np.abs(maps.array).max(axis=1))
    picked = np.abs(maps.array) >= np.float32(0.5)
    np.testing.assert_array_equal(np.diff(whole.bounds), picked.sum(axis=1))
    np.testing.assert_array_equal(whole.value, maps.array[picked])
    assert ledger.get("observed", ObservedBlock).score.shape == (N_VOXELS,)


@dataclass(frozen=True, eq=False)
class ByItself:
    """t, by a family that prepares its data, and counts what it is handed."""

    plain: Hypothesis

    def __call__(self, given):
        seen = self.plain.observe(given.data)
        there = np.ones(given.data.shape, bool) if given.present is None else given.present
        fixed, more = np.empty((0, seen.score.size)), np.vstack([there.sum(axis=0), given.layers["double"].sum(axis=0)])
        layers = (seen.E,)
        return Prepared(
            layers, seen.score, seen.statistic, seen.effect, seen.degenerate, seen.length, fixed, more.astype(float)
        )


@pytest.mark.parametrize("absent", [False, True])
def test_a_family_that_prepares_its_data_is_handed_what_it_needs(absent):
    present = np.ones(DATA.shape, bool)
    present[0, 100:] = not absent
    layers = {"data": DATA, "double": 2 * DATA}
    header = replace(STORE.header, layers=tuple(layers), has_presence=absent)
    store = CohortStore(None, header, Arrays(layers, pack(present) if absent else None, None))
    spec = spec_of(threshold=0.5)
    family = replace(
        spec.family,
        prepare=ByItself(spec.hypothesis),
        needs=("double", PRESENCE),
        more=("n_subjects", "dof"),
        observe=None,
    )
    own = replace(spec, hypothesis=replace(spec.hypothesis, family=family))
    here, there = (prepare_block(store, one, 20, N_VOXELS) for one in (own, spec))
    np.testing.assert_array_equal(here.tiles, there.tiles)
    for name in ("score", "statistic", "z", "effect", "degenerate", "length"):
        np.testing.assert_array_equal(getattr(here.observed, name), getattr(there.observed, name))
    assert there.observed.more is None
    np.testing.assert_array_equal(here.observed.more[0], present[:, 20:].sum(axis=0))
    np.testing.assert_allclose(here.observed.more[1], 2 * DATA[:, 20:].sum(axis=0), rtol=1e-6, atol=1e-5)
    joined = ObservedBlock.joined([here.observed, here.observed])
    np.testing.assert_array_equal(joined.more, np.hstack([here.observed.more] * 2))
