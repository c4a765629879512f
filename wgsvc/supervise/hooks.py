"""
PreUp, PostUp, PreDown, PostDown: the one place where a shell runs.

A hook runs as strictly as under wg-quick: a command that fails ends it, and the hook has failed
(hook_shell.py). It gets a fixed environment, a process group of its own and a time limit. Its
output goes to the caller and to syslog, capped. A process that it leaves in the background holds
nobody up and lives on (hook_output.py).
"""

from __future__ import annotations

import os
import signal
import time

from wgsvc.errors import TimeoutExpiredError, WgsvcError
from wgsvc.light import TYPE_CHECKING
from wgsvc.programs import fixed_environment
from wgsvc.supervise import hook_shell
from wgsvc.supervise.context import log
from wgsvc.supervise.hook_output import Output
from wgsvc.supervise.wireguard_go import describe_exit

if TYPE_CHECKING:
    from wgsvc.plan.steps import RunHook
    from wgsvc.supervise.context import Context, Say
    from wgsvc.supervise.hook_shell import Shell
    from wgsvc.supervise.process import Child

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

    def note(line: str) -> None:
        log(f"{hook.name}: {hook.event}: {line}")

    def tell(line: str) -> None:
        say(line)
        if reason != "crash":  # then `say` is syslog
            note(line)

    shell = await hook_shell.find(context)
    shortcoming = shell.lets_pass(hook.command)
    if shortcoming and (hook.name, shortcoming) not in context.told:
        context.told.add((hook.name, shortcoming))
        tell(shortcoming)
    child, read_end = _spawn(context, hook, shell, reason)
    output = Output(context, read_end, tell)
    try:
        if not await child.exited.wait(context.settings.hook_timeout_s):
            raise TimeoutExpiredError(
                f"{hook.event} did not end within {context.settings.hook_timeout_s:g} s",
                cure="hook_timeout_s in wgsvc.toml is its limit",
            )
    finally:
        await _end_group(child)
        await output.hook_ended(hook.name, note)
    status = child.exited.value()
    if status != 0:
        raise HookError(f"{hook.event} {describe_exit(status)}", cure="its output is above")


def _spawn(context: Context, hook: RunHook, shell: Shell, reason: str) -> tuple[Child, int]:
    """Start a hook; return it and the reading end of its output."""
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        read_end, write_end, keep = context.system.unbroken_pipe()
        try:
            child = context.children.spawn(
                shell.argv(hook.command),
                role=hook.event,
                env=fixed_environment(
                    WG_INTERFACE=hook.name,
                    WGSVC_INTERFACE=hook.name,
                    WGSVC_EVENT=hook.event,
                    WGSVC_REASON=reason,
                ),
                stdio=(null, write_end, write_end),
                keep=keep,
            )
        except BaseException:
            os.close(read_end)
            raise
        finally:
            for fd in (write_end, *keep):
                os.close(fd)
    finally:
        os.close(null)
    return child, read_end


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
