"""The table of clusters: its columns and their types."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

COLUMNS = (
    "cluster",
    "sign",
    "peak_x",
    "peak_y",
    "peak_z",
    "peak_stat",
    "size_voxels",
    "size_mm3",
    "mass",
    "p_fwe_size",
    "p_fwe_mass",
    "p_fwe_voxel",
)
"""What every table has; p over contrasts and intervals of p come behind, where they were asked for."""

_TYPES: dict[str, Any] = {"cluster": np.int64, "sign": str, "size_voxels": np.int64}  # others are numbers


def no_clusters() -> pd.DataFrame:
    """Return a table without a row."""
    return typed(pd.DataFrame({column: [] for column in COLUMNS}))


def typed(clusters: pd.DataFrame) -> pd.DataFrame:
    """Give columns their types, from text or empty.

    Python's float reads to the last bit, which pandas' own parser does not.
    """
    types = {str(column): _TYPES.get(str(column), float) for column in clusters}
    return pd.DataFrame(
        {column: pd.Series([one(value) for value in clusters[column]], dtype=one) for column, one in types.items()}
    )
