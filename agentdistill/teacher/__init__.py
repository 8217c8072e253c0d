"""Who reviews what was played. The contract is in protocol.py.

:class:`LogprobTeacher` is loaded when it is asked for, because it brings torch and transformers with it.
"""

from typing import TYPE_CHECKING, Any

from agentdistill.teacher.protocol import DenseTarget, DenseTeacher, Teacher

if TYPE_CHECKING:
    from agentdistill.teacher.logprob import LogprobTeacher

__all__ = ["DenseTarget", "DenseTeacher", "LogprobTeacher", "Teacher"]


def __getattr__(name: str) -> Any:
    if name == "LogprobTeacher":
        from agentdistill.teacher.logprob import LogprobTeacher

        return LogprobTeacher
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
