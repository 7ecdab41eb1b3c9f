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
        Pattern of ``call/output``.
    kind
        Of `same.Difference`: "new", "gone", "numbers", "words", "picture", "other".
    reason
        Why it is so.
    tolerance
        How far numbers may be apart.
    """

    outputs: str
    kind: str
    reason: str
    tolerance: Tolerance | None = None


_MASKS = "a mask of several files, one a hemisphere: one goes on working"
_AUTO = "0.001 in volumes, as it was; other spaces form clusters where a threshold is named"
_MADE = "a result is made by a test: it holds a space, of which a volume is one"
_EXPONENTS = "0.5 and 2 in volumes, as it was; every kind of map has its own"
PUBLIC = (
    Expected("public/*.json:*", "new", "names, parameters and options that are new, none of which must be given"),
    Expected("public/commands.json:*:--mask:repeated", "words", _MASKS),
    Expected("public/commands.json:permute:options:--cluster-forming-threshold:default", "words", _AUTO),
    Expected("public/names.json:numbaglm.permutation_test:*:cluster_forming_threshold:default", "words", _AUTO),
    Expected("public/names.json:numbaglm.PermutationResult:made:*", "gone", _MADE),
    Expected("public/names.json:numbaglm.PermutationResult:made:needed", "words", _MADE),
    Expected("public/names.json:numbaglm.stats.conventions.Conventions:*:tfce_[EH]:default", "words", _EXPONENTS),
)

EXPECTED: dict[str, tuple[Expected, ...]] = {
    "0.1.0": PUBLIC,
}
"""By the version of the older checkout."""
