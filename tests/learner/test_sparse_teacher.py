"""A teacher that knows its most likely tokens only, in the learner: what it can answer, and what it is not asked."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from agentdistill.config.schema import DivergenceTerm
from agentdistill.config.terms import Target
from agentdistill.config.weights import TeacherEntropyWeight
from agentdistill.errors import IncompatibleError
from agentdistill.types import Sample


class Served:
    """The top tokens of another target, as a server would return them."""

    def __init__(self, target: Any, k: int) -> None:
        self.target, self.k = target, k

    def __len__(self) -> int:
        return len(self.target)

    def sparse(self, start: int, stop: int) -> tuple[torch.Tensor, torch.Tensor]:
        found = self.target.log_probs(start, stop).topk(self.k, -1)
        return found.indices, found.values


class Server:
    def __init__(self, teacher: Any, k: int = 5) -> None:
        self.teacher, self.k = teacher, k

    def dense(self, samples: Sequence[Sample], positions: Sequence[Sequence[int]]) -> Served:
        return Served(self.teacher.dense(samples, positions), self.k)


@pytest.mark.parametrize("k", [3, 5])
@pytest.mark.parametrize("options", [{}, {"renormalise": True}, {"renormalise": "teacher"}, {"tail": False}])
def test_a_served_teacher_is_the_top_k_of_a_whole_one(tools: Any, k: int, options: dict[str, Any]) -> None:
    """Also where the server sent more tokens than the term wants."""
    term = DivergenceTerm.model_validate({"divergence": "forward_kl", "route": "topk", "k": k, **options})
    samples = tools.samples(("kl",))
    whole, gradients = tools.run(tools.gpt2(), samples, {"kl": term}, teacher=tools.teacher())
    served, same = tools.run(tools.gpt2(), samples, {"kl": term}, teacher=Server(tools.teacher()))
    assert served.total == pytest.approx(whole.total, rel=1e-9)
    for name, gradient in gradients.items():
        torch.testing.assert_close(same[name], gradient, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "term",
    [
        DivergenceTerm(target=Target(kind="bridge", amount=0.3)),
        DivergenceTerm(route="topk", k=3, support="student"),
        DivergenceTerm(route="topk", k=3, token_weights=(TeacherEntropyWeight(above=0.8),)),
    ],
)
def test_it_is_not_asked_for_what_it_cannot_know(tools: Any, term: DivergenceTerm) -> None:
    with pytest.raises(IncompatibleError, match="needs the teacher's whole distribution"):
        tools.run(tools.gpt2(), tools.samples(("kl",)), {"kl": term}, teacher=Server(tools.teacher()))
