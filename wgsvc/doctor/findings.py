"""All subjects, in the order in which a person would look."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from wgsvc.doctor import (
    configs,
    dns,
    freebsd,
    interfaces,
    journals,
    linux,
    processes,
    programs,
)
from wgsvc.doctor.finding import ERROR, Finding, Host
from wgsvc.errors import WgsvcError
from wgsvc.files import available, load
from wgsvc.system import current

if TYPE_CHECKING:
    from wgsvc.settings import Settings


def examine(settings: Settings) -> list[Finding]:
    """
    Look at everything, change nothing (but see freebsd.devfs).

    A subject that can't be looked at is a finding itself, so that the others are.
    Raises: UnavailableError on an OS that wgsvc does not know.
    """
    system = current()
    checked = [(name, load(name, settings)) for name in available(settings)]
    tunnels = tuple(each.tunnel for _, each in checked if each.tunnel)
    host = Host(settings, system, tunnels)
    subjects: list[Callable[[], list[Finding]]] = [
        lambda: privileges(os.geteuid()),
        lambda: (freebsd if system.name == "freebsd" else linux).find(host),
        lambda: programs.find(host),
        lambda: configs.find(settings, checked),
        lambda: configs.find_fibs(host),
        lambda: dns.find(host),
        lambda: journals.find(host),
        lambda: interfaces.find(host),
        lambda: processes.find(host),
    ]
    found: list[Finding] = []
    for subject in subjects:
        try:
            found += subject()
        except (WgsvcError, OSError) as error:
            found.append(Finding(ERROR, "doctor", f"could not look at everything: {error}"))
    return found


def privileges(euid: int) -> list[Finding]:
    """Return that this is not root, if so."""
    if euid == 0:
        return []
    what = "not root: no interface can be made, and not all of this could be looked at"
    return [Finding(ERROR, "privileges", what, "run it as root")]
