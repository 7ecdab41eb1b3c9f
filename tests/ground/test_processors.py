"""A cluster of other processors than this one: the same answer. Blocks are apart, so a cluster of both gives it too."""

from __future__ import annotations

import numpy as np
import pytest
from numba import config

from numbaglm import Cohort, permutation_test
from numbaglm.data.cohort import writer
from reference.dask_cluster import Cluster
from reference.maps import volumes, write_maps

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(config.DISABLE_JIT, reason="nothing is compiled (NUMBA_DISABLE_JIT)"),
]


def test_workers_of_another_processor_give_the_same_p(tmp_path, monkeypatch):
    """Workers with the vectors that every such processor has, which round otherwise than those of this one."""

    def processor():
        import os

        from numbaglm.kernels.panels import fused

        compiled = [one for one in vars(fused).values() if getattr(one, "signatures", ())]
        return os.environ.get("NUMBA_CPU_NAME", "own"), bool(compiled)

    monkeypatch.setattr(writer, "choose_chunks", lambda *_: (5, 24))
    maps = write_maps(tmp_path / "maps", volumes(10))
    cohort = Cohort.create(tmp_path / "c.zarr", maps, n_workers=1)
    options = {"n_perm": 300, "cluster_forming_threshold": None}
    expected = permutation_test(cohort, **options, n_workers=1)
    cluster = Cluster(tmp_path)
    try:
        cluster.start_workers(2, {"NUMBA_CPU_NAME": "generic"})
        with cluster.client() as client:
            client.wait_for_workers(2, timeout=60)
            found = permutation_test(cohort, **options, client=client)
            ran = {name: True for name, scored in client.run(processor).values() if scored}
    finally:
        cluster.stop()
    assert ran == {"generic": True}
    for name in ("p_unc", "p_fwe_voxel"):
        np.testing.assert_array_equal(found.maps[name], expected.maps[name], err_msg=name)
    np.testing.assert_allclose(found.h0["max_t"], expected.h0["max_t"], rtol=3e-6)
