"""What a cohort holds: its subjects, its grid, its maps as images."""

from __future__ import annotations

from typing import Any

import pandas as pd

from numbaglm.data.cohort.store import CohortStore
from numbaglm.data.images import mask_image, to_image
from numbaglm.data.storage.places import Place
from numbaglm.data.tables import OWN_COLUMNS
from numbaglm.errors import InputError, invalid
from numbaglm.spaces.volume import Geometry


class StoredMaps:
    """Maps of several subjects on one grid, as they are stored; `numbaglm.Cohort` makes and extends them.

    Attributes
    ----------
    store
        The data: `numbaglm.data.cohort.store.CohortStore`.
    """

    def __init__(self, store: CohortStore) -> None:
        self.store = store

    def info(self) -> dict[str, Any]:
        """Return what there is to know about the cohort, as a dict.

        Examples
        --------
        >>> import numbaglm as ng
        >>> maps = ng.simulate_button_press("maps", n_subjects=8, voxel_size=10.0).maps
        >>> facts = ng.Cohort.from_maps(maps).info()
        >>> facts["grid"], facts["n_voxels"], facts["bytes"]
        ((19, 22, 18), 1207, 38624)
        """
        store = self.store
        on_disk = None if store.location is None else Place.parse(store.location).size()
        return {
            "location": store.location,
            "zarr_group": None if store.group is None else str(store.group.current),
            "n_subjects": store.n_subjects,
            "n_voxels": store.n_voxels,
            "grid": store.geometry.shape,
            "voxel_sizes_mm": tuple(float(size) for size in store.geometry.voxel_sizes),
            "smoothing_fwhm": store.smoothing_fwhm,
            "mask_rule": store.header.mask_rule,
            "min_coverage": store.header.min_coverage,
            "layers": list(store.layers),
            "all_present": store.all_present,
            "covariates": list(self.covariates.columns),
            "chunks": store.chunks,
            "bytes": store.n_subjects * store.n_voxels * 4,
            "bytes_on_disk": on_disk,
            "fingerprint": store.fingerprint,
            "report": list(store.report),
        }

    @property
    def n_subjects(self) -> int:
        """Number of maps."""
        return self.store.n_subjects

    @property
    def n_voxels(self) -> int:
        """Number of voxels in the mask."""
        return self.store.n_voxels

    @property
    def geometry(self) -> Geometry:
        """Grid and mask."""
        return self.store.geometry

    @property
    def mask_img(self) -> Any:
        """The mask as a uint8 image."""
        return mask_image(self.geometry)

    @property
    def subjects(self) -> list[str]:
        """(n_subjects,) labels."""
        return list(self.store.subjects["subject_label"])

    @property
    def covariates(self) -> pd.DataFrame:
        """Covariates, a row a subject, indexed by label; without columns if there are none."""
        table = self.store.subjects.set_index("subject_label")
        return table.drop(columns=[name for name in OWN_COLUMNS if name in table.columns])

    @property
    def fingerprint(self) -> str:
        """Hash of data, mask and affine; see `CohortStore.fingerprint`."""
        return self.store.fingerprint

    @property
    def report(self) -> tuple[str, ...]:
        """Sentences on what was left out, and why."""
        return self.store.report

    def to_nifti(self, subject: int | str) -> Any:
        """Return a subject's map, by number or label, as it is analysed: smoothed, 0 outside the mask.

        Examples
        --------
        >>> import numbaglm as ng
        >>> maps = ng.simulate_button_press("maps", n_subjects=8, voxel_size=10.0).maps
        >>> ng.Cohort.from_maps(maps).to_nifti(0).shape
        (19, 22, 18)
        """
        labels = self.subjects
        if isinstance(subject, str):
            if labels.count(subject) != 1:
                raise InputError(invalid("subject", subject, f"a number or a label, such as {labels[0]!r}"))
            number = labels.index(subject)
        elif -len(labels) <= subject < len(labels):
            number = int(subject) % len(labels)
        else:
            raise InputError(invalid("subject", subject, f"a label, or a number below {len(labels)}"))
        return to_image(self.geometry, self.store.read_subjects(number, number + 1)[0])

    def __repr__(self) -> str:
        smoothing = f", smoothed {self.store.smoothing_fwhm} mm" if self.store.smoothing_fwhm is not None else ""
        grid = " x ".join(str(length) for length in self.geometry.shape)
        return (
            f"<{type(self).__name__}: {self.n_subjects} subjects x {self.n_voxels:,} voxels of a {grid} "
            f"grid{smoothing}, {self.store.location or 'in memory'}>"
        )
