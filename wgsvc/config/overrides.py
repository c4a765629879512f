"""
What rc.conf or wgsvc.toml say of one interface, over what its file says.

`fib` is Table = N by another name; `routes` is auto, off, or the prefixes to route.
"""

from __future__ import annotations

from collections.abc import Mapping

from wgsvc.config.model import TABLE_OFF, Diagnostic, Tunnel
from wgsvc.values import Prefix


def apply(tunnel: Tunnel, own: Mapping[str, object]) -> tuple[Tunnel, list[Diagnostic]]:
    """Return the tunnel with its settings applied, and what is wrong with them."""
    wrong: list[Diagnostic] = []
    fib = own.get("fib")
    if fib not in (None, ""):
        text = str(fib)
        if text.isascii() and text.isdigit() and int(text) < 1 << 32:
            tunnel = tunnel._replace(table=int(text))
        else:
            wrong.append(_wrong(tunnel, "fib", text, "must be a number"))
    routes = str(own.get("routes") or "auto")
    if routes == "off":
        tunnel = tunnel._replace(table=TABLE_OFF)
    elif routes != "auto":
        try:
            prefixes = tuple(_prefix(word) for word in routes.replace(",", " ").split())
        except ValueError:
            wrong.append(_wrong(tunnel, "routes", routes, "must be auto, off, or prefixes"))
        else:
            tunnel = tunnel._replace(routes=prefixes)
    return tunnel._replace(overridden=True), wrong


def _prefix(word: str) -> Prefix:
    from ipaddress import ip_network  # only where somebody has such a setting

    network = ip_network(word, strict=False)
    return Prefix(network.version, int(network.network_address), network.prefixlen)


def _wrong(tunnel: Tunnel, key: str, value: str, what: str) -> Diagnostic:
    from wgsvc.config.quote import quoted

    message = f"{quoted(value.encode(errors='replace'))} {what}".lstrip()
    return Diagnostic("error", f"setting {tunnel.name}.{key}", 0, 0, "", message)
