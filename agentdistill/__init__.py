"""AgentDistill: small language models learn to be agents from their own episodes and a teacher's feedback.

Importing it is enough for ``gymnasium.make("agentdistill/math-v0")``, and imports neither Gymnasium nor anything else that is heavy.
"""

__version__ = "0.1.0"

from agentdistill.mirror import mirror_with_gymnasium

mirror_with_gymnasium()
