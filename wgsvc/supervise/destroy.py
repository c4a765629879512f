"""
Making sure that an interface is gone.

The destroy itself runs in a disposable child with a deadline: on FreeBSD it waits for the
last close of the device, and nobody can interrupt that (research in docs/freebsd.md).
"""

from __future__ import annotations

import os
import time

from wgsvc import lightjson
from wgsvc.errors import BusyError, TimeoutExpiredError, WgsvcError
from wgsvc.light import TYPE_CHECKING, Any
from wgsvc.supervise.control import error_table

if TYPE_CHECKING:
    from wgsvc.supervise.context import Context

POLL_S = 0.002


async def gone(context: Context, name: str, ifindex: int) -> None:
    """
    Return once interface `ifindex` is no more; destroy it if it does not go by itself.

    Called when the process that had it open has ended. A foreign interface that has taken
    the name meanwhile is left alone.
    Raises: BusyError (somebody has the device open: who), TimeoutExpiredError, and what
    `System.destroy` raises.
    """
    found = context.system.interface(name)
    if found is None or found.ifindex != ifindex:
        return
    read_end, write_end = os.pipe()

    def run() -> None:
        try:
            context.system.destroy(name, ifindex)
        except WgsvcError as error:
            os.write(write_end, lightjson.dumps(error_table(error)).encode()[:4000])

    try:
        try:
            child = context.children.fork(run, role="destroy", keep=[write_end])
        finally:
            os.close(write_end)
        if not await child.exited.wait(context.settings.step_timeout_s):
            child.signal(9)
            raise TimeoutExpiredError(
                f"destroy of {name} does not return (PID {child.pid})",
                cure=f"who has it open: fstat | grep tun; ifconfig {name}",
            )
        os.set_blocking(read_end, False)
        said = os.read(read_end, 4096)
    except BlockingIOError:
        said = b""
    finally:
        os.close(read_end)
    if said:
        raise _as_raised(lightjson.loads(said))
    await _absent(context, name, ifindex)


def _as_raised(table: dict[str, Any]) -> WgsvcError:
    """Return the error that the child met: its words, kind and exit status."""
    error = WgsvcError(table["message"], cure=table["cure"])
    error.kind, error.exit_code = table["kind"], table["exit_code"]
    return error


async def _absent(context: Context, name: str, ifindex: int) -> None:
    deadline = time.monotonic() + context.settings.step_timeout_s
    while True:
        found = context.system.interface(name)
        if found is None or found.ifindex != ifindex:
            return
        if time.monotonic() > deadline:
            limit_s = context.settings.step_timeout_s
            raise BusyError(
                f"{name} is still there {limit_s:g} s after it was destroyed",
                cure=f"to try again: wgsvc stop {name}",
            )
        await context.loop.sleep(POLL_S)
