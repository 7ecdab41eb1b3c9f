import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from numbaglm import datasets
from numbaglm.errors import InputError, MissingExtraError, NumbaglmError


def test_the_localizer_is_what_nilearn_fetched(monkeypatch):
    def fetch(contrasts, n_subjects, verbose):
        assert contrasts == ["left vs right button press"]
        return {"cmaps": [f"/data/S{i:02d}/cmaps.nii.gz" for i in range(1, n_subjects + 1)]}

    monkeypatch.setitem(sys.modules, "nilearn.datasets", SimpleNamespace(fetch_localizer_contrasts=fetch))
    cohort = datasets.fetch_localizer(3)
    assert cohort.subjects == ("sub-S01", "sub-S02", "sub-S03")
    assert cohort.maps[2] == Path("/data/S03/cmaps.nii.gz")
    with pytest.raises(InputError, match="'n_subjects'"):
        datasets.fetch_localizer(95)


def test_the_localizer_without_nilearn_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "nilearn.datasets", None)
    with pytest.raises(MissingExtraError, match=r'pip install "numbaglm\[nilearn\]"'):
        datasets.fetch_localizer(2)


def test_the_localizer_without_a_network_is_one_sentence(monkeypatch):
    def fetch(*args, **kwargs):
        raise ConnectionError("HTTPSConnectionPool(host='osf.io', port=443): Max retries exceeded")

    monkeypatch.setitem(sys.modules, "nilearn.datasets", SimpleNamespace(fetch_localizer_contrasts=fetch))
    with pytest.raises(NumbaglmError, match="could not be downloaded") as caught:
        datasets.fetch_localizer(2)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert "\n" not in str(caught.value)
