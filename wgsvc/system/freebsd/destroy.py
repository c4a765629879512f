"""
Taking an interface away without freezing the host.

SIOCIFDESTROY of a tun waits, unkillably, until the last copy of its descriptor is closed, and
from 13 on every other destroy on the host waits behind it (observed-13.2: section 2, row 3).
So it is issued only when the kernel says that nobody has the device open. What to do next
follows from what is there, what was tried last, and which errno came back:

| the interface         | it is open in    | tried last   | errno      | next                 |
|-----------------------|------------------|--------------|------------|----------------------|
| gone, or another index| -                | anything     | any        | nothing left         |
| neither tun nor wg    | -                | -            | -          | give up: foreign     |
| there                 | a live process   | anything     | any        | give up: names it    |
| there                 | one that ended,  | anything     | any        | wait for last close; |
|                       | or nobody knows  |              |            | no time: give up     |
| there                 | nobody           | nothing, wait| -          | destroy              |
| there, tun, renamed   | nobody           | destroy      | EINVAL     | rename back (12.0 in |
|                       |                  |              |            | a VNET jail)         |
| there                 | nobody           | destroy      | 0, EINTR   | wait, destroy again; |
|                       |                  |              |            | no time: give up     |
| there                 | nobody           | destroy      | ENXIO      | the same: on 12 a    |
|                       |                  |              |            | destroy is under way;|
|                       |                  |              |            | to the end: the      |
|                       |                  |              |            | host's own (13)      |
| there                 | nobody           | destroy      | any other  | give up              |
| there, as its own unit| nobody           | rename back  | 0          | destroy              |
| there                 | nobody           | rename back  | any        | give up              |

Rename back goes to the tun's own unit, which the driver names, and never to another tunN:
that would leave a /dev alias on which a later creation of that unit panics (12.2 and later).
"""

from __future__ import annotations

import errno
import os
import time

from wgsvc.errors import (
    BusyError,
    NameTakenError,
    NotPermittedError,
    OSFailureError,
    WgsvcError,
)
from wgsvc.light import TYPE_CHECKING, NamedTuple
from wgsvc.system.freebsd import ioctl, link

if TYPE_CHECKING:
    from collections.abc import Callable

    from wgsvc.system.freebsd.kernel import Kernel

NOTHING_LEFT = "nothing left"
WAIT = "wait for the last close"
DESTROY = "destroy"
RENAME_BACK = "rename back"
GIVE_UP = "give up"

NOBODY = 0
SOMEBODY = -1  # open, or maybe open, in a process the kernel does not name

POLL_S = 0.02
DEFAULT_WAIT_S = 2.0  # after the end of a process the kernel takes milliseconds
OURS = ("tun", "wg")


class Seen(NamedTuple):
    """An interface that is there."""

    name: str  # now
    unit: str  # the driver's name for it: tun3
    opener: int = NOBODY  # a PID, NOBODY or SOMEBODY
    opener_lives: bool = False

    @property
    def driver(self) -> str:
        """The driver: tun, wg, epair."""
        return self.unit.rstrip("0123456789")


class Tried(NamedTuple):
    """What was done last and the errno it gave, 0 for success."""

    action: str
    errno: int = 0


def decide(seen: Seen | None, last: Tried | None, *, in_time: bool) -> str:
    """Return the next action; the table is above. `in_time`: there is time to wait."""
    if seen is None:
        return NOTHING_LEFT
    if seen.driver not in OURS or (seen.opener > 0 and seen.opener_lives):
        return GIVE_UP
    patience = WAIT if in_time else GIVE_UP
    if seen.opener != NOBODY:
        return patience
    if last is None or last.action == WAIT:
        return DESTROY if in_time or last is None else GIVE_UP
    if last.action == RENAME_BACK:
        return GIVE_UP if last.errno else DESTROY
    if last.errno == errno.EINVAL and seen.driver == "tun" and seen.name != seen.unit:
        return RENAME_BACK
    return patience if last.errno in (0, errno.EINTR, errno.ENXIO) else GIVE_UP


