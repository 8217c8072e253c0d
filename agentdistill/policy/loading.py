"""From a path in the configuration to a model or a tokenizer: ``nano``, a directory in Hugging Face form, a GGUF file, or a hub id.

Nothing is loaded with pickle, no code of the checkpoint is run, and every way to fail is one sentence with its remedy.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from agentdistill import resources
from agentdistill.errors import ConfigError, boundary
from agentdistill.policy import gguf

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Role = Literal["student", "teacher"]
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")
BORROWED = "math"
"""Whose nano models stand in for an environment that has none."""
_DTYPES = ("float32", "bfloat16", "float16")


def load_model(
    path: str, *, env: str, role: Role, dtype: str | torch.dtype = "auto", device: str | torch.device = "auto"
) -> PreTrainedModel:
    """A causal language model in evaluation mode on ``device``.

    Args:
        path: ``nano`` (the shipped model of ``env`` and ``role``), a directory, a GGUF file or a directory with one, or a hub id.
        dtype: of the weights; ``auto`` is bfloat16 for a teacher on CUDA and float32 elsewhere.
        device: ``auto`` takes CUDA, then MPS, then the CPU.

    Raises:
        ConfigError: no such model, no such device or dtype, or the checkpoint does not load.
    """
    where = resolve(path, env=env, role=role)
    _require_weights(path, where, role)
    target = resolve_device(device)
    weights = pick_dtype(dtype, target, role)
    folder, extra = gguf.source(where)
    from transformers import AutoModelForCausalLM

    try:
        with quiet(watched=path != "nano" and sys.stderr.isatty()):  # nano loads at once
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=weights, trust_remote_code=False, use_safetensors=True, **extra)
    except Exception as error:  # transformers raises many kinds for one cause: this is no loadable model
        raise _not_loadable("model", path, where, role, error) from error
    if extra:
        gguf.as_ordinary(model)
    return model.to(target).eval()


def load_tokenizer(path: str, env: str, role: Role) -> PreTrainedTokenizerBase:
    """The tokenizer beside the model that :func:`load_model` loads for the same arguments.

    Raises:
        ConfigError: there is none, it does not load, or it has no chat template.
    """
    where = resolve(path, env=env, role=role)
    folder, extra = gguf.source(where)
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, **extra)
    except Exception as error:  # as above
        raise _not_loadable("tokenizer", path, where, role, error) from error
    if getattr(tokenizer, "chat_template", None) is None:
        raise ConfigError(
            f"the tokenizer of {role} {path!r} has no chat template, so conversations cannot be rendered; "
            "choose an instruction-tuned checkpoint, or add a chat_template.jinja to the directory"
        )
    return tokenizer


@contextmanager
def quiet(*, watched: bool = False) -> Iterator[None]:
    """No progress bars of transformers inside, unless they are ``watched``."""
    from transformers.utils import logging

    if watched or not logging.is_progress_bar_enabled():
        yield
        return
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.enable_progress_bar()


def resolve(path: str, *, env: str, role: Role) -> str:
    """The directory, GGUF file or hub id that ``path`` means.

    Raises:
        ConfigError: ``path`` names a directory that is missing or holds no checkpoint.
    """
    if path == "nano":
        directory = resources.nano_dir(env if _has_nano(env) else BORROWED, role)
        if not (directory / "config.json").is_file():
            shipped = ", ".join(resources.nano_envs()) or "none"
            raise ConfigError(
                f"there is no nano {role} for env {env!r} (nano models exist for: {shipped}); "
                f"make one with `agentdistill nano build --env {env}`, or set {role}.path=<directory or hub id>"
            )
        return str(directory)
    try:
        local = Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{role}.path={path!r}: {error}; write the whole path") from error
    if path.strip() and (file := gguf.gguf_file(local)) is not None:
        return str(file)
    if path.strip() and local.is_dir():
        if not (local / "config.json").is_file():
            raise ConfigError(
                f"{role} {path!r} is a directory without config.json; expected a checkpoint in Hugging Face form, or a GGUF file"
            )
        return str(local)
    if local.exists() or path.startswith(("/", ".", "~")) or path.count("/") > 1 or not path.strip():
        raise ConfigError(
            f"{role} {path!r} is not a directory; set {role}.path to 'nano', a checkpoint directory, a .gguf file or a hub id such as "
            "'org/name'"
        )
    return path


def borrowed_note(env: str, paths: Iterable[str]) -> str | None:
    """What to tell a user whose ``nano`` models are another environment's. ``None``: nothing is borrowed."""
    if "nano" not in paths or _has_nano(env):
        return None
    return (
        f"there are no nano models for env {env!r}; those of env {BORROWED!r} stand in, which know the chat format and not this world. "
        f"Make a pair that does: agentdistill nano build env={env}"
    )


