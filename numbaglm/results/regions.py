"""Where clusters and peaks lie, by the names of an atlas."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from numbaglm.data.images.atlases import read_atlas
from numbaglm.results.record import Record
from numbaglm.results.reporting.tables import Cell, Table

_MOST_REGIONS, _LEAST_SHARE = 3, 0.05


def regions_of(result: Record, atlas: Any) -> list[str]:
    """(n,) name of the region that each element lies in; "" where it is none; see `read_atlas`."""
    return read_atlas(atlas).regions(result.space)


def cluster_regions(result: Record, regions: Sequence[str]) -> pd.DataFrame:
    """Region of the peak of each cluster, and the regions that it covers with their shares.

    Parameters
    ----------
    result
        With clusters.
    regions
        From `regions_of`.

    Returns
    -------
    A row a cluster, as in ``result.clusters``: ``region`` at the peak, and ``regions``, up to three that hold 5 % of
    its elements or more, such as "insula 62 %, operculum 30 %".
    """
    number_of, named = np.asarray(result.maps["clusters"]), np.array(regions, object)
    values = np.asarray(result.maps[result.drawn], np.float64)
    rows = []
    for one in result.clusters.to_dict("records"):
        inside = np.flatnonzero(number_of == one["cluster"])
        sign = -1.0 if one["sign"] == "-" else 1.0
        peak = inside[np.argmax(sign * values[inside])]
        counted = Counter(named[inside]).most_common()
        shares = [(name, n / len(inside)) for name, n in counted if name and n >= _LEAST_SHARE * len(inside)]
        text = ", ".join(f"{name} {share:.0%}".replace("%", " %") for name, share in shares[:_MOST_REGIONS])
        rows.append({"region": named[peak], "regions": text})
    return pd.DataFrame(rows, columns=["region", "regions"])


def with_column(table: Table, heading: tuple[str, str], texts: Sequence[str]) -> Table:
    """Add a column of texts to a table."""
    cells = [Cell(text or "\u2013", text) for text in texts]
    rows = [replace(row, cells=(*row.cells, cell)) for row, cell in zip(table.rows, cells, strict=True)]
    return replace(table, columns=(*table.columns, heading), rows=tuple(rows))
