"""What only FreeBSD can lack: a vnet, the tun device in a jail, if_wg; rc.d scripts."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from wgsvc import rcscript
from wgsvc.doctor.finding import ERROR, INFO, WARNING, Finding, Host
from wgsvc.errors import shell_word

Ask = Callable[[list[str]], str]
"""Run a program, return what it printed without the last newline, "" if it failed."""

RC_DIRECTORIES = ("/etc/rc.d", "/usr/local/etc/rc.d")
ENABLED = '. /etc/rc.subr; load_rc_config wireguard; echo "$wireguard_enable"'
_TIMEOUT_S = 10


def find(host: Host) -> list[Finding]:
    """Return what this host or jail lacks."""
    jailed = ask(["sysctl", "-n", "security.jail.jailed"]) == "1"
    found = vnet(jailed=jailed, ask=ask)
    backend = host.settings.backend
    if not found and os.geteuid() == 0 and backend != "kernel":
        found += devfs(jailed=jailed, ask=ask, listdir=os.listdir)
    if backend in ("kernel", "auto") and not host.system.has_kernel_wireguard():
        found.append(no_module(jailed=jailed, wanted=backend == "kernel"))
    return found + rc_scripts(RC_DIRECTORIES, ask)


def vnet(*, jailed: bool, ask: Ask) -> list[Finding]:
    """Return that this jail has no network stack of its own, if so."""
    if not jailed or ask(["sysctl", "-n", "security.jail.vnet"]) == "1":
        return []
    what = "this jail has no network stack of its own (it is not VNET), so it can't have interfaces"
    return [Finding(ERROR, "jail", what, "add `vnet;` to it in the host's /etc/jail.conf")]


def devfs(*, jailed: bool, ask: Ask, listdir: Callable[[str], list[str]]) -> list[Finding]:
    """
    Return whether /dev/tunN can be seen, by making a tun and destroying it.

    Never by looking at /dev/tun: a stat of it makes an interface, and where devfs hides
    it leaves that behind (observed-13.2, section 1, rows 12 and 13). Nobody has the new
    one open, so its destroy does not wait.
    """
    name = ask(["ifconfig", "tun", "create"])
    if not name:
        what = "no tun interface can be made"
        cure = ("on the host: " if jailed else "") + "kldload if_tuntap"
        return [Finding(ERROR, "tun", what, cure)]
    visible = name in listdir("/dev")
    ask(["ifconfig", name, "destroy"])
    if visible:
        return []
    what = f"devfs hides the tun devices: there is no /dev/{name} for {name}"
    cure = (
        "on the host, in /etc/devfs.rules: [devfsrules_jail_wg=10] / add include "
        "$devfsrules_jail_vnet / add path 'tun*' unhide; then `service devfs restart`, and in "
        "/etc/jail.conf: devfs_ruleset=10;"
    )
    return [Finding(ERROR, "devfs", what, cure)]


def no_module(*, jailed: bool, wanted: bool) -> Finding:
    """Return that the kernel's own WireGuard is not loaded."""
    if not wanted:
        return Finding(INFO, "if_wg", "not loaded; backend auto means wireguard-go here")
    where = " on the host (a jail can't load modules)" if jailed else ""
    what = f"the module if_wg is not loaded{where}, and backend is kernel"
    prefix = "on the host: " if jailed else ""
    cure = f"{prefix}kldload if_wg; sysrc -f /boot/loader.conf if_wg_load=YES"
    return Finding(ERROR, "if_wg", what, cure)


def rc_scripts(directories: tuple[str, ...], ask: Ask) -> list[Finding]:
    """Return which script `service wireguard` runs, if that is not ours, and second ones."""
    ours: list[str] = []
    others: list[str] = []
    for folder in directories:
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
            path = os.path.join(folder, name)
            if not os.path.isfile(path) or not os.access(path, os.X_OK):
                continue
            with open(path, "rb") as file:
                script = file.read(1 << 20)
            if b"\n# PROVIDE: wireguard" in script:
                (ours if rcscript.is_ours(script) else others).append(path)
    enabled = ask(["sh", "-c", ENABLED]).upper() in ("YES", "TRUE", "ON", "1")
    found = []
    for path in others:
        what = f"{path} is not wgsvc's, and starts the same tunnels with wg-quick"
        cure = "wgsvc install-rc --replace"
        if path != rcscript.installed_path(rcscript.PREFIX):
            cure = f"chmod -x {shell_word(path)}"
        found.append(Finding(ERROR if enabled else WARNING, "rc.d", what, cure))
    if not ours and not others:
        what = "no rc.d script is installed: nothing starts at boot"
        found.append(Finding(INFO, "rc.d", what, "wgsvc install-rc"))
    elif ours and not enabled:
        found.append(Finding(INFO, "rc.d", "not enabled", "sysrc wireguard_enable=YES"))
    return found


def ask(argv: list[str]) -> str:
    """Run a program of the base system, bounded; see `Ask`."""
    import subprocess

    pipe, null = subprocess.PIPE, subprocess.DEVNULL
    try:
        child = subprocess.Popen(argv, stdin=null, stdout=pipe, stderr=null, text=True)
    except OSError:
        return ""
    try:
        output, _ = child.communicate(timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        child.kill()
        # Not for ever: what waits in the kernel (ifconfig destroy) does not end by it.
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.communicate(timeout=1)
        return ""
    return output.strip() if child.returncode == 0 else ""
