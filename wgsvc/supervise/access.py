"""
Who may ask what over the control socket.

Root, and the user that the supervisor runs as, anything. Members of `status_group` may ask
what wire.READING lists: folder and socket let nobody else in, and each request is checked
again here, by the credentials that the kernel keeps of who connected.
"""

from __future__ import annotations

import os
import stat

from wgsvc.errors import ConfigError, NotPermittedError, OSFailureError, WgsvcError
from wgsvc.light import TYPE_CHECKING, NamedTuple
from wgsvc.supervise import wire

if TYPE_CHECKING:
    import socket

    from wgsvc.system.base import System

NO_GROUP = -1
ID_MAX = (1 << 32) - 2


class Asker(NamedTuple):
    """
    Who connected.

    `pid` is 0 where the kernel does not tell. `reads`: a member of `status_group`, no more.
    """

    uid: int
    pid: int
    reads: bool = False

    def __str__(self) -> str:
        return f"uid {self.uid}, PID {self.pid or 'unknown'}"


def asker(system: System, connection: socket.socket, group: int) -> Asker:
    """
    Return who connected.

    Raises: NotPermittedError if that one may ask nothing at all, WgsvcError if the kernel does
    not tell who it is.
    """
    uid = system.peer_uid(connection)
    try:
        pid = system.peer_pid(connection)
    except WgsvcError:
        pid = 0
    found = Asker(uid, pid)
    if uid in (0, os.geteuid()):
        return found
    if group != NO_GROUP and _is_member(system, connection, uid, group):
        return found._replace(reads=True)
    raise NotPermittedError(f"the supervisor answers root alone, not {found}", cure="run as root")


def check(who: Asker, verb: str) -> None:
    """
    Look whether somebody may ask for a verb.

    Raises: NotPermittedError.
    """
    if who.reads and verb not in wire.READING:
        allowed = ", ".join(wire.READING)
        raise NotPermittedError(
            f"{verb}: only root may ask for that (status_group is for {allowed})",
            cure="run as root",
        )


def _is_member(system: System, connection: socket.socket, uid: int, group: int) -> bool:
    """
    Whether who connected was in a group, or its user is by the databases of users and groups.

    The latter since the kernel may tell some groups only (FreeBSD: 16).
    """
    if group in system.peer_groups(connection):
        return True
    import pwd

    try:
        user = pwd.getpwuid(uid)
    except KeyError:
        return False
    return group in os.getgrouplist(user.pw_name, user.pw_gid)


def group_id(group: str) -> int:
    """
    Return the number of a group by its name or number; NO_GROUP for "".

    Raises: ConfigError if there is no such group.
    """
    if not group:
        return NO_GROUP
    import grp

    try:
        return grp.getgrnam(group).gr_gid
    except (KeyError, ValueError):  # ValueError: a NUL in it
        if group.isascii() and group.isdigit() and int(group[:10]) <= ID_MAX:
            return int(group[:10])
    raise ConfigError(
        f"status_group: there is no group {group}: only root may ask for the status",
        cure=f"getent group {group}",
    )


def admit(run_dir: str, path: str, group: int) -> None:
    """
    Let a group into the run directory and to the control socket, or nobody but the owner.

    Raises: OSFailureError.
    """
    ours = os.getegid()
    try:
        folder = os.open(run_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            found = os.fstat(folder)
            if found.st_gid != (ours if group == NO_GROUP else group):
                os.fchown(folder, -1, ours if group == NO_GROUP else group)
            if group != NO_GROUP and stat.S_IMODE(found.st_mode) != 0o750:
                os.fchmod(folder, 0o750)
        finally:
            os.close(folder)
        # Nobody but root can put another socket, or a link, in its place.
        os.chmod(path, 0o600)  # first, so that no third group is ever let in
        os.chown(path, -1, ours if group == NO_GROUP else group, follow_symlinks=False)
        if group != NO_GROUP:
            os.chmod(path, 0o660)  # connecting takes the right to write
    except OSError as error:
        raise OSFailureError("status_group: chown", run_dir, error.errno or 0) from None
