import pytest
from click.testing import CliRunner

from numbaglm.faces.afni.command import MVM, MVM_REFUSED, TTEST, TTEST_REFUSED
from numbaglm.faces.commands import commands

# Of their help.
TTEST_ALL = """
    -setA -setB -set1 -set2 -labelA -labelB -singletonA -singleton_variance_ratio -covariates -center -cmeth
    -paired -unpooled -toz -zskip -rankize -no1sam -nomeans -notests -nocov -mask -exblur -brickwise -prefix
    -resid -ACF -dupe_ok -debug -Clustsim -CLUSTSIM -prefix_clustsim -no5percent -tempdir -seed -randomsign
    -permute -nopermute -ETAC -ETAC_mem -ETAC_blur -ETAC_opt -ETAC_arg -AminusB -BminusA -help -overwrite
"""
MVM_ALL = """
    -prefix -mask -jobs -model -bsVars -wsVars -wsMVT -mVar -SC -qVars -vVars -qVarCenters -vVarCenters -num_glt
    -gltLabel -gltCode -dataTable -help -show_allowed_options -cio -Rio -overwrite
"""


@pytest.mark.parametrize(("flags", "names"), [((*TTEST, *TTEST_REFUSED), TTEST_ALL), ((*MVM, *MVM_REFUSED), MVM_ALL)])
def test_every_flag_is_known_or_refused_by_name(flags, names):
    known = {spelling.lower() for flag in flags for spelling in (flag.name, *flag.others)} | {"-help"}
    assert {name.lower() for name in names.split()} - known == set()


@pytest.mark.parametrize(("name", "flags"), [("3dttest++", TTEST_REFUSED), ("3dMVM", MVM_REFUSED)])
def test_refusals_come_before_any_work(name, flags):
    for flag in flags:
        outcome = CliRunner().invoke(commands, [name, flag.name, "1"])
        assert outcome.exit_code == 2
        assert f"{name}'s {flag.name} is not supported: {flag.refusal}." in outcome.stderr
    assert flags[0].name in CliRunner().invoke(commands, [name, "--help"]).stdout
