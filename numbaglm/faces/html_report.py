"""`numbaglm.display.html_report.HTMLReport` by its path of release 0.1."""

from __future__ import annotations

from numbaglm.display.html_report import HTMLReport

__all__ = ["HTMLReport"]
