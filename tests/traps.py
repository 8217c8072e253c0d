"""A trap is a form that looks right. A test of one shows that our form holds, and that the trapped form fails the very same assertions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pytest

Form = TypeVar("Form")


def tells_apart(check: Callable[[Form], None], *, ours: Form, trapped: Form) -> None:
    check(ours)
    with pytest.raises(AssertionError):
        check(trapped)
