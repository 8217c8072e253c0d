"""``agentdistill env new``: a package with an environment of one's own, made from ``templates/env``.

The template is a package that works as it stands; its names are replaced by the new one's in its three spellings.
"""

from __future__ import annotations

import argparse
import keyword
import re
import shlex
import sys
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from agentdistill import resources
from agentdistill.config import options
from agentdistill.errors import EXIT_OK, UsageError

LONGEST = 30
_TAKEN_CLASSES = ("Tool", "Env", "Agent")
"""Their ``<prefix>Env`` or ``<prefix>Config`` is already the name of a class of ours."""
_YAML_WORDS = ("true", "false", "yes", "no", "on", "off", "null", "none", "nan", "inf")


@dataclass(frozen=True)
class Names:
    """One name in its spellings."""

    env: str
    """``my-world``: the entry point, the distribution and the folder."""
    package: str
    """``my_world``"""
    prefix: str
    """``MyWorld``, of the classes."""

    @classmethod
    def of(cls, name: str) -> Names:
        """
        Raises:
            UsageError: no name can be made of it.
        """
        valid = "valid are letters, digits, '-' and '_', beginning with a letter, such as box-trail"
        if not re.fullmatch(r"[A-Za-z](?:[-_]?[A-Za-z0-9])*", name):
            raise UsageError(f"{name!r} cannot be the name of an environment; {valid}")
        if len(name) > LONGEST:
            raise UsageError(f"{name!r} has {len(name)} characters; a name has at most {LONGEST}")
        words = re.split("[-_]", name)
        lower = [word.lower() for word in words]
        return cls("-".join(lower), "_".join(lower), "".join(word[0].upper() + word[1:] for word in words))

    def fill(self, text: str) -> str:
        """The template's text under the new name."""
        return text.replace("my-world", self.env).replace("my_world", self.package).replace("MyWorld", self.prefix)


def run(arguments: argparse.Namespace) -> int:
    names = Names.of(arguments.name)
    _require_free(names)
    out = Path(arguments.out or names.env)
    write(names, out)
    where = shlex.quote(str(out))
    print(f"{out}: a package with env={names.env}, a small working example to make your own (its README.md says how)")
    print(f"\n  pip install -e {where}\n  agentdistill env check {names.env}\n  agentdistill nano build env={names.env}")
    return EXIT_OK


def _require_free(names: Names) -> None:
    """
    Raises:
        UsageError: the name means something already, so that the package could not be imported or chosen.
    """
    other = "choose another name"
    if keyword.iskeyword(names.package) or names.package in _YAML_WORDS:
        raise UsageError(f"{names.package!r} is a word of Python's or YAML's; {other}")
    if names.env in options("env"):
        raise UsageError(f"there is an environment {names.env!r} already, of {options('env')[names.env]}; {other}")
    if names.prefix in _TAKEN_CLASSES:
        raise UsageError(f"{names.prefix}Env would hide a class of agentdistill.env; {other}")
    if names.package in ("tests", "agentdistill") or names.package in sys.stdlib_module_names or _importable(names.package):
        raise UsageError(f"Python has a module {names.package!r} already, which yours would hide or be hidden by; {other}")


def _importable(package: str) -> bool:
    """Something of that name is installed. A bare folder of the current directory, which Python would take for a package, is not."""
    found = find_spec(package)
    return found is not None and found.origin is not None


def write(names: Names, out: Path) -> None:
    """Write the package to ``out``, as a whole or not at all.

    Raises:
        UsageError: ``out`` holds something, or cannot be written.
    """
    if out.is_symlink() or (out.exists() and not (out.is_dir() and not any(out.iterdir()))):
        raise UsageError(f"{str(out)!r} is there already and nothing is overwritten; name another folder with --out DIR, or remove it")
    source = resources.data_dir("templates") / "env"
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{names.env}-") as scratch:
            whole = Path(scratch) / "package"
            for path in sorted(source.rglob("*")):
                inside = path.relative_to(source)
                if path.is_file() and not _made_by_tools(inside):
                    target = whole / names.fill(inside.as_posix())
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_text(names.fill(path.read_text("utf-8")), "utf-8")
            whole.rename(out)  # an empty folder gives way
    except OSError as error:
        raise UsageError(f"cannot write {str(out)!r}: {error.strerror or error}; name another folder with --out DIR") from error


def _made_by_tools(path: Path) -> bool:
    """A cache in the checkout, where the template is linted and run."""
    return any(part == "__pycache__" or part.endswith("_cache") for part in path.parts)
