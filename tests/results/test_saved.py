from __future__ import annotations

import dataclasses
import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from numbaglm import PermutationResult, permutation_test
from numbaglm.errors import InputError, MissingFileError, StoreError
from numbaglm.results.provenance import Provenance

OF_0_1 = Path(__file__).parent / "saved_by_0.1"


@pytest.fixture(scope="module")
def result(as_cohort):
    rng = np.random.default_rng(0)
    mask = rng.random((6, 5, 7)) < 0.8
    Y = rng.normal(size=(9, mask.sum())) + 0.5
    design = pd.DataFrame({"x": rng.normal(size=9), "intercept": 1.0})
    return permutation_test(as_cohort(Y, mask), design, "intercept", n_perm=99, cluster_forming_threshold=("t", 2.0))


@pytest.fixture(scope="module")
def sound(result, tmp_path_factory):
    return result.save(tmp_path_factory.mktemp("sound") / "out")


@pytest.fixture
def folder(sound, tmp_path):
    """A copy that may be damaged."""
    shutil.copytree(sound, tmp_path / "out")
    return tmp_path / "out"


def refused(folder):
    with pytest.raises(StoreError, match=r"^The result in .* is damaged \(.*\)\. Make it again\.$") as caught:
        PermutationResult.load(folder)
    return str(caught.value)


def test_a_result_of_0_1_is_loaded_and_brought_up_to_date(tmp_path):
    """Of 10 subjects in two blocks: two clusters of opposite sign, the quality of the maps in the provenance."""
    old = PermutationResult.load(OF_0_1)
    assert old.provenance["versions"]["numbaglm"] == "0.1.0"
    assert "quality" not in old.provenance
    assert old.quality.table.shape == (10, 13)
    assert old.asked.in_blocks
    labels = old.maps["clusters"]
    assert np.bincount(labels)[1:].tolist() == old.clusters["size_voxels"].tolist()
    for row in old.clusters.itertuples():
        assert set(np.sign(old.maps["t"][labels == row.cluster])) == {np.sign(row.peak_stat)}
    again = PermutationResult.load(old.save(tmp_path / "out"))
    np.testing.assert_array_equal(again.maps["clusters"], labels)
    pd.testing.assert_frame_equal(again.quality.table, old.quality.table)
    assert again.provenance == old.provenance
    assert old.report(tmp_path / "report.html").is_file()


def half(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def garble(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(b"NUMPY") + 150] ^= 1
    path.write_bytes(content)


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("result.npz", half),
        ("result.npz", garble),
        ("result.npz", lambda path: path.write_bytes(b"")),
        ("result.npz", lambda path: np.savez(path, mask=np.ones((2, 2, 2), bool))),
        ("provenance.json", half),
        ("provenance.json", Path.unlink),
        ("provenance.json", lambda path: path.write_text("[" * 100_000)),
        ("provenance.json", fifo),
        ("clusters.tsv", lambda path: path.write_text("")),
        ("clusters.tsv", Path.unlink),
        ("clusters.tsv", lambda path: path.write_bytes(b"\xff\xfe")),
        ("clusters.tsv", lambda path: path.write_text(path.read_text().replace("\t+\t", "\tx\t"))),
        ("clusters.tsv", lambda path: path.write_text(path.read_text().replace("mass", "p_fwe_else", 1))),
        ("clusters.tsv", lambda path: path.write_text(path.read_text().rpartition("\n")[0].rpartition("\n")[0] + "\n")),
        ("clusters.tsv", lambda path: path.write_text(path.read_text().replace("\t1\t", "\tnan\t"))),
        ("quality.json", lambda path: path.write_text("{}")),
    ],
)
def test_a_damaged_file_is_told_of(folder, name, damage):
    damage(folder / name)
    refused(folder)


ARRAYS = {
    "a name that leads out of the folder": ("map_../../x", lambda kept: kept["map_t"]),
    "a name that no quantity has": ("map_mine", lambda kept: kept["map_t"]),
    "a null that no quantity has": ("h0_mine", lambda kept: kept["h0_max_t"]),
    "an array of another kind": ("mine", lambda kept: kept["map_t"]),
    "a p on the wrong scale": ("logp_unc", lambda kept: kept["map_t"]),
    "a mask of numbers": ("mask", lambda kept: kept["mask"].astype(float)),
    "a flat mask": ("mask", lambda kept: kept["mask"].ravel()),
    "an empty mask": ("mask", lambda kept: kept["mask"] & False),
    "another mask": ("mask", lambda kept: np.ones((3, 3, 3), bool)),
    "an affine that folds space": ("affine", lambda kept: np.zeros((4, 4))),
    "an affine of NaN": ("affine", lambda kept: np.full((4, 4), np.nan)),
    "codes of no space": ("codes", lambda kept: np.array([9, 0])),
    "a short map": ("map_t", lambda kept: kept["map_t"][:-1]),
    "a scalar": ("map_t", lambda kept: np.float64(1)),
    "text": ("map_t", lambda kept: kept["map_t"].astype(str)),
    "objects": ("map_t", lambda kept: kept["map_t"].astype(object)),
    "NaN": ("map_z", lambda kept: kept["map_z"] * np.nan),
    "p above 1": ("map_p_unc", lambda kept: kept["map_p_unc"] + 1),
    "a short null": ("h0_max_t", lambda kept: kept["h0_max_t"][:-1]),
    "a null of NaN": ("h0_max_t", lambda kept: kept["h0_max_t"] * np.nan),
    "numbers of clusters that are fractions": ("map_clusters", lambda kept: kept["map_clusters"] + 0.5),
    "more clusters than rows": ("map_clusters", lambda kept: kept["map_clusters"] + 1),
}


