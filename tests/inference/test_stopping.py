"""Shuffling until p are decided."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import numbaglm as ng
from numbaglm.errors import InputError
from numbaglm.inference.running import Run
from numbaglm.results.reporting.tables import null_table, significant
from numbaglm.results.reporting.words import methods_paragraph, summarise, what_was_asked
from numbaglm.stats.anytime import anytime_p, losses_of
from reference.reports import asked

OPTIONS = {"contrast": "intercept", "n_perm": 2000, "tfce": True}


@pytest.fixture(scope="module")
def stopped():
    return ng.permutation_test(*asked(), **OPTIONS, stop="decided")


def test_it_is_the_test_of_as_many_shufflings_with_p_that_hold(stopped):
    n = stopped.provenance["stopped"]["n_random"]
    assert n in (100, 200, 400, 800, 1600, 2000)
    assert stopped.asked.n_shufflings == n + 1
    plain = ng.permutation_test(*asked(), **(OPTIONS | {"n_perm": n}))
    for name in plain.h0:
        np.testing.assert_allclose(stopped.h0[name], plain.h0[name], rtol=1e-6)
    for name in ("p_unc", "p_parametric", "tdp"):
        np.testing.assert_array_equal(stopped.maps[name], plain.maps[name])
    for name in ("p_fwe_voxel", "p_fwe_tfce", "p_fwe_size", "p_fwe_mass"):
        held = anytime_p(losses_of(plain.maps[name], n), n, 0.05)
        np.testing.assert_array_equal(stopped.maps[name], held)
    for name in ("p_fwe_voxel", "p_fwe_size", "p_fwe_mass"):
        held = anytime_p(losses_of(plain.clusters[name].to_numpy(), n), n, 0.05)
        np.testing.assert_array_equal(stopped.clusters[name], held)


def test_critical_values_and_the_summary_are_of_these_p(tmp_path, stopped):
    reached = np.abs(stopped.maps["t"]) > stopped.critical("max_t")
    np.testing.assert_array_equal(reached, stopped.maps["p_fwe_voxel"] <= 0.05)
    assert "random shufflings, " in stopped.summary()
    again = ng.PermutationResult.load(stopped.save(tmp_path / "out"))
    assert again.summary() == stopped.summary()
    text, sources = methods_paragraph(stopped)
    assert "anytime-valid (Fischer & Ramdas, 2024)" in text
    assert any(one.startswith("Fischer") for one in sources)
    assert "of up to 2,000" in dict(what_was_asked(stopped))["Stopping"]


def test_summaries_tables_and_reports_hold_p_against_the_level_that_was_decided_by(tmp_path):
    found = ng.permutation_test(*asked(), **OPTIONS, stop="decided", alpha=0.2)
    n = int((found.maps["p_fwe_voxel"] <= 0.2).sum())
    assert n > 0 == (found.maps["p_fwe_voxel"] <= 0.05).sum()  # never below half the level
    again = ng.PermutationResult.load(found.save(tmp_path / "out"))
    assert again.alpha == 0.2
    assert f"voxels with FWE p <= 0.2: {n:,} (t > {found.critical('max_t', 0.2):.3f})" in again.summary()
    assert summarise(again)["n_fwe_0.2"]["voxel"] == n
    assert any(cell.significant for row in null_table(again).rows for cell in row.cells)
    critical = [row.cells[2].value for row in null_table(again).rows]
    np.testing.assert_allclose(critical, [found.critical(name, 0.2) for name in found.h0])
    assert "Significant means a p of 0.2 or less" in again.report(tmp_path / "report.html").read_text("utf-8")
    np.testing.assert_array_equal(
        significant(again), np.minimum.reduce([found.maps["p_fwe_voxel"], found.maps["p_fwe_tfce"]]) <= 0.2
    )


def test_where_nothing_is_found_it_ends_early():
    rng = np.random.default_rng(5)
    table = pd.DataFrame(rng.normal(size=(30, 20)))
    table.columns = [f"r{k}" for k in range(20)]
    found = ng.permutation_test(table, n_perm=10_000, stop="decided")
    assert found.provenance["stopped"]["n_random"] <= 800
    assert found.provenance["stopped"]["n_open"] == 0
    assert found.maps["p_fwe_voxel"].min() > 0.05


def test_the_same_wherever_it_is_kept(tmp_path, stopped):
    for more in ({"store": tmp_path / "run"}, {"store": tmp_path / "run"}, {"n_workers": 1}):
        again = ng.permutation_test(*asked(), **OPTIONS, stop="decided", **more)
        assert again.provenance["stopped"] == stopped.provenance["stopped"]
        np.testing.assert_array_equal(again.maps["p_fwe_tfce"], stopped.maps["p_fwe_tfce"])


def interrupted_at(monkeypatch, name):
    """Let a test within a run be interrupted before it begins."""
    through = Run.test

    def test(run, spec, of):
        if of == name:
            raise KeyboardInterrupt
        return through(run, spec, of)

    monkeypatch.setattr(Run, "test", test)


def test_an_interrupt_returns_what_is_known(tmp_path, monkeypatch, caplog, stopped):
    whole = stopped.provenance["stopped"]
    with monkeypatch.context() as patch:
        interrupted_at(patch, "contrast-000-part-02")
        found = ng.permutation_test(*asked(), **OPTIONS, stop="decided", store=tmp_path / "run")
    ended = found.provenance["stopped"]
    assert (ended["n_random"], ended["interrupted"]) == (200, True)
    assert ended["n_open"] > 0
    assert "200 of 2,000 random shufflings, and its p hold. The same call goes on." in caplog.text
    assert "Interrupted after 200 of 2,000" in found.summary()
    assert "was interrupted before all p-values" in methods_paragraph(found)[0]
    np.testing.assert_allclose(found.h0["max_t"], stopped.h0["max_t"][:201], rtol=1e-6)
    plain = ng.permutation_test(*asked(), **(OPTIONS | {"n_perm": 200}))
    held = anytime_p(losses_of(plain.maps["p_fwe_voxel"], 200), 200, 0.05)
    np.testing.assert_array_equal(found.maps["p_fwe_voxel"], held)
    again = ng.permutation_test(*asked(), **OPTIONS, stop="decided", store=tmp_path / "run")
    assert again.provenance["stopped"] == whole
    np.testing.assert_array_equal(again.maps["p_fwe_voxel"], stopped.maps["p_fwe_voxel"])


def test_an_interrupt_leaves_the_contrasts_that_were_begun(monkeypatch, caplog):
    cohort, design = asked()
    contrasts = {"mean": [1.0, 0], "other": [0, 1.0]}
    with monkeypatch.context() as patch:
        interrupted_at(patch, "contrast-001-part-00")
        found = ng.permutation_test(cohort, design, contrasts, n_perm=400, errors="ise", stop="decided")
    assert list(found) == ["mean"]
    assert "anything was known of other" in caplog.text
    with monkeypatch.context() as patch:
        interrupted_at(patch, "contrast-000-part-00")
        with pytest.raises(KeyboardInterrupt):
            ng.permutation_test(cohort, design, contrasts, n_perm=400, stop="decided")


def test_what_is_enumerated_or_short_is_made_whole():
    cohort, design = asked()
    for n_perm in (50, 20_000):
        found = ng.permutation_test(cohort, design[["intercept"]], n_perm=n_perm, stop="decided")
        assert "stopped" not in found.provenance
        assert found.asked.n_shufflings in (51, 2**14)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stop": "early"}, "'stop': got 'early'"),
        ({"alpha": 1.5}, "'alpha'"),
        ({"alpha": 0.01, "stop": None}, "pass both"),
        ({"tail": "gamma"}, "tail='gamma'"),
        ({"p_interval": 0.9}, "p_interval"),
        ({"tfce_uncorrected": True}, "tfce_uncorrected"),
        ({"fwe_across_contrasts": True}, "fwe_across_contrasts"),
        ({"conventions": "nilearn"}, "nilearn"),
    ],
)
def test_what_does_not_go_with_it_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        ng.permutation_test(*asked(), "intercept", **({"stop": "decided"} | options))


@pytest.mark.parametrize("kind", ["voxel", "size", "mass", "tfce"])
def test_sequential_p_count_until_so_many_losses(kind, stopped):
    p, name = stopped.sequential_p(kind, losses=5), "max_t" if kind == "voxel" else f"max_{kind}"
    null, observed = stopped.h0[name][1:], np.abs(stopped.maps[name.removeprefix("max_")])
    assert p.shape == observed.shape
    for k in np.r_[np.argsort(-observed)[:20], np.argsort(p)[:: p.size // 20]]:
        lost = np.cumsum(null >= observed[k] * (1 - 1e-5))
        after = np.flatnonzero(lost == 5)
        inside = kind in ("voxel", "tfce") or stopped.maps["clusters"][k] > 0
        expected = 5 / (after[0] + 1 if after.size else null.size + 1)
        assert p[k] == pytest.approx(expected if inside else 1.0)
    assert p.min() == pytest.approx(5 / (null.size + 1)), "something is found"


def test_sequential_p_are_of_random_shufflings(stopped):
    cohort, design = asked()
    for options, message in (({"kind": "peak"}, "'kind'"), ({"losses": 0}, "'losses'"), ({"losses": 2.5}, "'losses'")):
        with pytest.raises(InputError, match=message):
            stopped.sequential_p(**options)
    every = ng.permutation_test(cohort, design[["intercept"]], n_perm=20_000, cluster_forming_threshold=None)
    with pytest.raises(InputError, match="all there are"):
        every.sequential_p()
    with pytest.raises(InputError, match="'kind'"):
        every.sequential_p("size")
