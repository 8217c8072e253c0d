"""Checkpoints in GGUF form, the format of llama.cpp (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md): weights, configuration,
tokenizer and chat template in one file. transformers turns the weights back into ordinary ones, so what trains is the rounded model.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from agentdistill.errors import ConfigError

SUFFIX = ".gguf"
_NEEDED = ("gguf", "accelerate")


def gguf_file(path: Path) -> Path | None:
    """The file that ``path`` means: itself, or the only one in a folder that is no checkpoint in Hugging Face form. ``None``: none.

    Raises:
        ConfigError: the folder has several.
    """
    if path.suffix.lower() == SUFFIX:
        return path if path.is_file() else None
    if not path.is_dir() or (path / "config.json").is_file():
        return None
    found = sorted(path.glob(f"*{SUFFIX}"))
    if len(found) > 1:
        raise ConfigError(f"{str(path)!r} holds {len(found)} GGUF files ({', '.join(file.name for file in found[:4])}); name one of them")
    return found[0] if found else None


def source(where: str) -> tuple[str, dict[str, Any]]:
    """What ``from_pretrained`` is given for ``where``: a folder or hub id, and further arguments.

    Raises:
        ConfigError: ``where`` is a GGUF file and a package that reads it is missing.
    """
    path = Path(where)
    if path.suffix.lower() != SUFFIX:
        return where, {}
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise ConfigError(f"{path.name!r} is a GGUF file, which needs {' and '.join(missing)}: pip install 'agentdistill[gguf]'")
    return str(path.parent), {"gguf_file": path.name}


def count_parameters(file: Path) -> int:
    """Numbers in the file's tensors."""
    from gguf import GGUFReader

    return sum(int(tensor.n_elements) for tensor in GGUFReader(file).tensors)


def as_ordinary(model: Any) -> None:
    """Forget where the weights are from: they are ordinary floats now, and may be saved, adapted and trained like any."""
    model.hf_quantizer = None
    for owner, name in ((model.config, "quantization_config"), (model, "is_quantized"), (model, "quantization_method")):
        if name in vars(owner):
            delattr(owner, name)
