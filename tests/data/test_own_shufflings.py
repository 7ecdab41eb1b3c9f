from __future__ import annotations

from contextlib import suppress

import numpy as np
import pandas as pd
import pytest

from numbaglm.data.labels import MapLabels
from numbaglm.data.own_shufflings import read_shufflings
from numbaglm.errors import InputError, MissingFileError, NumbaglmError, ShufflingError

ROWS = np.array([[1, 2, 3], [-3, 1, 2]])
MAPS = MapLabels(["sub-a", "sub-b", "sub-c"], known=True)


def test_files_hold_what_arrays_do(tmp_path):
    np.save(tmp_path / "own.npy", ROWS)
    np.savez(tmp_path / "one.npz", any=ROWS)
    np.savez(tmp_path / "named.npz", shufflings=ROWS, other=np.eye(2))
    np.savetxt(tmp_path / "own.csv", ROWS, delimiter=",", fmt="%d")
    np.savetxt(tmp_path / "own.txt", ROWS, fmt="%d")
    (tmp_path / "own.tsv").write_text("\ufeff1\t2\t3\r\n-3\t1\t2\r\n")
    for file in sorted(tmp_path.iterdir()):
        np.testing.assert_array_equal(read_shufflings(file, MAPS), ROWS, err_msg=file.name)
    np.testing.assert_array_equal(read_shufflings(pd.DataFrame(ROWS), MAPS), ROWS)


@pytest.mark.parametrize("columns", [[0, 1, 2], MAPS.labels])
@pytest.mark.parametrize(("ending", "sep"), [(".csv", ","), (".tsv", "\t")])
def test_numbers_of_rows_that_pandas_writes_are_none_of_a_shuffling(tmp_path, columns, ending, sep):
    pd.DataFrame(ROWS, columns=columns).to_csv(tmp_path / f"own{ending}", sep=sep)
    np.testing.assert_array_equal(read_shufflings(tmp_path / f"own{ending}", MAPS), ROWS)


@pytest.mark.parametrize("kind", ["frame", "tsv", "csv"])
def test_columns_with_labels_meet_the_maps_by_them(tmp_path, kind):
    # c takes the row of a, a that of b, b that of c and its sign.
    table = pd.DataFrame([[1, 2, 3], [2, 3, -1]], columns=["c", "a", "b"])
    given = table
    if kind != "frame":
        given = tmp_path / f"own.{kind}"
        table.to_csv(given, sep="\t" if kind == "tsv" else ",", index=False)
    np.testing.assert_array_equal(read_shufflings(given, MAPS), [[1, 2, 3], [2, -3, 1]])


def test_what_can_not_be_read_is_refused_by_name(tmp_path):
    def refused(given, message, error=InputError, maps=MAPS):
        with pytest.raises(error, match=message):
            read_shufflings(given, maps)

    (tmp_path / "ragged.csv").write_text("1,2,3\n1,2\n")
    (tmp_path / "words.txt").write_text("a b c\n1 2 3\n")
    (tmp_path / "broken.npy").write_bytes(b"no array")
    np.savez(tmp_path / "two.npz", a=ROWS, b=ROWS)
    refused(tmp_path / "ragged.csv", "'shufflings'.*line 2 of 2 cells: '1,2'.*lines of as many numbers each, 3 as")
    refused(tmp_path / "words.txt", "Save a table with labels as .csv")
    refused(tmp_path / "broken.npy", "numpy.save")
    refused(tmp_path / "two.npz", "a, b.*one array, or one called 'shufflings'")
    refused(tmp_path / "own.mat", "path of a .npy, .npz, .csv")
    refused(tmp_path / "gone.npy", "does not exist", MissingFileError)
    refused(tmp_path / "gone.csv", "does not exist", MissingFileError)
    refused(ROWS[:, :2], "shape", ShufflingError)
    refused(pd.DataFrame(ROWS, columns=["a", "b", "x"]), "no row for sub-c")
    refused(pd.DataFrame([[1, 2, 3, 4]], columns=["a", "b", "c", "d"]), "columns for d, who have no map")
    moved = MapLabels(MAPS.labels, known=True, moved=True)
    refused(ROWS, "sorted by their labels.*columns with labels", maps=moved)
    assert read_shufflings(pd.DataFrame(ROWS, columns=list("abc")), moved).tolist() == ROWS.tolist()


@pytest.mark.parametrize("ending", [".npy", ".npz"])
def test_damaged_arrays_are_refused(tmp_path, ending):
    """A changed byte at each place, and an end that is missing: an array, or one error."""
    path = tmp_path / f"set{ending}"
    (np.save if ending == ".npy" else np.savez_compressed)(path, ROWS)
    sound = path.read_bytes()
    for at in range(0, len(sound), 7):
        for data in (sound[:at], sound[:at] + bytes([sound[at] ^ 0xFF]) + sound[at + 1 :]):
            path.write_bytes(data)
            with suppress(NumbaglmError):
                read_shufflings(path, MAPS)
