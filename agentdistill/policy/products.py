"""The three matrix products of an output head, into memory that is already there and summed in float32 at least.

    project        [n, H] · [V, H]ᵀ -> [n, V]     logits, never rounded to half precision where the machine allows it
    pull           [n, V] · [V, H]  -> [n, H]     gradient with respect to the states
    add_outer      [n, V]ᵀ · [n, H] -> [V, H]     gradient with respect to the weight, added to what is there

What runs depends on the machine and the dtype:

* float32, float64 on the CPU: tiles of the vocabulary small enough to stay in the cache. The weight is the large operand here and the
  batch the small one, a shape that a BLAS handles worst of all when it gets it whole. In float32 oneDNN multiplies a tile, where torch
  was built with it: on AVX2 a quarter faster than MKL in tiles, and 1.4 times as fast as MKL on the whole.
* half precision on a CPU without instructions for it: the same tiles, each turned into float32 on the way, since a product in emulated
  half precision is ten to two hundred times slower. Numbers are those of the half-precision inputs, sums are float32.
* half precision on a CPU that has them: the product as it is; a logit is rounded once, as the model itself would round it.
* CUDA: half-precision inputs with float32 results (``out_dtype``).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor

TILE_BYTES = 2**21
"""Of one float32 tile of the weight, per thread: a part of the last-level cache."""

_HALF = (torch.bfloat16, torch.float16)


@cache
def native(dtype: torch.dtype) -> bool:
    """Whether this CPU multiplies matrices of that dtype by itself."""
    if dtype not in _HALF:
        return True
    asked = "_is_mkldnn_bf16_supported" if dtype == torch.bfloat16 else "_is_mkldnn_fp16_supported"
    try:
        return bool(getattr(torch.ops.mkldnn, asked)())
    except (AttributeError, RuntimeError):  # a build without oneDNN
        return False


def accumulated(dtype: torch.dtype) -> torch.dtype:
    """In which sums over inputs of ``dtype`` are kept: float32, or float64 for float64."""
    return torch.promote_types(dtype, torch.float32)


@cache
def _tile_product() -> Any:
    """oneDNN's linear layer, [n, H] and [V, H] -> [n, V]. ``None``: this torch has none."""
    try:
        product = torch.ops.mkldnn._linear_pointwise
        ones = torch.ones(2, 2)
        return product if torch.equal(product(ones, ones, None, "none", [], ""), 2 * ones) else None
    except (AttributeError, RuntimeError):
        return None


@torch.no_grad()
def project(states: Tensor, weight: Tensor, out: Tensor) -> Tensor:
    """``states`` [n, H] times ``weight`` [V, H] transposed, into ``out`` [n, V] of any dtype that can hold it. Returns ``out``."""
    if out.dtype != accumulated(weight.dtype):
        return out.copy_(states @ weight.T)
    if not _in_tiles(weight):
        if weight.dtype not in _HALF:
            return torch.mm(states, weight.T, out=out)
        return torch.mm(states, weight.T, out_dtype=out.dtype, out=out) if weight.is_cuda else out.copy_(states @ weight.T)
    states = states.to(out.dtype)
    product = _tile_product() if out.dtype == torch.float32 and len(states) > 1 else None
    for rows in _tiles(weight):
        tile = weight[rows].to(out.dtype)
        if product is None:
            torch.mm(states, tile.T, out=out[:, rows])
        else:
            out[:, rows].copy_(product(states, tile, None, "none", [], ""))
    return out


def pull(gradient: Tensor, weight: Tensor) -> Tensor:
    """``gradient`` [n, V] times ``weight`` [V, H]: [n, H], in the dtype of the weight or better."""
    if weight.dtype not in _HALF or not _in_tiles(weight):
        return gradient.to(weight.dtype) @ weight
    found = gradient.new_zeros((gradient.shape[0], weight.shape[1]))
    for rows in _tiles(weight):
        found.addmm_(gradient[:, rows], weight[rows].to(found.dtype))
    return found


def add_outer(total: Tensor, gradient: Tensor, states: Tensor, *, first: bool) -> None:
    """Add ``gradient`` [n, V] transposed times ``states`` [n, H] to ``total`` [V, H]; ``first`` overwrites it, whatever it held."""
    kept = 0.0 if first else 1.0
    if states.dtype in _HALF and states.is_cuda:
        gradient = gradient.to(states.dtype)
        if first:
            torch.mm(gradient.T, states, out_dtype=total.dtype, out=total)
        else:
            torch.addmm(total, gradient.T, states, out_dtype=total.dtype, out=total)
    elif states.dtype in _HALF and native(states.dtype):
        found = gradient.to(states.dtype).T @ states
        total.copy_(found) if first else total.add_(found)
    else:
        torch.addmm(total, gradient.T, states.to(total.dtype), beta=kept, out=total)


def _in_tiles(weight: Tensor) -> bool:
    return weight.device.type == "cpu" and (weight.dtype not in _HALF or not native(weight.dtype))


def _tiles(weight: Tensor) -> Iterator[slice]:
    rows = max(TILE_BYTES * torch.get_num_threads() // (4 * max(weight.shape[1], 1)), 64)
    for start in range(0, weight.shape[0], rows):
        yield slice(start, start + rows)


@torch.no_grad()
def narrowed(sums: Tensor, dtype: torch.dtype) -> Tensor:
    """``sums`` [V, H] in ``dtype``. A narrower one is written into the memory of ``sums``, which is lost: the two never exist at once."""
    if sums.dtype == dtype or sums.element_size() <= dtype.itemsize or not sums.is_contiguous():
        return sums.to(dtype)
    flat = sums.view(-1)
    found = flat.view(dtype)[: len(flat)]
    step = max(TILE_BYTES // sums.element_size(), 1)
    for start in range(0, len(flat), step):  # what is written lies before what is still to be read
        found[start : start + step] = flat[start : start + step].to(dtype)
    return found.view(sums.shape)
