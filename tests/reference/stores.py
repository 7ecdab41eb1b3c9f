"""Small cohorts on disk."""

from __future__ import annotations

import numpy as np
import pandas as pd

from numbaglm.data.cohort.layout import Header
from numbaglm.data.cohort.writer import CohortWriter
from numbaglm.spaces.space import Space
from numbaglm.spaces.volume import Geometry
from reference.maps import AFFINE, volumes

GEOMETRY = Geometry(volumes(1)[0] != 0, AFFINE)


def array(n=9, seed=0):
    """(n, 60) float32 rows."""
    return np.ascontiguousarray(volumes(n, seed)[:, GEOMETRY.mask])


def header(n=9, **options):
    """What is known of n subjects, with covariates of every type."""
    table = pd.DataFrame(
        {
            "subject_label": [f"s{number}" for number in range(n)],
            "age": np.r_[np.nan, np.arange(1.0, n) / 3],
            "sex": ["f", "m", None] * (n // 3),
            "site": np.arange(n),
            "patient": np.arange(n) % 2 == 0,
        }
    )
    return Header(Space.of(GEOMETRY), table, **options)


def write(folder, Y, head=None):
    """Write rows as a cohort, block by block."""
    writer = CohortWriter.create(folder, head or header(len(Y)))
    for start, stop in writer.blocks:
        writer.write(start, Y[start:stop])
    return writer.complete()
