"""A snapshot as Prometheus text, for node_exporter's textfile collector."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from wgsvc.light import Any

STATES = ("up", "down", "starting", "stopping", "respawning", "failed", "unsupervised")


def render(snapshot: Mapping[str, Any]) -> str:
    """Return all metrics, with a closing newline as the format asks."""
    return "".join(f"{line}\n" for line in _lines(snapshot["tunnels"]))


def _lines(tunnels: list[Mapping[str, Any]]) -> Iterator[str]:
    yield from _head("wgsvc_tunnel_state", "gauge", "1 for the state that the tunnel is in")
    for tunnel in tunnels:
        for state in STATES:
            labels = _labels(interface=tunnel["name"], state=state)
            yield f"wgsvc_tunnel_state{labels} {int(tunnel['state'] == state)}"
    yield from _head("wgsvc_tunnel_deaths_total", "counter", "how often wireguard-go died")
    for tunnel in tunnels:
        labels = _labels(interface=tunnel["name"])
        yield f"wgsvc_tunnel_deaths_total{labels} {tunnel.get('deaths', 0)}"
    for metric, key, kind, what in (
        ("wgsvc_peer_received_bytes_total", "rx_bytes", "counter", "bytes from the peer"),
        ("wgsvc_peer_sent_bytes_total", "tx_bytes", "counter", "bytes to the peer"),
        ("wgsvc_peer_last_handshake_seconds", "last_handshake", "gauge", "UNIX time, 0 for never"),
    ):
        yield from _head(metric, kind, what)
        for tunnel in tunnels:
            for peer in tunnel["peers"]:
                labels = _labels(
                    interface=tunnel["name"], public_key=peer["public_key"], name=peer["name"]
                )
                yield f"{metric}{labels} {peer[key] or 0}"


def _head(metric: str, kind: str, what: str) -> tuple[str, str]:
    return f"# HELP {metric} {what}", f"# TYPE {metric} {kind}"


def _labels(**labels: str) -> str:
    # A peer's name is text of the file: these three are what the format wants escaped.
    escaped = {
        key: value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        for key, value in labels.items()
    }
    return "{" + ",".join(f'{key}="{value}"' for key, value in escaped.items()) + "}"
