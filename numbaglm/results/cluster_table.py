"""The table of clusters, empty or read from text; `numbaglm.results.vocabulary.COLUMNS` tells its columns."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from numbaglm.results.vocabulary import COLUMNS, EVERY_TABLE

_TYPES: dict[type, Any] = {int: np.int64, float: float, str: str}


def no_clusters(columns: Sequence[str] = EVERY_TABLE) -> pd.DataFrame:
    """Return a table without a row."""
    return _empty(tuple(columns)).copy()


@cache
def _empty(columns: tuple[str, ...]) -> pd.DataFrame:
    # Of empty arrays: pandas takes longer to make it of lists than a small map takes to be corrected.
    types = {column: _TYPES[COLUMNS[column].kind] for column in columns}
    return pd.DataFrame(
        {column: pd.Series([], dtype=str) if one is str else np.empty(0, one) for column, one in types.items()}
    )


def typed(clusters: pd.DataFrame) -> pd.DataFrame:
    """Give columns their types, from text or empty.

    Python's float reads to the last bit, which pandas' own parser does not.
    """
    types = {str(column): _TYPES[COLUMNS[str(column)].kind] for column in clusters}
    return pd.DataFrame(
        {column: pd.Series([one(value) for value in clusters[column]], dtype=one) for column, one in types.items()}
    )
