from __future__ import annotations

import pandas as pd

from numbaglm.results.cluster_table import no_clusters, typed
from numbaglm.results.vocabulary import COLUMNS, EVERY_TABLE


def test_a_table_without_rows_has_every_column_of_its_type():
    table = no_clusters()
    assert table.empty
    assert list(table) == list(EVERY_TABLE)
    kinds = {int: "int64", float: "float64"}
    assert {name: str(table[name].dtype) for name in table if COLUMNS[name].kind in kinds} == {
        name: kinds[COLUMNS[name].kind] for name in table if COLUMNS[name].kind in kinds
    }
    table["cluster"] = 1.5
    assert str(no_clusters()["cluster"].dtype) == "int64", "each has its own"


def test_text_is_read_to_the_last_bit():
    value = 0.1 + 0.2
    table = typed(pd.DataFrame({"cluster": ["2"], "sign": ["-"], "mass": [repr(value)], "p_fwe_size": ["1e-05"]}))
    assert table.iloc[0].tolist() == [2, "-", value, 1e-5]
    assert str(table["cluster"].dtype) == "int64"
