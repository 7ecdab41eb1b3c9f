import numpy as np
import pytest

from numbaglm.errors import ContrastError, InputError, MissingFileError
from numbaglm.faces.glmfit.command import glmfit
from numbaglm.faces.glmfit.request import Request, contrast_name
from reference.freesurfer import write_subject


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SUBJECTS_DIR", raising=False)
    write_subject(tmp_path / "subjects" / "average")
    (tmp_path / "X.txt").write_text("1 0\n1 1\n1 2\n")
    (tmp_path / "slope.mtx").write_text("0 1\n")
    return tmp_path


def parse(*words):
    return Request.parse(glmfit.make_context("glmfit", [str(word) for word in words]).params["given"])


BASIC = ("--y", "y.mgh", "--glmdir", "glm", "--X", "X.txt", "--C", "slope.mtx")


def test_a_call_is_a_request(place):
    request = parse(
        *BASIC, "--surf", "average", "lh", "--sd", "subjects", "--perm", 500, "2.3", "neg", "--2spaces", "--mgz"
    )
    assert request.surface.file == place / "subjects" / "average" / "surf" / "lh.white" or request.surface.file.exists()
    assert request.label.endswith("lh.cortex.label")
    assert (request.ending, request.prune, request.permutations.base) == ("mgz", True, "perm.th23.neg")
    assert request.permutations.p == pytest.approx(10**-2.3)
    np.testing.assert_allclose(request.permutations.over_spaces(np.array([0.05])), 1 - 0.95**2)
    assert request.command.startswith("mri_glmfit --y y.mgh --glmdir glm")
    np.testing.assert_array_equal(request.model.contrasts["slope"], [[0, 1]])
    assert parse(*BASIC, "--surf-file", "subjects/average/surf/lh.white").label is None
    assert [contrast_name(name) for name in ("a/b.mtx", "c.con", "d.txt")] == ["b", "c", "d.txt"]


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (BASIC[2:], InputError, "--y is needed"),
        (BASIC[:2] + BASIC[4:], InputError, "--glmdir is needed"),
        (BASIC[:4], InputError, "A design is needed"),
        ((*BASIC, "--osgm"), InputError, "--X and --osgm exclude each other"),
        (BASIC[:6], InputError, "No contrast is given"),
        ((*BASIC[:6], "--C", "slope.mtx", "gamma0.mtx"), InputError, "gamma0, is not supported"),
        ((*BASIC, "--pvr", "x.mgh"), ContrastError, "has 2 columns, but the design has 2 and 1 of --pvr"),
        ((*BASIC, "--wls", "v.mgh", "--pvr", "x.mgh"), InputError, "--wls does not go with --pvr"),
        ((*BASIC, "--perm", "10", "2", "both"), InputError, "The sign is one of abs, pos, neg"),
        ((*BASIC, "--perm", "some", "2", "abs"), InputError, "--perm some 2 abs"),
        ((*BASIC, "--sim", "mc-z", "10", "2", "x"), InputError, "only perm is supported"),
        ((*BASIC, "--cwp", "2", "--perm", "10", "2", "abs"), InputError, "--cwp 2"),
        ((*BASIC, "--surf", "average", "lh"), InputError, "SUBJECTS_DIR, which is not set"),
        ((*BASIC, "--surf", "average", "rh", "--sd", "subjects"), MissingFileError, "rh.white does not exist"),
        ((*BASIC, "--surf", "average", "left", "--sd", "subjects"), InputError, "the hemisphere is lh or rh"),
        ((*BASIC, "--surf", "average", "lh", "--sd", "subjects", "--fwhm", "5"), InputError, "mri_surf2surf --fwhm"),
        ((*BASIC, "--surf", "average", "lh", "--sd", "subjects", "--var-fwhm", "5"), InputError, "--var-fwhm smooths"),
        ((*BASIC, "--label", "lh.cortex.label"), InputError, "--label needs the surface"),
        ((*BASIC, "--wls", "v.mgh", "--eres-save"), InputError, "don.t go with --wls"),
    ],
)
def test_flags_that_contradict_each_other_are_refused(place, words, error, message):
    with pytest.raises(error, match=message):
        parse(*words)
