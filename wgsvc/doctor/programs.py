"""The programs that tunnels need."""

from __future__ import annotations

import os

from wgsvc.doctor.finding import ERROR, WARNING, Finding, Host
from wgsvc.errors import UnavailableError, shell_word
from wgsvc.programs import find_program


def find(host: Host) -> list[Finding]:
    """Return which programs are missing or can't be run."""
    needs: list[tuple[str, str, str]] = []
    backends = {host.settings.backend} | {
        str(table["backend"]) for table in host.settings.per_tunnel.values() if "backend" in table
    }
    kernel = "kernel" in backends or ("auto" in backends and host.system.has_kernel_wireguard())
    if backends & {"wireguard-go", "auto"}:
        needs.append((host.settings.wireguard_go, ERROR, "no tunnel starts without it"))
    if kernel:
        needs.append(("wg", ERROR, "the kernel back end is set up through it"))
    else:
        needs.append(("wg", WARNING, "only `wg show` and its like need it"))
    if host.settings.dns != "off" and any(tunnel.dns_servers for tunnel in host.tunnels):
        optional = host.settings.dns == "optional"
        needs.append(("resolvconf", WARNING if optional else ERROR, "DNS = is set up through it"))
    return [found for need in needs if (found := _missing(*need))]


def _missing(program: str, severity: str, why: str) -> Finding | None:
    try:
        path = find_program(program)
    except UnavailableError as error:
        return Finding(severity, "programs", f"{error.message}: {why}", error.cure)
    if not os.path.isfile(path):
        return Finding(severity, "programs", f"{path} is not there: {why}")
    if not os.access(path, os.X_OK):
        cure = f"chmod +x {shell_word(path)}"
        return Finding(severity, "programs", f"{path} can't be run: {why}", cure)
    return None
