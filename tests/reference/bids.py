"""Derivatives datasets with maps of a few subjects."""

import nibabel as nib

from reference.maps import AFFINE, volumes

N = 6
SUBJECTS = [f"{number:02d}" for number in range(1, N + 1)]
DERIVATIVE = {"Name": "x", "BIDSVersion": "1.9.0", "DatasetType": "derivative", "GeneratedBy": [{"Name": "FitLins"}]}


def put(dataset, *names):
    """Write maps of all subjects, "SUB" in a name being the subject; values tell name and subject apart."""
    for number, name in enumerate(names):
        for subject, values in zip(SUBJECTS, volumes(N, seed=number), strict=True):
            path = dataset / name.replace("SUB", f"sub-{subject}")
            path.parent.mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(values, AFFINE), path)
