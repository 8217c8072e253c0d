from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="package", autouse=True)
def verifiers() -> Iterator[None]:
    """The package itself where it is installed, else its double; and a taskset."""
    before = list(sys.path)
    sys.path.insert(0, str(HERE / "tasksets"))
    if importlib.util.find_spec("verifiers") is None:
        sys.path.insert(0, str(HERE / "double"))
    yield
    sys.path[:] = before
    for name in [name for name in sys.modules if name.partition(".")[0] in ("verifiers", "sums_v1")]:
        del sys.modules[name]
