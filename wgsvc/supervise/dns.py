"""DNS servers of a tunnel, through resolvconf(8)."""

from __future__ import annotations

import os

from wgsvc.errors import OSFailureError, TimeoutExpiredError
from wgsvc.light import TYPE_CHECKING
from wgsvc.plan.text import resolvconf_arguments
from wgsvc.supervise.process import find_program, fixed_environment
from wgsvc.supervise.wireguard_go import describe_exit

if TYPE_CHECKING:
    from wgsvc.plan.steps import SetDns
    from wgsvc.supervise.context import Context


def check() -> None:
    """
    Say before anything is touched that there is no resolvconf.

    Raises: UnavailableError.
    """
    find_program("resolvconf")


async def add(context: Context, step: SetDns) -> None:
    """
    Hand the servers and search domains over.

    Raises: UnavailableError, OSFailureError with resolvconf's exit, TimeoutExpiredError.
    """
    lines = [f"nameserver {server}\n" for server in step.servers]
    if step.search:
        lines.append(f"search {' '.join(step.search)}\n")
    await _resolvconf(context, resolvconf_arguments(step.name, step.mode), "".join(lines))


async def remove(context: Context, name: str) -> None:
    """
    Take them back; not being there is success (`-f`).

    Raises: as `add`.
    """
    await _resolvconf(context, ["-f", "-d", name], "")


async def _resolvconf(context: Context, arguments: list[str], text: str) -> None:
    read_end, write_end = os.pipe()
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        # A few lines: far less than a pipe holds, so this does not block.
        os.write(write_end, text.encode("ascii", "replace")[:4096])
        child = context.children.spawn(
            ["resolvconf", *arguments],
            role="resolvconf",
            env=fixed_environment(),
            stdio=(read_end, null, null),
        )
    finally:
        for fd in (read_end, write_end, null):
            os.close(fd)
    call = " ".join(["resolvconf", *arguments])
    if not await child.exited.wait(context.settings.step_timeout_s):
        child.signal(9)
        raise TimeoutExpiredError(f"{call} did not end in time")
    status = child.exited.value()
    if status != 0:
        raise OSFailureError(call, describe_exit(status), 5, cure=f"try by hand: {call} </dev/null")