def _has_nano(env: str) -> bool:
    """Both models are there: one of each pair would not speak the same tokens."""
    return all((resources.nano_dir(env, role) / "config.json").is_file() for role in get_args(Role))


def _require_weights(path: str, where: str, role: Role) -> None:
    """A directory must hold a whole model that can be loaded without running code of its own."""
    directory = Path(where)
    if not directory.is_dir():
        return
    if any(directory.glob("*.safetensors")) and not any(directory.glob("model*.safetensors")):
        raise ConfigError(
            f"{role} {path!r} is a checkpoint of adapters without their base; measure it with `agentdistill eval run=<its run>`, "
            "or begin a run from a whole model"
        )
    if not any(directory.glob("*.safetensors")):
        pickled = "; weights in pickle form are not read, because they can run code" if any(directory.glob("*.bin")) else ""
        raise ConfigError(f"{role} {path!r} has no weights (model*.safetensors){pickled}; save it again with save_pretrained")


@dataclass(frozen=True)
class ModelFacts:
    """What is known of a model without its weights."""

    window: int | None
    """Positions. ``None``: unbounded or not told."""
    vocab: int | None
    """Rows of the head."""
    parameters: int
    """0 where the weights are not here."""


def model_facts(path: str, *, env: str, role: Role) -> ModelFacts:
    """Read the model's configuration.

    Raises:
        ConfigError: as :func:`load_model`.
    """
    where = resolve(path, env=env, role=role)
    _require_weights(path, where, role)
    folder, extra = gguf.source(where)
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, **extra).get_text_config()
    except Exception as error:  # as above
        raise _not_loadable("configuration", path, where, role, error) from error
    if extra:
        parameters = gguf.count_parameters(Path(where))
    else:
        parameters = sum(map(_count, Path(where).glob("model*.safetensors"))) if Path(where).is_dir() else 0
    return ModelFacts(getattr(config, "max_position_embeddings", None), getattr(config, "vocab_size", None), parameters)


def _count(file: Path) -> int:
    """Numbers in a safetensors file, from its header: 8 bytes of length, then JSON (https://github.com/huggingface/safetensors)."""
    with boundary(ConfigError, f"{file} is no safetensors file"), file.open("rb") as stream:
        header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        return sum(math.prod(each["shape"]) for name, each in header.items() if name != "__metadata__")


def resolve_device(device: str | torch.device = "auto") -> torch.device:
    """``auto`` takes CUDA, then MPS, then the CPU.

    Raises:
        ConfigError: the device is unknown or not there.
    """
    import torch

    have = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return torch.device(next(name for name, there in have.items() if there))
    try:
        wanted = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"no device {device!r}; available: {', '.join(name for name, there in have.items() if there)}, auto") from error
    if not have.get(wanted.type, False):
        there = ", ".join(name for name, there in have.items() if there)
        raise ConfigError(f"device {str(device)!r} is not available on this machine; available: {there}, auto")
    return wanted


def pick_dtype(dtype: str | torch.dtype, device: torch.device, role: Role) -> torch.dtype:
    """The dtype of the weights. ``auto``: bfloat16 for a frozen model on CUDA, float32 for one that trains and everywhere else."""
    import torch

    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype == "auto":
        return torch.bfloat16 if role == "teacher" and device.type == "cuda" else torch.float32
    if dtype not in _DTYPES:
        raise ConfigError(f"no dtype {dtype!r}; available: auto, {', '.join(_DTYPES)}")
    chosen: torch.dtype = getattr(torch, dtype)
    return chosen


def _not_loadable(what: str, path: str, where: str, role: Role, error: Exception) -> ConfigError:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    reason = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    if Path(where).exists():
        if what == "tokenizer" and Path(where).is_dir() and not any((Path(where) / name).is_file() for name in TOKENIZER_FILES):
            reason = f"the directory has none of {', '.join(TOKENIZER_FILES)}; copy the tokenizer of its family there"
        return ConfigError(f"cannot load the {what} of {role} {path!r}: {reason}")
    return ConfigError(
        f"cannot load the {what} of {role} {path!r}: it is no directory here, and the hub gave no such model ({reason}); "
        f"check the spelling and the network, download it first, or set {role}.path=nano"
    )
