"""
What was done to the system for each tunnel, written before it is done.

One JSON file an interface, replaced by rename. It is a cache: the kernel and wireguard-go
are the truth, and a journal of another boot is worth nothing. No key is ever in it.
"""

from __future__ import annotations

import os
import stat

from wgsvc import lightjson
from wgsvc.config.model import Hooks
from wgsvc.errors import OSFailureError, shell_word
from wgsvc.light import Any, NamedTuple
from wgsvc.replaced import replace
from wgsvc.supervise.client import journaled
from wgsvc.system.base import RulePair
from wgsvc.values import Prefix, Route

SCHEMA = 1
LIMIT_BYTES = 4 << 20


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
    Forget an interface; no entry is fine.

    One that can't be removed (a read-only file system) speaks of what is gone: the next start
    or stop finds that out, so it is no reason for this one to fail.
    """
    path = path_of(run_dir, name)
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        from wgsvc.supervise.context import log

        log(f"{path} stays: {error.strerror}", error=True)


def read(run_dir: str, name: str, boot_id: str) -> Entry | None:
    """
    Return the entry of an interface, None if there is none that can be trusted.

    Another boot's, another schema's, a half or a forged one: all are as none.
    """
    try:
        fd = os.open(path_of(run_dir, name), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            return None
        data = os.read(fd, LIMIT_BYTES)
    except OSError:
        return None
    finally:
        os.close(fd)
    try:
        entry = _entry(lightjson.loads(data))
    except (ValueError, TypeError, KeyError):
        return None
    return entry if entry.boot_id == boot_id and entry.name == name else None


def read_all(run_dir: str, boot_id: str) -> list[Entry]:
    """Return all entries of this boot, sorted by name."""
    entries = (read(run_dir, name, boot_id) for name in journaled(run_dir))
    return [entry for entry in entries if entry is not None]


def _entry(table: dict[str, Any]) -> Entry:
    if not isinstance(table, dict) or table.pop("schema") != SCHEMA:
        raise ValueError("another version's journal")
    table["pins"] = tuple(
        Route(Prefix(*map(int, pin[0])), *pin[1:]) for pin in table.get("pins", ())
    )
    table["rules"] = tuple(RulePair(*map(int, pair)) for pair in table.get("rules", ()))
    table["filtered"] = tuple(map(int, table.get("filtered", ())))
    table["hooks"] = Hooks(*(tuple(map(str, group)) for group in table.get("hooks", ())))
    table["changes"] = tuple(map(str, table.get("changes", ())))
    table["name_servers"] = tuple(map(str, table.get("name_servers", ())))
    entry = Entry(**table)
    texts = (
        "name", "boot_id", "phase", "backend", "kernel_name", "start_id", "path", "digest",
        "valid_mark",
    )  # fmt: skip
    if not all(isinstance(table.get(key, ""), str) for key in texts):
        raise TypeError("a journal with impossible texts")
    # bool is an int; a PID is never more than a C int, which os.pidfd_open() insists on
    numbers = (entry.pid, entry.ifindex, entry.mtu)
    if not all(type(number) is int and 0 <= number < 1 << 31 for number in numbers) or not (
        type(entry.full_table) is int and 0 <= entry.full_table < 1 << 32
    ):
        raise TypeError("a journal with impossible numbers")
    return entry