@pytest.mark.parametrize("damage", ARRAYS)
def test_arrays_are_known_ones_of_known_types_and_sizes(folder, damage):
    name, change = ARRAYS[damage]
    with np.load(folder / "result.npz") as archive:
        kept = dict(archive)
    np.savez(folder / "result.npz", **(kept | {name: change(kept)}))
    refused(folder)
    assert sorted(path.name for path in folder.parent.iterdir()) == ["out"]


@pytest.mark.parametrize("name", ["mask", "affine", "map_t", "map_p_fwe_size", "map_size", "h0_max_t"])
def test_no_array_may_be_missing(folder, name):
    with np.load(folder / "result.npz") as archive:
        kept = dict(archive)
    del kept[name]
    np.savez(folder / "result.npz", **kept)
    refused(folder)


def test_what_is_packed_is_not_unpacked(folder):
    """A few bytes may unpack to any number of them; what numbaglm writes is not packed."""
    path = folder / "result.npz"
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    assert "is compressed" in refused(folder)


WRONG = [None, "text", -1, 1.5, [], {}, [[]], [None], {"name": 1}, float("nan"), True]


def leaves(kept, above=()):
    for name, value in kept.items():
        yield (*above, name)
        if isinstance(value, dict) and name not in ("tail_fits", "versions"):
            yield from leaves(value, (*above, name))


def test_whatever_stands_in_a_provenance_is_read_or_refused(result):
    """Every value in turn is left out, or is of another type: what is accepted can be told of and drawn, too."""
    kept = json.loads(json.dumps(dict(result.provenance)))
    refused = accepted = 0
    for path in list(leaves(kept)):
        for wrong in (*WRONG, "missing"):
            other = json.loads(json.dumps(kept))
            inner = other
            for name in path[:-1]:
                inner = inner[name]
            if wrong == "missing":
                del inner[path[-1]]
            else:
                inner[path[-1]] = wrong
            try:
                asked = Provenance.parse(other)
            except InputError:
                refused += 1
                continue
            accepted += 1
            assert isinstance(asked.contrast, str)
            dataclasses.replace(result, provenance=other).summary()
    assert refused > 4 * accepted > 0  # most options may be left out


def test_an_error_names_what_is_wrong_in_a_provenance(folder):
    path = folder / "provenance.json"
    path.write_text(path.read_text().replace('"two_sided": true', '"two_sided": "yes"'))
    assert "'two_sided' is 'yes', not true or false" in refused(folder)


def test_a_result_of_a_newer_version_is_not_called_damaged(folder):
    path = folder / "provenance.json"
    kept = json.loads(path.read_text())
    path.write_text(json.dumps(kept | {"method": "tomorrows", "versions": {"numbaglm": "9.10.0rc1"}}))
    with pytest.raises(StoreError, match=r"saved by numbaglm 9\.10\.0rc1, and this is .*tomorrows.*Update numbaglm"):
        PermutationResult.load(folder)
    for versions in ({"numbaglm": "0.0.1"}, {"numbaglm": "dev"}, {}, None, 3):
        path.write_text(json.dumps(kept | {"method": "tomorrows", "versions": versions}))
        refused(folder)


def test_a_folder_of_results_is_told_by_what_is_in_it(folder):
    with pytest.raises(MissingFileError, match=r"such as .*out"):
        PermutationResult.load(folder.parent)


def test_groups_and_blocks_are_known_by_what_was_given(result):
    kept = dict(result.provenance)
    assert Provenance.parse(kept).variance_groups is None
    assert not Provenance.parse(kept).in_blocks
    grouped = kept | {"variance_groups": [1, 1, 2, 2, 2, 2, 2, 2, 2], "exchangeability_blocks": [1] * 9}
    assert Provenance.parse(grouped).variance_groups == (2, 7)
    assert Provenance.parse(grouped).in_blocks
    assert Provenance.parse(kept | {"variance_groups": [1] * 9}).variance_groups is None
