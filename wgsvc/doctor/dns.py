"""resolvconf(8) in a style in which what a tunnel tells it has no effect."""

from __future__ import annotations

from wgsvc.doctor.finding import WARNING, Finding, Host

CONFIG = "/etc/resolvconf.conf"
_SUBSCRIBERS = ("unbound_conf", "dnsmasq_conf", "dnsmasq_resolv", "named_options", "pdnsd_conf")


def find(host: Host) -> list[Finding]:
    """Return whether DNS servers of a tunnel would go nowhere."""
    names = [tunnel.name for tunnel in host.tunnels if tunnel.dns_servers]
    if not names or host.settings.dns == "off":
        return []
    try:
        with open(CONFIG, encoding="utf-8", errors="replace") as file:
            text = file.read(1 << 16)
    except FileNotFoundError:
        return []
    if has_effect(text):
        return []
    what = (
        f"{', '.join(names)}: DNS servers will have no effect: {CONFIG} sends resolv.conf to "
        "/dev/null and names no resolver (local_unbound with fixed forwarders)"
    )
    cure = "sysrc -x local_unbound_forwarders; service local_unbound setup"
    return [Finding(WARNING, "dns", what, cure)]


def has_effect(text: str) -> bool:
    """
    Return whether resolvconf, so configured, writes what anybody reads.

    local-unbound-setup(8) with forwarders writes resolv_conf="/dev/null" and nothing that
    would hand servers to unbound (FreeBSD 13.2, local-unbound-setup.sh).
    """
    settings = {}
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals and not key.lstrip().startswith("#"):
            settings[key.strip()] = value.strip().strip("'\"")
    if settings.get("resolv_conf") != "/dev/null":
        return True
    return any(settings.get(key) for key in _SUBSCRIBERS)
