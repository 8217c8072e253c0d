"""The tutorials are run as they stand, in a folder and a virtual environment of their own.

A block of ``sh`` is run; an ``output`` block behind it must be among what it printed; any other block is written to the file that its first
line names.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from .test_plugin_package import ROOT, Place

PAGES = ROOT / "docs" / "tutorials"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
REFUSED = 2, 3
"""Exit codes of commands that are shown to fail: their output is an error."""

pytestmark = pytest.mark.ci


class Reader:
    """Somebody who follows a page to the letter."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "work"
        self.folder.mkdir()
        place = Place(folder / "venv")
        tools = folder / "bin"
        tools.mkdir()
        pip = f'"{sys.executable}" -m pip --python "{place.python}" --disable-pip-version-check'
        options = "-q --no-deps --no-index --no-build-isolation"
        _script(tools / "agentdistill", f'exec "{place.python}" -m agentdistill "$@"')
        _script(tools / "pip", f'[ "$1" = install ] && shift && exec {pip} install {options} "$@"')
        kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        self.environment = {**kept, "PATH": f"{tools}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}

    def run(self, script: str, *, shown: str | None) -> None:
        done = subprocess.run(
            ["bash", "-ec", script], cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False, timeout=300
        )
        said = done.stdout + done.stderr
        refused = shown is not None and shown.startswith("agentdistill: error:")
        assert done.returncode in (REFUSED if refused else (0,)), f"{script}\n{said}"
        assert shown is None or shown in said, f"{script}\nsaid\n{said}\nand the page shows\n{shown}"

    def write(self, text: str) -> None:
        name = text.splitlines()[0].removeprefix("# ")
        target = self.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)


def _script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.mark.parametrize("page", sorted(path.name for path in PAGES.glob("*.md") if path.name != "README.md"))
def test_a_tutorial_does_what_it_shows(page: str, tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    blocks = BLOCK.findall((PAGES / page).read_text("utf-8"))
    assert sum(kind == "sh" for kind, _ in blocks) >= 2
    for place, (kind, text) in enumerate(blocks):
        following = blocks[place + 1] if place + 1 < len(blocks) else ("", "")
        if kind == "sh":
            reader.run(text, shown=following[1].strip() if following[0] == "output" else None)
        elif kind != "output":
            reader.write(text)


def test_the_index_names_every_tutorial() -> None:
    index = (PAGES / "README.md").read_text("utf-8")
    assert all(f"({path.name})" in index for path in PAGES.glob("*.md") if path.name != "README.md")
