"""Types of arrays that every floor speaks of."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
"""Of either precision."""

Doubles = NDArray[np.float64]

Ints = NDArray[np.int32]
