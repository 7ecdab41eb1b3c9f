from __future__ import annotations

from numbaglm.engine.permutation.stages import Stages, spans_of


def test_spans_cover_everything_once():
    assert spans_of(10, 4) == ((0, 4), (4, 8), (8, 10))
    assert spans_of(8, 4) == ((0, 4), (4, 8))
    assert spans_of(0, 4) == ()


def test_no_two_tasks_of_a_test_share_a_key():
    stages = Stages("contrast-000", ((0, 1024), (1024, 1500)), ((0, 512), (512, 700)))
    every = [stages.observed(), stages.scored(), stages.drawn(256), stages.refined()]
    for number in range(2):
        every += [stages.voxels(number), stages.clusters(number, 100), stages.maps(number, 64)]
    keys = [key for stage in every for key in stage.keys]
    assert len(keys) == len(set(keys))
    assert all(key.rpartition("/")[0] == stage.name for stage in every for key in stage.keys)
    assert sum(stages.maps(1, 64).sizes) == 188
    assert stages.drawn(256).spans[-1] == (512, 700)
