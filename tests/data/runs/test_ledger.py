from __future__ import annotations

import numpy as np
import pytest

from numbaglm.data.runs import ledger
from numbaglm.data.storage.places import Place
from numbaglm.errors import StoreError


def test_records_hold_what_they_were_given(tmp_path):
    found = ledger.FolderLedger(Place.parse(tmp_path))
    record = workspace_record()
    found.put("a/00001", record)
    again = found.get("a/00001", type(record))
    np.testing.assert_array_equal(again.p, record.p)
    assert found.done("a") == {"a/00001"}
    assert found.done("b") == set()
    found.drop(["a/00001", "a/00002"])
    with pytest.raises(StoreError, match="has lost a part of its results"):
        found.get("a/00001", type(record))
    shared = found.share("it", {"a": 1})
    assert shared.get() == {"a": 1}
    Place.parse(tmp_path).write_bytes("shared/it.pickle", b"other")
    with pytest.raises(StoreError, match="Another run writes to"):
        type(shared)(shared.place, shared.name, "0" * 64).get()


def workspace_record():
    from numbaglm.engine.permutation.records import Refined

    return Refined(np.arange(3.0), np.zeros(3, np.uint8))
