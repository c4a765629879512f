"""
What was done to the system for each tunnel, written before it is done.

One JSON file an interface, replaced by rename. It is a cache: the kernel and wireguard-go
are the truth, and a journal of another boot is worth nothing. No key is ever in it.

One that can't be used (damaged, forged, of another version) concerns its own tunnel alone. The
supervisor sets it aside as NAME.json.bad, until that tunnel is taken down; of what is in
there, a stop believes the fields that are what they should be.
"""

from __future__ import annotations

import errno
import os
import stat

from wgsvc import lightjson
from wgsvc.config.model import Hooks
from wgsvc.errors import OSFailureError, shell_word
from wgsvc.light import NamedTuple
from wgsvc.replaced import replace
from wgsvc.supervise.client import journaled
from wgsvc.system.base import RulePair
from wgsvc.values import Route

SCHEMA = 1
LIMIT_BYTES = 4 << 20
BAD = ".bad"
BAD_MAX = 16
"""So many journals are kept that were set aside; any more are deleted."""

_NOT_ITS_FAULT = (
    errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR,
)  # fmt: skip


class Entry(NamedTuple):
    """What has to be known to take a tunnel down, or to adopt it, without its file."""

    name: str
    boot_id: str
    phase: str  # "starting", "up", "stopping"
    backend: str = "wireguard-go"
    ifindex: int = 0
    kernel_name: str = ""
    pid: int = 0  # wireguard-go's
    start_id: str = ""
    since: float = 0.0  # UNIX time, for people
    path: str = ""
    digest: str = ""
    table: int | None = None
    mtu: int = 0
    pins: tuple[Route, ...] = ()
    dns: bool = False
    name_servers: tuple[str, ...] = ()  # those in force before the tunnel's own
    full_table: int = 0
    rules: tuple[RulePair, ...] = ()
    filtered: tuple[int, ...] = ()  # IP versions that have a packet filter
    valid_mark: str = ""  # what src_valid_mark was before the first full tunnel
    hooks: Hooks = Hooks()
    changes: tuple[str, ...] = ()  # the `--set` in force


class Reading(NamedTuple):
    """
    What a journal says.

    `entry` has the fields that can be believed, and defaults in place of the others; it is
    None if none can: another boot's, another interface's, nobody's. `wrong` says why it can't be
    used as it is, "" if it can, and if there is none.
    """

    entry: Entry | None
    wrong: str = ""


def path_of(run_dir: str, name: str) -> str:
    """Return where the journal of interface `name` is."""
    return os.path.join(run_dir, f"{name}.json")


def write(run_dir: str, entry: Entry) -> None:
    """
    Write one entry, whole or not at all.

    Raises: OSFailureError; ENOSPC means that nothing must be started now.
    """
    path = path_of(run_dir, entry.name)
    data = lightjson.dumps({"schema": SCHEMA, **entry._asdict()}).encode()
    try:
        replace(path, data, 0o600)
    except OSError as error:
        cure = f"df {shell_word(run_dir)}"
        raise OSFailureError("write", path, error.errno or 0, cure=cure) from None


def remove(run_dir: str, name: str) -> None:
    """
    Forget an interface, also what was set aside of it; no entry is fine.

    One that can't be removed (a read-only file system) speaks of what is gone: the next start
    or stop finds that out, so it is no reason for this one to fail.
    """
    path = path_of(run_dir, name)
    for each in (path, path + BAD):
        try:
            os.unlink(each)
        except FileNotFoundError:
            continue
        except OSError as error:
            _log(f"{each} stays: {error.strerror}")


def read(run_dir: str, name: str, boot_id: str) -> Entry | None:
    """
    Return the entry of an interface, None if there is none that can be trusted.

    Another boot's, another schema's, a half or a forged one: all are as none.
    """
    found = examine(path_of(run_dir, name), name, boot_id)
    return None if found.wrong else found.entry


def read_all(run_dir: str, boot_id: str) -> list[Entry]:
    """Return all entries of this boot, wg2 before wg10."""
    entries = (read(run_dir, name, boot_id) for name in journaled(run_dir))
    return [entry for entry in entries if entry is not None]


def take(run_dir: str, name: str, boot_id: str) -> Reading:
    """Read a journal, and set it aside if it can't be used. For the supervisor alone."""
    found = examine(path_of(run_dir, name), name, boot_id)
    if found.wrong:
        set_aside(run_dir, name, found.wrong)
    return found


def set_aside(run_dir: str, name: str, wrong: str) -> None:
    """Rename a journal that can't be used, so that it disturbs nobody; say so in the log."""
    path = path_of(run_dir, name)
    try:
        others = [entry for entry in os.listdir(run_dir) if entry.endswith(f".json{BAD}")]
        if len(others) < BAD_MAX or f"{name}.json{BAD}" in others:
            os.rename(path, path + BAD)
            kept = f"it is kept as {path}{BAD}"
        else:
            os.unlink(path)
            kept = f"it is deleted, since there are {len(others)} of that kind"
    except OSError as error:
        kept = f"and it can't be set aside: {error.strerror}"
    _log(f"{name}: its journal can't be used ({wrong}); {kept}")


def aside(run_dir: str, name: str) -> str:
    """Return where the journal of an interface is that was set aside, "" if none was."""
    path = path_of(run_dir, name) + BAD
    return path if os.path.lexists(path) else ""


def salvage(run_dir: str, name: str, boot_id: str) -> Entry | None:
    """Return what can be believed of a journal of this boot that was set aside."""
    return examine(path_of(run_dir, name) + BAD, name, boot_id).entry


def examine(path: str, name: str, boot_id: str) -> Reading:
    """Read the journal of an interface from a file. Raises nothing."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return Reading(None)
    except OSError as error:
        if error.errno in _NOT_ITS_FAULT:
            return Reading(None)
        return Reading(None, f"open: {error.strerror}")
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            return Reading(None, "it is not a regular file")
        if found.st_uid != os.geteuid():
            return Reading(None, f"it belongs to uid {found.st_uid}")
        data = b""
        while len(data) <= LIMIT_BYTES and (chunk := os.read(fd, 1 << 18)):
            data += chunk
    except OSError as error:
        return Reading(None, f"read: {error.strerror}")
    finally:
        os.close(fd)
    return parsed(data, name, boot_id)


def parsed(data: bytes, name: str, boot_id: str) -> Reading:
    """Return what bytes say of an interface. Raises nothing, and quotes nothing of them."""
    from wgsvc.supervise.journal_fields import checked  # a plain start has nothing to read

    try:
        table = lightjson.loads(data) if len(data) <= LIMIT_BYTES else None
    except ValueError:
        return Reading(None, "it is no JSON")
    if not isinstance(table, dict):
        return Reading(None, "it is no JSON object, or too long")
    schema = table.pop("schema", None)
    good, wrong = checked(table)
    if good.get("boot_id", boot_id) != boot_id:
        return Reading(None)
    if type(schema) is not int or schema != SCHEMA:
        return Reading(None, "it is another version's")
    if good.get("boot_id") is None or good.get("name") != name:
        return Reading(None, "it does not say of which boot it is, or is another interface's")
    entry = Entry(**{"phase": "starting", **good})
    if "phase" not in table:
        wrong = (*wrong, "phase")
    return Reading(entry, f"wrong in it: {', '.join(wrong)}" if wrong else "")


def _log(line: str) -> None:
    from wgsvc.supervise.context import log

    log(line, error=True)
