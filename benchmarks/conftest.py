"""Benchmarks: `pytest benchmarks --size full`. Small by default, to check that both sides agree."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from threadpoolctl import threadpool_limits


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--size", choices=["small", "full"], default="small", help="how large the benchmarks are")


@pytest.fixture
def size(request: pytest.FixtureRequest) -> str:
    return str(request.config.getoption("--size"))


@pytest.fixture
def one_core() -> Iterator[None]:
    """Hold both sides to one core."""
    with threadpool_limits(limits=1):
        yield