def destroy(kernel: Kernel, name: str, ifindex: int, wait_s: float = DEFAULT_WAIT_S) -> None:
    """
    Remove an interface if `name` still is `ifindex`.

    Raises: BusyError (somebody has it open), NotPermittedError, OSFailureError.
    """
    deadline = time.monotonic() + wait_s
    last: Tried | None = None
    failed: int | None = None  # the last errno of a destroy, if there was one
    present = name
    while True:
        seen = look(kernel, present, ifindex)
        action = decide(seen, last, in_time=time.monotonic() < deadline)
        if seen is None or action == NOTHING_LEFT:
            return
        if action == GIVE_UP:
            if present != name:  # it is found again under the name it had
                _attempt(link.rename, kernel, present, name)
            raise _why(seen._replace(name=name), last, failed)
        if action == WAIT:
            time.sleep(POLL_S)
            last = Tried(WAIT)
        elif action == DESTROY:
            failed = _attempt(destroy_now, kernel, present)
            last = Tried(DESTROY, failed)
        else:
            last = Tried(RENAME_BACK, _attempt(link.rename, kernel, present, seen.unit))
            present = present if last.errno else seen.unit


def look(kernel: Kernel, name: str, ifindex: int) -> Seen | None:
    """Return what there is of `name` if it still is `ifindex`."""
    if link.index_of(kernel, name) != ifindex:
        return None
    seen = Seen(name, link.driver_unit(kernel, ifindex))
    if seen.driver != "tun":
        return seen
    opener = link.opener(kernel, name)
    if opener is None:
        opener = _probe(kernel, seen.unit)
    return seen._replace(opener=opener, opener_lives=opener > 0 and _lives(kernel, opener))


def destroy_now(kernel: Kernel, name: str) -> None:
    """Issue SIOCIFDESTROY. Only for what nobody has open: see above."""
    ioctl.call(kernel, ioctl.SIOCIFDESTROY, name, ioctl.IFREQ.pack(ioctl.packed_name(name)))


def _probe(kernel: Kernel, unit: str) -> int:
    """
    Open the device, where the kernel must not be asked who has it: EBUSY means somebody.

    A node that can't be seen can't be opened either, and what can't be known counts as open.
    """
    try:
        kernel.close(kernel.open(f"/dev/{unit}", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK))
    except OSError:
        return SOMEBODY
    return NOBODY


def _lives(kernel: Kernel, pid: int) -> bool:
    try:
        kernel.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # not ours to signal, but there
    return True


def _attempt(step: Callable[..., None], kernel: Kernel, *names: str) -> int:
    """Return the errno of a step, 0 if it worked."""
    try:
        step(kernel, *names)
    except OSFailureError as error:
        return error.errno
    except NameTakenError:
        return errno.EEXIST
    return 0


def _why(seen: Seen, last: Tried | None, failed: int | None) -> WgsvcError:
    """Say who holds the interface, or what the kernel said."""
    name = seen.name
    if seen.driver not in OURS:
        return NotPermittedError(f"{name} is of the driver {seen.driver}, not a tunnel; left alone")
    if seen.opener > 0 and seen.opener_lives:
        return BusyError(
            f"{name} is open in process {seen.opener}; destroying it now blocks the whole host",
            cure=f"end process {seen.opener}, then: ifconfig {name} destroy",
        )
    if seen.opener != NOBODY:
        cure = f"find who has it open: fstat | grep {seen.unit}"
        return BusyError(f"{name} is still open in a process that can't be named", cure=cure)
    if last is not None and last.action == RENAME_BACK:
        return OSFailureError("SIOCSIFNAME", f"{name} -> {seen.unit}", last.errno)
    if failed == errno.EPERM:
        return NotPermittedError(f"SIOCIFDESTROY {name}: not permitted", cure="run as root")
    if not failed:
        message = f"SIOCIFDESTROY {name}: the kernel said yes, but it is still there"
        if failed is None:
            message = f"{name} was closed too late; it is not destroyed"
        return BusyError(message, cure=f"to try again: wgsvc stop {name}")
    cure = ""
    if failed == errno.ENXIO:
        cure = f"it was made outside of this jail; on the host: ifconfig {name} -vnet JAIL"
    return OSFailureError("SIOCIFDESTROY", name, failed, cure=cure)
