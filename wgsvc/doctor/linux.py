"""What only Linux can lack: the tun device, a capability, the module; units of wg-quick."""

from __future__ import annotations

import glob
import os

from wgsvc.doctor.finding import ERROR, WARNING, Finding, Host

TUN = "/dev/net/tun"
UNITS = "/etc/systemd/system/*.wants/wg-quick@*.service"
CAP_NET_ADMIN = 12  # capabilities(7)


def find(host: Host) -> list[Finding]:
    """Return what this host or container lacks."""
    found = []
    if not os.path.exists(TUN):
        cure = f"modprobe tun; in a container: give it the device {TUN}"
        found.append(Finding(ERROR, "tun", f"{TUN} is not there", cure))
    if os.geteuid() == 0 and not has_net_admin():
        what = "root without CAP_NET_ADMIN: no interface can be made"
        cure = "give the container the capability NET_ADMIN"
        found.append(Finding(ERROR, "privileges", what, cure))
    if host.settings.backend == "kernel" and not host.system.has_kernel_wireguard():
        what = "the kernel has no WireGuard, and backend is kernel"
        found.append(Finding(ERROR, "kernel", what, "modprobe wireguard"))
    names = {tunnel.name for tunnel in host.tunnels}
    for path in sorted(glob.glob(UNITS)):
        name = os.path.basename(path)[len("wg-quick@") : -len(".service")]
        if name in names:
            what = f"wg-quick@{name} starts {name} at boot too; whoever comes second fails"
            cure = f"systemctl disable wg-quick@{name}"
            found.append(Finding(WARNING, "wg-quick", what, cure))
    return found


def has_net_admin() -> bool:
    """Return whether this process may change interfaces of its network namespace."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith("CapEff:"):
                return bool(int(line.split()[1], 16) >> CAP_NET_ADMIN & 1)
    return True
