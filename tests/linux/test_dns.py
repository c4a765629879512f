"""DNS servers of a tunnel through Debian's own openresolv."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.tunnels import Host, eventually, script
from tests.witnesses import kernel_heard, replace, uapi_recorded

pytestmark = pytest.mark.root


def servers(file: Path) -> list[str]:
    """Return what a resolver reads of it."""
    lines = file.read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_added_at_start_and_gone_after_stop(host: Host, openresolv: Path) -> None:
    host.tunnel("wg0", "DNS = 192.0.2.53, fd00::53, corp.example, lab.example")

    host.ok("start", "wg0")

    assert servers(openresolv) == [
        "search corp.example lab.example", "nameserver 192.0.2.53", "nameserver fd00::53"
    ]  # fmt: skip
    host.ok("stop", "wg0")
    assert servers(openresolv) == []
    host.startable.clear()


def test_exclusive_hides_others_and_gives_them_back(host: Host, openresolv: Path) -> None:
    _uplink()
    host.tunnel("wg0", "DNS = 192.0.2.53")
    host.ok("start", "wg0")
    assert servers(openresolv) == ["nameserver 192.0.2.53"]

    host.ok("stop", "wg0")

    assert servers(openresolv) == ["nameserver 198.51.100.1"]
    host.startable.clear()


@pytest.mark.parametrize("mode", ["exclusive", "metric", "plain"])
def test_a_search_domain_alone_takes_no_server_away(
    host: Host, openresolv: Path, mode: str
) -> None:
    """wg-quick leaves such a line alone altogether."""
    _uplink()
    host.options = ["--set", f"dns_mode={mode}"]
    path = host.tunnel("wg0", "DNS = corp.example")
    subprocess.run(["wg-quick", "up", str(path)], check=True, capture_output=True, timeout=20)
    assert servers(openresolv) == ["nameserver 198.51.100.1"]
    subprocess.run(["wg-quick", "down", str(path)], check=True, capture_output=True, timeout=20)

    host.ok("start", "wg0")

    assert servers(openresolv) == ["search corp.example", "nameserver 198.51.100.1"]
    host.ok("stop", "wg0")
    assert servers(openresolv) == ["nameserver 198.51.100.1"]
    host.startable.clear()


def test_a_reload_to_a_search_domain_alone_and_back(host: Host, openresolv: Path) -> None:
    _uplink()
    both = ["search corp.example", "nameserver 192.0.2.53"]
    search = ["search corp.example", "nameserver 198.51.100.1"]
    uplink = ["nameserver 198.51.100.1"]
    path = host.tunnel("wg0", "DNS = 192.0.2.53, corp.example")
    plain = path.read_text().replace("DNS = 192.0.2.53, corp.example\n", "")
    host.ok("start", "wg0")

    for wanted, seen in (
        ("corp.example", search),
        ("192.0.2.53, corp.example", both),
        ("", uplink),
        ("corp.example", search),
        ("~corp.example, ~.", uplink),
        ("192.0.2.53, corp.example", both),
        ("~corp.example, ~.", uplink),
        ("corp.example", search),
        ("", uplink),
    ):
        line = f"DNS = {wanted}\n" if wanted else ""
        path.write_text(plain.replace("[Interface]\n", f"[Interface]\n{line}"))
        host.ok("reload", "wg0")
        assert servers(openresolv) == seen, wanted


def test_routing_domains_go_to_resolvconf_as_under_wg_quick(host: Host, openresolv: Path) -> None:
    path = host.tunnel("wg0", "DNS = 192.0.2.53, ~corp.example, ~., lab.example")
    subprocess.run(["wg-quick", "up", str(path)], check=True, capture_output=True, timeout=20)
    theirs = servers(openresolv)
    subprocess.run(["wg-quick", "down", str(path)], check=True, capture_output=True, timeout=20)

    host.ok("start", "wg0")

    assert servers(openresolv) == theirs
    assert theirs[0].startswith("search ~corp.example ~")


def test_routing_domains_without_a_server_are_left_out(host: Host, openresolv: Path) -> None:
    _uplink()
    host.tunnel("wg0", "DNS = ~corp.example, ~.")

    began = host.ok("start", "wg0")

    assert servers(openresolv) == ["nameserver 198.51.100.1"]
    assert "DNS is left out: domains with ~ lead to the interface's servers" in began.err
    assert "resolvconf" not in began.err
    host.startable.clear()


RESOLVED = """\
#!/bin/sh
case $1 in -f) exit 0;; esac
grep -q ^nameserver || { echo 'No DNS servers specified, refusing operation.' >&2; exit 1; }
"""


def test_a_resolvconf_that_wants_servers_keeps_no_tunnel_down(host: Host, tmp_path: Path) -> None:
    """As systemd-resolved's: wg-quick does not call it at all."""
    _in_place_of_resolvconf(script(tmp_path / "resolvconf", RESOLVED))
    host.tunnel("wg0", "DNS = corp.example")

    began = host.ok("start", "wg0")

    assert "DNS is left out: resolvconf -a wg0 exited with 1: No DNS servers" in began.err
    assert "DNS is left out" in host.log()
    assert host.state()["state"] == "up"


