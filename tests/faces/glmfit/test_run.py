import json
import re

import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner
from scipy import sparse, stats

from numbaglm.faces.commands import commands
from numbaglm.faces.glmfit.run import significance
from numbaglm.inference.permutation_test import permutation_test
from reference.freesurfer import read_mgh, write_stack, write_subject
from reference.maps import AFFINE, volumes

N = 14
CLASSES = np.repeat([0, 1], N // 2)
AGE = np.linspace(20, 60, N) + np.tile([0.0, 3.0], N // 2)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with maps of a left hemisphere and the files of a design of two classes and age."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SUBJECTS_DIR", str(tmp_path / "subjects"))
    points, _, cortex = write_subject(tmp_path / "subjects" / "average")
    rng = np.random.default_rng(0)
    maps = rng.normal(2.5, 0.3, (N, len(points))) + 0.01 * (AGE - 40)[:, None]
    maps[CLASSES == 0] += 0.8 * ((points[:, 2] > 30) & (points[:, 0] > 0))
    write_stack(tmp_path / "lh.y.mgh", maps)
    lines = [f"Input s{k} {('young', 'old')[CLASSES[k]]} {AGE[k]}" for k in range(N)]
    text = "\n".join(["GroupDescriptorFile 1", "Class young", "Class old", "Variables age", *lines, ""])
    (tmp_path / "g2v1.fsgd").write_text(text)
    (tmp_path / "group.mtx").write_text("1 -1 0 0\n")
    (tmp_path / "any.mtx").write_text("1 -1 0 0\n0 0 1 -1\n")
    return maps.astype(np.float32), points, cortex


def run(*words, code=0):
    """Run the command in this process; return what it printed."""
    outcome = CliRunner().invoke(commands, [str(word) for word in words])
    if outcome.exception and not isinstance(outcome.exception, SystemExit):
        raise outcome.exception
    assert outcome.exit_code == code, outcome.stderr
    return outcome.stderr if code else outcome.stdout


BASIC = ("glmfit", "--y", "lh.y.mgh", "--fsgd", "g2v1.fsgd", "--surf", "average", "lh", "--glmdir", "glm")


def dods():
    offsets = np.eye(2)[CLASSES]
    return np.hstack([offsets, offsets * AGE[:, None]])


def clusters_of(inside, faces, points):
    """Sizes in mm2 of the connected sets of vertices, and each vertex's set."""
    a, b, c = (points[corner] for corner in faces.T)
    area = np.bincount(faces.ravel(), np.repeat(np.linalg.norm(np.cross(b - a, c - a), axis=1) / 6, 3))
    ends = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    ends = ends[inside[ends].all(axis=1)]
    graph = sparse.coo_array((np.ones(len(ends)), ends.T), shape=(len(points),) * 2)
    number = sparse.csgraph.connected_components(graph, directed=False)[1]
    return np.bincount(number[inside], area[inside], number.max() + 1), number


def test_estimates_are_those_of_least_squares(place, tmp_path):
    maps, _, cortex = place
    run(*BASIC, "--C", "group.mtx", "--C", "any.mtx", "--eres-save", "--yhat-save")
    X, Y = dods(), maps.astype(float)
    beta = np.linalg.lstsq(X, Y, rcond=None)[0]
    error = Y - X @ beta
    rvar = (error**2).sum(axis=0) / (N - 4)
    glm = tmp_path / "glm"
    for name, expected in (
        ("beta", beta.T),
        ("rvar", rvar),
        ("rstd", np.sqrt(rvar)),
        ("eres", error.T),
        ("yhat", (X @ beta).T),
    ):
        found = read_mgh(glm / f"{name}.mgh")
        np.testing.assert_allclose(found[cortex], expected[cortex], rtol=1e-4, atol=1e-5, err_msg=name)
        assert not found[~cortex].any()
    np.testing.assert_array_equal(read_mgh(glm / "mask.mgh"), cortex)
    np.testing.assert_allclose(np.loadtxt(glm / "Xg.dat"), X, rtol=1e-9)
    assert (glm / "dof.dat").read_text() == "10\n"
    assert "Input s0 young 20" in (glm / "y.fsgd").read_text()
    assert (glm / "surface").read_text() == "average lh\n"
    C = np.array([[1.0, -1, 0, 0]])
    gamma, unit = (C @ beta)[0], (C @ np.linalg.inv(X.T @ X) @ C.T)[0, 0]
    t = gamma / np.sqrt(rvar * unit)
    sig = -np.log10(2 * stats.t.sf(np.abs(t), N - 4)) * np.sign(t)
    one = {"gamma": gamma, "gammavar": rvar * unit, "F": t**2, "sig": sig, "cnr": gamma / np.sqrt(rvar)}
    one |= {"z": stats.norm.isf(stats.t.sf(t, N - 4)), "pcc": t / np.sqrt(t**2 + N - 4)}
    for name, expected in one.items():
        found = read_mgh(glm / "group" / f"{name}.mgh")
        np.testing.assert_allclose(found[cortex], expected[cortex], rtol=2e-3, atol=1e-4, err_msg=name)
    C = np.loadtxt("any.mtx")
    gamma = C @ beta
    F = np.einsum("iv,ij,jv->v", gamma, np.linalg.inv(C @ np.linalg.inv(X.T @ X) @ C.T), gamma) / 2 / rvar
    np.testing.assert_allclose(read_mgh(glm / "any" / "F.mgh")[cortex], F[cortex], rtol=1e-3)
    sig = read_mgh(glm / "any" / "sig.mgh")
    np.testing.assert_allclose(sig[cortex], -np.log10(stats.f.sf(F, 2, N - 4))[cortex], rtol=1e-3, atol=1e-4)
    assert sorted(path.name for path in (glm / "any").iterdir()) == sorted(
        ["C.dat", "F.mgh", "efficiency.dat", "gamma.mgh", "maxvox.dat", "sig.mgh", "z.mgh"]
    )


@pytest.mark.parametrize("sign", ["abs", "pos", "neg"])
def test_clusters_are_those_of_the_thresholded_sig(place, tmp_path, sign):
    maps, points, cortex = place
    base = f"perm.th20.{sign}"
    told = json.loads(run(*BASIC, "--C", "group.mtx", "--perm", 199, 2, sign, "--cwp", 1, "--2spaces", "--json", "-q"))
    folder = tmp_path / "glm" / "group"
    sig = read_mgh(folder / "sig.mgh")
    faces = nib.freesurfer.read_geometry(str(tmp_path / "subjects" / "average" / "surf" / "lh.white"))[1]
    height = {"abs": np.abs(sig) >= 2, "pos": sig >= 2 - np.log10(2), "neg": -sig >= 2 - np.log10(2)}[sign]
    sizes, number = clusters_of(height & cortex, faces, points)
    ocn, cluster = read_mgh(folder / f"{base}.sig.ocn.mgh").astype(int), read_mgh(folder / f"{base}.sig.cluster.mgh")
    assert told["contrasts"][0]["n_clusters"] == ocn.max() == np.count_nonzero(sizes)
    np.testing.assert_array_equal(ocn > 0, height & cortex)
    np.testing.assert_array_equal(read_mgh(folder / f"{base}.sig.masked.mgh"), np.where(ocn > 0, sig, 0))
    table = [
        line.split() for line in (folder / f"{base}.sig.cluster.summary").read_text().splitlines() if line[0] != "#"
    ]
    assert [int(row[0]) for row in table] == list(range(1, ocn.max() + 1))
    weights = np.array([[1.0, -1, 0, 0]]) * (-1 if sign == "neg" else 1)
    mesh = str(tmp_path / "subjects" / "average" / "surf" / "lh.white")
    result = permutation_test(
        {"left": maps},
        dods(),
        weights[0],
        {"left": cortex.astype(np.uint8)},
        surfaces={"left": mesh},
        n_perm=199,
        two_sided=sign == "abs",
        merge_signs=sign == "abs",
        cluster_forming_threshold=0.01,
    )
    for row in table:
        inside = ocn == int(row[0])
        (which,) = np.unique(number[inside])
        vertex = int(row[2])
        assert inside[vertex]
        assert abs(sig[vertex]) == pytest.approx(np.abs(sig[inside]).max())
        assert float(row[1]) == pytest.approx(sig[vertex], abs=1e-3)
        assert float(row[3]) == pytest.approx(sizes[which], rel=1e-3)
        np.testing.assert_allclose([float(word) for word in row[4:7]], points[vertex], atol=0.06)
        p = np.mean(result.h0["max_size"] >= sizes[which] * (1 - 1e-6))
        assert float(row[7]) == pytest.approx(1 - (1 - p) ** 2, abs=1e-5)
        assert float(row[8]) <= float(row[7]) <= float(row[9])
        assert int(row[10]) == inside.sum()
        assert row[12] == ("before" if points[vertex, 0] > 0 else "behind")
        np.testing.assert_allclose(np.abs(cluster[inside]), -np.log10(1 - (1 - p) ** 2), rtol=1e-4)
    voxel = read_mgh(folder / f"{base}.sig.voxel.mgh")[cortex]
    p = result.maps["p_fwe_voxel"]
    np.testing.assert_allclose(np.abs(voxel), -np.log10(1 - (1 - p) ** 2), rtol=1e-4, atol=1e-6)
    labels, _, names = nib.freesurfer.read_annot(str(folder / f"{base}.sig.ocn.annot"))
    np.testing.assert_array_equal(labels, ocn)
    assert names[1] == b"cluster-001"
    means = np.loadtxt(folder / f"{base}.y.ocn.dat", ndmin=2)
    np.testing.assert_allclose(means[:, 0], maps[:, ocn == 1].mean(axis=1), rtol=1e-4)


def test_no_message_speaks_of_an_option_of_python(place):
    words = [*BASIC, "--C", "any.mtx", "--perm", "20", "2", "abs"]
    outcome = CliRunner().invoke(commands, words)
    assert outcome.exit_code == 0
    assert "two_sided" not in outcome.stderr


def test_only_clusters_below_the_threshold_of_p_are_reported(place, tmp_path):
    np.savetxt("X.txt", np.eye(2)[CLASSES])
    (tmp_path / "two.mtx").write_text("1 -1\n")
    words = (
        "glmfit",
        "--y",
        "lh.y.mgh",
        "--X",
        "X.txt",
        "--C",
        "two.mtx",
        "--surf",
        "average",
        "lh",
        "--glmdir",
        "glm",
    )
    counts = []
    for cwp in ("1", "0.05"):
        run(*words, "--perm", 199, "1.3", "abs", "--cwp", cwp)
        folder = tmp_path / "glm" / "two"
        text = (folder / "perm.th13.abs.sig.cluster.summary").read_text()
        rows = [line.split() for line in text.splitlines() if not line.startswith("#")]
        assert all(float(row[7]) <= float(cwp) for row in rows)
        assert int(re.search(r"# NClusters +(\d+)", text)[1]) == len(rows)
        assert read_mgh(folder / "perm.th13.abs.sig.ocn.mgh").max() == len(rows)
        counts.append(len(rows))
    assert counts[0] > counts[1] >= 1


def test_a_fit_is_permuted_afterwards_by_its_log(place, tmp_path, monkeypatch):
    run(*BASIC, "--C", "group.mtx")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    run("glmfit-sim", "--glmdir", "../glm", "--perm", 99, "1.3", "pos", "--cwp", ".05", "--3spaces", "--bg", 4)
    after = read_mgh(tmp_path / "glm" / "group" / "perm.th13.pos.sig.cluster.mgh")
    monkeypatch.chdir(tmp_path)
    run(
        *BASIC[:-1],
        "again",
        "--C",
        "group.mtx",
        "--sim",
        "perm",
        99,
        "1.3",
        "csd/mine",
        "--sim-sign",
        "pos",
        "--3spaces",
    )
    np.testing.assert_array_equal(read_mgh(tmp_path / "again" / "group" / "mine.sig.cluster.mgh"), after)
    # The log that FreeSurfer itself writes is read as well.
    log = (
        f"mri_glmfit.bin 7\ncwd {tmp_path}\ncmdline mri_glmfit.bin {' '.join(BASIC[1:])} --C group.mtx\nsysname Linux\n"
    )
    (tmp_path / "glm" / "mri_glmfit.log").write_text(log)
    run("glmfit-sim", "--glmdir", "glm", "--perm", 99, "1.3", "pos", "--3spaces")
    np.testing.assert_array_equal(read_mgh(tmp_path / "glm" / "group" / "perm.th13.pos.sig.cluster.mgh"), after)
    assert "mri_glmfit.log does not exist" in run("glmfit-sim", "--glmdir", "none", "--perm", 9, 2, "abs", code=1)


def test_regressors_and_weights_of_each_vertex(place, tmp_path):
    maps, _, cortex = place
    rng = np.random.default_rng(3)
    own, variance = rng.normal(size=maps.shape), rng.uniform(0.5, 2.0, maps.shape)
    write_stack("curv.mgh", own)
    write_stack("var.mgh", variance)
    (tmp_path / "curv.mtx").write_text("0 0 0 0 1\n")
    run(*BASIC, "--C", "curv.mtx", "--pvr", "curv.mgh", "--perm", 49, 2, "abs")
    vertices = np.flatnonzero(cortex)[::20]
    beta, F = read_mgh(tmp_path / "glm" / "beta.mgh"), read_mgh(tmp_path / "glm" / "curv" / "F.mgh")
    for v in vertices:
        X = np.column_stack([dods(), own[:, v]])
        b = np.linalg.lstsq(X, maps[:, v].astype(float), rcond=None)[0]
        np.testing.assert_allclose(beta[v], b, rtol=1e-3, atol=1e-4)
        rvar = ((maps[:, v] - X @ b) ** 2).sum() / (N - 5)
        assert F[v] == pytest.approx(b[4] ** 2 / (rvar * np.linalg.inv(X.T @ X)[4, 4]), rel=1e-3)
    run(*BASIC[:-1], "wls", "--C", "group.mtx", "--wls", "var.mgh", "--perm", 49, 2, "abs")
    beta, rvar = read_mgh(tmp_path / "wls" / "beta.mgh"), read_mgh(tmp_path / "wls" / "rvar.mgh")
    F, gammavar = (read_mgh(tmp_path / "wls" / "group" / f"{name}.mgh") for name in ("F", "gammavar"))
    for v in vertices:
        w = 1 / np.sqrt(variance[:, v].astype(np.float32).astype(float))
        w *= N / w.sum()
        X, y = dods() * w[:, None], maps[:, v] * w
        b = np.linalg.lstsq(X, y, rcond=None)[0]
        s2 = ((y - X @ b) ** 2).sum() / (N - 4)
        unit = np.array([1.0, -1, 0, 0]) @ np.linalg.inv(X.T @ X) @ np.array([1.0, -1, 0, 0])
        np.testing.assert_allclose(beta[v], b, rtol=1e-3, atol=1e-4)
        assert rvar[v] == pytest.approx(s2, rel=1e-3)
        assert gammavar[v] == pytest.approx(s2 * unit, rel=1e-3)
        assert F[v] == pytest.approx((b[0] - b[1]) ** 2 / (s2 * unit), rel=1e-3)


def test_the_mean_of_volumes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = volumes(10, seed=3) + 0.6
    nib.save(nib.Nifti1Image(np.moveaxis(values, 0, -1), AFFINE), "y.nii.gz")
    out = run("glmfit", "--y", "y.nii.gz", "--osgm", "--glmdir", "mean", "--nii.gz", "--perm", 99, 2, "abs", "--cwp", 1)
    assert "osgm: largest sig" in out
    inside = nib.load("mean/mask.nii.gz").get_fdata() > 0
    t = stats.ttest_1samp(values[:, inside].astype(float), 0, axis=0)
    sig = nib.load("mean/osgm/sig.nii.gz")
    expected = -np.log10(t.pvalue) * np.sign(t.statistic)
    np.testing.assert_allclose(sig.get_fdata()[inside], expected, rtol=2e-3, atol=1e-4)
    assert not sig.get_fdata()[~inside].any()
    np.testing.assert_allclose(sig.affine, AFFINE)
    result = permutation_test("y.nii.gz", n_perm=99, cluster_forming_threshold=0.01, merge_signs=True)
    text = (tmp_path / "mean" / "osgm" / "perm.th20.abs.sig.cluster.summary").read_text()
    first = next(line.split() for line in text.splitlines() if not line.startswith("#"))
    best = result.clusters.sort_values(["p_fwe_size", "size_voxels"], ascending=[True, False]).iloc[0]
    assert (int(first[1]), float(first[7])) == (best["size_voxels"], pytest.approx(best["p_fwe_size"], abs=1e-5))
    run(
        "glmfit",
        "--y",
        "y.nii.gz",
        "--osgm",
        "--glmdir",
        "smooth",
        "--fwhm",
        6,
        "--var-fwhm",
        8,
        "--perm",
        49,
        2,
        "pos",
    )
    assert (tmp_path / "smooth" / "osgm" / "perm.th20.pos.sig.cluster.mgh").exists()


def test_masks_and_zeros(place, tmp_path):
    maps, points, cortex = place
    maps = maps.copy()
    maps[3, :5] = 0
    write_stack("lh.y.mgh", maps)
    (tmp_path / "age.mtx").write_text("0 0 .5 .5\n")
    write_stack("half.mgh", points[None, :, 1] > 0)
    full = np.ones(len(points), bool)
    for words, expected in (
        (("--no-mask",), np.where(np.arange(len(points)) < 5, False, full)),
        (("--no-mask", "--no-prune"), full),
        (("--mask", "half.mgh", "--no-prune"), points[:, 1] > 0),
        (("--mask", "half.mgh", "--mask-inv", "--no-prune"), points[:, 1] <= 0),
        (("--label", "subjects/average/label/lh.cortex.label", "--no-prune"), cortex),
    ):
        run(*BASIC, "--C", "age.mtx", *words)
        np.testing.assert_array_equal(read_mgh(tmp_path / "glm" / "mask.mgh"), expected)


def test_areas_of_a_group_count_where_they_lie_beside_the_mesh(place, tmp_path):
    _, points, _ = place
    write_stack(tmp_path / "subjects" / "average" / "surf" / "lh.white.avg.area.mgh", np.full((1, len(points)), 2.0))
    run(*BASIC, "--C", "group.mtx", "--perm", 19, 2, "abs", "--cwp", 1)
    text = (tmp_path / "glm" / "group" / "perm.th20.abs.sig.cluster.summary").read_text()
    for line in text.splitlines():
        if not line.startswith("#"):
            words = line.split()
            assert float(words[3]) == 2 * int(words[10])


def test_significance_beyond_what_p_can_hold():
    np.testing.assert_allclose(significance(np.array([-60.0, 0.0, 1.96]), True), [-783.6, 0.0, 1.301], rtol=1e-3)
    np.testing.assert_allclose(significance(np.array([1.6449]), False), [1.301], rtol=1e-3)
