from __future__ import annotations

import pytest

from reference.reports import analysed


@pytest.fixture(scope="package")
def result():
    return analysed()