def test_without_resolvconf_search_domains_keep_no_tunnel_down(host: Host, tmp_path: Path) -> None:
    _no_resolvconf(tmp_path)
    host.tunnel("wg0", "DNS = corp.example")

    host.ok("start", "wg0")

    assert "DNS is left out: resolvconf is not installed" in host.log()


@pytest.mark.parametrize("mode", ["metric", "plain"])
def test_how_they_are_added_is_a_setting(host: Host, openresolv: Path, mode: str) -> None:
    _uplink()
    host.options = ["--set", f"dns_mode={mode}"]
    host.tunnel("wg0", "DNS = 192.0.2.53")

    host.ok("start", "wg0")

    found = servers(openresolv)
    assert set(found) == {"nameserver 192.0.2.53", "nameserver 198.51.100.1"}
    if mode == "metric":
        assert found[0] == "nameserver 192.0.2.53"


def _uplink() -> None:
    subprocess.run(
        ["resolvconf", "-a", "eth9", "-m", "100"],
        input="nameserver 198.51.100.1\n",
        text=True,
        check=True,
    )


def test_reload_changes_them_and_nothing_else(host: Host, openresolv: Path) -> None:
    path = host.tunnel("wg0", "DNS = 192.0.2.53")
    host.ok("start", "wg0")
    replace(path, ("DNS = 192.0.2.53", "DNS = 192.0.2.54, fd00::54, corp.example"))

    with kernel_heard() as heard, uapi_recorded() as sets:
        host.ok("reload", "wg0")
        assert servers(openresolv) == [
            "search corp.example", "nameserver 192.0.2.54", "nameserver fd00::54"
        ]  # fmt: skip
        replace(path, ("DNS = 192.0.2.54, fd00::54, corp.example\n", ""))
        host.ok("reload", "wg0")

    assert servers(openresolv) == []
    assert (heard, sets) == ([], [])
    replace(path, ("[Interface]\n", "[Interface]\nDNS = 192.0.2.55\n"))
    host.ok("reload", "wg0")
    assert servers(openresolv) == ["nameserver 192.0.2.55"]
    host.ok("stop", "wg0")
    assert servers(openresolv) == []


def test_after_a_crash_of_everything_stop_takes_them_back(host: Host, openresolv: Path) -> None:
    host.tunnel("wg0", "DNS = 192.0.2.53")
    host.ok("start", "wg0")
    supervisor, daemon = host.supervisor(), host.daemon()
    host.kill(supervisor)
    host.kill(daemon)
    assert servers(openresolv) == ["nameserver 192.0.2.53"]

    host.ok("stop", "wg0")

    assert servers(openresolv) == []


