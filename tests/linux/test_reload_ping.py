"""Twenty reloads that each change something, under a ping every 10 ms: nothing is lost."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.tunnels import Host, eventually, private_key, public_key, some_public_key
from tests.witnesses import far_host, pinging, replace, wait_for_ping, wg

pytestmark = [pytest.mark.root, pytest.mark.timeout(180)]

OTHER, THIRD, NEW = some_public_key(), some_public_key(), some_public_key()


@pytest.mark.skipif(shutil.which("resolvconf") is None, reason="needs resolvconf")
@pytest.mark.parametrize("target", ["10.9.0.2", "fd09::2"])
def test_twenty_reloads_lose_no_ping(host: Host, openresolv: Path, target: str) -> None:
    private, psk = private_key(), private_key()
    with far_host(host) as far:
        outer = "192.0.2.2" if "." in target else "[2001:db8::2]"
        path = host.write(
            "wg0",
            f"[Interface]\nPrivateKey = {private}\nListenPort = 51820\nMTU = 1400\n"
            "Address = 10.9.0.1/32, fd09::1/128\nDNS = 192.0.2.53\n\n"
            f"[Peer]\nPublicKey = {far.public}\nEndpoint = {outer}:{far.port}\n"
            "AllowedIPs = 10.9.0.2/32, fd09::2/128\n\n"
            f"# other\n[Peer]\nPublicKey = {OTHER}\nPresharedKey = {psk}\n"
            "AllowedIPs = 10.9.1.0/24\n\n"
            f"# third\n[Peer]\nPublicKey = {THIRD}\nAllowedIPs = 10.9.2.0/24\n",
        )
        far.peer(public_key(private), "10.9.0.1/32,fd09::1/128")
        far.address("10.9.0.2/24", "fd09::2/64")
        host.ok("start", "wg0")
        wait_for_ping(target)
        port = wg("show", "wg0", "listen-port")
        changes = [
            [("", f"\n# new\n[Peer]\nPublicKey = {NEW}\nAllowedIPs = 10.9.3.0/24\n")],
            [("10.9.1.0/24", "10.9.1.0/24, 10.9.4.0/24")],
            [("10.9.1.0/24, 10.9.4.0/24", "10.9.1.0/24"), ("2.0/24", "2.0/24, 10.9.4.0/24")],
            [("fd09::1/128", "fd09::1/128, 10.9.0.77/32")],
            [("fd09::1/128, 10.9.0.77/32", "fd09::1/128")],
            [("MTU = 1400", "MTU = 1380")],
            [("MTU = 1380", "MTU = 1400")],
            [("DNS = 192.0.2.53", "DNS = 192.0.2.54, corp.example")],
            [(psk, private_key())],
            [("10.9.3.0/24", "10.9.3.0/24\nPersistentKeepalive = 25")],
            [("PersistentKeepalive = 25", "PersistentKeepalive = off")],
            [("10.9.3.0/24", "10.9.3.0/24\nEndpoint = 127.0.0.1:9")],
            [("Endpoint = 127.0.0.1:9", "Endpoint = 127.0.0.1:10")],
            [("fd09::2/128", "fd09::2/128, 10.9.8.0/24")],  # of the very session
            [("fd09::2/128, 10.9.8.0/24", "fd09::2/128, 10.9.9.0/24, fd09:9::/64")],
            [(f"{outer}:{far.port}\n", f"{outer}:{far.port}\nPersistentKeepalive = 20\n")],
            [("DNS = 192.0.2.54, corp.example\n", "")],
            [("10.9.2.0/24, 10.9.4.0/24", "10.9.2.0/24")],
            [("# third", "# wgsvc: name = third"), ("# other", "# the other one")],
            [(f"[Peer]\nPublicKey = {NEW}\n", f"[Peer]\nPublicKey = {some_public_key()}\n")],
        ]
        assert len(changes) == 20
        with pinging(target) as pings:
            for change in changes:
                answered = pings.answered
                for old, new in change:
                    if old:
                        replace(path, (old, new))
                    else:
                        path.write_text(path.read_text() + new)
                host.ok("reload", "wg0")
                assert not host.state()["drift"]
                want = answered + 5
                eventually(lambda want=want: pings.answered >= want)  # type: ignore[misc]

            answered, lost = pings.stop()
        assert not lost, f"{len(lost)} of {answered} lost"
        assert answered >= 100
        assert wg("show", "wg0", "listen-port") == port
        host.ok("stop", "wg0")
    assert openresolv.read_text().strip() == ""
