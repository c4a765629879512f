"""
The run directory: where the lock, the journals and the control socket are.

It is root's alone. rc.d/cleanvar empties /var/run at boot but keeps folders, so one
with a surprising owner or mode may be there before us; through that nothing is written.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat

from wgsvc.errors import BusyError, NotPermittedError, OSFailureError, shell_word


def prepare(path: str) -> None:
    """
    Make the directory if it is missing; refuse one that others could write or replace.

    Raises: NotPermittedError, OSFailureError.
    """
    try:
        os.mkdir(path, 0o750)
    except FileExistsError:
        pass
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            cure = "run as root" if os.geteuid() else ""
            raise NotPermittedError(f"mkdir {path}: not permitted", cure=cure) from None
        raise OSFailureError("mkdir", path, error.errno or 0) from None
    found = os.lstat(path)
    if stat.S_ISLNK(found.st_mode) or not stat.S_ISDIR(found.st_mode):
        what = "a symbolic link" if stat.S_ISLNK(found.st_mode) else "not a directory"
        raise NotPermittedError(
            f"{path} is {what}; it will not be used",
            cure=f"look who made it, then: rm {shell_word(path)}",
        )
    if found.st_uid != os.geteuid():
        cure = f"chown root {shell_word(path)}" if os.geteuid() == 0 else "run as root"
        raise NotPermittedError(f"{path} belongs to uid {found.st_uid}", cure=cure)
    if found.st_mode & 0o022:
        raise NotPermittedError(
            f"{path} can be written by others (mode {stat.S_IMODE(found.st_mode):04o})",
            cure=f"look what is in it, then: chmod 750 {shell_word(path)}",
        )


class Lock:
    """
    The daemon's lock, as pidfile(3) does it: flock, held for life, never unlinked.

    The PID in it is for people; nobody is signalled because of it.
    """

    def __init__(self, run_dir: str) -> None:
        self.path = os.path.join(run_dir, "wgsvc.pid")
        self._fd = -1

    def take(self) -> None:
        """
        Take the lock at once or not at all.

        Raises: BusyError if another process has it, NotPermittedError if the file is not a
        plain file of ours, OSFailureError.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            fd = os.open(self.path, flags, 0o600)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EMLINK):  # EMLINK: FreeBSD's O_NOFOLLOW
                raise self._not_plain() from None
            raise OSFailureError("open", self.path, error.errno or 0) from None
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
                raise self._not_plain()
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                holder = os.read(fd, 32).decode("ascii", "replace").strip()
                who = f"PID {holder or 'unknown'}"
                raise BusyError(f"{self.path} is held by another wgsvc ({who})") from None
            there = os.stat(self.path, follow_symlinks=False)
            if (there.st_dev, there.st_ino) != (found.st_dev, found.st_ino):
                raise BusyError(f"{self.path} was replaced while it was being locked")
            os.ftruncate(fd, 0)
            os.write(fd, f"{os.getpid()}\n".encode())
        except OSError as error:
            os.close(fd)
            folder = shell_word(os.path.dirname(self.path))
            cure = f"df {folder}" if error.errno == errno.ENOSPC else ""
            raise OSFailureError("write", self.path, error.errno or 0, cure=cure) from None
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd

    def _not_plain(self) -> NotPermittedError:
        cure = f"rm {shell_word(self.path)}"
        return NotPermittedError(f"{self.path} is not a plain file", cure=cure)

    def release(self) -> None:
        """Let it go; the file stays, empty."""
        if self._fd >= 0:
            os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = -1
