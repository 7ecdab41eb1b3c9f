"""`numbaglm.results.report.write_report` by its path of release 0.1."""

from __future__ import annotations

from numbaglm.results.report import write_report

__all__ = ["write_report"]
