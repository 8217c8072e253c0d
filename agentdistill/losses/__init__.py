"""Losses as functions of tensors: no model, no batch, no configuration.

    divergence           whole distributions   D(p, q) at each position, differentiated through the student
    sparse_divergence    a teacher's top-k     the same where the teacher is known at a few tokens only
    score_advantage      sampled tokens        the score-function form of the same divergences
    sampled_divergence   sampled tokens        their one-sample values
    policy_gradient      sampled tokens        −ψ(ρ, Â)
    kl_estimate          sampled tokens        k1, k2, k3, k3_plus
    supervised           sampled tokens        −ln q(y)

    geometric, bridge, skew, mixture           what stands in for the teacher

Everywhere p is the teacher, q the student, u = p/q, logarithms are natural, and a smaller loss is better.
"""

from agentdistill.losses.divergences import DIVERGENCES, Divergence, divergence, pathwise, sparse_divergence, sparse_pathwise
from agentdistill.losses.kl import ESTIMATORS, kl_estimate
from agentdistill.losses.parameters import Parameter
from agentdistill.losses.policy_gradient import PolicyGradient, policy_gradient
from agentdistill.losses.score import expected_advantage, sampled_divergence, score_advantage
from agentdistill.losses.supervised import supervised
from agentdistill.losses.targets import bridge, geometric, mixture, skew

__all__ = [
    "DIVERGENCES",
    "ESTIMATORS",
    "Divergence",
    "Parameter",
    "PolicyGradient",
    "bridge",
    "divergence",
    "expected_advantage",
    "geometric",
    "kl_estimate",
    "mixture",
    "pathwise",
    "policy_gradient",
    "sampled_divergence",
    "score_advantage",
    "skew",
    "sparse_divergence",
    "sparse_pathwise",
    "supervised",
]
