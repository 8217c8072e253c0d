from __future__ import annotations

import hashlib

from agentdistill.learner import Learner


def fingerprint(learner: Learner) -> str:
    """Hash of every bit of weights and optimizer."""
    tensors, _ = learner.state()
    digest = hashlib.sha256()
    for file in sorted(tensors):
        for name in sorted(tensors[file]):
            digest.update(name.encode() + tensors[file][name].tobytes())
    return digest.hexdigest()
