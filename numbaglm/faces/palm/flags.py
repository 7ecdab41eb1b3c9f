"""PALM's flags: what each takes and means, which there are not here, and how a command line is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import click


@dataclass(frozen=True)
class Flag:
    """A flag.

    Attributes
    ----------
    name
        As it is typed.
    text
        What it does.
    metavar
        What follows it; "" for nothing.
    values
        How many words follow it, at least and at most.
    several
        Whether it may be there more than once.
    parameter
        Parameter of `numbaglm.permutation_test` that it sets, in whose refusals it stands.
    """

    name: str
    text: str
    metavar: str = ""
    values: tuple[int, int] = (0, 0)
    several: bool = False
    parameter: str = ""


ONE = (1, 1)

FLAGS = {
    flag.name: flag
    for flag in (
        Flag(
            "-i",
            "Input: a 4D image, maps of a surface, a table (.csv), CIFTI. Several make modalities.",
            "FILE",
            ONE,
            True,
            "maps",
        ),
        Flag("-m", "Mask: one for all inputs, or one an input, in their order.", "FILE", ONE, True, "mask"),
        Flag(
            "-s", "Surface of an input, in their order; areas of its vertices.", "MESH [AREA]", (1, 2), True, "surfaces"
        ),
        Flag("-o", "What the names of all outputs start with.  [default: palm]", "PREFIX", ONE),
        Flag(
            "-d",
            "Design matrix, .csv or FSL's .mat. Several are tested one after the other.",
            "FILE",
            ONE,
            True,
            "design_matrix",
        ),
        Flag("-t", "t contrasts, .csv or FSL's .con, of the design of the same number.", "FILE", ONE, True, "contrast"),
        Flag("-f", "F tests, .csv or FSL's .fts: which of the t contrasts each joins.", "FILE", ONE, True),
        Flag(
            "-con",
            "Contrasts of any rank in one file of matrices, in the place of -t and -f; those of variables in another.",
            "MSET [MSET]",
            (1, 2),
            True,
        ),
        Flag("-fonly", "F tests alone."),
        Flag("-tonly", "t contrasts alone."),
        Flag("-conskipcount", "Number contrasts from this one on, plus 1.", "NUMBER", ONE),
        Flag(
            "-evperdat",
            "Maps that are a regressor of each voxel's own, in place of a column of a design.  [default: 1 1]",
            "FILE [COLUMN] [DESIGN]",
            (1, 3),
            True,
            "regressors",
        ),
        Flag(
            "-imiss",
            "Who is missing in an input: a number a subject, 0 for those who are there. One for each -i. With -mcar.",
            "FILE",
            ONE,
            True,
            "missing",
        ),
        Flag(
            "-dmiss",
            "What is missing in a design: 0 for each number that is there. Subjects that lack any leave. With -mcar.",
            "FILE",
            ONE,
            True,
        ),
        Flag("-mcar", "Test those who are there, as values are missing completely at random."),
        Flag("-demean", "Remove the mean from data and design."),
        Flag(
            "-n",
            "Shufflings, the observed data among them; 0 for all there are.  [default: 10000]",
            "NUMBER",
            ONE,
            False,
            "n_perm",
        ),
        Flag("-seed", "Of the shufflings.  [default: 0]", "NUMBER", ONE, False, "seed"),
        Flag(
            "--shufflings",
            "Shufflings of one's own, as -saveperms writes them: one file for all contrasts, or one for each.",
            "FILE",
            ONE,
            True,
            "shufflings",
        ),
        Flag("-ee", "Exchangeable errors: permutations. The default; with -ise both.", parameter="errors"),
        Flag("-ise", "Independent and symmetric errors: sign flips."),
        Flag(
            "-eb",
            "Exchangeability blocks: labels, or PALM's multi-level form.",
            "FILE",
            ONE,
            False,
            "exchangeability_blocks",
        ),
        Flag("-within", "Shuffle within blocks. The default."),
        Flag("-whole", "Shuffle blocks as wholes.", parameter="block_scheme"),
        Flag("-vg", "Variance groups; 'auto' for those who change places.", "FILE", ONE, False, "variance_groups"),
        Flag("-rmethod", "Regression method.  [default: Freedman-Lane]", "NAME", ONE, False, "method"),
        Flag("-pmethodr", "Partition of the model: Ridgway, Beckmann, or Guttman where it is the same.", "NAME", ONE),
        Flag("-pmethodp", "Partition that tells shufflings apart: Guttman.", "NAME", ONE),
        Flag("-twotail", "Test t contrasts on both sides.", parameter="two_sided"),
        Flag("-pearson", "Correlations in place of t, R2 in place of F; the mean is removed.", parameter="correlation"),
        Flag(
            "-C", "Clusters, univariate and joint, of z of this and more.", "Z", ONE, False, "cluster_forming_threshold"
        ),
        Flag("-Cuni", "The same of univariate tests.", "Z", ONE),
        Flag("-Cnpc", "The same of combinations.", "Z", ONE),
        Flag("-Cmv", "The same of multivariate tests.", "Z", ONE),
        Flag("-Cstat", "Of clusters: extent or mass.  [default: extent]", "NAME", ONE),
        Flag("-T", "Threshold-free cluster enhancement, univariate and joint.", parameter="tfce"),
        Flag("-Tuni", "The same of univariate tests."),
        Flag("-Tnpc", "The same of combinations."),
        Flag("-Tmv", "The same of multivariate tests."),
        Flag("-tfce1D", "TFCE of series: H = 2, E = 2, 6 neighbours."),
        Flag("-tfce2D", "TFCE of surfaces and skeletons: H = 2, E = 1, 26 neighbours."),
        Flag("-tfce_H", "Exponent of height.  [default: 2]", "VALUE", ONE, False, "tfce_H"),
        Flag("-tfce_E", "Exponent of extent.  [default: 0.5]", "VALUE", ONE, False, "tfce_E"),
        Flag("-tfce_C", "Neighbours: 6, 18 or 26.  [default: 6]", "NUMBER", ONE, False, "tfce_connectivity"),
        Flag("-tfce_dh", "Step of height.  [default: a hundredth of the maximum]", "VALUE", ONE, False, "tfce_dh"),
        Flag("-npc", "Combine modalities, by Fisher's method if no other is named."),
        Flag("-npcmod", "Combine modalities."),
        Flag("-npccon", "Combine contrasts.", parameter="combine_contrasts"),
        Flag(
            "-npcmethod",
            "Tippett, Fisher, Stouffer, Edgington, Mudholkar-George or Winer.  [default: Fisher]",
            "NAME",
            (1, 3),
            False,
            "combine",
        ),
        Flag("-concordant", "Combinations: effects of one sign alone.", parameter="concordant"),
        Flag(
            "-mv",
            "Multivariate: Wilks, HotellingTsq, Lawley, Pillai, Roy, Roy_iii, CCA and a number, or PLS.",
            "[NAME] [NUMBER]",
            (0, 2),
        ),
        Flag("-corrmod", "Correct over modalities as well."),
        Flag("-corrcon", "Correct over contrasts as well.", parameter="fwe_across_contrasts"),
        Flag("-fdr", "p adjusted for the false discovery rate as well: BKY, or BH.  [default: BKY]", "[NAME]", (0, 1)),
        Flag("-accel", "Refine p by the tail of nulls: tail, or gamma.", "NAME", (1, 3), False, "tail"),
        Flag("-zstat", "Write z in place of statistics."),
        Flag("-logp", "Write -log10 p."),
        Flag("-save1-p", "Write 1 - p."),
        Flag("-saveparametric", "Parametric p as well."),
        Flag("-saveglm", "Effects, their variances and Cohen's d as well."),
        Flag("-savemax", "Nulls of maxima as text, a value a shuffling, the observed first."),
        Flag("-savemask", "Masks as they were used."),
        Flag("-savedof", "Degrees of freedom as text."),
        Flag("-forceintersectionmask", "Test only what all inputs have."),
        Flag("-nounivariate", "Joint tests alone."),
        Flag("-nouncorrected", "No uncorrected p."),
        Flag("-saveuncorrected", "Uncorrected p. The default."),
        Flag("-verbosefilenames", "Names with _m1, _d1 and _c1 even where there is one alone."),
        Flag("-transposedata", "Tables have a column a subject."),
        Flag("-quiet", "Print the outcome, warnings and errors alone."),
        Flag("-noniiclass", "Nothing: images are read in pieces, compressed or not."),
        Flag("-precision", "Nothing: what needs double precision is computed in it.", "NAME", ONE),
        Flag("-noranktest", "Nothing: voxels whose variables follow from each other are left out and counted."),
        Flag("-cmcp", "Nothing: no shuffling is drawn twice."),
        Flag("--quiet", "The same as -quiet."),
        Flag("--json", "Print the outcome as JSON."),
        Flag("--verbose", "Print everything, tracebacks of errors included."),
    )
}
"""What can be typed, by name."""

REFUSED = {
    "-cmcx": "shufflings that arrange what is tested alike are the same one; leave it out",
    "-designperinput": "all inputs are tested by all designs; run the command once an input",
    "-ev4vg": "add a column for each variance group to the design",
    "-inormal": "transform the maps first",
    "-probit": "transform the maps first",
    "-inputmv": "give each variable a file of its own after -i",
    "-removevgbysize": "leave these subjects out of maps and design",
    "-reversemasks": "turn the mask round first",
    "-saveperms": "maps of shufflings are not kept; shuffling i follows from -seed and i alone",
    "-savecdf": "take -save1-p",
    "-savemetrics": "metrics of shufflings are not made",
    "-subjidx": "leave subjects out of maps and design",
    "-swe": "variances of clusters of subjects: numbaglm permute --covariance sandwich",
    "-syncperms": "contrasts share their shufflings with -corrcon",
    "-tableasvolume": "tables have no neighbours; give images",
    "-vgdemean": "add a column for each variance group to the design",
}
"""What PALM has and numbaglm has not, and what to do instead."""


@dataclass(frozen=True)
class Typed:
    """A command line, read.

    Attributes
    ----------
    given
        Words that follow each flag, each time that it is there.
    """

    given: Mapping[str, list[tuple[str, ...]]]

    def __contains__(self, name: str) -> bool:
        return name in self.given

    def all(self, name: str) -> list[tuple[str, ...]]:
        """Words after a flag, each time that it is there."""
        return self.given.get(name, [])

    def files(self, name: str) -> tuple[str, ...]:
        """First words after a flag, each time that it is there."""
        return tuple(words[0] for words in self.all(name))

    def words(self, name: str) -> tuple[str, ...] | None:
        """Words after a flag; None where it is not there."""
        return self.given[name][0] if name in self.given else None

    def word(self, name: str) -> str | None:
        """The word after a flag; None where there is none."""
        words = self.words(name)
        return words[0] if words else None


def read_words(words: Sequence[str]) -> Typed:
    """Read a command line.

    Raises
    ------
    click.UsageError
        A flag that there is not, or that takes other words.
    """
    given: dict[str, list[tuple[str, ...]]] = {}
    place = 0
    while place < len(words):
        name = words[place]
        end = place + 1
        while end < len(words) and not _is_flag(words[end]):
            end += 1
        if not _is_flag(name):
            raise click.UsageError(f"Got {name!r} where a flag would come, such as -i.")
        given.setdefault(name, []).append(tuple(words[place + 1 : end]))
        place = end
    for name, times in given.items():
        _check(name, times)
    return Typed(given)


def _is_flag(word: str) -> bool:
    if not word.startswith("-") or word == "-":
        return False
    try:
        float(word)
    except ValueError:
        return True
    return False


def _check(name: str, times: list[tuple[str, ...]]) -> None:
    if name in REFUSED:
        raise click.UsageError(f"PALM's {name} is not supported: {REFUSED[name]}.")
    if name not in FLAGS:
        near = get_close_matches(name, [*FLAGS, *REFUSED], 1, 0.5)
        raise click.UsageError(
            f"There is no flag {name}.{f' Did you mean {near[0]}?' if near else ''} 'numbaglm palm --help' has all."
        )
    flag = FLAGS[name]
    if len(times) > 1 and not flag.several:
        raise click.UsageError(f"{name} is there {len(times)} times. Allowed: once.")
    least, most = flag.values
    for words in times:
        if not least <= len(words) <= most:
            takes = f"{name} {flag.metavar}".strip()
            raise click.UsageError(f"Got {' '.join((name, *words))!r}. Allowed: {takes}.")
