"""
Which shell runs the hooks, and how strictly.

wg-quick evaluates a hook in bash under `set -e -o pipefail`, with extglob on, and bash runs it
with the same options here. Another shell may lack some of them: dash before 0.5.13, for one, exits
at once when it is told to set pipefail. So each other shell is tried out once, with a command
that does nothing, and gets the options that it takes.
"""

from __future__ import annotations

import os

from wgsvc.errors import UnavailableError
from wgsvc.light import TYPE_CHECKING, NamedTuple
from wgsvc.programs import find_program, fixed_environment

if TYPE_CHECKING:
    from wgsvc.supervise.context import Context

BASH = ("-e", "-o", "pipefail", "-O", "extglob")
OTHERS = (("-e", "-o", "pipefail"), ("-e",))
"""What another shell is tried with, one after the other; with no options if it takes neither."""


class Shell(NamedTuple):
    """A shell and the options that it runs a hook with."""

    program: str
    options: tuple[str, ...]

    def argv(self, command: str) -> list[str]:
        """Return the arguments, the program's first, that run a hook."""
        return [self.program, *self.options, "-c", command]

    def lets_pass(self, command: str) -> str:
        """Return a warning if this shell may not notice a failure within `command`, else ""."""
        if "-e" not in self.options:
            return f"{self.program} has no -e: only the last command of a hook can fail"
        # A | in quotes or in a pattern counts as a pipe, too: the warning is then needless.
        if "pipefail" not in self.options and "|" in command.replace("||", ""):
            return f"{self.program} has no pipefail: only the last command of a pipe can fail"
        return ""


async def find(context: Context) -> Shell:
    """
    Return what `hook_shell` names; without it bash, or sh where there is no bash.

    Raises: UnavailableError if it is not there or can't be run.
    """
    setting = context.settings.hook_shell
    if setting:
        program = find_program(setting)
    else:
        try:
            program = find_program("bash")
        except UnavailableError:
            program = "/bin/sh"
    if program not in context.shells:
        context.shells[program] = await _options(context, program)
    return Shell(program, context.shells[program])


async def _options(context: Context, program: str) -> tuple[str, ...]:
    if os.path.basename(program) == "bash":
        return BASH  # every version of bash takes them
    for options in OTHERS:
        child = context.children.spawn(
            Shell(program, options).argv(":"), role="hook shell", env=fixed_environment()
        )
        try:
            ended = await child.exited.wait(context.settings.step_timeout_s)
        finally:
            child.signal(9)
        if ended and child.exited.value() == 0:
            return options
    return ()
