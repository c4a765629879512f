"""
The kernel's own WireGuard, configured through wg(8).

wg(8) speaks each system's own protocol (nvlists by ioctl on FreeBSD, generic netlink
on Linux); it gets the configuration on stdin, so that no key is ever in an argument.
"""

from __future__ import annotations

import os

from wgsvc.errors import OSFailureError, TimeoutExpiredError
from wgsvc.light import TYPE_CHECKING
from wgsvc.plan.start import host_prefix
from wgsvc.supervise.process import fixed_environment
from wgsvc.supervise.wireguard_go import describe_exit

if TYPE_CHECKING:
    from wgsvc.config.model import Peer, Tunnel
    from wgsvc.supervise.context import Context

OUTPUT_LIMIT_BYTES = 64 << 20


async def configure(context: Context, tunnel: Tunnel) -> None:
    """
    Give the interface its keys, port and peers.

    Raises: UnavailableError without wg(8), OSFailureError if it refuses.
    """
    from wgsvc.config.render import wg_text

    numeric = tunnel._replace(peers=tuple(_without_name(peer) for peer in tunnel.peers))
    await run(context, ["wg", "setconf", tunnel.name, "/dev/stdin"], wg_text(numeric))


def _without_name(peer: Peer) -> Peer:
    if peer.endpoint is not None and host_prefix(peer.endpoint.host) is None:
        return peer._replace(endpoint=None)  # wg(8) resolves and blocks; we do it later
    return peer


async def run(context: Context, argv: list[str], text: str = "") -> str:
    """
    Run wg(8) with `text` on stdin; return what it printed.

    Its stderr is dropped: it quotes lines of its input, keys included.
    Raises: UnavailableError, OSFailureError, TimeoutExpiredError.
    """
    give_read, give = os.pipe()
    take, take_write = os.pipe()
    for fd in (give, take):
        os.set_blocking(fd, False)
    null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    try:
        child = context.children.spawn(
            argv, role="wg", env=fixed_environment(), stdio=(give_read, take_write, null)
        )
    except BaseException:
        os.close(give)
        os.close(take)
        raise
    finally:
        for fd in (give_read, take_write, null):
            os.close(fd)
    writing = context.loop.spawn(_write(context, give, text.encode()))
    try:
        output = await _read(context, take)
        if not await child.exited.wait(context.settings.step_timeout_s):
            raise TimeoutExpiredError(f"{' '.join(argv)} did not end in time")
    finally:
        child.signal(9)
        writing.cancel()
        await writing.wait()
        os.close(take)
    if child.exited.value() != 0:
        raise OSFailureError(" ".join(argv), describe_exit(child.exited.value()), 22)
    return output.decode("ascii", "replace")


async def _write(context: Context, fd: int, data: bytes) -> None:
    view = memoryview(data)
    try:
        while view:
            if not await context.loop.writable(fd, context.settings.step_timeout_s):
                return
            view = view[os.write(fd, view[: 1 << 16]) :]
    except BrokenPipeError:
        return  # its exit status says why
    finally:
        os.close(fd)


async def _read(context: Context, fd: int) -> bytes:
    data = bytearray()
    while len(data) < OUTPUT_LIMIT_BYTES:
        if not await context.loop.readable(fd, context.settings.step_timeout_s):
            raise TimeoutExpiredError("wg(8) did not answer in time")
        chunk = os.read(fd, 1 << 16)
        if not chunk:
            break
        data += chunk
    return bytes(data)
