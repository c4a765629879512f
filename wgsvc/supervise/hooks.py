"""
PreUp, PostUp, PreDown, PostDown: the one place where a shell runs.

A hook gets a fixed environment, a process group of its own and a time limit; its output
goes to the caller and to syslog, capped; what it leaves in the background does not
hold anybody up.
"""

from __future__ import annotations

import os
import signal
import time

from wgsvc.errors import TimeoutExpiredError, UnavailableError, WgsvcError
from wgsvc.light import TYPE_CHECKING
from wgsvc.supervise.context import log
from wgsvc.supervise.process import find_program, fixed_environment
from wgsvc.supervise.wireguard_go import describe_exit

if TYPE_CHECKING:
    from wgsvc.plan.steps import RunHook
    from wgsvc.supervise.context import Context, Say
    from wgsvc.supervise.process import Child

OUTPUT_LIMIT_BYTES = 64 << 10
GRACE_S = 2.0


class HookError(WgsvcError):
    """A hook ended with something else than 0."""

    exit_code = 71
    kind = "hook"


async def run(context: Context, hook: RunHook, say: Say, reason: str) -> None:
    """
    Run one hook to its end.

    `reason` is what the tunnel goes up or down for: start, stop, rollback, crash.
    Raises: HookError, TimeoutExpiredError (after its process group was killed),
    UnavailableError without a shell.
    """
    shell = _shell(context.settings.hook_shell)
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        child = context.children.spawn(
            [shell, "-c", hook.command],
            role=hook.event,
            env=fixed_environment(
                WG_INTERFACE=hook.name,
                WGSVC_INTERFACE=hook.name,
                WGSVC_EVENT=hook.event,
                WGSVC_REASON=reason,
            ),
            stdio=(null, write_end, write_end),
        )
    except BaseException:
        os.close(read_end)
        raise
    finally:
        os.close(null)
        os.close(write_end)

    def tell(line: str) -> None:
        say(line)
        if reason != "crash":  # then `say` is syslog
            log(f"{hook.name}: {hook.event}: {line}")

    output = context.loop.spawn(_output(context, read_end, tell))
    try:
        if not await child.exited.wait(context.settings.hook_timeout_s):
            raise TimeoutExpiredError(
                f"{hook.event} did not end within {context.settings.hook_timeout_s:g} s",
                cure="hook_timeout_s in wgsvc.toml is its limit",
            )
    finally:
        await _end_group(child)
        output.cancel()
        await output.wait()
        os.close(read_end)
    status = child.exited.value()
    if status != 0:
        raise HookError(f"{hook.event} {describe_exit(status)}", cure="its output is above")


def _shell(setting: str) -> str:
    if setting:
        return find_program(setting)
    try:
        return find_program("bash")  # what wg-quick runs them with
    except UnavailableError:
        return "/bin/sh"


async def _end_group(child: Child) -> None:
    """Kill what is left of the hook's own process group, if the hook itself is."""
    if child.exited.done:
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        # Its un-reaped leader keeps the group's number from being anybody else's.
        os.killpg(child.pid, number)
        deadline = time.monotonic() + GRACE_S
        if await child.exited.wait(deadline - time.monotonic()):
            return


async def _output(context: Context, read_end: int, say: Say) -> None:
    seen = 0
    try:
        while True:
            await context.loop.readable(read_end)
            data = os.read(read_end, 1 << 16)
            if not data:
                return
            seen = _tell(data, seen, say)
    finally:
        # The hook has ended; what it wrote last may still be in the pipe.
        for _ in range(4):
            try:
                data = os.read(read_end, 1 << 16)
            except BlockingIOError:
                break
            if not data:
                break
            seen = _tell(data, seen, say)


def _tell(data: bytes, seen: int, say: Say) -> int:
    room = OUTPUT_LIMIT_BYTES - seen
    if room > 0:
        for line in data[:room].decode("utf-8", "replace").splitlines():
            say(line)
        if len(data) >= room:
            say(f"... more than {OUTPUT_LIMIT_BYTES} bytes: the rest is dropped")
    return seen + len(data)
