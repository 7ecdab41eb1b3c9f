"""One cache of compiled code for several vector widths, and the nulls of each of them."""

from __future__ import annotations

import numpy as np
import pytest
from numba import config
from numba.core.codegen import get_host_cpu_features

from reference.widths import nulls

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(config.DISABLE_JIT, reason="nothing is compiled (NUMBA_DISABLE_JIT)"),
]

HOST = get_host_cpu_features().split(",")
AVX2 = ["-" + name[1:] if name[1:].startswith(("avx512", "avx10")) else name for name in HOST]
TARGETS = {"host": {}, "generic": {"NUMBA_CPU_NAME": "generic"}}
if {"+avx512f", "+avx2", "+fma"} <= set(HOST):
    TARGETS["avx2"] = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": ",".join(AVX2)}

# Without a fused product and sum every one of them rounds twice; of the largest.
TOLERANCE = {"scores": 1e-6, "TFCE": 3e-6}


@pytest.fixture(scope="module")
def in_turn(tmp_path_factory):
    """Nulls of each target when it compiles into the cache that the others use, and when it finds its code there."""
    cache, folder = tmp_path_factory.mktemp("cache"), tmp_path_factory.mktemp("nulls")
    return [{name: nulls(target, cache, folder) for name, target in TARGETS.items()} for _ in range(2)]


def test_each_finds_its_own_code(in_turn):
    first, second = in_turn
    for target in TARGETS:
        for name, expected in first[target].items():
            np.testing.assert_array_equal(second[target][name], expected, err_msg=f"{target}, {name}")


def test_all_count_the_same(in_turn):
    names = [name for name in in_turn[0]["host"] if name.endswith("counts")]
    assert len(names) == 12
    for target in TARGETS:
        for name in names:
            found, expected = in_turn[0][target][name], in_turn[0]["host"][name]
            np.testing.assert_array_equal(found, expected, err_msg=f"{target}, {name}")
            assert (found >= 2).all(), "the observed one, and the one that equals it"


def test_nulls_are_the_same_bits_wherever_products_are_fused(in_turn):
    if "avx2" not in TARGETS:
        pytest.skip("this processor has no vectors of two widths that fuse products and sums: AVX-512 and AVX2")
    host, avx2 = in_turn[0]["host"], in_turn[0]["avx2"]
    assert (host["bytes"], avx2["bytes"]) == (64, 32)
    for name in host.keys() - {"bytes"}:
        np.testing.assert_array_equal(avx2[name], host[name], err_msg=name)


def test_nulls_differ_by_rounding_elsewhere(in_turn):
    host, generic = in_turn[0]["host"], in_turn[0]["generic"]
    for name, expected in host.items():
        kind = next((kind for kind in ("TFCE", "scores") if kind in name), None)
        if kind and not name.endswith("counts"):
            error = np.abs(generic[name] - expected).max() / np.abs(expected).max()
            assert error < TOLERANCE[kind], name


def test_the_width_is_what_numba_compiles_for(in_turn):
    # On this processor "generic" has no wide vectors, whatever there is.
    assert in_turn[0]["generic"]["bytes"] == (32 if any("sse2" in name for name in HOST) else 16)
