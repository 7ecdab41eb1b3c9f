"""A cluster whose workers are of different processors, which round differently: one answer."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numba import config

from numbaglm import Cohort, permutation_test
from numbaglm.engine.permutation.plan import Plan
from numbaglm.engine.permutation.size import BATCH
from numbaglm.inference import running
from numbaglm.kernels.panels.shuffle import TILE
from reference.dask_cluster import Cluster
from reference.maps import write_maps

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(config.DISABLE_JIT, reason="nothing is compiled (NUMBA_DISABLE_JIT)"),
]

PLAIN = {"NUMBA_CPU_NAME": "generic"}
"""The vectors that every such processor has."""


def make_plan(size, room, n_workers, **_):
    """Cut into many small tasks: blocks of a tile, two rounds."""
    blocks = tuple((v, min(v + TILE, size.n_voxels)) for v in range(0, size.n_voxels, TILE))
    return Plan(BATCH, blocks, ((0, BATCH), (BATCH, size.n_shufflings)), False, map_rows=32)


def test_workers_of_two_processors_give_one_answer(tmp_path, monkeypatch):
    """Of this one, and of a plainer one: each map of a shuffling is of blocks of both."""

    def processor():
        import os

        from numbaglm.kernels.panels import fused

        compiled = [one for one in vars(fused).values() if getattr(one, "signatures", ())]
        return os.environ.get("NUMBA_CPU_NAME", "own"), bool(compiled)

    monkeypatch.setattr(running, "make_plan", make_plan)
    values = np.random.default_rng(0).normal(0.2, 1, (10, 16, 16, 14)).astype(np.float32)
    cohort = Cohort.create(tmp_path / "c.zarr", write_maps(tmp_path / "maps", values), n_workers=1)
    options = {"n_perm": 400, "cluster_forming_threshold": ("t", 1.0), "tfce": True}
    expected = permutation_test(cohort, **options, n_workers=1)
    cluster = Cluster(tmp_path)
    try:
        for one in ({}, PLAIN):
            cluster.start_workers(1, one)
        with cluster.client() as client:
            client.wait_for_workers(2, timeout=60)
            found = permutation_test(cohort, **options, client=client)
            ran = sorted(name for name, scored in client.run(processor).values() if scored)
    finally:
        cluster.stop()
    assert ran == ["generic", "own"]
    for name, values in expected.maps.items():
        rtol = 0 if name.startswith("p_") else 3e-6
        np.testing.assert_allclose(found.maps[name], values, rtol=rtol, err_msg=name)
    pd.testing.assert_frame_equal(found.clusters, expected.clusters, rtol=3e-6)
    for name in expected.h0:
        np.testing.assert_allclose(found.h0[name], expected.h0[name], rtol=3e-6, err_msg=name)
