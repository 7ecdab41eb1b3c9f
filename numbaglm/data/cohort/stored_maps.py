"""What a cohort holds: its subjects, its grid, its maps as images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from numbaglm.data import images  # what is of elements is loaded where it is used
from numbaglm.data.cohort.store import CohortStore
from numbaglm.data.images import mask_image, to_image
from numbaglm.data.storage.places import Place
from numbaglm.data.tables import OWN_COLUMNS
from numbaglm.errors import InputError, invalid, near
from numbaglm.spaces.space import Space
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
            **_extent(store.space),
            "smoothing_fwhm": store.smoothing_fwhm,
            "mask_rule": store.header.mask_rule,
            "min_coverage": store.header.min_coverage,
            "keeps_missing": store.header.keeps_missing,
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

        Of a volume; `to_image` is for maps of every space.

        Examples
        --------
        >>> import numbaglm as ng
        >>> maps = ng.simulate_button_press("maps", n_subjects=8, voxel_size=10.0).maps
        >>> ng.Cohort.from_maps(maps).to_nifti(0).shape
        (19, 22, 18)
        """
        geometry = self.geometry
        return to_image(geometry, self._row(subject))

    def to_image(self, subject: int | str) -> Any:
        """Return a subject's map, by number or label, as it is analysed, in the format that it came in.

        Returns
        -------
        A NIfTI image; images by hemisphere; a CIFTI image; or a DataFrame, of parcels or nodes by nodes.

        Examples
        --------
        >>> import pandas as pd, numbaglm as ng
        >>> table = pd.DataFrame({"hippocampus": [1.0, 2.0, 3.0], "amygdala": [3.0, 1.0, 2.0]})
        >>> float(ng.Cohort.from_maps(table).to_image(1)["amygdala"].iloc[0])
        1.0
        """
        space, row = self.store.space, self._row(subject)
        if space.is_volume:
            return to_image(space.volume, row)
        return images.element_image(space, row, 0.0, str(subject))

    def _row(self, subject: int | str) -> NDArray[np.float32]:
        labels = self.subjects
        if isinstance(subject, str):
            if labels.count(subject) != 1:
                allowed = f"a number or a label, such as {labels[0]!r}"
                raise InputError(invalid("subject", subject, allowed, near(subject, labels)))
            number = labels.index(subject)
        elif isinstance(subject, int | np.integer) and not isinstance(subject, bool):
            if not -len(labels) <= subject < len(labels):
                raise InputError(invalid("subject", subject, f"a label, or a number below {len(labels)}"))
            number = int(subject) % len(labels)
        else:
            received = subject if np.isscalar(subject) else f"a {type(subject).__name__}"
            on_grid = self.store.space.is_volume and not np.isscalar(subject)
            fix = "Values of voxels are put on the grid by cohort.geometry.unmask(values)." if on_grid else ""
            raise InputError(invalid("subject", received, f"a label, or a number below {len(labels)}", fix))
        row: NDArray[np.float32] = self.store.read_subjects(number, number + 1)[0]
        return row

    def __repr__(self) -> str:
        smoothing = f", smoothed {self.store.smoothing_fwhm} mm" if self.store.smoothing_fwhm is not None else ""
        space = self.store.space
        return (
            f"<{type(self).__name__}: {self.n_subjects} subjects x {self.n_voxels:,} {space.nouns} of {space.label}"
            f"{smoothing}, {self.store.location or 'in memory'}>"
        )


def _extent(space: Space) -> dict[str, Any]:
    """What there is to know of where elements lie."""
    if space.is_volume:
        sizes = tuple(float(size) for size in space.volume.voxel_sizes)
        return {"grid": space.volume.shape, "voxel_sizes_mm": sizes}
    names = [f"{part.kind} {part.name}".strip() for part in space.parts]
    counts = zip(names, [part.n for part in space.parts], strict=True)
    return {"space": space.label, "parts": dict(counts)}
