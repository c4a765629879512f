"""Configuration files and the run directory: what would be refused, or read by others."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from wgsvc.config.model import TABLE_OFF
from wgsvc.doctor.finding import ERROR, INFO, WARNING, Finding, Host
from wgsvc.errors import WgsvcError, shell_word
from wgsvc.files import is_there, path_of
from wgsvc.unread import unread

if TYPE_CHECKING:
    from wgsvc.config.model import Checked
    from wgsvc.settings import Settings


def find(settings: Settings, checked: list[tuple[str, Checked]]) -> list[Finding]:
    """Return what is wrong with the files, permissions first of all."""
    found = []
    if not checked:
        folders = " and ".join(settings.config_dirs)
        what = f"no tunnel is configured: there is no INTERFACE.conf in {folders}"
        found.append(Finding(INFO, "configuration", what))
    for name, each in checked:
        for diagnostic in each.diagnostics:
            severity = ERROR if diagnostic.severity == "error" else WARNING
            what = str(diagnostic._replace(cure=""))
            check = f"wgsvc check {shell_word(path_of(name, settings))}"
            cure = diagnostic.cure or check
            found.append(Finding(severity, "configuration", what, cure))
    for passed_over in unread(settings):
        what = str(passed_over._replace(cure=""))
        found.append(Finding(WARNING, "configuration", what, passed_over.cure))
    found += _settings(settings)
    if os.path.lexists(settings.run_dir):
        from wgsvc.supervise import rundir

        try:
            rundir.prepare(settings.run_dir)
        except WgsvcError as error:
            found.append(Finding(ERROR, "run directory", error.message, error.cure))
    return found


def _settings(settings: Settings) -> list[Finding]:
    """Return which settings speak of what there is not."""
    from wgsvc.supervise import access

    found = []
    try:
        access.group_id(settings.status_group)
    except WgsvcError as error:
        found.append(Finding(WARNING, "settings", error.message, error.cure))
    for name in settings.per_tunnel:
        if not is_there(name, settings):
            what = f"wgsvc.toml: [tunnel.{name}]: there is no file of a tunnel {name}"
            found.append(Finding(WARNING, "settings", what, "wgsvc check"))
    return found


def find_fibs(host: Host) -> list[Finding]:
    """Return which tunnels route into a FIB that there is not (FreeBSD)."""
    count = host.system.fib_count()
    if count is None:
        return []
    found = []
    for tunnel in host.tunnels:
        table = tunnel.table
        own = str(host.settings.per_tunnel.get(tunnel.name, {}).get("fib", ""))
        if own.isdecimal():
            table = int(own)
        if table not in (None, TABLE_OFF) and table >= count:
            what = f"{tunnel.name}: FIB {table}, but there are {count} (0 to {count - 1})"
            found.append(Finding(ERROR, "fib", what, f"sysctl net.fibs={table + 1}"))
    return found
