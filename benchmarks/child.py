"""What is measured in a process of its own: `python child.py memory | first | kernels ...`.

Nothing is imported up here that the measured call might not need.
"""

from __future__ import annotations

import sys
from pathlib import Path


def memory(package: str, folder: str, kind: str, n_perm: str) -> None:
    """Run one call on what `WholeCase.save` wrote, and print the peak of the process in MB."""
    if package == "numbaglm":
        from cases import ours
        from numbaglm import Cohort

        ours(Cohort.open(Path(folder) / "cohort.zarr"), kind, int(n_perm))
    else:
        import numpy as np

        from cases import nilearn

        nilearn(np.load(Path(folder) / "matrix.npy"), str(Path(folder) / "mask.nii.gz"), kind, int(n_perm))
    print(peak_mb())


def peak_mb() -> float:
    """Peak of this process. Linux counts the parent's in ru_maxrss, from before the program was loaded."""
    import resource

    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def first(folder: str) -> None:
    """Test the maps in a folder, as a first script would."""
    import numbaglm as ng

    maps = sorted(Path(folder).glob("sub-*.nii.gz"))
    print(ng.permutation_test(maps, mask=Path(folder) / "mask.nii.gz", n_perm=999).summary(), flush=True)


def kernels() -> None:
    """Have every kernel compiled by the calls that need it, and print the names of those that were not."""
    import importlib
    import pkgutil

    import numpy as np

    import numbaglm as ng
    import numbaglm.kernels
    from numbaglm.data.cohort.store import CohortStore
    from numbaglm.spaces.volume import Geometry

    geometry = Geometry(np.ones((10, 10, 11), bool), np.eye(4))
    Y = np.random.default_rng(0).standard_normal((12, geometry.n_voxels), dtype=np.float32)
    cohort = ng.Cohort(CohortStore.from_array(Y, geometry))
    eight = ng.Cohort(CohortStore.from_array(Y[:8], geometry))
    group = np.repeat([0.0, 1.0], 6)
    two = np.column_stack([group, 1.0 - group, np.linspace(-1.0, 1.0, 12)])
    clusters_and_tfce = {"cluster_forming_threshold": 0.05, "tfce": True}
    ng.permutation_test(cohort, n_perm=300, tail="pareto", **clusters_and_tfce)
    ng.permutation_test(cohort, two, [1, -1, 0], n_perm=300, **clusters_and_tfce)
    ng.permutation_test(cohort, two, [[1, 0, 0], [0, 1, 0]], n_perm=300, errors="ee", **clusters_and_tfce)
    ng.permutation_test(eight, n_perm=300, conventions="palm", **clusters_and_tfce)
    ng.permutation_test(eight, two[2:10], [1, -1, 0], n_perm=300, variance_groups=group[2:10], **clusters_and_tfce)
    ng.permutation_test(cohort, n_perm=30, variance_smoothing_fwhm=3.0, **clusters_and_tfce)
    ng.permutation_test(cohort, n_perm=30, conventions="nilearn", **clusters_and_tfce)
    ng.permutation_test(cohort, n_perm=30, tfce_uncorrected=True)
    ng.SecondLevelModel().fit(cohort, design_matrix=np.ones((12, 1))).compute_contrast([1.0])
    for module in pkgutil.iter_modules(numbaglm.kernels.__path__):
        namespace = vars(importlib.import_module(f"numbaglm.kernels.{module.name}"))
        for name, value in namespace.items():
            if not getattr(value, "signatures", True):
                print(f"{module.name}.{name}")


if __name__ == "__main__":
    {"memory": memory, "first": first, "kernels": kernels}[sys.argv[1]](*sys.argv[2:])
