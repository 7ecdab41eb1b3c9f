"""The short version of validity.py, as a test: schemes that hold their level are not seen to break it."""

from __future__ import annotations

import validity
from validity_page import put

SEEN = {
    ("samples of 8 and 24, first 3 times as noisy", "permutations, t"),
    ("groups of 6, 8 and 14, first 3 times as noisy", "permutations, F"),
    ("12 confounds, n = 30, Gaussian", "still-white"),
    ("10 families of 3, covariate of the family", "permutations, no blocks"),
}
"""Errors so large that few runs show them: were they missing, the short version could show none."""

KNOWN = SEEN | {
    ("one sample, skewed, n = 16", "sign flips"),
    ("groups of 6, 8 and 14, first 3 times as noisy", "permutations, G (variance groups)"),
    ("groups of 12, 12 and 12, first 3 times as noisy", "permutations, F"),
    ("12 confounds, n = 30, skewed", "still-white"),
    ("12 confounds, n = 30, Gaussian", "kennedy"),
    ("12 confounds, n = 30, skewed", "kennedy"),
    ("12 confounds, n = 30, Gaussian", "r"),
    ("12 confounds, n = 30, skewed", "r"),
    ("6 pairs and 4 trios, covariate partly the family's", "permutations, no blocks"),
}
"""Each of these is documented next to its option."""

UNLIKE = {
    ("samples of 8 and 24, first 3 times as noisy", "permutations, v (variance groups)"),
    ("groups of 6, 8 and 14, first 3 times as noisy", "permutations, G (variance groups)"),
    ("groups of 12, 12 and 12, first 3 times as noisy", "permutations, G (variance groups)"),
}
"""Corrected p of maps that change places though their variances differ: who asks for `errors="ee"` has them."""


def test_error_rates():
    n_runs, n_voxels, n_perm, n_maps = validity.SIZES["small"]
    table = validity.error_table(n_runs, n_voxels, n_perm)
    broken = {(row["data"], row["scheme"]) for _, row in table.iterrows() if row["_low"] > 1.2}
    assert SEEN <= broken <= KNOWN
    families = validity.familywise_table(n_maps, 2 * n_perm)
    rows = families.set_index(["data", "scheme"])[["_voxel", "_size", "_tfce"]]
    broken = set(rows.index[(rows >= 0.05).any(axis=1)])
    assert {("groups of 6, 8 and 14, first 3 times as noisy", "permutations, G (variance groups)")} <= broken <= UNLIKE


def test_a_section_takes_its_place_and_leaves_the_others(tmp_path):
    page = tmp_path / "validity.md"
    for section in ("## One\n\nfirst\n", "## Two\n\nsecond\n", "## One\n\nfirst, again\n"):
        put(section, page)
    assert page.read_text() == "# Error rates and power\n\n## One\n\nfirst, again\n\n## Two\n\nsecond\n"
