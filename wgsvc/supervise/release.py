"""Closing our copy of a tun at the end, when the system wants it and without waiting for it."""

from __future__ import annotations

import _thread
import os

from wgsvc.light import TYPE_CHECKING

if TYPE_CHECKING:
    from wgsvc.supervise.context import Context
    from wgsvc.supervise.live import Live

POLL_S = 0.0002


def before_exit(context: Context, live: Live) -> None:
    """Close it before wireguard-go is told to end, where that waits for us (FreeBSD)."""
    if not context.system.holds_through_exit:
        live.let_go()


async def after_exit(context: Context, live: Live) -> None:
    """
    Close it if it is still open; return once the interface is out of sight, or the close is over.

    On Linux the last close takes 10 to 45 ms, until no processor can still be looking at the
    interface (RCU), but after 1 ms nobody finds it any more: its name, routes and addresses
    are gone, and the name can be taken anew. So the rest of it happens in a thread.
    """
    if not live.holds or live.tun is None:
        return
    if not context.system.holds_through_exit:
        live.let_go()
        return
    fd, live.tun = live.tun.fd, live.tun._replace(fd=-1)
    over: list[bool] = []

    def close() -> None:
        try:
            os.close(fd)
        finally:
            over.append(True)

    try:
        _thread.start_new_thread(close, ())
    except RuntimeError:  # no thread to be had: then we wait
        close()
    while not over:
        if not live.there(context):
            return
        await context.loop.sleep(POLL_S)
