"""Durable files: a small vocabulary of writes that survive a crash, and the one seam at which tests make the disk fail.

    write_file      the bytes are on the disk when it returns (fsync)
    replace_file    readers see the old content or the new one, never a mixture (write aside, fsync, rename, fsync the folder)
    publish_dir     a folder written aside becomes visible as a whole

Every call goes through this module's ``os``, so a test can die after the n-th of them.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

ASIDE = ".tmp"
"""Ending of whatever is not finished yet, or not wanted any more; swept at start."""


def write_file(path: Path, data: bytes) -> None:
    """Create or truncate ``path``, write all of ``data`` and fsync it. The folder entry is not yet durable: see :func:`sync_dir`."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        _write_all(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def append_line(path: Path, line: bytes) -> None:
    """Append ``line`` and a newline in one write, and fsync."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        _write_all(descriptor, line + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, data: bytes) -> None:
    """Give ``path`` the content ``data`` atomically and durably."""
    aside = path.with_name(path.name + ASIDE)
    try:
        write_file(aside, data)
        os.replace(aside, path)  # noqa: PTH105  # through the seam
    except OSError:
        aside.unlink(missing_ok=True)
        raise
    sync_dir(path.parent)


def publish_dir(aside: Path, final: Path) -> None:
    """Rename the finished folder ``aside`` to ``final``, which must not exist, and make the rename durable."""
    os.rename(aside, final)  # noqa: PTH104  # through the seam
    sync_dir(final.parent)


def sync_dir(path: Path) -> None:
    """Make the entries of a folder durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_dir(path: Path) -> None:
    """Remove a folder and what is in it, as far as the disk allows. A link is removed, never followed."""
    if path.is_symlink() or path.is_file():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path, ignore_errors=True)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def replace_text(path: Path, text: str) -> None:
    """:func:`replace_file` with UTF-8 text."""
    replace_file(path, text.encode())
