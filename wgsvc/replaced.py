"""Files replaced by rename: whoever reads one sees it whole, the old or the new."""

from __future__ import annotations

import contextlib
import os


def replace(
    path: str, data: bytes, mode: int, *, owner: tuple[int, int] | None = None, hidden: bool = False
) -> None:
    """
    Write a file, whole or not at all; it is on the disk when this returns.

    It is written as PATH.new first, or, `hidden`, as .NAME.new, where others read a folder's
    names. `owner` are its uid and gid, if they are not the caller's.
    Raises: OSError; then nothing is left of it.
    """
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name}.new") if hidden else f"{path}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)  # of one who was killed here, or somebody's link
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(temporary, flags, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        if owner is not None:
            os.fchown(fd, *owner)
        os.fchmod(fd, mode)
        os.fsync(fd)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    finally:
        os.close(fd)
