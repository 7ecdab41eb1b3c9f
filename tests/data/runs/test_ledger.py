from __future__ import annotations

from dataclasses import dataclass, field

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


@dataclass
class Pair:
    a: np.ndarray = field(metadata=ledger.array("i8 f8", "n"))
    b: np.ndarray | None = field(default=None, metadata=ledger.array("i8 f8", "m", "k"))


@pytest.fixture(params=["memory", "folder"])
def kept(request, tmp_path):
    return ledger.MemoryLedger() if request.param == "memory" else ledger.FolderLedger(Place.parse(tmp_path))


def test_records_are_kept_by_stage_and_number(kept):
    kept.put("x/1", Pair(np.arange(3), None))
    kept.put("x/1", Pair(np.arange(4), np.eye(2)))
    kept.put("xy/1", Pair(np.zeros(0)))
    assert (kept.done("x"), kept.done("xy"), kept.done("z")) == ({"x/1"}, {"xy/1"}, set())
    found = kept.get("x/1", Pair)
    assert found.a.tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(found.b, np.eye(2))
    assert kept.get("xy/1", Pair).b is None
    kept.drop(["x/1", "z/9"])
    assert kept.done("x") == set()
    assert kept.share("it", [1, 2]).get() == [1, 2]


@pytest.mark.parametrize("place", [0, 40, -1])
def test_one_changed_byte_is_found(tmp_path, place):
    kept = ledger.FolderLedger(Place.parse(tmp_path))
    kept.put("x/1", Pair(np.arange(3), np.eye(2)))
    assert kept.is_whole("x/1")
    file = tmp_path / "records" / "x" / "1.npz"
    data = bytearray(file.read_bytes())
    data[place] ^= 4
    file.write_bytes(data)
    assert not kept.is_whole("x/1")
    assert not kept.is_whole("x/2")
    with pytest.raises(StoreError, match=r"its checksum differs.*Repeat the call"):
        kept.get("x/1", Pair)
    assert kept.done("x") == set(), "so that it is made again"
