"""What a wireguard-go that crashed left behind: dead sockets, interfaces nobody has open."""

from __future__ import annotations

import errno
import functools
import os
import signal
import stat
import time
from typing import TYPE_CHECKING

from wgsvc.doctor.finding import WARNING, Finding, Host
from wgsvc.errors import OSFailureError, TimeoutExpiredError, WgsvcError, unforeseen
from wgsvc.supervise import journal
from wgsvc.uapi.transport import connect

if TYPE_CHECKING:
    from wgsvc.system.base import System

_YOUNG_S = 2  # between bind() and listen() a socket refuses, too
_DESTROY_S = 10.0
_SAID_BYTES = 4000


def find(host: Host) -> list[Finding]:
    """Return the leftovers that no supervisor is about to see to."""
    ours = {entry.name for entry in journal.read_all(host.settings.run_dir, host.system.boot_id())}
    configured = {tunnel.name for tunnel in host.tunnels}
    dead = dead_sockets(host.settings.uapi_dir, without=ours)
    found = []
    for interface in host.system.interfaces():
        name = interface.name
        if interface.kind != "tun" or interface.opener_pid != 0 or name in ours:
            continue
        if name in dead or name in configured:
            what = f"{name} is there, but no process has it open: its wireguard-go died"
            fix = functools.partial(destroy, host.system, name, interface.ifindex)
            found.append(Finding(WARNING, "interfaces", what, f"ifconfig {name} destroy", fix))
    for path, inode in dead.values():
        what = f"{path} is there, but nobody listens: its wireguard-go died"
        fix = functools.partial(remove_socket, path, inode)
        found.append(Finding(WARNING, "sockets", what, f"rm {path}", fix))
    return found


def dead_sockets(folder: str, *, without: set[str]) -> dict[str, tuple[str, int]]:
    """Return path and inode, by interface, of the sockets that refuse."""
    dead = {}
    for entry in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
        name = entry.removesuffix(".sock")
        path = os.path.join(folder, entry)
        if name != entry and name not in without and (inode := _dead(path)):
            dead[name] = (path, inode)
    return dead


def _dead(path: str) -> int:
    """Return the inode of a socket that refuses and is not just being made, else 0."""
    try:
        found = os.lstat(path)
        if not stat.S_ISSOCK(found.st_mode) or time.time() - found.st_ctime < _YOUNG_S:
            return 0
        connect(path).close()
    except OSFailureError as error:
        return found.st_ino if error.errno == errno.ECONNREFUSED else 0
    except OSError:
        return 0
    return 0


def remove_socket(path: str, inode: int) -> str:
    """
    Remove a socket if it is the one that was found, and still dead.

    Raises: OSFailureError.
    """
    if _dead(path) != inode:
        return f"{path} is another by now"
    try:
        os.unlink(path)
    except OSError as error:
        raise OSFailureError("unlink", path, error.errno or 0) from None
    return f"removed {path}"


def destroy(system: System, name: str, ifindex: int) -> str:
    """
    Destroy an interface that is still the one that was found, and still nobody's.

    In a child with a deadline: the kernel may keep whoever asks waiting for ever.
    Raises: TimeoutExpiredError, WgsvcError with what the child met.
    """
    now = system.interface(name)
    if now is None or now.ifindex != ifindex or now.opener_pid != 0:
        return f"{name} is another by now"
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            system.destroy(name, ifindex)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told
            os.write(write_end, unforeseen(error).message.encode()[:_SAID_BYTES])
        finally:
            os._exit(0)
    os.close(write_end)
    watch = system.exit_watch(child)
    try:
        import select

        poll = select.poll()
        poll.register(watch, select.POLLIN)
        if not poll.poll(_DESTROY_S * 1000):
            os.kill(child, signal.SIGKILL)  # ours and not reaped: it is still this process
            raise TimeoutExpiredError(f"destroying {name} takes longer than {_DESTROY_S:g} s")
        os.waitpid(child, 0)
        said = os.read(read_end, _SAID_BYTES).decode("utf-8", "replace")
    finally:
        os.close(watch)
        os.close(read_end)
    if system.interface(name) is not None:
        raise WgsvcError(said or f"{name} is still there after its destruction")
    return f"destroyed {name}"
