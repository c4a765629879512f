"""
Jails of the laboratory: the machine's own files read-only, a /dev and a /var/run of their own.

What belongs to a lab is known by where it is: jails and mounts below its folder, which only
root can write to. So whatever a run left, however it ended, is found and removed without a
record.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import wgsvc
from wgsvc.errors import BusyError, OSFailureError, WgsvcError
from wgsvc.lab.hosts import Completed

CONFIG_DIR = "/usr/local/etc/wireguard"
PROGRAM_FOLDERS = ("/bin", "/etc", "/lib", "/libexec", "/sbin", "/usr")
DEVICES = ("null", "zero", "random", "urandom", "fd", "fd/*", "std*", "tun*", "bpf*")
FIRST_RULESET = 9200  # /etc/defaults/devfs.rules has 1 to 5
_WAIT_S = 15.0
_POLL_S = 0.02


class Jail(NamedTuple):
    """A jail by its name and where its root is. A child jail is named `parent.child`."""

    name: str
    root: str


def package_folder() -> str:
    """Return the folder that `import wgsvc` finds the package in."""
    return os.path.dirname(os.path.dirname(os.path.abspath(wgsvc.__file__)))


def run(argv: Sequence[str], *, text: str = "", timeout_s: float = 60.0) -> Completed:
    """Run a command; code 124 if it had to be killed."""
    return run_with(os.environ, argv, text=text, timeout_s=timeout_s)


def run_with(
    environment: Mapping[str, str], argv: Sequence[str], *, text: str = "", timeout_s: float = 60.0
) -> Completed:
    """Run a command in this environment; code 124 if it had to be killed."""
    started = time.monotonic()
    try:
        done = subprocess.run(
            argv,
            input=text,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            env=environment,
            cwd="/",
            start_new_session=True,  # a Ctrl-C is for the lab alone, which then cleans up
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Completed(124, "", f"no end within {timeout_s:g} s", timeout_s)
    return Completed(done.returncode, done.stdout, done.stderr, time.monotonic() - started)


def output(argv: Sequence[str], *, text: str = "") -> str:
    """Run a command that must succeed. Raises: WgsvcError with what it said."""
    done = run(argv, text=text)
    if done.code != 0:
        raise WgsvcError(f"{' '.join(argv)}: {done.errors.strip() or f'exit status {done.code}'}")
    return done.output


# --- devfs


def free_ruleset() -> int:
    """Return the number of a devfs ruleset that nobody uses."""
    taken = set(output(["devfs", "rule", "showsets"]).split())
    return next(n for n in range(FIRST_RULESET, FIRST_RULESET + 1000) if str(n) not in taken)


def make_ruleset(number: int, devices: Sequence[str] = DEVICES) -> None:
    """Make a devfs ruleset that hides all but these."""
    rules = ["add hide", *(f"add path '{pattern}' unhide" for pattern in devices)]
    output(["sh", "-e"], text="".join(f"devfs rule -s {number} {rule}\n" for rule in rules))


def delete_ruleset(number: int) -> None:
    """Delete a ruleset that `make_ruleset` made; one that is gone is fine."""
    run(["devfs", "rule", "-s", str(number), "delset"])


# --- making


def create(
    jail: Jail,
    ruleset: int,
    *,
    vnet: bool = True,
    children: int = 0,
    writable: Sequence[str] = (),
) -> None:
    """
    Make a jail with its root. `writable` folders are its own, and empty at first.

    Raises: OSFailureError, WgsvcError with what a command said.
    """
    try:
        os.makedirs(jail.root, 0o755, exist_ok=True)
    except OSError as error:
        raise OSFailureError("mkdir", jail.root, error.errno or 0) from None
    fstab = "".join(f"{line}\n" for line in _fstab(jail.root, ruleset, writable))
    output(["mount", "-a", "-F", "/dev/stdin"], text=fstab)
    os.mkdir(jail.root + CONFIG_DIR, 0o700)
    kind = ["vnet"] if vnet else ["ip4=inherit", "ip6=inherit"]
    limit = [f"children.max={children}"] if children else []
    name = jail.name.rpartition(".")[2]
    where = [f"name={jail.name}", f"path={jail.root}", f"host.hostname={name}"]
    output(["jail", "-c", *where, *kind, *limit, "persist"])


def _fstab(root: str, ruleset: int, writable: Sequence[str]) -> list[str]:
    shared = ("/", *_needed_mounts())
    own = ("/var/run", "/tmp", "/usr/local/etc", *writable)  # noqa: S108 - a jail's own
    return [
        *(f"{folder} {root}{folder} nullfs ro 0 0" for folder in shared),
        *(f"tmpfs {root}{folder} tmpfs rw,mode=755 0 0" for folder in own),
        f"devfs {root}/dev devfs rw,ruleset={ruleset} 0 0",
    ]


def _needed_mounts() -> list[str]:
    """Return the file systems below / that a jail needs: nullfs shows one of them only."""
    paths = [*PROGRAM_FOLDERS, sys.prefix, sys.base_prefix, package_folder()]
    return [
        point
        for kind, point in mounts()
        if kind in ("ufs", "zfs", "nullfs", "tmpfs")
        and point != "/"
        and "/usr/local/etc" not in point
        and any(_below(point, path) or _below(path, point) for path in paths)
    ]


def mounts() -> list[tuple[str, str]]:
    """Return (type, where) of all that is mounted, in order."""
    lines = [line.split() for line in output(["mount", "-p"]).splitlines()]
    return [(words[2], words[1].replace("\\040", " ")) for words in lines if len(words) > 2]


def _below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


# --- looking


def jails_below(folder: str) -> list[tuple[int, Jail]]:
    """Return (jid, jail) of those with a root below a folder, dying ones too, children last."""
    found = []
    for line in output(["jls", "-d", "jid", "name", "path"]).splitlines():
        jid, name, path = line.split(None, 2)
        if _below(path, folder):
            found.append((int(jid), Jail(name, path)))
    return sorted(found, key=lambda entry: entry[1].name.count("."))


def mounts_below(folder: str) -> list[str]:
    """Return where something is mounted below a folder, in the order it was."""
    return [point for _, point in mounts() if _below(point, folder) and point != folder]


def jid_of(jail: Jail) -> int:
    """Return the number of a jail. Raises: WgsvcError if it is gone."""
    return int(output(["jls", "-j", jail.name, "jid"]))


def processes(jail: Jail) -> list[tuple[int, str]]:
    """Return (PID, command) of what runs in a jail, [] if the jail is gone."""
    done = run(["ps", "-ww", "-J", jail.name, "-o", "pid=", "-o", "command="])
    lines = (line.split(None, 1) for line in done.output.splitlines())
    return [(int(words[0]), words[1] if len(words) > 1 else "") for words in lines if words]


def inside(
    jid: int, work: Callable[[], None], *, keep: int = -1, timeout_s: float = _WAIT_S
) -> int:
    """
    Run a function in a child that is in a jail; return its exit status.

    It has no descriptors but stdio and `keep`: jail_attach(2) refuses who has a directory
    open (EPERM), as the lock of the lab is. It is killed if it does not end in time: 124.
    """
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            low = 3
            if keep >= low:
                os.closerange(low, keep)
                low = keep + 1
            os.closerange(low, 1 << 16)
            attach(jid)
            work()
            status = 0
        finally:
            os._exit(status)
    deadline = time.monotonic() + timeout_s
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            return 124
        time.sleep(_POLL_S)


def attach(jid: int) -> None:
    """Go into a jail, for good: jail_attach(2). Raises: OSFailureError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.jail_attach(jid) != 0:
        raise OSFailureError("jail_attach", str(jid), ctypes.get_errno())


