"""
The kernel's own WireGuard, read and configured through wg(8).

It gets configurations on stdin, so that no secret key is ever in an argument.
"""

from __future__ import annotations

import errno
import os

from wgsvc.errors import OSFailureError, TimeoutExpiredError, WgsvcError
from wgsvc.light import TYPE_CHECKING
from wgsvc.supervise.process import fixed_environment
from wgsvc.supervise.wireguard_go import describe_exit
from wgsvc.uapi import wg_text

if TYPE_CHECKING:
    from wgsvc.supervise.context import Context
    from wgsvc.uapi.encode import DeviceChange
    from wgsvc.uapi.parse import DeviceState

OUTPUT_LIMIT_BYTES = 64 << 20
REMOVALS_A_CALL = 500
"""Public keys of 44 characters: far below what an argument list may be (256 KiB, FreeBSD)."""


async def get(context: Context, name: str, *, timeout_s: float | None = None) -> DeviceState:
    """
    Ask for everything the kernel knows of an interface.

    Raises: UnavailableError without wg(8), OSFailureError, TimeoutExpiredError, ProtocolError.
    """
    argv = ["wg", "show", name, "dump"]
    return wg_text.parse_dump(await run(context, argv, timeout_s=timeout_s), " ".join(argv))


async def configure(
    context: Context, name: str, change: DeviceChange, now: DeviceState | None
) -> None:
    """
    Set something of an interface; `now` is what it has, None if it is empty.

    Raises: UnavailableError without wg(8), OSFailureError or WgsvcError if it refuses.
    """
    keys = wg_text.removed(change)
    for first in range(0, len(keys), REMOVALS_A_CALL):
        words = [
            word
            for key in keys[first : first + REMOVALS_A_CALL]
            for word in ("peer", key, "remove")
        ]
        await run(context, ["wg", "set", name, *words])
    verb = "setconf" if change.replace_peers else "addconf"
    # Each peer that is new takes the kernel a public-key operation.
    timeout_s = context.settings.step_timeout_s + len(change.peers) / 500
    text = wg_text.conf(change, now)
    await run(context, ["wg", verb, name, "/dev/stdin"], text, timeout_s=timeout_s)


async def run(
    context: Context, argv: list[str], text: str = "", *, timeout_s: float | None = None
) -> str:
    """
    Run wg(8) with `text` on stdin; return what it printed.

    Of its stderr only the reason of a failed system call is used: the rest quotes lines of
    its input, keys included.
    Raises: UnavailableError, OSFailureError, WgsvcError, TimeoutExpiredError.
    """
    limit_s = timeout_s or context.settings.step_timeout_s
    give_read, give = os.pipe()
    take, take_write = os.pipe()
    hear, hear_write = os.pipe()
    for fd in (give, take, hear):
        os.set_blocking(fd, False)
    try:
        child = context.children.spawn(
            argv, role="wg", env=fixed_environment(), stdio=(give_read, take_write, hear_write)
        )
    except BaseException:
        for fd in (give, take, hear):
            os.close(fd)
        raise
    finally:
        for fd in (give_read, take_write, hear_write):
            os.close(fd)
    writing = context.loop.spawn(_write(context, give, text.encode(), limit_s))
    try:
        output = await _read(context, take, limit_s)
        if not await child.exited.wait(limit_s):
            raise TimeoutExpiredError(f"{_short(argv)} did not end within {limit_s:g} s")
        if child.exited.value() != 0:
            raise _refused(argv, child.exited.value(), os.read(hear, 4096))
    except BlockingIOError:  # it failed and said nothing, and somebody still holds its stderr
        raise _refused(argv, child.exited.value(), b"") from None
    finally:
        child.signal(9)
        writing.cancel()
        await writing.wait()
        os.close(take)
        os.close(hear)
    return output.decode("ascii", "replace")


def _refused(argv: list[str], status: int, said: bytes) -> WgsvcError:
    """Return why wg(8) failed: `Unable to modify interface: Address already in use` and alike."""
    reasons = {os.strerror(number): number for number in errno.errorcode}
    for line in said.decode("ascii", "replace").splitlines():
        number = reasons.get(line.rpartition(": ")[2])
        if line.startswith("Unable to ") and number is not None:
            return OSFailureError(" ".join(argv[:2]), argv[2], number)
    return WgsvcError(f"{_short(argv)} {describe_exit(status)}")


def _short(argv: list[str]) -> str:
    return " ".join(argv[:4])


async def _write(context: Context, fd: int, data: bytes, limit_s: float) -> None:
    view = memoryview(data)
    try:
        while view:
            if not await context.loop.writable(fd, limit_s):
                return
            view = view[os.write(fd, view[: 1 << 16]) :]
    except BrokenPipeError:
        return  # its exit status says why
    finally:
        os.close(fd)


async def _read(context: Context, fd: int, limit_s: float) -> bytes:
    data = bytearray()
    while len(data) < OUTPUT_LIMIT_BYTES:
        if not await context.loop.readable(fd, limit_s):
            raise TimeoutExpiredError(f"wg(8) did not answer within {limit_s:g} s")
        chunk = os.read(fd, 1 << 16)
        if not chunk:
            break
        data += chunk
    return bytes(data)
