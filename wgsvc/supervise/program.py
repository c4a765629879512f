"""Running another program to its end, and hearing from itself why it failed."""

from __future__ import annotations

import contextlib
import os
import socket

from wgsvc.errors import ProgramFailedError, TimeoutExpiredError
from wgsvc.light import TYPE_CHECKING, NamedTuple
from wgsvc.programs import fixed_environment
from wgsvc.supervise.wireguard_go import describe_exit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import FileIO

    from wgsvc.supervise.context import Context

SAID_LIMIT_BYTES = 4096
TOLD_LINES, TOLD_LENGTH = 3, 300
"""How much of its words an error holds: the last lines, as that is where programs say why they
give up."""


class Ran(NamedTuple):
    """How a program ended (a wait status), what it printed, and the lines it complained in."""

    status: int
    output: bytes
    said: tuple[str, ...]


async def run(
    context: Context,
    argv: list[str],
    text: str = "",
    *,
    limit_s: float,
    output_bytes: int = 0,
    tellable: Callable[[str], str] = str,
) -> Ran:
    """
    Run a program with `text` on stdin, and read up to `output_bytes` of what it prints.

    If that is 0, its stdout is treated like its stderr. `tellable` returns the part of such a line
    that may be shown: wg(8) quotes its input, secret keys included.
    Raises: UnavailableError if it can't be run, TimeoutExpiredError (after it was killed).
    """
    with contextlib.ExitStack() as ours:
        with contextlib.ExitStack() as theirs:
            stdin, give = _pipe(theirs, ours)
            # A socket for datagrams, as for wireguard-go: a service that the program restarts may
            # inherit this stderr, and a broken pipe would kill it at its next line.
            hear, stderr = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            ours.enter_context(hear)
            theirs.enter_context(stderr)
            take = stdout = None
            if output_bytes:
                take, stdout = _pipe(ours, theirs)
            stdio = (stdin.fileno(), (stdout or stderr).fileno(), stderr.fileno())
            child = context.children.spawn(argv, role=argv[0], env=fixed_environment(), stdio=stdio)
        ours.callback(child.signal, 9)
        said = bytearray()
        hear.setblocking(False)
        tasks = [
            context.loop.spawn(_write(context, give, text.encode())),
            context.loop.spawn(_listen(context, hear, said)),
        ]
        output = bytearray()
        try:
            ended = take is None or await _read(context, take, output, output_bytes, limit_s)
            ended = ended and await child.exited.wait(limit_s)
        finally:
            for task in tasks:
                task.cancel()
                await task.wait()
        _hear(hear, said)
        lines = tuple(line for raw in _lines(said) if (line := tellable(raw)))
        if not ended:
            late = f"{' '.join(argv[:4])} did not end within {limit_s:g} s"
            raise TimeoutExpiredError(_with_reason(late, lines))
        return Ran(child.exited.value(), bytes(output), lines)


def failed(argv: list[str], ran: Ran, *, cure: str = "") -> ProgramFailedError:
    """Return the error for a program that did not exit with 0."""
    how = f"{' '.join(argv[:4])} {describe_exit(ran.status)}"
    return ProgramFailedError(_with_reason(how, ran.said), cure=cure)


def _with_reason(what: str, said: tuple[str, ...]) -> str:
    """Return what happened, and the last that was said, if anything was."""
    reason = "; ".join(said[-TOLD_LINES:])[:TOLD_LENGTH]
    return f"{what}: {reason}" if reason else what


def _pipe(reader: contextlib.ExitStack, writer: contextlib.ExitStack) -> tuple[FileIO, FileIO]:
    """Make a pipe; each end is closed with its stack."""
    read_end, write_end = os.pipe()
    return (
        reader.enter_context(os.fdopen(read_end, "rb", buffering=0)),
        writer.enter_context(os.fdopen(write_end, "wb", buffering=0)),
    )


async def _write(context: Context, give: FileIO, data: bytes) -> None:
    os.set_blocking(give.fileno(), False)
    view = memoryview(data)
    try:
        while view:
            await context.loop.writable(give.fileno())
            view = view[os.write(give.fileno(), view[: 1 << 16]) :]
    except BrokenPipeError:
        return  # its exit status says why
    finally:
        give.close()


async def _read(
    context: Context, take: FileIO, output: bytearray, most: int, limit_s: float
) -> bool:
    """Read to the end, or to `most` bytes; return False if the program is silent too long."""
    os.set_blocking(take.fileno(), False)
    while len(output) < most:
        if not await context.loop.readable(take.fileno(), limit_s):
            return False
        chunk = os.read(take.fileno(), 1 << 16)
        if not chunk:
            break
        output += chunk
    return True


async def _listen(context: Context, hear: socket.socket, said: bytearray) -> None:
    while True:
        await context.loop.readable(hear.fileno())
        _hear(hear, said)


def _hear(hear: socket.socket, said: bytearray) -> None:
    """Take what was said so far. The socket holds ten lines; with more the program would wait."""
    while True:
        try:
            data = hear.recv(SAID_LIMIT_BYTES)
        except OSError:  # nothing more now, or nobody there any more
            return
        said += data[: max(0, SAID_LIMIT_BYTES - len(said))]


def _lines(said: bytearray) -> Iterator[str]:
    for line in said.decode("utf-8", "replace").splitlines():
        yield "".join(letter if letter.isprintable() else " " for letter in line).strip()
