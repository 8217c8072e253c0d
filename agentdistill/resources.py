"""Where shipped data is: configs, tasks, sandbox files and templates, and the nano models.

An installed wheel carries them under ``agentdistill/_data``; a source checkout (and an editable install) reads them from the
repository itself, so that editing a YAML file takes effect at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

_PACKAGE = Path(__file__).resolve().parent

Kind = Literal["configs", "tasks", "sandbox", "templates"]


def data_dir(kind: Kind) -> Path:
    """The directory that holds ``kind``.

    Raises:
        FileNotFoundError: neither place exists, which means a broken installation.
    """
    for candidate in (_PACKAGE / "_data" / kind, _PACKAGE.parent / kind):
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(f"the installation of agentdistill lacks its {kind!r} directory; reinstall the package")


def nano_dir(env: str, role: Literal["student", "teacher"]) -> Path:
    """Directory of the nano checkpoint for ``env``; it may not exist."""
    return _PACKAGE / "nano" / "models" / env / role


def nano_envs() -> tuple[str, ...]:
    """Environments for which nano models are shipped."""
    root = _PACKAGE / "nano" / "models"
    return tuple(sorted(path.name for path in root.iterdir() if path.is_dir())) if root.is_dir() else ()
