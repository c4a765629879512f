"""`wgsvc save` and SaveConfig: what runs goes into the file, and nothing else changes there."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.tunnels import (
    CONFIG_DIR,
    Host,
    eventually,
    ip,
    private_key,
    public_key,
    some_public_key,
)

pytestmark = pytest.mark.root


def wg(*words: str, given: str = "") -> str:
    return subprocess.run(
        ["wg", *words], input=given, check=True, capture_output=True, text=True, timeout=20
    ).stdout


def shown(name: str = "wg0") -> dict[str, dict[str, str]]:
    """Return what `wg showconf` says: section (by public key) to key to value."""
    sections: dict[str, dict[str, str]] = {}
    keys: dict[str, str] = {}
    for line in wg("showconf", name).splitlines():
        key, _, value = line.partition(" = ")
        if line.startswith("["):
            keys = {}
        elif key == "PublicKey":
            sections[value] = keys
        elif key == "PrivateKey":
            sections["interface"] = keys
        if value:
            keys[key] = ", ".join(sorted(value.split(", "))) if key == "AllowedIPs" else value
    return sections


def stripped(host: Host, name: str = "wg0") -> dict[str, dict[str, str]]:
    """Return the same of what the file says."""
    sections: dict[str, dict[str, str]] = {}
    keys: dict[str, str] = {}
    text = host.ok("strip", name).out
    del host.said[-2:]  # it shows keys, and is meant to
    for line in text.splitlines():
        key, _, value = line.partition(" = ")
        if line.startswith("["):
            keys = {}
        elif key == "PublicKey":
            sections[value] = keys
        elif key in ("PrivateKey", "ListenPort"):
            sections.setdefault("interface", keys)
        if value and (key, value) != ("PersistentKeepalive", "off"):
            keys[key] = ", ".join(sorted(value.split(", "))) if key == "AllowedIPs" else value
    return sections


ALICE, BOB = some_public_key(), some_public_key()


def written(host: Host, *more: str) -> Path:
    """Write a file as people do: with comments, blanks of their own, a CIDR with host bits."""
    return host.write(
        "wg0",
        "# the office\n\n[Interface]\n"
        f"PrivateKey={private_key()}\n"
        "Address = 10.1.0.1/24, fd00:1::1/64   # both\n"
        "ListenPort = 51999\n"
        "PostUp = true # %i is up\n"
        + "".join(f"{line}\n" for line in more)
        + f"\n# alice\n[Peer]\nPublicKey = {ALICE}\n"
        "AllowedIPs = 192.168.1.0/24,  192.168.2.0/24\n"
        "Endpoint = 127.0.0.1:9001\n\n"
        "# bob, on the road\n[peer]\n"
        f"  publickey={BOB}\n  PresharedKey = {private_key()}\n"
        "  allowedips=192.168.3.0/24\n  PersistentKeepalive = 25\n",
    )


def test_save_of_an_untouched_tunnel_leaves_every_byte(host: Host) -> None:
    path = written(host)
    before, inode = path.read_bytes(), path.stat().st_ino
    host.ok("start", "wg0")

    said = host.ok("save", "wg0")

    assert "no change" in said.said
    assert (path.read_bytes(), path.stat().st_ino) == (before, inode)
    assert [entry.name for entry in CONFIG_DIR.iterdir()] == ["wg0.conf"]


def test_save_writes_what_wg_set_changed_and_wg_showconf_agrees(host: Host) -> None:
    path = written(host)
    path.chmod(0o640)
    before = path.read_text()
    carol = some_public_key()
    host.ok("start", "wg0")
    psk = private_key()
    host.secrets.append(psk)
    wg("set", "wg0", "listen-port", "51888", "fwmark", "0x10")
    wg("set", "wg0", "peer", ALICE, "allowed-ips", "192.168.2.0/24,192.168.3.0/24,fd00:9::/64")
    wg("set", "wg0", "peer", ALICE, "endpoint", "127.0.0.1:9009", "persistent-keepalive", "5")
    wg("set", "wg0", "peer", BOB, "preshared-key", "/dev/null", "persistent-keepalive", "off")
    wg("set", "wg0", "peer", carol, "preshared-key", "/dev/stdin", given=psk)
    wg("set", "wg0", "peer", carol, "allowed-ips", "10.7.0.0/16,10.8.0.0/16")
    ip("address", "add", "10.1.1.1/24", "dev", "wg0")
    ip("address", "del", "fd00:1::1/64", "dev", "wg0")

    host.ok("save", "wg0")

    assert stripped(host) == shown()
    now = path.read_text()
    assert now.startswith("# the office\n\n[Interface]\nPrivateKey=")
    assert "Address = 10.1.0.1/24, 10.1.1.1/24   # both\n" in now
    assert "PostUp = true # %i is up\n" in now
    assert "# alice\n[Peer]\n" in now
    assert "AllowedIPs = 192.168.2.0/24,  192.168.3.0/24,  fd00:9::/64\n" in now
    assert "# bob, on the road\n[peer]\n" in now
    assert f"\n\n[Peer]\nPublicKey = {carol}\n" in now
    assert path.stat().st_mode & 0o7777 == 0o640
    previous = CONFIG_DIR / "wg0.conf.previous"
    assert previous.read_text() == before
    assert previous.stat().st_mode & 0o7777 == 0o640
    assert {entry.name for entry in CONFIG_DIR.iterdir()} == {"wg0.conf", "wg0.conf.previous"}
    path.chmod(0o600)
    assert "no change" in host.ok("save", "wg0").said
    assert "route" in host.state()["reason"]  # wg set makes none
    assert "wg set" not in host.ok("reload", "wg0").said  # WireGuard itself is as the file says
    assert host.state()["drift"] is False


def test_a_peer_removed_by_hand_loses_its_section(host: Host) -> None:
    path = written(host)
    host.ok("start", "wg0")
    wg("set", "wg0", "peer", ALICE, "remove")

    host.ok("save", "wg0")

    text = path.read_text()
    assert ALICE not in text
    assert "# alice" not in text
    assert "PostUp = true # %i is up\n\n# bob, on the road\n[peer]\n" in text
    assert stripped(host) == shown()


def test_an_endpoint_that_is_a_name_stays_one(host: Host) -> None:
    path = host.tunnel(
        "wg0",
        "ListenPort = 51999",
        peer=f"[Peer]\nPublicKey = {ALICE}\nEndpoint = localhost:9001 # by name\n",
    )
    host.ok("start", "wg0")
    wg("set", "wg0", "peer", ALICE, "endpoint", "127.0.0.9:9", "persistent-keepalive", "7")

    host.ok("save", "wg0")

    text = path.read_text()
    assert "Endpoint = localhost:9001 # by name\nPersistentKeepalive = 7\n" in text


def test_a_port_nobody_named_is_not_saved_one_set_by_hand_is(host: Host) -> None:
    path = host.tunnel()
    host.ok("start", "wg0")
    before = path.read_bytes()
    host.ok("save", "wg0")
    assert path.read_bytes() == before
    wg("set", "wg0", "listen-port", "51888")

    host.ok("save", "wg0")

    assert "ListenPort = 51888\n" in path.read_text()


def test_saveconfig_saves_at_stop(host: Host) -> None:
    path = written(host, "SaveConfig = true", f"PreDown = wg set %i peer {BOB} remove")
    host.ok("start", "wg0")
    carol = some_public_key()
    wg("set", "wg0", "peer", carol, "allowed-ips", "10.7.0.0/16")
    want = shown()

    host.ok("stop", "wg0")

    assert stripped(host) == want  # before PreDown took bob away
    assert (CONFIG_DIR / "wg0.conf.previous").exists()
    assert "SaveConfig = true\n" in path.read_text()


def test_saveconfig_of_an_untouched_tunnel_leaves_the_file(host: Host) -> None:
    path = written(host, "SaveConfig = true")
    before, inode = path.read_bytes(), path.stat().st_ino
    host.ok("start", "wg0")

    host.ok("stop", "wg0")

    assert (path.read_bytes(), path.stat().st_ino) == (before, inode)


def test_a_failure_to_save_is_told_and_stops_no_stop(host: Host) -> None:
    path = written(host, "SaveConfig = true")
    host.ok("start", "wg0")
    wg("set", "wg0", "peer", ALICE, "remove")
    good = path.read_text()
    path.write_text(good + "[Peer]\nnonsense\n")

    result = host.wgsvc("stop", "wg0")

    assert result.code == 78, result.said
    assert "wg0.conf" in result.err
    assert "wg0" not in host.links()
    assert path.read_text() == good + "[Peer]\nnonsense\n"
    path.write_text(good)


def test_what_was_edited_since_it_was_applied_stays(host: Host) -> None:
    path = written(host)
    host.ok("start", "wg0")
    path.write_text(path.read_text().replace("Keepalive = 25", "Keepalive = 17"))
    wg("set", "wg0", "peer", ALICE, "persistent-keepalive", "5")

    host.ok("save", "wg0")

    text = path.read_text()
    assert "PersistentKeepalive = 17" in text
    assert "PersistentKeepalive = 5\n" in text
    host.ok("reload", "wg0")
    assert stripped(host) == shown()


def test_drop_ins_keep_their_peers_and_are_named(host: Host) -> None:
    path = written(host)
    folder = CONFIG_DIR / "wg0.conf.d"
    folder.mkdir()
    dropin = folder / "carol.conf"
    carol = some_public_key()
    dropin.write_text(f"# hers\n[Peer]\nPublicKey = {carol}\nAllowedIPs = 10.7.0.0/16\n")
    host.ok("start", "wg0")
    before = path.read_bytes()
    wg("set", "wg0", "peer", carol, "allowed-ips", "10.7.0.0/16,10.8.0.0/16")

    result = host.ok("save", "wg0")

    assert str(dropin) in result.said
    assert "AllowedIPs = 10.7.0.0/16, 10.8.0.0/16\n" in dropin.read_text()
    assert path.read_bytes() == before
    assert "wg set" not in host.ok("reload", "wg0").said


def test_a_file_that_others_can_write_is_not_written(host: Host) -> None:
    path = written(host)
    host.ok("start", "wg0")
    wg("set", "wg0", "peer", ALICE, "persistent-keepalive", "5")
    path.chmod(0o622)
    before = path.read_bytes()

    result = host.wgsvc("save", "wg0")

    assert result.code == 77
    assert "can write to it" in result.err
    assert path.read_bytes() == before
    path.chmod(0o600)


def test_where_nothing_can_be_written_the_file_is_as_it_was(host: Host) -> None:
    path = written(host)
    host.ok("start", "wg0")
    wg("set", "wg0", "peer", ALICE, "persistent-keepalive", "5")
    before = path.read_bytes()
    subprocess.run(["mount", "-o", "remount,ro", "/etc/wireguard"], check=True)

    result = host.wgsvc("save", "wg0")

    subprocess.run(["mount", "-o", "remount,rw", "/etc/wireguard"], check=True)
    assert result.code == 71
    assert "Read-only file system" in result.err
    assert path.read_bytes() == before
    assert [entry.name for entry in CONFIG_DIR.iterdir()] == ["wg0.conf"]
    assert host.state()["drift"]


def test_save_all_is_all_that_run(host: Host) -> None:
    host.tunnel("wg1", number=1)
    path = host.tunnel("wg2", number=2)
    host.ok("start", "wg2")
    wg("set", "wg2", "peer", BOB, "allowed-ips", "10.7.0.0/16")

    host.ok("save", "all")

    assert BOB in path.read_text()


def test_save_of_what_does_not_run_says_so(host: Host) -> None:
    written(host)

    result = host.wgsvc("save", "wg0")

    assert result.code == 69
    assert "no tunnel is running" in result.err


def test_a_link_stays_a_link(host: Host) -> None:
    path = written(host)
    real = CONFIG_DIR / "real" / "office.conf"
    real.parent.mkdir()
    path.rename(real)
    path.symlink_to(real)
    host.ok("start", "wg0")
    wg("set", "wg0", "peer", ALICE, "persistent-keepalive", "5")

    host.ok("save", "wg0")

    assert path.is_symlink()
    assert "PersistentKeepalive = 5\n" in real.read_text()


def test_what_a_hook_added_is_neither_drift_nor_saved_nor_reloaded_away(host: Host) -> None:
    key = CONFIG_DIR / "wg0.key"
    private = private_key()
    host.secrets.append(private)
    key.write_text(private)
    key.chmod(0o600)
    path = host.write(
        "wg0",
        "[Interface]\nAddress = 10.1.0.1/24\n"
        f"PostUp = wg set %i private-key {key}; ip address add 10.5.0.1/32 dev %i\n"
        f"[Peer]\nPublicKey = {ALICE}\nAllowedIPs = 10.1.0.2/32\n",
    )
    before = path.read_bytes()
    host.ok("start", "wg0")

    assert host.state()["drift"] is False
    assert "no change" in host.ok("save", "wg0").said
    assert path.read_bytes() == before
    path.write_bytes(before.replace(b"10.1.0.2/32", b"10.1.0.2/32, 10.1.0.3/32"))
    host.ok("reload", "wg0")
    assert wg("show", "wg0", "public-key").strip() == public_key(private)
    assert "10.5.0.1/32" in host.shown()["links"]["wg0"][2]
    old = host.daemon()
    host.kill(old)
    eventually(lambda: host.daemons() not in ([], [old]), what="respawned")
    eventually(lambda: host.state()["state"] == "up")
    assert wg("show", "wg0", "public-key").strip() == public_key(private)
