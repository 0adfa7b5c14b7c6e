"""Files that are whole or not there: written under a temporary name, then renamed."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Lend a temporary name; what is written there takes the place of `path` in one step.

    After an error or an interrupt nothing is left of it, and a file that was there stays.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The ending stays: some writers go by it. Made as any new file is, colleagues can read it.
    temporary = path.with_name(f".{secrets.token_hex(6)}-{path.name}")
    temporary.touch(exist_ok=False)
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: str | Path) -> Iterator[Path]:
    """Lend a temporary folder that takes the place of `path`; as :func:`whole_file` otherwise.

    A folder cannot be replaced in one step: a process that is killed between the two renames
    leaves the former content beside it, under a hidden name.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(6)}")
    temporary.mkdir()
    old = temporary.with_name(temporary.name + "-old")
    try:
        yield temporary
        if path.exists():
            path.rename(old)
        temporary.rename(path)
    finally:
        if old.exists() and not path.exists():  # stopped between the two renames
            old.rename(path)
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def check_writable(
    path: Any, *, argument: str, kind: Literal["folder", "file"] = "folder", fresh: bool = True
) -> None:
    """Prove, before any work, that `path` can be made and written; nothing is left of the proof.

    Parameters
    ----------
    path
        Folder or file to write later.
    argument
        Name of the caller's argument, for the message.
    kind
        What is to be written there. A file that is there already is replaced later.
    fresh
        A folder must not be there yet.

    Raises
    ------
    TypeError, ValueError
        No path, an empty one, or one with NUL.
    FileExistsError
        The folder is there already.
    OSError
        It cannot be made or written (of the class the system raised: PermissionError, ...).
    """
    if not isinstance(path, (str, os.PathLike)):
        msg = f"{argument} must be a path, not {path!r}."
        raise TypeError(msg)
    text = os.fspath(path)
    if not isinstance(text, str) or not text.strip() or "\0" in text:
        msg = f"{argument}={path!r} is no path: it is empty, holds NUL, or is no text."
        raise ValueError(msg)
    target = Path(text)
    try:
        there = target.is_symlink() or target.exists()
        if kind == "folder" and there and (fresh or not target.is_dir()):
            msg = f"{path} exists already: name a new folder with {argument}=."
            raise FileExistsError(msg)
        if kind == "file" and target.is_dir():
            msg = f"{path} is a folder: name a file with {argument}=."
            raise IsADirectoryError(msg)
        folder = target if kind == "folder" else target.parent
        with made_folders(folder):
            _write_something(folder, "" if kind == "folder" else target.name)
    except OSError as error:
        if error.errno is None:  # raised here, not by the system
            raise
        msg = (
            f"{argument}={text!r} cannot be written: {error.strerror or error}. Name a place that "
            "can be written."
        )
        raise type(error)(msg) from error


#: Bytes that must fit where a model is to be saved; more are not asked of a disk in advance.
_ROOM = 1 << 20


def _write_something(folder: Path, name: str) -> None:
    handle, probe = tempfile.mkstemp(prefix=".", suffix="-" + name, dir=folder)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(bytes(_ROOM))
            file.flush()
            os.fsync(file.fileno())
    finally:
        Path(probe).unlink(missing_ok=True)


@contextmanager
def made_folders(folder: Path, *, keep: bool = False) -> Iterator[None]:
    """Make a folder and those above it; those made are removed again, unless `keep` and no error.

    What lies in a folder made here goes with it; a folder that was there before stays as it is.
    """
    absent = [f for f in (folder, *folder.parents) if not f.exists()]
    done = False
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
        done = True
    finally:
        if absent and not (done and keep):
            if absent[0] == folder:
                shutil.rmtree(folder, ignore_errors=True)
            for made in absent:
                with suppress(OSError):
                    made.rmdir()


class DamagedFileError(ValueError):
    """A file of a model, or of a lookup table, does not hold what was written to it."""


def damaged(
    path: str | Path, why: str, *, again: str = "Train the model again"
) -> DamagedFileError:
    """The error for a file that cannot be used; `again` says how to come by a whole one."""
    return DamagedFileError(f"{path} is damaged: {why}. {again}, or fetch the file again.")


def read_json(path: Path, *, again: str = "Train the model again") -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises
    ------
    DamagedFileError
        It is no JSON, nested too deep, or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # no UTF-8 is a ValueError too
        why = "it is nested too deep" if isinstance(error, RecursionError) else f"no JSON ({error})"
        raise damaged(path, why, again=again) from error
    if not isinstance(content, dict):
        why = f"it holds a {type(content).__name__}, not entries by name"
        raise damaged(path, why, again=again)
    return content
