"""What differs from an older release by intention, and why: rows of a table that `same.py` goes by.

A row is for a kind of outputs, and holds what it lets pass to that kind: a row for outputs that are new lets none be
gone, and a row for numbers states how far they may be apart.
"""

from __future__ import annotations

from dataclasses import dataclass

from same_calls import Tolerance


@dataclass(frozen=True)
class Expected:
    """A kind of difference.

    Attributes
    ----------
    outputs
        Patterns of ``call/output``, apart by blanks.
    kind
        Of `same.Difference`: "new", "gone", "numbers", "words", "picture", "other".
    reason
        Why it is so.
    tolerance
        How far numbers may be apart.
    besides
        What words may differ in (a regular expression): the rest must be the same. Without it they may be any words.
    """

    outputs: str
    kind: str
    reason: str
    tolerance: Tolerance | None = None
    besides: str = ""


_ORDER = "sums in kernels keep their order, which the compiler chose before: the last bits"
_SPACE = "a cohort holds a space of parts, of which a volume is one, and a bit for each value that a map lacks"
_SIGN = "values that maps lack are told by bits, not by the sign of a zero; the fingerprint covers them"
_TDP = "shares of true discoveries, at least, in clusters"
_TDP_COLUMN = r"; TDP, the share that has an effect, at least| +TDP$|  \d\.\d\d$"
_QUALITY = "the quality of maps is a field of the result and a file beside it"
_REPORT = "commands end with a report"
_COUNT = "more distinct shufflings than anyone counts are told as a whole power of ten"
_POWER = r"about 10\^[\d.]+"
_AUTO = "0.001 in volumes, as it was; other spaces form clusters where a threshold is named"

SINCE_0_1 = (
    # Numbers.
    Expected("*maps/tfce *max_tfce*", "numbers", _ORDER, Tolerance(relative=1e-12, p=0.0)),
    Expected("tail-*/* permute-tail/*", "numbers", f"fits: {_ORDER}", Tolerance(relative=1e-11, p=1e-13)),
    Expected("cohort-with-holes/maps", "numbers", f"-0.0 is 0.0: {_SIGN}", Tolerance(relative=0.0, p=0.0)),
    Expected("cohort-with-holes/info:fingerprint missing-values-tested/*:cohort_fingerprint", "words", _SIGN),
    # Maps, columns and files.
    Expected("*maps/clusters */clusters.nii.gz/* *_dseg.*", "new", "clusters by their numbers in the table"),
    Expected("*maps/tdp *tdp.nii.gz/* *_stat-tdp_statmap.*", "new", _TDP),
    Expected("*clusters/tdp *clusters.tsv:tdp *clusters.json:tdp:* *:clusters:*:tdp", "new", _TDP),
    Expected("*maps/*p_fdr_contrasts *p_fdr_contrasts.nii.gz/*", "new", "false discovery rate over contrasts"),
    Expected("*/quality.json", "new", _QUALITY),
    Expected("*provenance.json:quality:*", "gone", _QUALITY),
    Expected("permute*report.html demo/*report.html *stdout:report", "new", _REPORT),
    Expected("demo/files/cohort.zarr/mask/*", "gone", _SPACE),
    Expected("demo/files/cohort.zarr/space/*", "new", _SPACE),
    # Keys.
    Expected("*provenance.json:* *.json:Conventions:*", "new", "options and conventions that 0.1 had not"),
    Expected("cohort-*/info:* convert-*/cohort/info:*", "new", _SPACE),
    Expected("*fit.json:elements *fit.json:maximum_at", "new", "what elements are called, and where the maximum is"),
    Expected("*_statmap.json:Units", "new", "units of maps"),
    # Headers of maps.
    Expected(
        "*/header.json:cal_max */header.json:cal_min */header.json:descrip */header.json:intent_*",
        "words",
        "they were empty, and say what values are, and their range",
    ),
    # Words.
    Expected("*:shuffling *:Shuffling summaries/*", "words", _COUNT, besides=_POWER),
    Expected(
        "*stdout",
        "words",
        f"{_TDP}; {_REPORT}; what of memory is left",
        besides=rf"{_TDP_COLUMN}|^The report is .*\n|open \S*report.html in a browser, or |^  here .*\n",
    ),
    Expected(
        "*README.md",
        "words",
        f"lists of the files that are there; {_TDP}; {_COUNT}",
        besides=rf"^- `[^`]*`.*\n|^  (was made|extension|corrected|results of).*\n|{_TDP_COLUMN}|{_POWER}",
    ),
    Expected(
        "*_clusters.json:*:Description *_nulls.json:*:Description *_stat-clustersize_statmap.json:Description",
        "words",
        "what quantities are called is written once, for files, figures, tables and BIDS",
    ),
    Expected(
        "*_stat-z_statmap.json:Description",
        "words",
        "what z is where a statistic has no p: partial least squares",
        besides=r"; of PLS, which has none, Fisher's transform of it",
    ),
    Expected(
        "model-report/ report-and-figure/report/report.html report-command/files/0/page.html",
        "words",
        "pages hold more: shares of true discoveries, methods, the quality of maps; wide tables fit",
    ),
    # Pictures.
    Expected(
        "permute*/figures/*.png report-and-figure/figure/result.png",
        "picture",
        "titles are of the vocabulary, and maps that reach 0.05 nowhere are named, not drawn; else the last bits",
    ),
    # What users may have written.
    Expected("public/*.json:*", "new", "names, parameters and options that are new, none of which must be given"),
    Expected("public/commands.json:*:--mask:repeated", "words", "several files, one a hemisphere, too"),
    Expected("public/*:*cluster?forming?threshold:default", "words", _AUTO),
    Expected("public/*.PermutationResult:made:*", "gone", f"results are made by tests: {_SPACE}"),
    Expected("public/*.PermutationResult:made:needed", "words", f"results are made by tests: {_SPACE}"),
    Expected("public/*.Conventions:*:tfce_[EH]:default", "words", "0.5 and 2 in volumes, as it was"),
)

EXPECTED: dict[str, tuple[Expected, ...]] = {
    "0.1.0": SINCE_0_1,
}
"""By the version of the older checkout."""
