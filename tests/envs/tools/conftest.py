"""The shop of the tests, whole."""

from __future__ import annotations

from typing import Any

import pytest
from agentdistill_envs.tools.rows import ShopRecords
from tools_shop import SHOP


@pytest.fixture
def records() -> dict[str, dict[str, dict[str, Any]]]:
    return ShopRecords.model_validate(SHOP).model_dump()
