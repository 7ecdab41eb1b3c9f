import pytest
from click.testing import CliRunner

from numbaglm.faces.commands import commands
from numbaglm.faces.glmfit.command import FLAGS, REFUSED, SIMULATION, WITHOUT_EFFECT

# Of their help and their sources.
GLMFIT = """
    --glmdir --y --table --fsgd --X --C --osgm --no-contrasts-ok --dti --dti-X --pvr --selfreg --wls --yffxvar
    --ffxdof --ffxdofdat --w --w-inv --w-sqrt --fwhm --var-fwhm --no-mask-smooth --no-est-fwhm --mask --label
    --no-mask --no-cortex --cortex --mask-inv --prune --no-prune --prune_thr --logy --no-logy --rm-spatial-mean
    --yhat-save --eres-save --eres-scm --save-fwhm-map --y-out --surf --surface --skew --kurtosis --sim --sim-sign
    --uniform --pca --tar1 --save-yhat --save-eres --save-cond --voxdump --seed --synth --resynthtest --profile
    --mrtm1 --mrtm2 --perm-force --diag --diag-cluster --debug --checkopts --help --no-fix-vertex-area
    --allowsubjrep --allow-zero-dof --illcond --sim-done --nii --nii.gz --mgh --mgz --o --fisher --pcc --no-pcc
    --rescale-x --no-rescale-x --no-tar1 --qa --distance --asl --asl-rev --perm-1 --perm-nonstatcor --frame-mask
    --wg --rand-exclude --exclude-frame --exclude-frame-file --rand-split --subsample --xonly --maxvox --beta --rvar
    --yhat --eres --smooth --var-smooth --no-fwhm-est --fsgd-rescale --dontsave --dontsavewn --reshape
    --really-use-average7 --sim-thresh-loop --sim-thresh-loop-pos --no-illcond --nocheckopts --diag-show
    --diag-verbose
"""
SIM = """
    --glmdir --y --mczsim --mcsim --cache --mczsim-dir --cache-dir --mczsim-label --cache-label --vol-subject --grf
    --perm --perm-nonstatcor --sim --sim-sign --subject-override --centroid --log --a2009s --annot --overwrite
    --pbsubmit --bg --no-bg --sleep --seed --fwhm-override --fwhm-add --perm-force --perm-resid --no-perm-force
    --no-perm-resid --tmp --bonferroni --2spaces --3spaces --cwpvalthresh --cwp --uniform --base --no-sim
    --spatial-sum --diag-cluster --no-out-annot --no-cluster-mean --no-y --no-grf-ocn-anat --grf-ocn-anat --debug
    --help --perm-signflip
"""


@pytest.mark.parametrize(("flags", "names"), [(FLAGS, GLMFIT), (SIMULATION, SIM)])
def test_every_flag_is_known_or_refused_by_name(flags, names):
    known = {spelling for flag in flags for spelling in (flag.name, *flag.others)} | {"--help"}
    assert set(names.split()) - known == set()
    spellings = [spelling for flag in flags for spelling in (flag.name, *flag.others)]
    assert len(set(spellings)) == len(spellings)
    fields = [flag.field for flag in flags if flag not in WITHOUT_EFFECT]
    assert len(set(fields)) == len(fields)


@pytest.mark.parametrize("flag", REFUSED, ids=lambda flag: flag.name)
def test_refusals_come_before_any_work(flag):
    outcome = CliRunner().invoke(commands, ["glmfit", "--y", "none.mgh", flag.name, "1"])
    assert outcome.exit_code == 2
    assert f"mri_glmfit's {flag.name} is not supported: {flag.refusal}." in outcome.stderr


def test_help_names_what_is_refused():
    for name in ("glmfit", "glmfit-sim"):
        assert "--perm N THRESH SIGN" in CliRunner().invoke(commands, [name, "--help"]).stdout
    assert "--cache" in CliRunner().invoke(commands, ["glmfit", "--help"]).stdout
