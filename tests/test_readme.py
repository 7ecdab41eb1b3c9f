"""The README's Python examples run as they stand, on small simulated maps."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from nibabel.nifti1 import Nifti1Image

import numbaglm as ng

EXAMPLES = re.findall(r"```python\n(.*?)```", (Path(__file__).parents[1] / "README.md").read_text(), re.DOTALL)
GROUP = np.repeat([0, 1], 5)
DESIGNS = (
    pd.DataFrame({"patient": GROUP, "control": 1 - GROUP}),
    pd.DataFrame({"age": np.arange(10.0), "intercept": 1.0}),
    pd.DataFrame({"age": np.arange(10.0), "intercept": 1.0}),
)


@pytest.mark.parametrize("number", range(3))
def test_examples(tmp_path, monkeypatch, number):
    monkeypatch.chdir(tmp_path)
    simulated = ng.simulate_button_press("maps", n_subjects=10, voxel_size=10.0)
    shutil.copy(simulated.mask, "brain.nii.gz")
    names = {"ng": ng, "maps": [str(path) for path in simulated.maps], "design": DESIGNS[number]}
    exec(EXAMPLES[number], names)
    if number == 0:
        assert Path("corrected.png").stat().st_size > 1000
        saved = ng.PermutationResult.load("out")
        np.testing.assert_array_equal(saved.maps["t"], names["result"].maps["t"])
    elif number == 1:
        assert isinstance(names["z_map"], Nifti1Image)
        assert set(names["outputs"]) == {"t", "logp_max_t", "size", "logp_max_size", "mass", "logp_max_mass"}
    else:
        assert ng.Cohort.open("cohort.zarr").fingerprint == names["cohort"].fingerprint
        assert names["result"].provenance["contrast"]["name"] == "age"


def test_every_example_is_run():
    assert len(EXAMPLES) == len(DESIGNS)
