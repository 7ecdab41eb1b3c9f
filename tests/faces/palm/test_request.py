import pytest

from numbaglm.errors import InputError
from numbaglm.faces.palm.flags import read_words
from numbaglm.faces.palm.request import Own, Request, Spatial

LEAST = "-i a.nii -d d.csv -t t.csv"


def parse(text):
    return Request.parse(read_words(f"{LEAST} {text}".split()))


def test_defaults_are_palms():
    asked = parse("")
    assert (asked.root, asked.n_shufflings, asked.seed, asked.errors) == ("palm", 10_000, 0, "ee")
    assert (asked.method, asked.block_scheme, asked.tail, asked.fdr) == ("freedman-lane", "within", "counts", None)
    assert asked.univariate == Spatial(None, False)
    assert asked.tests_each
    assert not asked.shares_voxels


def test_thresholds_of_univariate_and_joint_tests():
    joint = "-i b.nii -npc"
    assert parse(f"{joint} -C 2 -Tnpc").univariate == Spatial(2.0, False)
    assert parse(f"{joint} -C 2 -Tnpc").of_joint == Spatial(2.0, True)
    assert parse(f"{joint} -Cuni 3 -C 2").univariate == Spatial(3.0, False)
    assert parse("-i b.nii -mv -Cmv 1.5 -Tmv").of_joint == Spatial(1.5, True)


def test_words_are_read_however_they_are_spelled():
    assert parse("-rmethod terBraak").method == "ter-braak"
    assert parse("-i b.nii -npc -npcmethod Mudholkar-George").function == "mudholkar-george"
    assert parse("-i b.nii -mv Roy_iii").multivariate == "royiii"
    assert parse("-i b.nii -mv CCA 2").multivariate == "cca2"
    assert parse("-i b.nii -mv PLS").multivariate == "pls1"
    assert parse("-fdr").fdr == "bky"
    assert parse("-fdr BH").fdr == "bh"
    assert parse("-ee -ise").errors == "both"
    assert parse("-eb e.csv -whole -within").block_scheme == "both"
    assert parse("-accel tail out").tail == "pareto"


def test_exponents_of_tfce():
    assert parse("-T -tfce2D -tfce_H 1.5").tfce_options == {"tfce_H": 1.5, "tfce_E": 1.0, "tfce_connectivity": 26}
    assert parse("-T -tfce_dh 0.1").tfce_options == {"tfce_dh": 0.1}
    assert parse("-T -tfce_dh auto").tfce_options == {}


def test_regressors_of_voxels():
    assert parse("-evperdat ev.nii 3").own == (Own("ev.nii", 3, 1),)
    assert parse("-evperdat ev.nii").own == (Own("ev.nii", 1, 1),)
    assert parse("-d e.csv -t u.csv -evperdat ev.nii 2 2").own[0].design == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("-m m.nii -m n.nii", "-m is there 2 times for 1 inputs"),
        ("-imiss m.csv", "-imiss without -mcar joins a test .*: add -mcar"),
        ("-mcar", "-mcar is of subjects that are missing: name them by -imiss or -dmiss"),
        ("-i b.nii -imiss m.csv -mcar", "-imiss is there 1 times for 2 inputs"),
        ("-dmiss m.csv -dmiss n.csv -mcar", "-dmiss is there 2 times for 1 designs"),
        ("-imiss m.csv -mcar -demean -saveglm", "-imiss goes with t, F and -vg .*: leave -demean and -saveglm out"),
        ("-i b.nii -imiss m.csv -imiss n.csv -mcar -npc", "leave -npc out"),
        ("-imiss m.csv -mcar -rmethod manly", "leave -rmethod manly out"),
        ("-dmiss m.csv -mcar --shufflings s.csv", "--shufflings with -dmiss"),
        ("-con c.mset", "-con stands in the place of -t and -f: leave -t out"),
        ("-fonly", "-fonly needs F tests: add -f"),
        ("-whole", "-whole needs blocks: add -eb"),
        ("-vg auto", "-vg auto follows from blocks"),
        ("-npc", "-npc takes several inputs"),
        ("-i b.nii -npc -mv", "-mv and -npc exclude each other"),
        ("-concordant", "-concordant is of combinations: add -npc"),
        ("-corrmod", "-corrmod takes several inputs"),
        ("-Cnpc 2", "-Cnpc is of joint tests: add -npc or -mv"),
        ("-tfce2D", "-tfce options need -T"),
        ("-n -3", "-n -3: allowed is a whole number from 0"),
        ("-C two", "-C two: allowed is a number above 0"),
        ("-seed twist", "-seed twist can't be repeated"),
        ("-Cstat density", "-Cstat density: allowed are extent and mass"),
        ("-i b.nii -npc -npcmethod Friston 1", "-npcmethod Friston 1 is not supported. Allowed are Tippett"),
        ("-i b.nii -mv CCA 1 -n 1", "-n 1 makes parametric maps alone"),
        ("-i b.nii -mv PLS 2", "-mv PLS 2 is not supported. Allowed are Wilks"),
        ("-accel lowrank", "-accel lowrank is not supported: shufflings are fast enough"),
        ("-accel fast", "-accel fast is not supported. Allowed are tail and gamma"),
        ("-pmethodr None", "-pmethodr None: allowed are Ridgway"),
        ("-pmethodp None", "-pmethodp None: shufflings are told apart"),
        ("-npccon -corrcon", "-npccon makes one test of all contrasts"),
        ("-npccon -rmethod Manly", "-npccon goes with t and F as they are"),
        ("-i b.nii -npc -demean", "-demean with -npc and -mv is not supported"),
    ],
)
def test_flags_that_exclude_or_need_each_other(text, message):
    with pytest.raises(InputError, match=message):
        parse(text)


def test_what_must_be_there():
    with pytest.raises(InputError, match="-i names no maps"):
        Request.parse(read_words(["-d", "d.csv", "-t", "t.csv"]))
    with pytest.raises(InputError, match="-d names no design"):
        Request.parse(read_words(["-i", "a.nii", "-evperdat", "ev.nii", "2", "1"]))
    with pytest.raises(InputError, match="-f joins contrasts"):
        Request.parse(read_words(["-i", "a.nii", "-d", "d.csv", "-f", "f.csv"]))


def test_without_a_design_signs_are_flipped():
    for words, errors in (((), "ise"), (("-ee",), "ise"), (("-d", "d.csv"), "ee"), (("-evperdat", "e.nii"), "ee")):
        assert Request.parse(read_words(["-i", "a.nii", *words])).errors == errors
