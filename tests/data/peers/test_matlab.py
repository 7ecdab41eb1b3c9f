import numpy as np
import pytest
import scipy.io
from scipy import sparse

from numbaglm.data.peers.matlab import read_mat
from numbaglm.errors import InputError, MissingExtraError, MissingFileError
from reference.spm_mat import cells, structs, write_hdf5

ROWS = structs([{"a": 1.0, "name": "one"}, {"a": np.arange(3.0)[None, :], "name": "three"}])
VALUE = {
    "number": 3.0,
    "matrix": np.arange(6.0).reshape(2, 3),
    "text": "swd/group",
    "letters": np.array(["ab  ", "cde "]),
    "cell": cells(["x", np.eye(2), cells(["deep"])]),
    "rows": ROWS,
    "one": {"inner": {"deep": "yes"}},
    "nothing": np.empty((0, 0)),
    "sparse": sparse.csc_matrix(np.diag([1.0, 0.0, 2.0])),
}


def check(found):
    assert found["number"].item() == 3
    np.testing.assert_array_equal(found["matrix"], VALUE["matrix"])
    assert found["text"] == "swd/group"
    assert found["letters"] == ["ab", "cde"]
    assert (found["cell"][0], found["cell"][2]) == ("x", ["deep"])
    np.testing.assert_array_equal(found["cell"][1], np.eye(2))
    assert [row["name"] for row in found["rows"]] == ["one", "three"]
    np.testing.assert_array_equal(found["rows"][1]["a"], [[0, 1, 2]])
    assert found["one"]["inner"]["deep"] == "yes"
    assert np.size(found["nothing"]) == 0
    np.testing.assert_array_equal(found["sparse"].toarray(), np.diag([1, 0, 2]))


@pytest.mark.parametrize("packed", [True, False])
def test_variables_of_v5_to_v7(tmp_path, packed):
    scipy.io.savemat(tmp_path / "a.mat", {"SPM": VALUE, "other": 1.0}, do_compression=packed)
    check(read_mat(tmp_path / "a.mat", "SPM"))


# Changes at the flags of a matrix, which dimensions and numbers follow; scipy's reader crashes at the first ones.
DAMAGE = {
    "a number without its imaginary part": lambda data, at: data.__setitem__(at + 9, 8),
    "a class that there is not": lambda data, at: data.__setitem__(at + 8, 99),
    "a type that there is not": lambda data, at: data.__setitem__(slice(at + 40, at + 44), b"\x0b\0\0\0"),
    "dimensions of nine bytes": lambda data, at: data.__setitem__(at + 20, 9),
    "more bytes than follow": lambda data, at: data.__setitem__(slice(at + 44, at + 48), b"\xff\xff\0\0"),
    "it ends within": lambda data, at: data.__delitem__(slice(at + 50, None)),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("kind", ["number", "in a cell"])
def test_what_scipy_would_crash_at_is_refused(tmp_path, damage, kind):
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"SPM": np.pi * np.ones((3, 3)) if kind == "number" else cells([np.pi * np.ones((3, 3))])})
    data = bytearray(path.read_bytes())
    damage(data, data.rindex(b"\x06\0\0\0\x08\0\0\0\x06"))
    path.write_bytes(data)
    with pytest.raises(InputError, match="is damaged, or no"):
        read_mat(path, "SPM")


def test_a_sparse_matrix_whose_rows_are_not_there_is_refused(tmp_path):
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"SPM": sparse.csc_matrix(np.eye(3))})
    data = path.read_bytes()
    rows = np.arange(3, dtype="<i4").tobytes()
    assert data.count(rows) >= 1
    path.write_bytes(data.replace(rows, np.array([0, 1, 2**30], "<i4").tobytes(), 1))
    with pytest.raises(InputError, match="is damaged, or no"):
        read_mat(path, "SPM")


def test_variables_of_v73(tmp_path):
    h5py = pytest.importorskip("h5py", reason="h5py is not installed: pip install h5py")
    write_hdf5(tmp_path / "a.mat", "SPM", VALUE, h5py)
    check(read_mat(tmp_path / "a.mat", "SPM"))
    with pytest.raises(InputError, match="no variable xSPM"):
        read_mat(tmp_path / "a.mat", "xSPM")
    data = (tmp_path / "a.mat").read_bytes()
    (tmp_path / "cut.mat").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"cut\.mat is damaged"):
        read_mat(tmp_path / "cut.mat", "SPM")


def test_v73_without_h5py_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    (tmp_path / "SPM.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(512) + b"\x89HDF\r\n\x1a\n")
    with pytest.raises(MissingExtraError, match=r"7\.3.*pip install h5py.*'-v7'"):
        read_mat(tmp_path / "SPM.mat", "SPM")


def test_what_is_no_such_file_is_refused_by_name(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"SPM": VALUE})
    with pytest.raises(InputError, match=r"a\.mat holds no variable xSPM"):
        read_mat(tmp_path / "a.mat", "xSPM")
    with pytest.raises(MissingFileError, match=r"b\.mat does not exist"):
        read_mat(tmp_path / "b.mat", "SPM")
    with pytest.raises(InputError, match="can't be read"):
        read_mat(tmp_path, "SPM")
    data = (tmp_path / "a.mat").read_bytes()
    for name, wrong in (("cut", data[:700]), ("text", b"no mat file\n" * 30), ("empty", b""), ("half", data[:-40])):
        (tmp_path / f"{name}.mat").write_bytes(wrong)
        with pytest.raises(InputError, match=rf"{name}\.mat"):
            read_mat(tmp_path / f"{name}.mat", "SPM")
