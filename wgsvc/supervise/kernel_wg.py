"""
The kernel's own WireGuard, read and configured through wg(8).

It gets configurations on stdin, so that no secret key is ever in an argument.
"""

from __future__ import annotations

import errno
import os

from wgsvc.errors import OSFailureError, WgsvcError
from wgsvc.light import TYPE_CHECKING
from wgsvc.supervise import program
from wgsvc.uapi import wg_text
from wgsvc.values import KEY_LENGTH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wgsvc.supervise.context import Context
    from wgsvc.supervise.program import Ran
    from wgsvc.uapi.encode import DeviceChange, PeerChange
    from wgsvc.uapi.parse import DeviceState

OUTPUT_LIMIT_BYTES = 64 << 20
REMOVALS_A_CALL = CHANGES_A_CALL = 500
"""Public keys of 44 characters: far below what an argument list may be (256 KiB, FreeBSD)."""


async def get(context: Context, name: str, *, timeout_s: float | None = None) -> DeviceState:
    """
    Ask for everything the kernel knows of an interface.

    Raises: UnavailableError without wg(8), OSFailureError, ProgramFailedError, TimeoutExpiredError,
    ProtocolError.
    """
    argv = ["wg", "show", name, "dump"]
    return wg_text.parse_dump(await run(context, argv, timeout_s=timeout_s), " ".join(argv))


async def configure(
    context: Context, name: str, change: DeviceChange, now: DeviceState | None
) -> None:
    """
    Set something of an interface; `now` is what it has, None if it is empty.

    Raises: UnavailableError without wg(8), OSFailureError or ProgramFailedError if it refuses.
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


async def set_keepalives(context: Context, name: str, changes: Sequence[PeerChange]) -> None:
    """
    Set the keepalive of peers, one after the other, and nothing else of them.

    Raises: as `configure`.
    """
    for first in range(0, len(changes), CHANGES_A_CALL):
        words = wg_text.keepalives(changes[first : first + CHANGES_A_CALL])
        await run(context, ["wg", "set", name, *words])


async def run(
    context: Context, argv: list[str], text: str = "", *, timeout_s: float | None = None
) -> str:
    """
    Run wg(8) with `text` on stdin; return what it printed.

    Raises: UnavailableError, OSFailureError, ProgramFailedError, TimeoutExpiredError.
    """
    ran = await program.run(
        context,
        argv,
        text,
        limit_s=timeout_s or context.settings.step_timeout_s,
        output_bytes=OUTPUT_LIMIT_BYTES,
        tellable=_without_input,
    )
    if ran.status != 0:
        raise _refused(argv, ran)
    return ran.output.decode("ascii", "replace")


def _refused(argv: list[str], ran: Ran) -> WgsvcError:
    """Return why wg(8) failed: `Unable to modify interface: Address already in use` and alike."""
    reasons = {os.strerror(number): number for number in errno.errorcode}
    for line in ran.said:
        number = reasons.get(line.rpartition(": ")[2])
        if line.startswith("Unable to ") and number is not None:
            return OSFailureError(" ".join(argv[:2]), argv[2], number)
    return program.failed(argv, ran)


def _without_input(line: str) -> str:
    """
    Return a complaint without what it quotes: that is a line of the input, or a key in it.

    wg(8) puts it into quotes, at the end. "" for a line with a long word, which may be a key.
    """
    words = line.partition("`")[0].partition("'")[0].rstrip(": ")
    return "" if any(len(word) >= KEY_LENGTH for word in words.split()) else words
