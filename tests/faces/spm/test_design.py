import numpy as np
import pytest
import scipy.io
from scipy import sparse

from numbaglm.errors import DesignError, InputError, MissingFileError
from numbaglm.faces.spm.design import read_study
from reference.spm_mat import cells, design, indicators, save, whole

FILES = [f"/study/s{k:02d}/con_0001.nii" for k in range(1, 9)]
PAIR = np.repeat(np.arange(1, 5), 2)
CONDITION = np.tile([1, 2], 4)
TWO = np.repeat([1, 2], 4)


def paired(**more):
    return design(H=indicators(CONDITION, "Condition"), B=indicators(PAIR, "Subject"), title="Paired t-test", **more)


def variances(labels):
    return [np.diag((np.asarray(labels) == level).astype(float)) for level in np.unique(labels)]


def test_a_two_sample_design_with_its_names_roles_and_contrasts(tmp_path):
    made = design(
        H=indicators(TWO, "Group"),
        C=(np.arange(8.0)[:, None], ["age"]),
        G=(np.ones((8, 1)), ["global"]),
        title="Two-sample t-test",
        Vi=variances(TWO),
    )
    con = [("A > B", "T", [1, -1, 0, 0]), ("any", "F", [[1, -1, 0, 0], [0, 0, 1, 0]])]
    file = save(*(tmp_path / "SPM.mat", FILES, made), con=con, masks=["/tpm/mask_ICV.nii"], scaling=np.arange(1, 9) / 4)
    for place in (file, tmp_path):
        study = read_study(place)
    assert (study.title, study.n_scans, study.was) == ("Two-sample t-test", 8, str(tmp_path))
    assert study.columns == ("Group_{1}", "Group_{2}", "age", "global")
    assert study.roles == ("condition", "condition", "covariate", "nuisance")
    np.testing.assert_array_equal(study.matrix, made["xX"]["X"])
    assert [(one.number, one.name, one.kind) for one in study.contrasts] == [(1, "A > B", "T"), (2, "any", "F")]
    np.testing.assert_array_equal(study.contrasts[1].weights, [[1, -1, 0, 0], [0, 0, 1, 0]])
    assert study.volumes == tuple((file, 0) for file in FILES)
    assert study.masks == ("/tpm/mask_ICV.nii",)
    assert study.implicit
    assert (study.thresholds == -np.inf).all()
    np.testing.assert_array_equal(study.scaling, np.arange(1, 9) / 4)
    np.testing.assert_array_equal(study.variance_groups() == study.variance_groups()[0], TWO == 1)
    assert study.blocks() == (None, "")
    assert "Two-sample t-test, 8 images; 2 condition column(s): Group_{1}, Group_{2}; 1 covariate" in study.told()[0]


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("mapped", [False, True])
def test_volumes_by_mapped_images_or_by_names(tmp_path, mapped, padded):
    files = [("/d/a.nii", 3), ("/d/longer name.img", 1), ("/d/a.nii", 12), *FILES[:5]]
    made = design(H=(np.ones((8, 1)), ["mean"]))
    study = read_study(save(tmp_path / "SPM.mat", files, made, mapped=mapped, padded=padded))
    assert study.volumes[:4] == (("/d/a.nii", 2), ("/d/longer name.img", 0), ("/d/a.nii", 11), (FILES[0], 0))
    assert study.contrasts == ()


def test_people_by_blocks_by_names_and_by_dependence(tmp_path):
    by_blocks = read_study(save(tmp_path / "SPM.mat", FILES, paired()))
    np.testing.assert_array_equal(by_blocks.blocks()[0], PAIR)
    assert by_blocks.blocks()[1] == "block columns (xX.iB)"
    both = indicators(CONDITION, "time")[0], indicators(PAIR, "subjects")
    named = design(H=(np.hstack([both[0], both[1][0]]), ["time_{1}", "time_{2}", *both[1][1]]))
    by_names = read_study(save(tmp_path / "SPM.mat", FILES, named))
    np.testing.assert_array_equal(by_names.blocks()[0], PAIR)
    pairs = np.kron(np.eye(4), [[0.0, 1.0], [1.0, 0.0]])
    linked = design(H=indicators(CONDITION, "time"), Vi=[*variances(CONDITION), pairs])
    by_dependence = read_study(save(tmp_path / "SPM.mat", FILES, linked))
    np.testing.assert_array_equal(by_dependence.blocks()[0], PAIR)
    assert by_dependence.blocks()[1] == "non-sphericity (xVi.Vi)"
    assert by_dependence.depends
    assert by_dependence.variance_groups() is None


def test_a_first_level_is_refused_with_what_to_do(tmp_path):
    spm = whole(FILES, paired()) | {"Sess": {"U": {"name": cells(["go"])}}, "xBF": {"name": "hrf"}}
    scipy.io.savemat(tmp_path / "SPM.mat", {"SPM": spm})
    with pytest.raises(InputError, match=r"first level.*--spm-dir FOLDER --con 1"):
        read_study(tmp_path)


def test_what_makes_no_design_is_refused_by_name(tmp_path):
    with pytest.raises(MissingFileError, match=r"SPM\.mat does not exist"):
        read_study(tmp_path)

    def refused(match, error=DesignError, **changes):
        scipy.io.savemat(tmp_path / "SPM.mat", {"SPM": whole(FILES, paired()) | changes})
        with pytest.raises(error, match=match):
            read_study(tmp_path)

    refused("holds no design", InputError, xX="nothing")
    made = paired()["xX"]
    refused("holds NaN", xX=made | {"X": np.full((8, 6), np.nan)})
    for part in ("I", "iH"):
        refused(
            rf"SPM\.xX\.{part}\) are damaged: they are no whole numbers",
            InputError,
            xX=made | {part: np.full((8, 4), 1e300)},
        )
    refused("8 rows, but 2 images", xX=made, xY={"P": cells(FILES[:2])})
    refused("names no images", xY={"RT": 2.0})
    refused("thresholds .* 3 numbers for 8 images", InputError, xM={"TH": np.zeros((3, 1)), "I": 1.0})
    short = whole(FILES, paired(), con=[("c", "T", [1, -1, 0, 0, 0, 0])])["xCon"]
    short[0, 0]["c"] = np.ones((2, 1))
    refused(r"contrast 1 \(c\) has weights of shape \(2, 1\) for 6 columns", xCon=short)


def test_sparse_designs_and_single_components_are_read(tmp_path):
    made = paired()
    made["xX"]["X"] = sparse.csc_matrix(made["xX"]["X"])
    study = read_study(save(tmp_path / "SPM.mat", FILES, made))
    assert study.matrix.shape == (8, 6)
    assert len(study.components) == 1
    assert not study.depends
