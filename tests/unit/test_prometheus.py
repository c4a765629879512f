"""Metrics as text."""

from __future__ import annotations

from wgsvc.report.prometheus import render


def test_a_name_with_quotes_can_not_break_out_of_its_label() -> None:
    peer = {
        "public_key": "K=", "name": 'a"b\\c\nd', "rx_bytes": 5, "tx_bytes": 7,
        "last_handshake": None,
    }  # fmt: skip
    text = render({"tunnels": [{"name": "wg0", "state": "up", "deaths": 2, "peers": [peer]}]})

    labels = '{interface="wg0",public_key="K=",name="a\\"b\\\\c\\nd"}'
    assert f"wgsvc_peer_received_bytes_total{labels} 5\n" in text
    assert f"wgsvc_peer_last_handshake_seconds{labels} 0\n" in text
    assert 'wgsvc_tunnel_state{interface="wg0",state="up"} 1\n' in text
    assert 'wgsvc_tunnel_state{interface="wg0",state="failed"} 0\n' in text
    assert 'wgsvc_tunnel_deaths_total{interface="wg0"} 2\n' in text
