"""
The record of a lab: which processes hold it, so that a later `lab --remove` finds them.

Written before a thing is made. Whoever runs a lab holds a lock for life, which tells a
lab that runs from one that was kept or interrupted.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
from typing import TYPE_CHECKING

from wgsvc.errors import BusyError, NotPermittedError
from wgsvc.settings import RUN_DIR

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    class Holding(Protocol):
        """What can be put on record: a named tuple."""

        def _asdict(self) -> dict[str, object]: ...


_LIMIT_BYTES = 1 << 16


def folder_for(run_dir: str) -> str:
    """
    Return where the record of the caller's lab is kept: beside `run_dir`, not in it.

    An ordinary user can't write to /var/run and has a place of the session for that.
    """
    if run_dir != RUN_DIR or os.geteuid() == 0:
        return f"{run_dir}-lab"
    session = os.environ.get("XDG_RUNTIME_DIR")
    return os.path.join(session, "wgsvc-lab") if session else f"/tmp/wgsvc-lab-{os.geteuid()}"  # noqa: S108  # owner and mode are checked


class Record:
    """The record of one lab. `holders` is what is in it."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._path = os.path.join(folder, "hosts.json")
        self._lock = -1

    def take(self) -> list[dict[str, object]]:
        """
        Lock the record and return what is on it: empty if there is no lab.

        Raises: BusyError if another process works on this lab now; NotPermittedError if
        the folder belongs to somebody else or others can write to it.
        """
        with contextlib.suppress(FileExistsError):
            os.mkdir(self.folder, 0o700)
        shape = os.lstat(self.folder)
        ours = shape.st_uid == os.geteuid() and not shape.st_mode & 0o022
        if not (stat.S_ISDIR(shape.st_mode) and ours):
            raise NotPermittedError(
                f"{self.folder} is not a folder that only its owner can write to",
                cure=f"remove {self.folder}",
            )
        self._lock = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The folder may have been removed by the lab that ended while we waited to open it.
            if os.stat(self.folder).st_ino != os.fstat(self._lock).st_ino:
                raise FileNotFoundError
        except (BlockingIOError, FileNotFoundError):
            self.release()
            raise BusyError("a lab runs already", cure="wait for it to end, or end it") from None
        return self.holdings()

    @property
    def held(self) -> bool:
        """Whether this process has the lock."""
        return self._lock >= 0

    def holdings(self) -> list[dict[str, object]]:
        """Return what is on record."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return []
        with os.fdopen(descriptor, "rb") as file, contextlib.suppress(ValueError):
            holders = json.loads(file.read(_LIMIT_BYTES))["holders"]
            return [dict(holder) for holder in holders]
        return []

    def write(self, holders: Sequence[Holding]) -> None:
        """Put these on record; the old ones or the new ones are there, never half."""
        new = f"{self._path}.new"
        with open(new, "w") as file:
            json.dump({"schema": 1, "holders": [holder._asdict() for holder in holders]}, file)
        os.rename(new, self._path)

    def forget(self) -> None:
        """Remove the record and its folder: there is no lab any more."""
        for path in (self._path, f"{self._path}.new"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        with contextlib.suppress(OSError):
            os.rmdir(self.folder)
        self.release()

    def release(self) -> None:
        """Give up the lock; the record stays."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
