"""Locks between processes: one owner at a time, released by the system when the owner dies."""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO


class HeldError(Exception):
    """A live process owns the lock: says which."""


@contextmanager
def lock(path: Path) -> Iterator[str | None]:
    """Own the lock ``path`` in the block; yields the owner that died in it before, if one did.

    An advisory lock of the file (flock), which the system lets go of when its owner ends, however
    it ends.  The file says who owns it and is removed on the way out.  Makes the folder.
    Raises HeldError if a live process owns it, and OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with open(path, "a+", encoding="utf-8") as file:
            if not _take(file, path):
                continue
            try:
                file.seek(0)
                before = file.read() or None
                file.seek(0)
                file.truncate()
                file.write(json.dumps({"host": socket.gethostname(), "pid": os.getpid()}))
                file.flush()
                yield _owner(before)
            finally:
                path.unlink(missing_ok=True)
            return


def _take(file: IO[str], path: Path) -> bool:
    """Lock the open file; False if it isn't the one at ``path`` any more."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        raise HeldError(_owner(file.read()) or "another process") from None
    except OSError as error:
        reason = f"the file system refuses locks: {error.strerror}"
        raise OSError(error.errno, reason, str(path)) from None
    # The owner before may have removed the file between our opening and our locking it.
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _owner(text: str | None) -> str | None:
    try:
        content = json.loads(text or "")
        return f"process {int(content['pid'])} on {str(content['host'])[:64]}"
    except (ValueError, TypeError, KeyError):
        return "a process that left no name" if text else None


def held(path: Path) -> str | None:
    """The live owner of the lock ``path``, or None."""
    with suppress(FileNotFoundError), open(path, encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _owner(file.read()) or "another process"
    return None