# --- removing


def remove_below(folder: str) -> list[str]:
    """
    Remove all jails and mounts below a folder, and its subfolders; return what they were of.

    In this order: processes, tunnels, cables, jails, mounts. A tun that is still there
    when its jail goes keeps the jail dying (observed-13.2: section 1, row 15).
    Raises: BusyError if a jail stays, WgsvcError with what a command said.
    """
    found = jails_below(folder)
    for jid, jail in found:
        empty(jid, jail)
    for _, jail in found:
        run(["jexec", jail.name, "sh"], text=_UNPLUG)
    tops = [jail.name for _, jail in found if not any(_is_child(jail, top) for _, top in found)]
    for name in tops:
        run(["jail", "-r", name])  # those that are dying already have no name for it
    _until_gone(folder)
    removed = {jail.root for _, jail in found}
    removed |= {os.path.join(folder, _first(point, folder)) for point in mounts_below(folder)}
    unmount_below(folder)
    for entry in os.listdir(folder) if os.path.isdir(folder) else ():
        with contextlib.suppress(OSError):
            os.rmdir(os.path.join(folder, entry))
    return sorted(os.path.basename(root) for root in removed)


def _first(point: str, folder: str) -> str:
    return os.path.relpath(point, folder).partition("/")[0]


def empty(jid: int, jail: Jail) -> None:
    """End the processes of a jail, and remove the tunnels they left. Raises: BusyError."""
    deadline = time.monotonic() + _WAIT_S
    while left := processes(jail):
        # In a jail, -1 is every process of the jail and none else.
        run(["jexec", jail.name, "/bin/kill", "-KILL", "-1"])
        if time.monotonic() > deadline:
            raise BusyError(f"processes in jail {jail.name} don't end: {left}")
        time.sleep(_POLL_S)
    inside(jid, _destroy_tunnels)


def _destroy_tunnels() -> None:
    from wgsvc.system import current

    system = current()
    for interface in system.interfaces():
        if interface.kind in ("tun", "wireguard"):
            with contextlib.suppress(WgsvcError):
                system.destroy(interface.name, interface.ifindex)


def _is_child(jail: Jail, other: Jail) -> bool:
    return jail.name.startswith(f"{other.name}.")


# One end of an epair takes the other along. Those that came from elsewhere go back there.
_UNPLUG = """
for name in $(ifconfig -g epair) $(ifconfig -g bridge); do
	ifconfig "$name" destroy 2>/dev/null
done
"""


def _until_gone(folder: str) -> None:
    deadline = time.monotonic() + _WAIT_S
    while left := jails_below(folder):
        if time.monotonic() > deadline:
            names = ", ".join(jail.name for _, jail in left)
            raise BusyError(f"still dying: {names}", cure="see what they hold: fstat; jls -d")
        time.sleep(_POLL_S)


def unmount_below(folder: str) -> None:
    """Unmount all below a folder. Raises: WgsvcError."""
    deadline = time.monotonic() + _WAIT_S
    while points := mounts_below(folder):
        done = run(["umount", *reversed(points)])
        if done.code and time.monotonic() > deadline:
            raise WgsvcError(f"umount: {done.errors.strip()}")