def test_a_crash_of_wireguard_go_keeps_them(host: Host, openresolv: Path) -> None:
    host.tunnel("wg0", "DNS = 192.0.2.53")
    host.ok("start", "wg0")
    old = host.daemon()
    host.kill(old)
    eventually(lambda: host.state()["state"] == "up" and host.daemons() not in ([], [old]))

    assert servers(openresolv) == ["nameserver 192.0.2.53"]


def test_without_resolvconf_it_is_an_error_before_anything_is_touched(
    host: Host, tmp_path: Path
) -> None:
    _no_resolvconf(tmp_path)
    host.tunnel("wg0", "DNS = 192.0.2.53", "PreUp = touch /run/touched")

    result = host.wgsvc("start", "wg0")

    assert result.code == 69
    assert "resolvconf" in result.err
    assert not Path("/run/touched").exists()
    host.untouched()
    host.startable.clear()


def test_without_resolvconf_it_can_be_optional(host: Host, tmp_path: Path) -> None:
    _no_resolvconf(tmp_path)
    host.options = ["--set", "dns=optional"]
    host.tunnel("wg0", "DNS = 192.0.2.53")

    result = host.ok("start", "wg0")

    assert "resolvconf" in result.err + host.log()
    assert host.state()["state"] == "up"
    host.ok("stop", "wg0")
    host.startable.clear()


def test_a_resolvconf_that_fails_rolls_the_start_back(host: Host, tmp_path: Path) -> None:
    fails = script(
        tmp_path / "resolvconf",
        "#!/bin/sh\n"
        "[ $1 = -a ] || exit 0\n"
        "for i in $(seq 2000); do echo $i >&2; done\n"
        "printf 'no \\033[31mroom\\n\\nfor another one\\n'\n"
        "exit 3\n",
    )
    _in_place_of_resolvconf(fails)
    host.tunnel("wg0", "DNS = 192.0.2.53")

    result = host.wgsvc("start", "wg0")

    assert result.code == 71
    assert "resolvconf -a wg0 -x exited with 3: " in result.err
    assert "EIO" not in result.err
    assert "wgsvc --set dns=optional start wg0" in result.err
    eventually(lambda: not host.strangers())
    host.untouched()
    host.startable.clear()


def test_its_own_words_are_told(host: Host, tmp_path: Path) -> None:
    fails = script(
        tmp_path / "resolvconf",
        "#!/bin/sh\n[ $1 = -a ] || exit 0\n"
        "printf 'trying\\n' >&2; printf 'no \\033[31mroom\\n\\nfor it\\n'; exit 3\n",
    )
    _in_place_of_resolvconf(fails)
    host.tunnel("wg0", "DNS = 192.0.2.53")

    result = host.wgsvc("start", "wg0")

    assert "exited with 3: trying; no  [31mroom; for it\n" in result.err
    host.startable.clear()


def test_they_are_told_of_a_stop_too(host: Host, tmp_path: Path) -> None:
    fails = script(
        tmp_path / "resolvconf",
        "#!/bin/sh\n[ $1 = -a ] || { echo 'a lock is held' >&2; exit 4; }\n",
    )
    _in_place_of_resolvconf(fails)
    host.tunnel("wg0", "DNS = 192.0.2.53")
    host.ok("start", "wg0")

    result = host.wgsvc("stop", "wg0")

    assert result.code == 71
    assert "resolvconf -f -d wg0 exited with 4: a lock is held\n" in result.err
    host.startable.clear()


def test_what_resolvconf_starts_lives_on(host: Host, tmp_path: Path) -> None:
    """A name server that it restarts has its output, and may write to it at any time."""
    starts = script(
        tmp_path / "resolvconf",
        "#!/bin/sh\n[ $1 = -a ] || exit 0\n"
        "while :; do echo x; echo x >&2; echo >>/run/count; sleep .01; done &\n"
        "echo $! >/run/left\n",
    )
    _in_place_of_resolvconf(starts)
    host.tunnel("wg0", "DNS = 192.0.2.53")
    host.ok("start", "wg0")
    count, left = Path("/run/count"), int(Path("/run/left").read_text())

    def goes_on() -> None:
        before = len(count.read_text()) if count.exists() else 0
        eventually(lambda: count.exists() and len(count.read_text()) > before + 20)

    goes_on()
    host.ok("stop", "wg0")
    goes_on()

    host.kill(left)
    host.startable.clear()


