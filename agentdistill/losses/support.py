"""Which tokens a divergence is summed over, and what stands for the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from agentdistill.errors import ConfigError, UsageError, unknown

SUPPORTS = ("teacher", "student", "union", "intersection")
FORMS = ("pathwise", "score")


@dataclass(frozen=True)
class Remainder:
    """What becomes of the mass outside the support. See :func:`~agentdistill.losses.divergence` for the bias of each."""

    tail: bool = True
    renormalise: bool | str = False
    form: str = "pathwise"

    @property
    def normalised(self) -> bool:
        """Whether both sides sum to 1 over what is left."""
        return self.tail or self.renormalise is True


def remainder(tail: bool | None, renormalise: bool | str, form: str) -> Remainder:
    """The choice, checked; ``tail=None`` is a tail unless something else is asked for.

    Raises:
        ConfigError: two ways at once, or a misspelt one.
    """
    if form not in FORMS:
        raise ConfigError(unknown("form", form, FORMS))
    if renormalise not in (False, True, "teacher"):
        raise ConfigError(f"renormalise={renormalise!r}: expected False, True (both sides) or 'teacher' (the teacher alone)")
    if tail and renormalise:
        raise ConfigError(
            f"tail=True and renormalise={renormalise!r} are two ways to account for the mass outside the support; leave one of them out"
        )
    if form == "score" and (tail or renormalise):
        raise ConfigError("form='score' is the restricted sum of the score function; it goes with tail=False and renormalise=False")
    return Remainder(tail if tail is not None else not renormalise and form == "pathwise", renormalise, form)


class Support(NamedTuple):
    """Tokens of each row, padded to one length: rows may have different numbers of them."""

    ids: Tensor
    """[..., K]"""
    valid: Tensor
    """[..., K], bool: what is not padding."""

    @property
    def indices(self) -> Tensor:
        """``ids`` with padding pointed at token 0, to gather with."""
        return self.ids.masked_fill(~self.valid, 0)

    def members(self, vocab: int) -> Tensor:
        """[..., V], bool."""
        spare = self.ids.masked_fill(~self.valid, vocab)  # padding lands in a column that is cut off
        return torch.zeros(*self.ids.shape[:-1], vocab + 1, dtype=torch.bool, device=self.ids.device).scatter_(-1, spare, True)[..., :vocab]


def top_support(side: str, k: int, teacher_logprobs: Tensor, student_logprobs: Tensor) -> Support:
    """The ``k`` likeliest tokens of a side, or the union or intersection of both sides'; among equals, the smaller id.

    A token that the naming side gives no mass is none of its likeliest. From k = V on, it is the whole vocabulary.

    Raises:
        ConfigError: unknown side.
        UsageError: k below 1.
    """
    if side not in SUPPORTS:
        raise ConfigError(unknown("support", side, SUPPORTS))
    if not isinstance(k, int) or isinstance(k, bool):
        raise UsageError(f"k={k!r} is no number of tokens; expected a whole number such as 16")
    if k < 1:
        raise UsageError(f"k={k}: the support needs one token at least")
    vocab = teacher_logprobs.shape[-1]
    if k >= vocab:
        ids = torch.arange(vocab, device=teacher_logprobs.device).expand(teacher_logprobs.shape)
        return Support(ids, torch.ones_like(ids, dtype=torch.bool))
    if side == "teacher":
        return _top(teacher_logprobs, k)
    if side == "student":
        return _top(student_logprobs, k)
    first, second = _top(teacher_logprobs, k), _top(student_logprobs, k)
    if side == "intersection":
        return Support(first.ids, first.valid & second.members(vocab).gather(-1, first.ids))
    added = second.valid & ~first.members(vocab).gather(-1, second.ids)
    return Support(torch.cat((first.ids, second.ids), -1), torch.cat((first.valid, added), -1))


def _top(logprobs: Tensor, k: int) -> Support:
    values, ids = logprobs.topk(k, -1)
    tied = (logprobs >= values[..., -1:]).sum(-1) > k  # topk takes any of those that are equal
    if bool(tied.any()):
        ids[tied] = logprobs[tied].sort(dim=-1, descending=True, stable=True).indices[..., :k]
    return Support(ids, ~logprobs.gather(-1, ids).isneginf())
