"""
What can go wrong, as types with fields.

Only the command line turns these into text and an exit status; the numbers are
sysexits(3), so that scripts can tell a bad file from a missing program.
"""

from __future__ import annotations

import errno as errno_names
import os

from wgsvc.light import Any

_PLAIN_IN_SHELL = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+=:,./-"
)


def shell_word(text: str) -> str:
    """Return a path as a shell takes it, so that a cure is right when it is pasted."""
    if text and _PLAIN_IN_SHELL.issuperset(text):
        return text
    if text.isprintable():
        return "'" + text.replace("'", "'\\''") + "'"
    letters = (
        letter
        if letter.isprintable() and letter not in "'\\"
        else "".join(f"\\{byte:03o}" for byte in os.fsencode(letter))
        for letter in text
    )
    return "$'" + "".join(letters) + "'"


class WgsvcError(Exception):
    """
    Anything wgsvc can explain.

    `message` says what is wrong with what, `cure` what to do about it (may be
    empty). Neither ever holds key material or a raw line of a file.
    """

    exit_code = 70  # EX_SOFTWARE
    kind = "internal"

    def __init__(self, message: str, *, cure: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.cure = cure


class UsageError(WgsvcError):
    """The command line asks for something that does not exist."""

    exit_code = 64  # EX_USAGE
    kind = "usage"


class ConfigError(WgsvcError):
    """A configuration file can't be used; the diagnostics say where and why."""

    exit_code = 78  # EX_CONFIG
    kind = "config"


class UnavailableError(WgsvcError):
    """Something this needs is not here: a program, a module, a device node."""

    exit_code = 69  # EX_UNAVAILABLE
    kind = "unavailable"


class NotPermittedError(WgsvcError):
    """The caller, the jail or the file's permissions don't allow it."""

    exit_code = 77  # EX_NOPERM
    kind = "not-permitted"


class DeniedError(NotPermittedError):
    """The caller may not even look, and so can't tell what is there."""


class BusyError(WgsvcError):
    """Somebody else holds what is needed now; trying later may work."""

    exit_code = 75  # EX_TEMPFAIL
    kind = "busy"


class TimeoutExpiredError(BusyError):
    """A step did not end within its bound."""

    kind = "timeout"


class NameTakenError(WgsvcError):
    """An interface that is not ours has this name; it is left alone."""

    exit_code = 73  # EX_CANTCREAT
    kind = "name-taken"


class ProtocolError(WgsvcError):
    """The other end of a socket said something that is not of the protocol."""

    exit_code = 76  # EX_PROTOCOL
    kind = "protocol"


class OSFailureError(WgsvcError):
    """
    A system call failed: which one, on what, and the errno.

    Raised with the call's own name (`SIOCSIFNAME`, `RTM_NEWROUTE`, `open`),
    because that is what a bug report needs.
    """

    exit_code = 71  # EX_OSERR
    kind = "os"

    def __init__(self, call: str, subject: str, errno: int, *, cure: str = "") -> None:
        name = errno_names.errorcode.get(errno, str(errno))
        super().__init__(f"{call} {subject}: {os.strerror(errno)} ({name})", cure=cure)
        self.call = call
        self.subject = subject
        self.errno = errno


class ProgramFailedError(WgsvcError):
    """Another program failed: how it ended and, where it said anything, its own words."""

    exit_code = 71  # EX_OSERR
    kind = "program"


def unforeseen(error: Exception) -> WgsvcError:
    """
    Return any exception as one of ours: a system call that failed, or a bug and its place.

    Only the type and the place of a bug: its text may hold what it was about.
    """
    if isinstance(error, WgsvcError):
        return error
    trace, place = error.__traceback__, "?"
    while trace is not None:
        place = f"{os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}"
        trace = trace.tb_next
    if isinstance(error, OSError) and error.errno:
        return OSFailureError("at", place, error.errno)
    return WgsvcError(f"internal error: {type(error).__name__} at {place}")


def told(table: dict[str, Any]) -> WgsvcError:
    """Return an error that a supervisor told as data, with its exit status and its cure."""
    error = WgsvcError(str(table["message"]), cure=str(table.get("cure", "")))
    error.exit_code = int(table.get("exit_code", error.exit_code))
    error.kind = str(table.get("kind", error.kind))
    return error


class StepsFailedError(WgsvcError):
    """Several steps failed, such as a start and a part of its own roll-back."""

    def __init__(self, errors: list[WgsvcError]) -> None:
        super().__init__("; ".join(error.message for error in errors), cure=errors[0].cure)
        self.errors = tuple(errors)
        self.exit_code = errors[0].exit_code
        self.kind = errors[0].kind
