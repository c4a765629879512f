"""
Reading what root acts on: once, bounded, and only if nobody else can change it.

A configuration file is root's code (its hooks), so neither the file nor a folder or link
on the way to it may be in the hands of anybody but root and the caller.
"""

from __future__ import annotations

import errno
import os
import stat
import sys

from wgsvc.errors import (
    ConfigError,
    DeniedError,
    NotPermittedError,
    OSFailureError,
    WgsvcError,
    shell_word,
)
from wgsvc.light import NamedTuple

_LINKS_MAX = 40
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_CHUNK_BYTES = 1 << 20


class TrustedFile(NamedTuple):
    """What was read: the bytes, the file's mode, its path with links resolved."""

    data: bytes
    mode: int
    path: str


def read(path: str, *, limit_bytes: int) -> TrustedFile:
    """
    Read a regular file that nobody but root and the caller can change.

    Every folder on the way counts, and every link. Never blocks on a FIFO or a device.

    Raises: ConfigError (no such file, not a regular file, too large), NotPermittedError
    (others could change it, or it can't be opened), OSFailureError.
    """
    try:
        trusted = _trusted_uids()
        real = _walk(path, trusted)
        descriptor = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise explained(error, path) from None
    except ValueError:
        raise ConfigError("a path can't hold a NUL byte") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"{path}: is not a regular file")
        _check_owner(real, status, trusted, "file")
        _check_mode(real, status, "file")
        data = _read_all(descriptor, limit_bytes + 1)
    except OSError as error:
        raise explained(error, path) from None
    finally:
        os.close(descriptor)
    if len(data) > limit_bytes:
        raise ConfigError(f"{path}: is larger than {limit_bytes} bytes")
    return TrustedFile(data, status.st_mode, real)


def explained(error: OSError, path: str) -> WgsvcError:
    """Return what an OSError at `path` means to the one who named that path."""
    number = error.errno or 0
    if number in (errno.ENOENT, errno.ENOTDIR):
        return ConfigError(f"{path}: no such file")
    if number in (errno.EACCES, errno.EPERM):
        return DeniedError(f"{path}: permission denied", cure="run as root")
    if number in (errno.ELOOP, errno.EMLINK, errno.ENXIO, errno.ENAMETOOLONG):
        # EMLINK is FreeBSD's answer to O_NOFOLLOW on a link; ENXIO is a socket's.
        return ConfigError(f"{path}: {os.strerror(number)}")
    return OSFailureError("open", path, number)


def _read_all(descriptor: int, limit_bytes: int) -> bytes:
    chunks = []
    while limit_bytes > 0:
        chunk = os.read(descriptor, min(limit_bytes, _CHUNK_BYTES))
        if not chunk:
            break
        chunks.append(chunk)
        limit_bytes -= len(chunk)
    return b"".join(chunks)


def _walk(path: str, trusted: set[int]) -> str:
    """
    Return `path` without links, having walked it from the root.

    What was checked can't be swapped afterwards: only trusted users can write to the
    folders on the way, and in a sticky one (/tmp) only an entry's owner can move it.

    Raises: OSError, NotPermittedError.
    """
    here = "/"
    rest = list(reversed(_parts(os.path.join(os.getcwd(), path))))
    links = 0
    while rest:
        name = rest.pop()
        if name == "..":
            here = os.path.dirname(here)
            continue
        folder = os.lstat(here)
        _check_owner(here, folder, trusted, "folder")
        if not folder.st_mode & stat.S_ISVTX:
            _check_mode(here, folder, "folder")
        entry = os.path.join(here, name)
        status = os.lstat(entry)
        if not stat.S_ISLNK(status.st_mode):
            here = entry
            continue
        links += 1
        if links > _LINKS_MAX:
            raise OSError(errno.ELOOP, "")
        _check_owner(entry, status, trusted, "link")
        target = os.readlink(entry)
        if target.startswith("/"):
            here = "/"
        rest += reversed(_parts(target))
    return here


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def _check_owner(path: str, status: os.stat_result, trusted: set[int], what: str) -> None:
    if status.st_uid not in trusted:
        raise NotPermittedError(
            f"the {what} {path} can't be trusted: it belongs to user {status.st_uid}",
            cure=f"chown {'-h ' if what == 'link' else ''}root {shell_word(path)}",
        )


def _check_mode(path: str, status: os.stat_result, what: str) -> None:
    if status.st_mode & _OTHERS_WRITE:
        who = "everybody" if status.st_mode & stat.S_IWOTH else "its group"
        raise NotPermittedError(
            f"the {what} {path} can't be trusted: {who} can write to it",
            cure=f"chmod go-w {shell_word(path)}",
        )


def _trusted_uids() -> set[int]:
    """
    Return whose files are as good as ours: root's and the caller's.

    In a user namespace that maps few users the real root's files show the overflow user.
    So do other unmapped users', but there we have no more rights than its maker.
    """
    trusted = {0, os.geteuid()}
    if sys.platform == "linux" and trusted == {0}:
        with open("/proc/self/uid_map", encoding="ascii") as uid_map:
            mapped = sum(int(line.split()[2]) for line in uid_map)
        if mapped < 1 << 16:
            with open("/proc/sys/kernel/overflowuid", encoding="ascii") as overflow:
                trusted.add(int(overflow.read()))
    return trusted
