"""same.py at its smallest: a checkout gives the same as itself, and what is planted is found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import numbaglm as ng
import same
from checkouts import Checkout
from same_calls import CALLS, PRODUCTS, Call
from same_expected import EXPECTED, Expected

HERE = Path(__file__).parent.parent


def bench_a_checkout_is_the_same_as_itself(tmp_path: Path) -> None:
    told: list[str] = []
    checkouts = Checkout.parse("old", HERE), Checkout.parse("new", HERE)
    assert same.run(checkouts, same.SMALLEST, folder=tmp_path, say=told.append)
    assert len(told) == len(same.SMALLEST) + 1
    assert all(line.startswith("same ") for line in told[:-1])

    # One bit of one array, planted.
    old, new = (same.read(tmp_path / side / "t-flips-all.npz") for side in ("old", "new"))
    new["maps/t"][7] = np.nextafter(new["maps/t"][7], np.inf)
    found = same.judge(CALLS["t-flips-all"], old, new)
    assert not found.passes
    assert "DIFFERENT" in found.text
    assert "maps/t: 1 of " in found.text
    assert "first at 7:" in found.text
    assert same.judge(CALLS["t-flips-all"], old, new, [Expected("t-flips-all/maps/t", "*", "planted")]).passes
    # The same in a call of v is within tolerance; another count is not.
    old, new = (same.read(tmp_path / side / "v-all.npz") for side in ("old", "new"))
    new["maps/v"][7] = np.nextafter(new["maps/v"][7], np.inf)
    found = same.judge(CALLS["v-all"], old, new)
    assert found.passes
    assert found.text.startswith("within tolerance")
    new["maps/p_unc"][7] += 1 / 70
    assert not same.judge(CALLS["v-all"], old, new).passes


OLD = {
    "maps/t": np.array([1.0, 2.0, 0.0]),
    "maps/tfce": np.array([10.0, 200.0, 0.0]),
    "maps/p_unc": np.array([0.01, 0.2, 0.3]),
    "h0/max_size": np.array([3, 5, 4]),
    "clusters.tsv": np.array("cluster\tpeak\n1\t2.5\n2\t1.5\n"),
    "map.nii.gz/header.json": np.array('{"descrip": "", "pixdim": "[1.0, 2.0]"}'),
    "provenance.json": np.array('{"seed": 1, "versions": {"numpy": "1"}, "rows": [[1, 2]], "more": {}}'),
    "page.md": np.array("one\ntwo"),
    "clusters/columns": np.array(["cluster int64", "peak float64"]),
}
TABLE = (
    Expected("*/maps/clusters", "new", "labels"),
    Expected("*.tsv:region", "new", "names"),
    Expected("*/header.json:descrip", "words", "was empty"),
    Expected("*/maps/tfce", "numbers", "another order of operations", same.Tolerance(relative=1e-9, p=0.0)),
)


@pytest.mark.parametrize(
    ("output", "value"),
    [
        ("maps/clusters", np.array([0, 1, 0])),
        ("clusters.tsv", "cluster\tpeak\tregion\n1\t2.5\tx\n2\t1.5\ty\n"),
        ("map.nii.gz/header.json", '{"descrip": "t", "pixdim": "[1.0, 2.0]"}'),
        ("maps/tfce", np.array([10.0, 200.0 + 1e-8, 0.0])),
        ("provenance.json", '{"seed": 1, "versions": {"numpy": "2"}, "rows": [[1, 2]], "more": {}}'),
        ("clusters/columns", np.array(["cluster int64", "region str", "peak float64"])),
    ],
)
def bench_what_is_expected_passes(output: str, value: object) -> None:
    assert same.judge(Call("x", print), OLD, OLD | {output: np.array(value)}, TABLE).passes


@pytest.mark.parametrize(
    ("output", "value", "told"),
    [
        ("maps/other", np.zeros(2), "maps/other: new"),
        ("maps/t", np.array([1.0, 2.0, -0.0]), "maps/t: 1 of 3"),
        ("maps/t", np.array([1.0, 2.0]), "maps/t: float64 (3,) is"),
        ("maps/t", np.array([1.0, 2.0, 0.0], np.float32), "maps/t: float64 (3,) is"),
        ("maps/tfce", np.array([10.0, 200.0 + 1e-5, 0.0]), "maps/tfce: 1 of 3 values by up to 1e-05"),
        ("maps/tfce", np.array([10.0, np.nan, 0.0]), "maps/tfce: 1 of 3"),
        ("maps/p_unc", np.array([0.01, 0.2, 0.4]), "maps/p_unc: 1 of 3"),
        ("h0/max_size", np.array([3, 6, 4]), "h0/max_size: 1 of 3"),
        ("clusters.tsv", "cluster\n1\n2\n", "clusters.tsv:peak: gone"),
        ("clusters.tsv", "peak\tcluster\n2.5\t1\n1.5\t2\n", "clusters.tsv:columns:"),
        ("clusters.tsv", "cluster\tpeak\n1\t2.5\n2\t1.6\n", "clusters.tsv:peak: 1 of 2"),
        ("clusters.tsv", "cluster\tpeak\n1\t2.5\n", "clusters.tsv:peak: float64 (2,) is"),
        ("map.nii.gz/header.json", '{"descrip": "", "pixdim": "[1.0, 3.0]"}', "header.json:pixdim: 1 lines"),
        ("map.nii.gz/header.json", '{"pixdim": "[1.0, 2.0]"}', "header.json:descrip: gone"),
        (
            "provenance.json",
            '{"seed": 2, "versions": {}, "rows": [[1, 2]], "more": {}}',
            ".json:seed: 1 of 1",
        ),
        ("provenance.json", '{"seed": 1, "rows": [[1, 3]], "more": {}}', "provenance.json:rows:0: 1 of 2"),
        ("provenance.json", '{"seed": 1, "rows": [[1, 2]]}', "provenance.json:more: gone"),
        ("page.md", "one\nthree", "page.md: 1 lines, first 'two' is 'three'"),
        ("page.md", "one", "page.md: 0 lines, 1 more or fewer"),
        ("clusters/columns", np.array(["cluster int32", "peak float64"]), "clusters/columns: ["),
    ],
)
def bench_every_other_difference_fails(output: str, value: object, told: str) -> None:
    found = same.judge(Call("x", print), OLD, OLD | {output: np.array(value)}, TABLE)
    assert not found.passes
    assert told in found.text


@pytest.mark.parametrize("output", OLD)
def bench_what_is_gone_fails(output: str) -> None:
    new = {name: value for name, value in OLD.items() if name != output}
    found = same.judge(Call("x", print), OLD, new, TABLE)
    assert not found.passes
    assert f"{output}: gone" in found.text


def bench_calls_that_fail_on_both_sides_fail() -> None:
    failed = {"FAILED": np.array("a")}
    assert not same.judge(Call("x", print), failed, failed).passes
    assert same.judge(Call("x", print), OLD, OLD).text.startswith("same ")


def bench_expected_differences_are_of_a_kind_and_have_a_reason() -> None:
    for version, table in EXPECTED.items():
        assert version != ng.__version__
        assert len(set(table)) == len(table)
        for one in table:
            assert one.reason
            assert one.kind in ("new", "gone", "numbers", "words", "picture", "other")
            assert (one.tolerance is not None) is (one.kind == "numbers")


@pytest.mark.parametrize(
    ("name", "change", "within"),
    [
        ("maps/v", 1e-14, True),
        ("maps/v", 1e-9, False),
        ("h0/max_z", 1e-14, True),
        ("h0/max_z", 1e-9, False),
        ("maps/p_unc", 1e-9, False),
        ("maps/p_unc", 1 / 301, False),
        ("maps/v", np.nan, False),
    ],
)
def bench_tolerance(name: str, change: float, within: bool) -> None:
    old = np.linspace(0.1, 0.9, 300)
    new = old.copy()
    new[5] += change
    (found,) = same.compare({name: old}, {name: new})
    assert same.close(found, PRODUCTS) is within
    assert not same.close(found, None)


def bench_a_folder_without_the_package(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no checkout"):
        Checkout.parse("old", tmp_path)
    assert Checkout.parse("new", HERE).version == ng.__version__
