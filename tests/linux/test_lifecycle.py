"""A tunnel's ordinary life: start, status, stop, several at once; what its children get."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.tunnels import (
    RUN_DIR,
    Host,
    descriptors,
    eventually,
    ip,
    private_key,
    public_key,
    some_public_key,
)
from tests.witnesses import wait_for_ping

pytestmark = pytest.mark.root


def test_start_status_stop(host: Host) -> None:
    host.tunnel("wg0", "ListenPort = 51820", "MTU = 1380")

    host.ok("start", "wg0")

    told = host.state()
    assert told["state"] == "up"
    assert told["listen_port"] == 51820
    assert told["mtu"] == 1380
    assert told["addresses"] == ["10.1.0.1/24", "fd00:1::1/64"]
    assert len(told["peers"]) == 1
    assert {"192.168.1.0/24 dev wg0", "fd00:1:1::/64 dev wg0"} <= {
        " ".join(route.split()[1:4]) for route in host.shown()["routes"]
    }

    host.ok("stop", "wg0")

    host.untouched()
    assert host.status("wg0")["exit"] == 3


def test_start_prints_what_it_does_as_plan_foretold(host: Host) -> None:
    host.tunnel("wg0", "PostUp = true")
    planned = host.ok("plan", "wg0").out.splitlines()

    started = host.ok("start", "wg0").err.splitlines()

    assert [f"[#] {line}" for line in planned] == started


def test_stop_prints_what_it_does(host: Host) -> None:
    host.tunnel("wg0", "PreDown = true")
    host.ok("start", "wg0")
    pid = host.daemon()

    stopped = host.ok("stop", "wg0").err.splitlines()

    assert stopped[:2] == ["[#] true", f"[#] kill {pid}"]


def test_start_of_what_runs_says_so(host: Host) -> None:
    host.tunnel()
    host.ok("start", "wg0")
    pid = host.daemon()

    again = host.ok("start", "wg0")

    assert "wg0: already running" in again.err
    assert host.daemon() == pid


def test_quiet_says_nothing(host: Host) -> None:
    host.tunnel()
    host.options = ["-q"]

    assert [host.ok(verb, "wg0").said for verb in ("start", "start", "stop", "stop")] == [""] * 4


def test_several_in_one_command(host: Host) -> None:
    for number in (1, 2, 3):
        host.tunnel(f"wg{number}", number=number)

    host.ok("start", "wg1", "wg2", "wg3")

    assert host.links() == {"lo", "wg1", "wg2", "wg3"}
    host.ok("stop", "wg2")
    assert host.links() == {"lo", "wg1", "wg3"}
    host.ok("stop")
    host.untouched()


def test_one_of_three_fails_and_the_others_run(host: Host) -> None:
    host.tunnel("wg1", number=1)
    host.tunnel("wg2", "PostUp = exit 7", number=2)
    host.tunnel("wg3", number=3)

    result = host.wgsvc("start", "wg1", "wg2", "wg3")

    assert result.code == 71
    assert "wg2: PostUp exited with 7" in result.err
    assert host.links() == {"lo", "wg1", "wg3"}
    host.startable.discard("wg2")


def test_restart_is_another_wireguard_go(host: Host) -> None:
    host.tunnel()
    host.ok("start", "wg0")
    old = host.daemon()

    host.ok("restart", "wg0")

    assert host.daemon() != old
    assert host.state()["state"] == "up"


def test_restart_with_a_bad_file_leaves_the_tunnel_up(host: Host) -> None:
    path = host.tunnel()
    host.ok("start", "wg0")
    pid, text = host.daemon(), path.read_text()
    path.write_text(text + "Nonsense = 1\n")

    result = host.wgsvc("restart", "wg0")

    assert result.code == 78, result.said
    assert host.daemon() == pid
    path.write_text(text)


def test_up_and_down_are_start_and_stop(host: Host) -> None:
    path = host.tunnel()

    host.ok("up", str(path))
    assert host.state()["state"] == "up"
    host.ok("down", str(path))

    host.untouched()


def test_a_file_by_path_from_elsewhere(host: Host) -> None:
    path = host.tunnel()
    folder = Path("/run/elsewhere")
    folder.mkdir(0o755)
    path.rename("/etc/wireguard/other")
    elsewhere = folder / "wg5.conf"
    elsewhere.write_text(Path("/etc/wireguard/other").read_text())
    elsewhere.chmod(0o600)
    host.names, host.startable = ["wg5"], set()

    host.ok("start", str(elsewhere))
    assert host.state("wg5")["config"] == str(elsewhere)
    host.ok("stop", str(elsewhere))

    host.untouched()


def test_config_and_run_dir_by_option_and_by_environment(host: Host, tmp_path: Path) -> None:
    config_dir, run_dir = tmp_path / "conf", tmp_path / "run"
    config_dir.mkdir()
    path = host.tunnel()
    (config_dir / "wg0.conf").write_text(path.read_text())
    (config_dir / "wg0.conf").chmod(0o600)
    path.unlink()
    host.startable.clear()
    env = {"WGSVC_CONFIG_DIR": str(config_dir), "WGSVC_RUN_DIR": str(run_dir)}

    host.ok("start", "wg0", env=env)
    host.options = ["--config-dir", str(config_dir), "--run-dir", str(run_dir)]
    assert host.state()["state"] == "up"
    assert (run_dir / "wg0.json").exists()
    assert not RUN_DIR.exists()
    host.ok("stop", "wg0")

    host.untouched()


def test_timings_add_up(host: Host) -> None:
    host.tunnel()

    lines = host.ok("start", "--timings", "wg0").out.splitlines()

    took_ms = {line.split()[1]: float(line.split()[2]) for line in lines}
    total_ms = took_ms.pop("total")
    assert {"wireguard-go", "routes", "confirm"} <= set(took_ms)
    assert abs(sum(took_ms.values()) - total_ms) < 0.1


def test_json_of_start_and_stop(host: Host) -> None:
    host.tunnel()

    for verb, outcome in (("start", "started"), ("start", "already running"), ("stop", "stopped")):
        (result,) = json.loads(host.ok(verb, "--json", "wg0").out)["results"]
        assert (result["name"], result["outcome"], result["exit_code"]) == ("wg0", outcome, 0)


# --- what the children get


def start_in_a_pipeline(host: Host) -> str:
    """Start wg0 with descriptors a caller forgot to close, into a pipe; return which pipe."""
    result = host.sh(
        "exec 7</etc/passwd 8>/run/held; cd /tmp\n"
        "{ readlink /proc/self/fd/1 >/run/pipe; wgsvc start wg0 2>&1; } | cat",
        timeout_s=10,
    )
    assert result.code == 0
    return Path("/run/pipe").read_text().strip()


def test_wireguard_go_has_a_session_and_nothing_of_the_caller(host: Host) -> None:
    host.tunnel()
    pipe = start_in_a_pipeline(host)
    pid = host.daemon()

    held = list(descriptors(pid).values())
    assert (os.getsid(pid), os.getpgid(pid)) == (pid, pid)
    assert Path(f"/proc/{pid}/cwd").readlink() == Path("/")
    assert held.count("/dev/net/tun") == 1
    assert not {pipe, "/run/held", "/etc/passwd"} & set(held)


def test_supervisor_has_a_session_and_nothing_of_the_caller(host: Host) -> None:
    host.tunnel()
    pipe = start_in_a_pipeline(host)
    pid = host.supervisor()

    held = descriptors(pid)
    assert os.getsid(pid) not in (0, os.getsid(0))
    assert Path(f"/proc/{pid}/cwd").readlink() == Path("/")
    assert [held[number] for number in (0, 1, 2)] == ["/dev/null"] * 3
    assert not {pipe, "/run/held", "/etc/passwd"} & set(held.values())


def test_no_key_is_in_any_argument_environment_log_or_file(host: Host) -> None:
    # The fixture looks after every test; here it must find a key that is really there.
    host.tunnel()
    host.ok("-v", "start", "wg0")
    planted = subprocess.Popen(["sleep", "100"], env={"KEY": host.secrets[0]})
    host.foreign.append(planted)
    from tests.tunnels import _no_secret

    with pytest.raises(AssertionError, match="a key in environ"):
        _no_secret(host)
    planted.kill()
    planted.wait()
    host.foreign.clear()
    _no_secret(host)


# --- packets


def test_packets_pass_and_counters_go_on_through_an_adoption(host: Host) -> None:
    ip("netns", "add", "far")
    ip("link", "add", "out0", "type", "veth", "peer", "name", "out1")
    ip("link", "set", "out1", "netns", "far")
    ip("link", "set", "out0", "addrgenmode", "none", "up")
    ip("address", "add", "198.51.100.1/24", "dev", "out0")
    for words in ("link set lo up", "link set out1 up", "address add 198.51.100.2/24 dev out1"):
        ip("-n", "far", *words.split())
    host.before = host.shown()
    here, there = private_key(), private_key()
    host.write(
        "wg0",
        f"[Interface]\nPrivateKey = {here}\nAddress = 10.1.0.1/24\n"
        f"[Peer]\nPublicKey = {public_key(there)}\nAllowedIPs = 10.1.0.2/32\n"
        "Endpoint = 198.51.100.2:51820\n",
    )
    far = Path("/etc/wireguard/far0.conf")
    far.write_text(
        f"[Interface]\nPrivateKey = {there}\nListenPort = 51820\nAddress = 10.1.0.2/24\n"
        f"[Peer]\nPublicKey = {public_key(here)}\nAllowedIPs = 10.1.0.1/32\n"
    )
    far.chmod(0o600)
    host.secrets.append(there)
    enter = ["nsenter", "--net=/run/netns/far"]
    there_side = [*enter, *host.command("--run-dir", "/run/far")]
    subprocess.run([*there_side, "start", "far0"], env=host.environment(), check=True)
    host.ok("start", "wg0")
    ping = ["ping", "-c", "1", "-W", "5", "10.1.0.2"]
    subprocess.run(ping, check=True, stdout=subprocess.DEVNULL)
    (before,) = host.state()["peers"]
    pid = host.daemon()
    assert before["last_handshake"]

    host.kill(host.supervisor())
    subprocess.run(ping, check=True, stdout=subprocess.DEVNULL)
    host.ok("start", "wg0")
    subprocess.run(ping, check=True, stdout=subprocess.DEVNULL)

    (after,) = host.state()["peers"]
    assert host.daemon() == pid
    assert after["last_handshake"] == before["last_handshake"]
    assert after["tx_bytes"] > before["tx_bytes"] > 0
    assert after["rx_bytes"] > before["rx_bytes"] > 0

    host.kill(pid)
    eventually(lambda: host.daemons() not in ([], [pid]))
    # What is sent before the new wireguard-go knows its peers is lost.
    wait_for_ping("10.1.0.2")
    host.ok("stop", "wg0")
    subprocess.run([*there_side, "stop", "far0"], env=host.environment(), check=True)
    host.untouched()


def test_a_peer_without_an_endpoint_and_one_without_allowed_ips(host: Host) -> None:
    host.tunnel("wg0", peer="".join(f"[Peer]\nPublicKey = {some_public_key()}\n" for _ in range(2)))

    host.ok("start", "wg0")

    assert [peer["allowed_ips"] for peer in host.state()["peers"]] == [[], []]
