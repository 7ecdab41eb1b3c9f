"""`numbaglm.engine.permutation.plan.Plan` by its path of release 0.1."""

from __future__ import annotations

from numbaglm.engine.permutation.plan import Plan

__all__ = ["Plan"]
