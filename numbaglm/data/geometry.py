"""`numbaglm.spaces.volume.Geometry` by its path of release 0.1."""

from __future__ import annotations

from numbaglm.spaces.volume import Geometry

__all__ = ["Geometry"]
