"""
Making sure that an interface is gone.

The destroy itself runs in a disposable child with a deadline: on FreeBSD it waits for the
last close of the device, and nobody can interrupt that (research in docs/freebsd.md).
"""

from __future__ import annotations

import os
import time

from wgsvc import lightjson
from wgsvc.errors import BusyError, OSFailureError, TimeoutExpiredError, WgsvcError
from wgsvc.light import TYPE_CHECKING

if TYPE_CHECKING:
    from wgsvc.supervise.context import Context

POLL_S = 0.002


async def gone(context: Context, name: str, ifindex: int) -> None:
    """
    Return once interface `ifindex` is no more; destroy it if it does not go by itself.

    Called when the process that had it open has ended. A foreign interface that has taken
    the name meanwhile is left alone.
    Raises: BusyError (somebody has the device open: who), TimeoutExpiredError, OSFailureError.
    """
    found = context.system.interface(name)
    if found is None or found.ifindex != ifindex:
        return
    read_end, write_end = os.pipe()

    def run() -> None:
        try:
            context.system.destroy(name, ifindex)
        except WgsvcError as error:
            kind = "busy" if isinstance(error, BusyError) else "os"
            answer = {"kind": kind, "message": error.message, "cure": error.cure}
            os.write(write_end, lightjson.dumps(answer).encode()[:4000])

    child = context.children.fork(run, role="destroy", keep=[write_end])
    os.close(write_end)
    try:
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
        answer = lightjson.loads(said)
        kind = BusyError if answer["kind"] == "busy" else WgsvcError
        raise kind(answer["message"], cure=answer["cure"])
    await _absent(context, name, ifindex)


async def _absent(context: Context, name: str, ifindex: int) -> None:
    deadline = time.monotonic() + context.settings.step_timeout_s
    while True:
        found = context.system.interface(name)
        if found is None or found.ifindex != ifindex:
            return
        if time.monotonic() > deadline:
            raise OSFailureError("destroy", f"{name}: it is still there", 16)
        await context.loop.sleep(POLL_S)
