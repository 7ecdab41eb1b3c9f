"""What the packages that numbaglm stands on say: no warning of theirs reaches its users, with any version of them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

# What a user does in a day, with the filters that Python starts with.
DAY = """
import sys
from pathlib import Path
import nibabel as nib
import numpy as np
import pandas as pd
import numbaglm as ng
from reference.maps import volumes, write_maps
from reference.meshes import icosphere

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    maps = write_maps(folder / "maps", volumes(9))
    people = pd.DataFrame({"participant_id": [f"sub-{k:02d}" for k in range(1, 10)], "age": np.arange(9.0)})
    people["group"] = ["a", "b", "b"] * 3
    people.to_csv(folder / "people.tsv", sep="\\t", index=False)
    cohort = ng.Cohort.create(folder / "c.zarr", maps[:7], covariates=folder / "people.tsv", smoothing_fwhm=4)
    cohort.append(maps[7:], covariates=folder / "people.tsv")
    cohort.verify()
    cohort.quality()
    options = {"n_perm": 60, "cluster_forming_threshold": 0.1, "tfce": True}
    found = ng.permutation_test(cohort, "~ age + C(group)", "age", store=folder / "run", **options)
    found = ng.PermutationResult.load(found.save(folder / "out"))
    found.plot(save=folder / "plot.png")
    found.report(folder / "report.html")
    ng.SecondLevelModel().fit(maps, design_matrix=pd.DataFrame({"intercept": np.ones(9)})).compute_contrast()
    points, faces = icosphere()
    values = np.random.default_rng(0).normal(0.4, 1, (8, len(points))).astype(np.float32)
    for k, row in enumerate(values):
        nib.save(nib.GiftiImage(darrays=[nib.gifti.GiftiDataArray(row)]), folder / f"s{k}.func.gii")
    left = ng.Cohort.from_maps(sorted(folder.glob("*.gii")), surfaces=(points, faces))
    found = ng.permutation_test(left, **options)
    found.plot(save=folder / "surface.pdf")
    found.save(folder / "left")
    axis = nib.cifti2.BrainModelAxis.from_surface(np.arange(0, 42, 2), 42, name="CortexLeft")
    for k, row in enumerate(values[:, ::2]):
        nib.save(nib.Cifti2Image(row[None], (nib.cifti2.ScalarAxis(["x"]), axis)), folder / f"s{k}.dscalar.nii")
    grey = ng.Cohort.from_maps(sorted(folder.glob("*.dscalar.nii")))
    ng.permutation_test(grey, n_perm=60).save(folder / "grey")
"""


def test_no_warning_of_theirs_is_seen(tmp_path):
    script = tmp_path / "day.py"
    script.write_text(DAY)
    command = [sys.executable, str(script), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "MPLBACKEND": "agg"}
    environment.pop("PYTHONWARNINGS", None)
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if re.search(r"\w*Warning: ", line)]
    assert [line for line in said if "NumbaglmWarning" not in line] == []
