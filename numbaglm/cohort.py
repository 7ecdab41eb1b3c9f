"""The cohort: subject maps, checked, smoothed, masked and stored once, read many times.

`Cohort.create` streams the maps to disk or to an object store, a block of subjects a task, and goes on where it stopped
if it was killed; `Cohort.from_maps` does the same into memory.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from numbaglm.data.cohort.arranged import arrange
from numbaglm.data.cohort.complete import complete
from numbaglm.data.cohort.layout import check_free
from numbaglm.data.cohort.store import CohortStore, choose_chunks
from numbaglm.data.cohort.stored_maps import StoredMaps
from numbaglm.data.labels import rows_without
from numbaglm.data.storage.locks import held
from numbaglm.data.storage.places import Place
from numbaglm.data.tables import listed
from numbaglm.engine.conversion.convert import Conversion
from numbaglm.engine.conversion.inputs import parse_additions, parse_inputs
from numbaglm.engine.conversion.tasks import check_block
from numbaglm.engine.progress import in_one_bar
from numbaglm.engine.schedule import active_client
from numbaglm.errors import InputError, StoreError, invalid

if TYPE_CHECKING:
    from numbaglm.engine.quality import Quality


class Cohort(StoredMaps):
    """Maps of several subjects on one grid, ready to be analysed.

    Make one with `Cohort.create` (on disk), `Cohort.open` or `Cohort.from_maps` (in memory).

    Attributes
    ----------
    store
        The data: `numbaglm.data.cohort.store.CohortStore`.

    Examples
    --------
    >>> import numbaglm as ng
    >>> simulated = ng.simulate_button_press("maps", n_subjects=8, voxel_size=10.0)
    >>> ng.Cohort.create("cohort.zarr", simulated.maps, mask=simulated.mask)  # doctest: +ELLIPSIS
    <Cohort: 8 subjects x 1,207 voxels of a 19 x 22 x 18 grid, ...cohort.zarr>
    """

    _examined: tuple[CohortStore, Quality] | None = None  # a store never changes, and a pass over it may take minutes

    @classmethod
    @in_one_bar
    def create(
        cls,
        path: str | os.PathLike[str],
        maps: Any,
        mask: Any = None,
        smoothing_fwhm: Any = None,
        subjects: Sequence[str] | None = None,
        covariates: Any = None,
        *,
        layers: Mapping[str, Any] | None = None,
        surfaces: Any = None,
        areas: Any = None,
        space: Any = None,
        nodes: Any = None,
        min_coverage: float = 1.0,
        min_subjects: float | None = None,
        zero_is_missing: bool | None = None,
        resample: bool = False,
        overwrite: bool = False,
        progress: bool = False,
        memory_limit: int | str | None = None,
        client: Any = None,
        n_workers: int | None = None,
    ) -> Cohort:
        """Convert maps to a cohort on disk or in an object store.

        If it was stopped, the same call goes on where it was: what is stored is checked and kept.

        Parameters
        ----------
        path
            Folder to create, or a URL that fsspec knows, such as ``s3://bucket/cohort.zarr``. Keys and endpoints come
            from the environment, and workers of a cluster need them too.
        maps
            A list, tuple or Series of paths or 3D nibabel images; one 4D image or the path of one; or a
            DataFrame with columns ``subject_label`` and ``effects_map_path``, which is sorted by label.

            On surfaces: GIFTI (.func.gii, .shape.gii) or FreeSurfer (.mgh, .mgz, lh.thickness) files, GIFTI images, or
            arrays (n_subjects, n_vertices): a list for one surface, ``{"left": [...], "right": [...]}`` for both
            hemispheres, or one list whose names say which is which (lh/rh, hemi-L/hemi-R, .L./.R.). A file of several
            maps alone has a map a subject. Images as nilearn's SurfaceImage likewise.

            CIFTI files or images: .dscalar, .dtseries, .pscalar, .ptseries, .pconn, one a subject, or one of all.

            A table, a DataFrame or a .tsv or .csv file: a row a subject, a column a parcel; labels of subjects in a
            column participant_id or subject_label, or in a first column or an index of text.

            Networks, with ``space="network"``: a list of symmetric matrices (n_nodes, n_nodes), as arrays, DataFrames
            or files (.csv, .tsv, .txt, .npy), or of tables of edges (node, node, number; edges not listed are 0).
        mask
            Image, or its path: voxels that are finite and not 0. Those where a map is NaN or infinite, or
            where all maps are equal, leave it; 0 counts as data. None takes the voxels that are finite and
            not 0 in every map, and not equal in all. `report` tells how many were left out, and why. On surfaces:
            label, shape and overlay files or arrays, by hemisphere as the maps; for CIFTI a file with their axes; for
            others an array, a number an element. There 0 counts as data with and without a mask.
        smoothing_fwhm
            Width in mm of a Gaussian, one or three (x, y, z). What is not finite is 0 to it, unless ``min_subjects``
            keeps what is missing: then it has no part in the mean of its neighbours. The mask is judged on the maps as
            they are, before smoothing, and a value that is missing there is missing after it.
        subjects
            (n_subjects,) labels; by default from the DataFrame, else the ``sub-...`` of the paths, else the file names.
        covariates
            DataFrame, or a .tsv or .csv file, a row a subject: matched by participant_id or subject_label (or
            a first column or an index of text) if maps and table have labels, by order otherwise.
        layers
            Further maps of the same subjects by name, such as ``{"variance": varcopes}``: each in one of the forms of
            ``maps``, as many, on the same grid; matched by label where both have the same labels, by order otherwise.
            They are stored as they are, unsmoothed. Where one is NaN or infinite, the subject's map counts as missing.
        min_coverage
            Share of the maps that must have a value at a voxel for it to stay, such as 0.95: finite, and not 0 if no
            mask is given. A value that is missing then is taken as 0, and `report` tells how many are. So a test of the
            mean by sign flips has the p at such a voxel that the maps with values alone would have. Permutations remain
            exact where coverage has nothing to do with the design; but where it differs between groups, the zeros
            make a difference of groups, unless the mean is 0. The effect is drawn towards 0.
        min_subjects
            How many maps, or which share of them, must have a value at a voxel for it to stay, such as 0.5. A value
            that is missing stays missing: tests leave such voxels out, unless they are asked for each with the
            subjects that it has (``permutation_test(..., missing="element")``). By default all must.
            ``min_coverage`` wins where both are given.
        zero_is_missing
            Whether exactly 0 is no value; by default where no mask is given, of volumes alone.
        resample
            Resample maps that lie on another grid than the mask, or than the first map where no mask is given:
            linearly, by the neighbours that have values. By default they are refused.
        surfaces
            The meshes that maps on surfaces lie on, for clusters, TFCE, areas and coordinates: .surf.gii or FreeSurfer
            files (lh.white), (coordinates, faces), or meshes as nilearn has them; ``{"left": ..., "right": ...}``.
        areas
            mm2 of the vertices: a number for all, or files or arrays by hemisphere; by default a third of the areas of
            a vertex's triangles on the mesh.
        space
            "network", or `numbaglm.spaces.graph` of which columns of a table, or of an array (n_subjects, n), touch.
            Otherwise the format tells.
        nodes
            Names of the nodes of a network; by default those that the matrices have, or numbers.
        overwrite
            Replace the cohort that is there, finished or not. Nothing but a cohort is ever replaced.
        progress
            Show a progress bar.
        memory_limit
            Bytes that a process may hold in all, or a string such as "4GB": fewer maps are held at once, and fewer
            threads work, where it is tight. By default what the process may really take: of its cgroup (a container, a
            batch job), then of the machine.
        client, n_workers
            A `distributed` client (the active one by default), or the number of threads without one.

        Raises
        ------
        InputError, MissingFileError, ImageError, GridError, MaskError
            If the maps, the mask or the tables can't be used. Nothing is left behind, but of a conversion of more maps
            than memory holds what is stored already: once the map is mended, the same call goes on.
        OutputExistsError
            If something else, or a half-written cohort with other arguments, is at ``path``.
        OutputError
            If it can't be written. Once the disk has room again, the same call goes on.
        StoreError
            If another call is writing there.

        Examples
        --------
        >>> import pandas as pd, numbaglm as ng
        >>> simulated = ng.simulate_button_press("maps", n_subjects=8, voxel_size=10.0)
        >>> people = pd.DataFrame({"participant_id": simulated.subjects, "age": range(20, 28)})
        >>> options = {"mask": simulated.mask, "smoothing_fwhm": 12.0, "covariates": people}
        >>> cohort = ng.Cohort.create("cohort.zarr", simulated.maps, **options)
        >>> cohort.n_subjects, list(cohort.covariates)
        (8, ['age'])
        """
        place = Place.parse(path)
        check_free(place, overwrite)
        with held(place, "The cohort"):
            state = check_free(place, overwrite)
            place.sweep()
            choices: dict[str, Any] = {"min_coverage": min_coverage, "resample": resample, "layers": layers}
            choices |= {"min_subjects": min_subjects, "zero_is_missing": zero_is_missing}
            choices |= {"surfaces": surfaces, "areas": areas, "space": space, "nodes": nodes}
            inputs = parse_inputs(maps, mask, smoothing_fwhm, subjects, covariates, durable=True, **choices)
            run = Conversion(None if inputs.stays_here else active_client(client), n_workers, progress, memory_limit)
            goes_on = state == "writing" and not overwrite
            return cls(run.resume(inputs, place) if goes_on else run.create(inputs, place))

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Cohort:
        """Open a cohort on disk or in an object store, by path or URL.

        Raises
        ------
        MissingFileError, StoreError
            If there is none, or if it is half-written, damaged, or of a newer numbaglm.

        Examples
        --------
        >>> import numbaglm as ng
        >>> maps = ng.simulate_button_press("maps", n_subjects=8, voxel_size=10.0).maps
        >>> made = ng.Cohort.create("cohort.zarr", maps)
        >>> ng.Cohort.open("cohort.zarr").fingerprint == made.fingerprint
        True
        """
        return cls(CohortStore.open(path))

    @classmethod
    @in_one_bar
    def from_maps(
        cls,
        maps: Any,
        mask: Any = None,
        smoothing_fwhm: Any = None,
        subjects: Sequence[str] | None = None,
        covariates: Any = None,
        *,
        layers: Mapping[str, Any] | None = None,
        surfaces: Any = None,
        areas: Any = None,
        space: Any = None,
        nodes: Any = None,
        min_coverage: float = 1.0,
        min_subjects: float | None = None,
        zero_is_missing: bool | None = None,
        resample: bool = False,
        progress: bool = False,
        memory_limit: int | str | None = None,
        n_workers: int | None = None,
    ) -> Cohort:
        """Make a cohort in memory; the arguments are those of `create`.

        Examples
        --------
        >>> import numbaglm as ng
        >>> maps = ng.simulate_button_press("maps", n_subjects=8, voxel_size=10.0).maps
        >>> ng.Cohort.from_maps(maps, smoothing_fwhm=12.0)
        <Cohort: 8 subjects x 1,207 voxels of a 19 x 22 x 18 grid, smoothed 12.0 mm, in memory>
        """
        choices: dict[str, Any] = {"min_coverage": min_coverage, "resample": resample, "layers": layers}
        choices |= {"min_subjects": min_subjects, "zero_is_missing": zero_is_missing}
        choices |= {"surfaces": surfaces, "areas": areas, "space": space, "nodes": nodes}
        inputs = parse_inputs(maps, mask, smoothing_fwhm, subjects, covariates, durable=False, **choices)
        run = Conversion(None, n_workers, progress, memory_limit)
        return cls(run.create(inputs, None))

    @in_one_bar
    def append(
        self,
        more_maps: Any,
        covariates: Any = None,
        *,
        subjects: Sequence[str] | None = None,
        layers: Mapping[str, Any] | None = None,
        resample: bool = False,
        progress: bool = False,
        memory_limit: int | str | None = None,
        client: Any = None,
        n_workers: int | None = None,
    ) -> Cohort:
        """Add subjects. The cohort is written anew beside its old data, which counts until the new one is complete.

        Smoothing and the rule of the mask are the cohort's. Voxels that the new maps lack leave the mask;
        voxels that left it before do not come back (create a new cohort from all maps for that).

        Parameters
        ----------
        more_maps, subjects, covariates, layers, resample
            As in `create`; the columns of the covariates must be the cohort's.
        progress, memory_limit, client, n_workers
            As in `create`.

        Returns
        -------
        This cohort, which now holds the old and the new subjects.

        Examples
        --------
        >>> import numbaglm as ng
        >>> maps = ng.simulate_button_press("maps", n_subjects=8, voxel_size=10.0).maps
        >>> cohort = ng.Cohort.create("cohort.zarr", maps[:6])
        >>> cohort.append(maps[6:]).n_subjects
        8
        """
        inputs = parse_additions(self.store, more_maps, subjects, covariates, resample=resample, layers=layers)
        client = None if inputs.stays_here or self.store.location is None else active_client(client)
        run = Conversion(client, n_workers, progress, memory_limit)
        if self.store.location is None:
            self.store = run.extend(self.store, inputs)
            return self
        place = Place.parse(self.store.location)
        with held(place, "The cohort"):
            if CohortStore.open(place).fingerprint != self.store.fingerprint:
                raise StoreError(f"The cohort {place} changed since it was opened. Open it again, then append.")
            place.sweep()
            self.store = run.extend(self.store, inputs)
        return self

    def complete(self) -> Cohort:
        """Return the voxels that every subject has, as a cohort: what tests take by default.

        Raises
        ------
        MaskError
            There are none.

        Examples
        --------
        >>> import numpy as np, pandas as pd, numbaglm as ng
        >>> thickness = np.random.default_rng(0).normal(size=(8, 3))
        >>> thickness[2, 1] = np.nan
        >>> cohort = ng.Cohort.from_maps(pd.DataFrame(thickness, columns=["a", "b", "c"]), min_subjects=0.5)
        >>> cohort.n_voxels, cohort.complete().n_voxels
        (3, 2)
        """
        return Cohort(complete(self.store))

    def without(self, subjects: str | Sequence[str]) -> Cohort:
        """Return the cohort without some subjects, such as those whose score is not known; nothing is written.

        Voxels stay those of the cohort: what a map lacked that is left out does not come back.

        Parameters
        ----------
        subjects
            Labels, written as in tables: ``sub-04``, ``04`` and ``4`` are one where that tells all subjects apart.

        Raises
        ------
        InputError
            Some are not in the cohort, or fewer than two subjects are left.

        Examples
        --------
        >>> import pandas as pd, numbaglm as ng
        >>> maps = ng.simulate_button_press("maps", n_subjects=8, voxel_size=10.0).maps
        >>> scores = pd.DataFrame({"score": [3.0, 1, None, 4, 1, 5, 9, 2]})
        >>> cohort = ng.Cohort.from_maps(maps, covariates=scores)
        >>> known = cohort.without(cohort.covariates.index[cohort.covariates["score"].isna()])
        >>> ng.permutation_test(known, "~ score", "score", n_perm=99).asked.n_subjects
        7
        """
        if not isinstance(subjects, str | Sequence | np.ndarray | pd.Series | pd.Index):
            raise InputError(invalid("subjects", f"a {type(subjects).__name__}", "a label, or a list of them"))
        wanted = [subjects] if isinstance(subjects, str) else [str(label) for label in subjects]
        if not wanted:
            return self
        rows = np.array(rows_without(self.subjects, wanted, "subjects"), np.intp)
        if len(rows) < 2:
            received = f"{self.n_subjects - len(rows)} of {self.n_subjects} subjects"
            raise InputError(invalid("subjects", received, "two or more that are left"))
        return Cohort(arrange(self.store, rows))

    @in_one_bar
    def verify(self, *, progress: bool = False, client: Any = None, n_workers: int | None = None) -> None:
        """Read everything again and compare it with the hashes.

        Raises
        ------
        StoreError
            Naming the subjects whose data is damaged or gone.

        Examples
        --------
        >>> import numbaglm as ng
        >>> maps = ng.simulate_button_press("maps", n_subjects=8, voxel_size=10.0).maps
        >>> ng.Cohort.create("cohort.zarr", maps).verify()  # says nothing where all is well
        """
        rows = self.store.chunks[0] if self.store.location else choose_chunks(*self.store.data.shape)[0]
        n = self.n_subjects
        blocks = [(self.store, start, min(start + rows, n)) for start in range(0, n, rows)]
        run = Conversion(None if self.store.location is None else active_client(client), n_workers, progress)
        wrong = [number for block in run.tasks(check_block, blocks, "verify") for number in block]
        if wrong:
            names = listed([self.subjects[number] for number in wrong], 10)
            raise StoreError(
                f"The cohort {self.store.location} is damaged: the data of {len(wrong)} of {n} subjects is "
                f"not what was stored ({names}). Create it again from the maps."
            )

    def quality(
        self,
        *,
        memory_limit: int | str | None = None,
        client: Any = None,
        n_workers: int | None = None,
        progress: bool = False,
    ) -> pd.DataFrame:
        """Look at every map: what it holds, how like the others it is, and whether it stands out.

        One pass over the cohort, a block of voxels at a time; what it found is kept. `numbaglm.plotting.quality`
        draws it.

        A map stands out by its mean, sd or correlation when its robust z is beyond 3.5, which in a clean cohort of 30
        happens to one map in 250 in each of the three; by missing voxels when it lacks more than 5 % of them; and when
        another map holds the same data. Look at such a map before you leave it out.

        Parameters
        ----------
        memory_limit
            Bytes, or a string such as "8GB"; a quarter of what is free by default.
        client, n_workers, progress
            As in `create`.

        Returns
        -------
        A row a subject, by label:

        - ``mean``, ``sd``, ``min``, ``max`` over the voxels of the mask;
        - ``correlation`` with the median of all maps, over voxels;
        - ``n_missing_voxels``: where the map was NaN or infinite (or 0, without a given mask) and not all maps were;
          <NA> for a cohort that was not made of images;
        - ``n_empty_voxels``: in the mask, where the map is less than a millionth of what the maps hold there;
        - ``missing``: the share of the voxels that both make;
        - ``z_mean``, ``z_sd``, ``z_correlation``: distance from the median over subjects in robust standard deviations
          (1.4826 times the median absolute deviation) of the mean, the logarithm of the sd, and Fisher's z of the
          correlation;
        - ``outlier``, and ``reason``: by what the map stands out, "" if it does not.

        Examples
        --------
        >>> import numbaglm as ng
        >>> maps = ng.simulate_button_press("maps", n_subjects=8, voxel_size=10.0).maps
        >>> table = ng.Cohort.from_maps([*maps, maps[2]]).quality()  # one map is there twice
        >>> table.loc["subject-003", "reason"]
        'same data as subject-009'
        """
        running: dict[str, Any] = {"client": client, "n_workers": n_workers, "progress": progress}
        return self.examine(memory_limit=memory_limit, **running).table.copy()

    def examine(self, **running: Any) -> Quality:
        """Look at every map as `quality` does, and return all that was found: the table, and the cohort as a picture.

        What was found is kept: a second call costs nothing, until the cohort is appended to.

        Parameters
        ----------
        running
            ``memory_limit``, ``client``, ``n_workers`` and ``progress``, as in `quality`.

        Examples
        --------
        >>> import numbaglm as ng
        >>> maps = ng.simulate_button_press("maps", n_subjects=8, voxel_size=10.0).maps
        >>> ng.Cohort.from_maps(maps).examine().carpet.shape
        (8, 256)
        """
        from numbaglm.engine.quality import examine

        if self._examined is None or self._examined[0] is not self.store:
            self._examined = (self.store, examine(self.store, **running))
        return self._examined[1]


def as_cohort(maps: Any, **options: Any) -> Cohort:
    """Return a cohort as it is, and make one in memory of anything else."""
    if not isinstance(maps, Cohort):
        return Cohort.from_maps(maps, **options)
    for name in ("mask", "smoothing_fwhm", "layers", "surfaces", "areas", "space", "nodes"):
        if options.get(name) is not None:
            raise InputError(
                f"A cohort has its own {name}: got {options[name]!r} beside {maps!r}. "
                f"Convert the maps again with the {name} that you want."
            )
    return maps
