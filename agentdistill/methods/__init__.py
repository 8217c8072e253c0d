"""From a method's configuration to the objective. The training loop knows this protocol and no method by name."""

from agentdistill.methods.objective import Objective
from agentdistill.methods.protocol import Method, Needs

__all__ = ["Method", "Needs", "Objective"]
