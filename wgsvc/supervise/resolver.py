"""
Looking up one name: a child each, since getaddrinfo(3) blocks as long as it likes.

Once a tunnel has led the host's name servers into itself, they can't tell where its own peer is.
Then those that were in force before are asked, by the way they had then.
"""

from __future__ import annotations

import os
import signal
import socket
from functools import partial

from wgsvc.errors import WgsvcError
from wgsvc.light import TYPE_CHECKING, NamedTuple
from wgsvc.plan.start import host_prefix
from wgsvc.supervise import name_servers, network
from wgsvc.supervise.context import log

if TYPE_CHECKING:
    from collections.abc import Callable

    from wgsvc.supervise.context import Context
    from wgsvc.supervise.live import Live
    from wgsvc.values import Prefix

RESOLVE_TIMEOUT_S = 15.0
ANSWER_LIMIT_BYTES = 4000  # a pipe takes this in one write; some hundred addresses
NO_SUCH_NAME = b"-"
FINAL = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))


class Answer(NamedTuple):
    """
    What was found of a name.

    `final` says that there is no such name, so that asking again soon is in vain.
    """

    addresses: tuple[str, ...] = ()
    final: bool = False


async def resolve(
    context: Context,
    live: Live,
    host: str,
    *,
    timeout_s: float = RESOLVE_TIMEOUT_S,
    first: bool = False,
) -> Answer:
    """
    Return the addresses of a name, A and AAAA; nothing if there is no answer in time.

    At most `lookups.AT_ONCE` children do this at once; `first` is for whoever is waited for.
    Raises: OSFailureError if no process can be started.
    """
    servers = swallowed_servers(live)
    if servers:
        return await context.look_ups.turn(
            partial(_around, context, live, host, servers, timeout_s), first=first
        )
    by_system = partial(_in_child, context, host, partial(_by_system, host), RESOLVE_TIMEOUT_S)
    turn = partial(context.look_ups.turn, by_system, first=first)
    task = context.look_ups.shared(host, turn)
    return task.value() if await task.wait(timeout_s) else Answer()


async def _around(
    context: Context, live: Live, host: str, servers: tuple[str, ...], timeout_s: float
) -> Answer:
    """Ask the servers that were there before the tunnel, by the way they had then."""
    asked = frozenset(at for server in servers if (at := host_prefix(server)) is not None)
    by_servers = partial(_by_servers, context, host, servers, live.full_table)
    live.asking += 1
    try:
        await _let_out(context, live, live.asked | asked)
        return await _in_child(context, host, by_servers, timeout_s)
    finally:
        live.asking -= 1
        if not live.asking:
            await context.loop.finish(_let_out(context, live, frozenset()))


def swallowed_servers(live: Live) -> tuple[str, ...]:
    """
    Return the name servers that were in force before the tunnel led queries to them into itself.

    None if it did not: then the system's own resolver is the one to ask.
    """
    if live.dns:
        return live.name_servers
    servers = name_servers.in_force()
    routed = [route.prefix for route in live.routes()] if live.routed else []
    if any(prefix.length <= 1 for prefix in routed):
        return servers
    hosts = [at for server in servers if (at := host_prefix(server)) is not None]
    return servers if any(prefix.covers(host) for host in hosts for prefix in routed) else ()


async def _let_out(context: Context, live: Live, asked: frozenset[Prefix]) -> None:
    """
    Give name servers a host route beside the tunnel, for as long as they are asked.

    Where marks keep packets out of the tunnel this finds nothing to do.
    """
    if live.leaving or live.asked == asked:
        live.asked = asked
        return
    live.asked = asked
    try:
        network.repin(context, live, await network.current_endpoints(context, live))
    except WgsvcError as error:
        log(f"{live.name}: a way to the name servers: {error.message}", error=True)


def _by_system(host: str) -> bytes:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM)
    except socket.gaierror as error:
        return NO_SUCH_NAME if error.errno in FINAL else b""
    except (OSError, UnicodeError):
        return b""
    return "\n".join(dict.fromkeys(str(entry[4][0]) for entry in found)).encode("ascii")


def _by_servers(context: Context, host: str, servers: tuple[str, ...], mark: int) -> bytes:
    from wgsvc.supervise import name_query

    def prepare(asking: socket.socket) -> None:
        if mark:
            context.system.mark_socket(asking.fileno(), mark)

    try:
        found = name_query.addresses(host, servers, prepare)
    except name_query.NoSuchNameError:
        return NO_SUCH_NAME
    return "\n".join(found).encode("ascii", "replace")


async def _in_child(
    context: Context, host: str, find: Callable[[], bytes], timeout_s: float
) -> Answer:
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    try:
        try:
            child = context.children.fork(
                lambda: _write(context, write_end, host, find),
                role="resolver",
                keep=[write_end],
                outlives_us=False,
            )
        finally:
            os.close(write_end)
        try:
            if not await child.exited.wait(timeout_s):
                return Answer()
            data = os.read(read_end, ANSWER_LIMIT_BYTES)
        finally:
            child.signal(signal.SIGKILL)
    finally:
        os.close(read_end)
    if data == NO_SUCH_NAME:
        return Answer(final=True)
    lines = data.decode("ascii", "replace").splitlines()
    return Answer(tuple(line for line in lines if host_prefix(line)))


def _write(context: Context, write_end: int, host: str, find: Callable[[], bytes]) -> None:
    context.system.set_title(f"wgsvc: resolver {host}")
    os.write(write_end, find()[:ANSWER_LIMIT_BYTES])
