from __future__ import annotations

import logging
import os
from dataclasses import replace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from numbaglm.cohort import Cohort
from numbaglm.data.cohort.layout import Header
from numbaglm.engine.conversion.inputs import differences, parse_additions, parse_inputs
from numbaglm.errors import GridError, InputError
from numbaglm.spaces.space import Space
from numbaglm.spaces.volume import Geometry
from reference.maps import AFFINE, image, volumes, write_maps


def parse(maps, durable=True, mask=None, smoothing_fwhm=None, subjects=None, covariates=None, **options):
    return parse_inputs(maps, mask, smoothing_fwhm, subjects, covariates, durable=durable, **options)


def test_what_is_known_before_a_map_is_read(tmp_path):
    paths = write_maps(tmp_path, volumes(3))
    found = parse(paths, smoothing_fwhm=4, covariates=pd.DataFrame({"age": [20, 30, 40]}))
    assert found.labels == ["sub-01", "sub-02", "sub-03"]
    assert found.smoothing_fwhm == 4.0
    assert (found.grid.shape, found.mask, found.given_mask) == ((6, 7, 5), None, "")
    assert found.subjects["source_bytes"].tolist() == [path.stat().st_size for path in paths]
    assert found.subjects["age"].tolist() == [20, 30, 40]
    assert not found.stays_here
    assert found.rule.zero_is_missing
    assert not parse(paths, mask=image(np.ones((6, 7, 5)))).rule.zero_is_missing
    assert "source_state" not in parse(paths, durable=False).subjects


def test_what_other_machines_should_not_be_sent(tmp_path):
    values = volumes(3)
    nib.save(image(np.moveaxis(values, 0, -1)), tmp_path / "4d.nii.gz")
    nib.save(image(np.moveaxis(values, 0, -1)), tmp_path / "4d.nii")
    packed, plain, there = parse(tmp_path / "4d.nii.gz"), parse(tmp_path / "4d.nii"), parse([image(v) for v in values])
    assert packed.reel == tmp_path / "4d.nii.gz"
    assert (plain.reel, there.reel) == (None, None)
    assert [one.stays_here for one in (packed, plain, there)] == [True, False, True]


def test_a_file_that_stands_twice_is_told_of(tmp_path, caplog):
    paths = write_maps(tmp_path, volumes(2))
    parse([*paths, paths[0]], subjects=list("abc"))
    assert "sub-01_con.nii.gz" in caplog.text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"subjects": ["a", "a"]}, "'subjects'"),
        ({"covariates": pd.DataFrame({"source": [1, 2]})}, "column 'source'"),
        ({"layers": ["x"]}, "'layers'"),
        ({"layers": {"data": []}}, "are the maps themselves"),
        ({"layers": {"se": "one"}}, "1 maps as 'se'"),
        ({"min_coverage": 2.0}, "'min_coverage'"),
    ],
)
def test_refusals(tmp_path, options, words):
    paths = write_maps(tmp_path, volumes(2))
    if options.get("layers") == {"se": "one"}:
        options = {"layers": {"se": [paths[0]]}}
    with pytest.raises(InputError, match=words):
        parse(paths, **options)


def test_maps_on_other_grids_are_refused_or_resampled(tmp_path, caplog):
    shifted = AFFINE.copy()
    shifted[0, 3] += 1
    paths = [*write_maps(tmp_path / "a", volumes(2)), write_maps(tmp_path / "b", volumes(1), shifted)[0]]
    with pytest.raises(GridError):
        parse(paths, subjects=list("abc"))
    found = parse(paths, subjects=list("abc"), resample=True)
    assert [source.onto is not None for source in found.sources] == [False, False, True]
    assert "1 of 3 maps lie on another grid" in found.notes[-1]


def test_what_differs_from_a_half_written_cohort_is_named(tmp_path):
    paths = write_maps(tmp_path, volumes(3))
    inputs = parse(paths, covariates=pd.DataFrame({"age": [1, 2, 3]}))
    header = Header(Space.of(Geometry(np.ones((6, 7, 5), bool), AFFINE)), inputs.subjects)
    assert differences(header, inputs) == []
    assert differences(header, replace(inputs, smoothing_fwhm=4.0)) == ["smoothing_fwhm was None, now 4.0"]
    older = parse(paths, covariates=pd.DataFrame({"age": [1, 9, 3]}))
    assert differences(header, older) == ["age of map 2 was 2, now 9 (1 such)"]
    assert differences(header, parse(paths[:2])) == ["there were 3 maps, now 2"]
    nib.save(image(volumes(1, 5)[0, :, :, :-1]), paths[1])
    with pytest.raises(GridError):
        parse(paths)
    nib.save(image(volumes(1, 5)[0] * 7), paths[1])
    changed = parse(paths, covariates=pd.DataFrame({"age": [1, 2, 3]}))
    (first, *_) = differences(header, changed)
    assert first.endswith("sub-02_con.nii.gz changed (1 such)")
    assert differences(header, changed, np.array([False, True, False])) == [], "it was not read yet"


def test_additions_are_new_subjects_with_the_same_columns(tmp_path, caplog):
    caplog.set_level(logging.INFO, "numbaglm")
    paths = write_maps(tmp_path, volumes(4))
    store = Cohort.from_maps(paths[:2], covariates=pd.DataFrame({"age": [1, 2]})).store
    found = parse_additions(store, paths[2:], None, pd.DataFrame({"age": [3, 4]}))
    assert found.labels == ["sub-03", "sub-04"]
    with pytest.raises(InputError, match="sub-02, already in the cohort"):
        parse_additions(store, paths[1:], None, pd.DataFrame({"age": [2, 3, 4]}))
    with pytest.raises(InputError, match="no columns"):
        parse_additions(store, paths[2:], None, None)
    unnamed = parse_additions(store, [image(one) for one in volumes(1)], None, pd.DataFrame({"age": [3]}))
    assert unnamed.labels == ["subject-003"]


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["spmT_0001.nii", "spmT_0002.nii"], "a map of t"),
        (["a/tstat1.nii.gz", "b/tstat1.nii.gz"], "a map of t"),
        (["sub-01_stat-z_statmap.nii.gz", "sub-02_stat-z_statmap.nii.gz"], "a map of z"),
        (["spmF_0001.nii", "spmF_0002.nii"], "a map of F"),
        (["con_0001.nii", "con_0002.nii"], ""),
        (["sub-01_stat-effect_statmap.nii", "sub-02_stat-effect_statmap.nii"], ""),
    ],
)
def test_statistics_of_subjects_bring_a_hint(tmp_path, caplog, names, told):
    for name, values in zip(names, volumes(2), strict=True):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        nib.save(image(values), tmp_path / name)
    parse([tmp_path / name for name in names])
    assert (told in caplog.text) if told else not caplog.records


def test_a_changed_layer_is_noticed(tmp_path):
    maps, layer = write_maps(tmp_path / "maps", volumes(3)), write_maps(tmp_path / "var", volumes(3, seed=1))
    given = parse(maps, layers={"variance": layer})
    header = Header(Space.of(Geometry(np.ones((6, 7, 5), bool), AFFINE)), given.subjects, layers=("data", "variance"))
    assert differences(header, parse(maps, layers={"variance": layer})) == []
    os.utime(layer[1], ns=(1, 1))
    (changed,) = differences(header, parse(maps, layers={"variance": layer}))
    assert changed.endswith("sub-02_con.nii.gz, or of a layer of it, changed (1 such)")
