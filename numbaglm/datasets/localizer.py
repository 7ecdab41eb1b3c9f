"""The localizer's button presses, real maps that nilearn fetches: the one module that imports nilearn."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from numbaglm.errors import InputError, MissingExtraError, NumbaglmError, invalid, term


@dataclass(frozen=True)
class LocalizerCohort:
    """The localizer's button presses on disk.

    Attributes
    ----------
    maps
        One contrast map (left minus right press) a subject.
    subjects
        Labels, in the order of ``maps``.
    """

    maps: tuple[Path, ...]
    subjects: tuple[str, ...]


def fetch_localizer(n_subjects: int = 16) -> LocalizerCohort:
    """Fetch real maps of a left minus right button press (Brainomics localizer) through nilearn.

    Parameters
    ----------
    n_subjects
        Number of subjects, 2 to 94.

    Raises
    ------
    MissingExtraError
        nilearn is not installed.
    NumbaglmError
        The maps could not be downloaded.

    References
    ----------
    Pinel et al. 2007, BMC Neuroscience 8:91. Papadopoulos Orfanos et al. 2017, NeuroImage 144:309.

    Examples
    --------
    >>> import numbaglm as ng
    >>> localizer = ng.fetch_localizer(16)  # doctest: +SKIP
    >>> result = ng.permutation_test(localizer.maps, smoothing_fwhm=8.0)  # doctest: +SKIP
    """
    if not 2 <= n_subjects <= 94:
        raise InputError(invalid("n_subjects", n_subjects, "2 to 94, the subjects of the localizer"))
    try:
        from nilearn.datasets import fetch_localizer_contrasts
    except ImportError as error:
        raise MissingExtraError(
            'The localizer comes through nilearn, which is missing. Run: pip install "numbaglm[nilearn]"'
        ) from error
    try:
        bunch = fetch_localizer_contrasts(["left vs right button press"], n_subjects=n_subjects, verbose=0)
    except (OSError, ValueError) as error:  # requests' and urllib's errors, or a page that is not the index
        reason = type(error).__name__
    else:
        maps = tuple(Path(path) for path in bunch["cmaps"])
        return LocalizerCohort(maps, tuple(f"sub-{path.parent.name}" for path in maps))
    # Raised out here so that no chain of urllib tracebacks hangs on it.
    raise NumbaglmError(
        f"The localizer maps could not be downloaded ({reason}). Check the network, or "
        f"{term('use simulate_button_press()')}."
    )
