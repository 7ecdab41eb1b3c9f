import pytest

from numbaglm.errors import InputError
from numbaglm.faces.nilearn.jobs import n_workers_of


def test_jobs(monkeypatch):
    monkeypatch.setattr("numbaglm.faces.nilearn.jobs.n_cores", lambda: 4)
    assert [n_workers_of(n) for n in (None, 1, 3, -1, -2, -9)] == [None, 1, 3, 4, 3, 1]
    for wrong in (0, 1.5, "all", True):
        with pytest.raises(InputError, match="n_jobs"):
            n_workers_of(wrong)
