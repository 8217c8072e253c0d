"""Who plays: engines that complete turns. The contract is in protocol.py.

:class:`HFPolicy` is loaded when it is asked for, because it brings torch and transformers with it.
"""

from typing import TYPE_CHECKING, Any

from agentdistill.policy.loading import load_model, load_tokenizer, resolve_device
from agentdistill.policy.protocol import Policy, Request, WeightSink
from agentdistill.policy.scripted import ScriptedPolicy

if TYPE_CHECKING:
    from agentdistill.policy.hf import HFPolicy

__all__ = ["HFPolicy", "Policy", "Request", "ScriptedPolicy", "WeightSink", "load_model", "load_tokenizer", "resolve_device"]


def __getattr__(name: str) -> Any:
    if name == "HFPolicy":
        from agentdistill.policy.hf import HFPolicy

        return HFPolicy
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
