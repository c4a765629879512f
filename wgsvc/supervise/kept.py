"""Tasks that the supervisor can't do without: one that fails is begun again."""

from __future__ import annotations

from collections.abc import Callable

from wgsvc.errors import unforeseen
from wgsvc.light import TYPE_CHECKING
from wgsvc.supervise.context import log

if TYPE_CHECKING:
    from wgsvc.loop import Coro, Task
    from wgsvc.supervise.context import Context

FIRST_DELAY_S = 0.2
LONGEST_DELAY_S = 30.0


def keep(context: Context, what: str, run: Callable[[], Coro[None]]) -> Task[None]:
    """
    Start a task that goes on after errors: `run` is called again, with a growing pause.

    `what` is what the log calls it. A cancel ends it, and so does a `run` that returns.
    """
    return context.loop.spawn(_keep(context, what, run))


async def _keep(context: Context, what: str, run: Callable[[], Coro[None]]) -> None:
    delay_s = FIRST_DELAY_S
    while True:
        began_s = context.loop.time()
        try:
            await run()
        except Exception as failure:  # noqa: BLE001 - whatever it is, the task is needed
            if context.loop.time() - began_s > LONGEST_DELAY_S:
                delay_s = FIRST_DELAY_S  # it had recovered
            error = unforeseen(failure)
            log(f"{what}: {error.message}; tried again in {delay_s:g} s", error=True)
        else:
            return
        await context.loop.sleep(delay_s)
        delay_s = min(delay_s * 2, LONGEST_DELAY_S)
