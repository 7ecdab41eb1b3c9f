from pathlib import PurePath

import pytest

from numbaglm.errors import ContrastError
from numbaglm.results.bids.names import Named, label_of, labels_of, same, shared_entities

STAT = "sub-01_task-a_stat-t_statmap"
NAMES = {
    f"sub-01/func/{STAT}.nii.gz": ({"sub": "01", "task": "a", "stat": "t"}, "statmap", ".nii.gz"),
    "node-subjectLevel/sub-2/sub-2_statmap.nii": ({"node": "subjectLevel", "sub": "2"}, "statmap", ".nii"),
    "sub-01/task-a_space-b/stat-t_x.nii": ({"sub": "01", "task": "a", "space": "b", "stat": "t"}, "x", ".nii"),
    "task-wrong/task-right_statmap.nii": ({"task": "right"}, "statmap", ".nii"),
    "statmap.json": ({}, "statmap", ".json"),
}


@pytest.mark.parametrize("path", NAMES)
def test_names_are_read_with_their_folders(path):
    named = Named.parse(PurePath(path))
    assert (named.entities, named.suffix, named.extension) == NAMES[path]


def test_what_is_not_made_of_entities_is_not_guessed_at():
    assert Named.parse(PurePath("sub-01_contrast-a_vs_b_statmap.nii.gz")) is None


def test_labels_are_compared_as_bids_means_them():
    assert same("run", "01", "1")
    assert same("sub", "01", "sub-01")
    assert not same("sub", "01", "1")
    assert not same("run", "1a", "1")


def test_shared_entities_are_those_of_all_maps():
    one, two = (
        f"/x/sub-{sub}_task-a_run-1_space-{space}_contrast-c_stat-effect_statmap.nii" for sub, space in ("1M", "2N")
    )
    assert shared_entities([one, one]) == {"task": "a", "space": "M", "contrast": "c", "stat": "effect"}
    assert shared_entities([one, two]) == {"task": "a", "contrast": "c", "stat": "effect"}
    assert shared_entities([one, None]) == shared_entities([one, "/x/con_0001.nii"]) == shared_entities([]) == {}


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("age", "age"),
        ("reappraisal_success", "reappraisalSuccess"),
        ("patient - control", "patientMinusControl"),
        ("`group[patient]`", "groupPatient"),
        ("yVsN > 0", "yVsNGt0"),
        ("2*a + b", "2TimesAPlusB"),
        ("Größe \u2212 b", "GroeMinusB"),
    ],
)
def test_names_of_contrasts_become_labels(name, label):
    assert label_of(name) == label


def test_labels_that_say_nothing_or_the_same_are_refused():
    with pytest.raises(ContrastError, match="holds no letter and no digit"):
        label_of("[]")
    assert labels_of(["a", "b - a"]) == {"a": "a", "b - a": "bMinusA"}
    # The same file on disks that don't tell upper from lower case.
    with pytest.raises(ContrastError, match=r"'a_b' and 'a B' have the same BIDS label"):
        labels_of(["a_b", "a B"])