def test_a_resolvconf_that_is_switched_off_is_an_error(host: Host, openresolv: Path) -> None:
    """It succeeds and does nothing: nobody resolves by the servers that the file wants."""
    Path("/etc/resolvconf.conf").write_text("resolv_conf=/run/resolv.conf\nresolvconf=NO\n")
    host.tunnel("wg0", "DNS = 192.0.2.53", "PreUp = touch /run/touched")

    result = host.wgsvc("start", "wg0")

    assert result.code == 69
    assert "resolvconf=NO" in result.err
    assert not Path("/run/touched").exists()
    host.untouched()
    assert servers(openresolv) == []
    host.startable.clear()


def test_dns_off_leaves_resolvconf_alone(host: Host, openresolv: Path) -> None:
    host.options = ["--set", "dns=off"]
    path = host.tunnel("wg0", "DNS = 192.0.2.53")
    host.ok("start", "wg0")
    replace(path, ("DNS = 192.0.2.53", "DNS = 192.0.2.54"))

    host.ok("reload", "wg0")

    assert servers(openresolv) == []


def _in_place_of_resolvconf(program: str) -> None:
    """Put something else where resolvconf is, in this mount namespace."""
    found = subprocess.run(
        ["which", "-a", "resolvconf"], capture_output=True, text=True, check=True
    )
    for path in {os.path.realpath(line) for line in found.stdout.split()}:
        subprocess.run(["mount", "--bind", program, path], check=True)


def _no_resolvconf(tmp_path: Path) -> None:
    empty = tmp_path / "nothing"
    empty.write_text("")
    _in_place_of_resolvconf(str(empty))


def test_a_stop_while_they_are_handed_over_leaves_nothing(
    host: Host, openresolv: Path, tmp_path: Path
) -> None:
    """The entry that a slow `resolvconf -a` makes is there before `-d` takes it back."""
    real = tmp_path / "openresolv"
    shutil.copy(os.path.realpath(str(shutil.which("resolvconf"))), real)
    slow = f'#!/bin/sh\n[ "$1" = -a ] && touch /run/handing && sleep 1\nexec {real} "$@"\n'
    _in_place_of_resolvconf(script(tmp_path / "resolvconf", slow))
    host.tunnel("wg0", "DNS = 192.0.2.53")

    starting = host.begin("start", "wg0")
    eventually(lambda: Path("/run/handing").exists(), what="resolvconf -a is under way")
    stopped = host.ok("stop", "wg0")

    assert host.finish(starting).code == 75
    assert servers(openresolv) == []
    assert "resolvconf -f -d wg0" in stopped.err + host.log() + "".join(host.said)
    listed = subprocess.run([real, "-l"], capture_output=True, text=True, check=False).stdout
    assert "192.0.2.53" not in listed
    host.untouched()
    host.startable.clear()


def test_what_fails_in_the_roll_back_of_a_stopped_start_is_told(
    host: Host, openresolv: Path, tmp_path: Path
) -> None:
    fails = (
        '#!/bin/sh\n[ "$1" = -a ] && touch /run/handing && sleep 1 && exit 0\n'
        "echo 'no such luck' >&2\nexit 3\n"
    )
    _in_place_of_resolvconf(script(tmp_path / "resolvconf", fails))
    host.tunnel("wg0", "DNS = 192.0.2.53")

    starting = host.begin("start", "wg0")
    eventually(lambda: Path("/run/handing").exists(), what="resolvconf -a is under way")
    stopped = host.wgsvc("stop", "wg0")

    assert host.finish(starting).code == 75
    assert stopped.code == 71, stopped.said
    assert "no such luck" in stopped.err
    assert servers(openresolv) == []
    host.untouched()
    host.startable.clear()
