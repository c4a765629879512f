"""
wireguard-go has died: have it back on the tun that we still hold.

Addresses, routes and the interface never went; only its own memory did. If we hold no copy
of the tun (an adopted tunnel on FreeBSD), or it was ended on purpose and took the
interface along, the tunnel is taken down and brought up again instead.
"""

from __future__ import annotations

import time
from collections import deque

from wgsvc.errors import WgsvcError, unforeseen
from wgsvc.light import TYPE_CHECKING
from wgsvc.supervise import wireguard_go
from wgsvc.supervise.context import Timings, ToLog, log
from wgsvc.supervise.down import take_down
from wgsvc.supervise.up import bring_up

if TYPE_CHECKING:
    from wgsvc.supervise.context import Context
    from wgsvc.supervise.live import Live

DEATHS_LIMIT = 5
DEATHS_WINDOW_S = 60.0
FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 30.0


class Deaths:
    """How often a tunnel's wireguard-go died lately."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=DEATHS_LIMIT + 1)
        self._total = 0

    def __len__(self) -> int:
        return self._total

    def note(self, now_mono: float) -> None:
        """Count one death."""
        self._times.append(now_mono)
        self._total += 1

    def recent(self, now_mono: float) -> int:
        """Return how many there were in the last minute."""
        return sum(now_mono - then < DEATHS_WINDOW_S for then in self._times)

    def too_many(self, now_mono: float) -> bool:
        """Whether it is time to give up."""
        return self.recent(now_mono) > DEATHS_LIMIT

    def delay_s(self, now_mono: float) -> float:
        """Return how long to wait before the next try: at once after the first death."""
        count = self.recent(now_mono)
        if count <= 1:
            return 0.0
        return min(FIRST_DELAY_S * 2.0 ** (count - 2), LONGEST_DELAY_S)


async def respawn(context: Context, live: Live, deaths: Deaths) -> None:
    """
    Bring wireguard-go back.

    Raises: WgsvcError when there is no sense in going on.
    """
    said = live.daemon.last_words if live.daemon else ()
    last = f"; it said: {said[-1]}" if said else ""
    what = "wireguard-go died" if live.daemon else "the interface was destroyed"
    while True:
        now = time.monotonic()
        if deaths.too_many(now):
            raise WgsvcError(
                f"{what} {deaths.recent(now)} times within {DEATHS_WINDOW_S:g} s{last}",
                cure=f"wgsvc start {live.name} tries again",
            )
        await context.loop.sleep(deaths.delay_s(now))
        try:
            if live.holds and live.there(context):
                await _revive(context, live)
            else:
                await _rebuild(context, live)
        except Exception as error:  # noqa: BLE001 - no descriptor left, for instance: try again
            message = unforeseen(error).message
            log(f"{live.name}: respawn: {message}", error=True)
            last = f"; {message}"
            deaths.note(time.monotonic())
        else:
            return


async def _revive(context: Context, live: Live) -> None:
    assert live.tun is not None  # noqa: S101 - live.holds
    live.is_set = False
    daemon = live.daemon = await wireguard_go.start(context, live.tun)
    try:
        await _restore(context, live)
    except Exception:
        await wireguard_go.end(context, daemon)  # the next try starts another one
        raise


async def _restore(context: Context, live: Live) -> None:
    """Give a new wireguard-go what the old one knew."""
    try:
        live.record(context, "up")
    except WgsvcError as error:  # a full disk must not cost a tunnel
        log(f"{live.name}: {error.message}", error=True)
    # It resets the MTU to 1420 whenever it is handed a tun (observed-13.2: section 2, row 2),
    # and on FreeBSD the announcement of this change is what makes it open its sockets.
    context.system.set_mtu(live.name, live.settled_mtu)
    from wgsvc.supervise import greet

    live.port = await wireguard_go.bound(context, live.name)
    await greet.fill(context, live, live.settled)


async def _rebuild(context: Context, live: Live) -> None:
    say = ToLog(live.name)
    for error in await take_down(context, live, say, Timings(), reason="crash"):
        log(f"{live.name}: clearing up: {error.message}", error=True)
    live.before = live.last_seen or live.before
    live.empty()
    await bring_up(context, live, say, Timings(), reason="crash")
