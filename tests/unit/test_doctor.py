"""`wgsvc doctor`: findings from texts and folders; what needs real processes is in tests/linux."""

from __future__ import annotations

import argparse
import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from tests.models.freebsd_flavours import FLAVOURS
from tests.models.freebsd_kernel import ModelKernel
from tests.models.freebsd_vnet import Machine
from wgsvc import rcscript
from wgsvc.commands import doctor as command
from wgsvc.config.model import Tunnel
from wgsvc.doctor import configs, dns, freebsd, interfaces, programs
from wgsvc.doctor.finding import ERROR, INFO, WARNING, Host
from wgsvc.errors import WgsvcError
from wgsvc.files import load
from wgsvc.settings import Settings
from wgsvc.system import current
from wgsvc.system.freebsd.system import FreeBSD

if TYPE_CHECKING:
    from pathlib import Path


class Asked:
    """A base system that answers from a table, and keeps what it was asked."""

    def __init__(self, **answers: str) -> None:
        self.answers = {key.replace("_", " "): value for key, value in answers.items()}
        self.calls: list[str] = []

    def __call__(self, argv: list[str]) -> str:
        self.calls.append(" ".join(argv))
        return next((v for k, v in self.answers.items() if k in " ".join(argv)), "")


def test_vnet() -> None:
    assert freebsd.vnet(jailed=False, ask=Asked()) == []
    assert freebsd.vnet(jailed=True, ask=Asked(jail="1")) == []
    (found,) = freebsd.vnet(jailed=True, ask=Asked(jail="0"))
    assert found.severity == ERROR
    assert "not VNET" in found.what


def test_devfs_that_hides_tun() -> None:
    asked = Asked(create="tun3")
    (found,) = freebsd.devfs(jailed=True, ask=asked, listdir=lambda _: ["null", "tun2"])
    assert found.severity == ERROR
    assert "/dev/tun3" in found.what
    assert "add path 'tun*' unhide" in found.cure
    assert asked.calls == ["ifconfig tun create", "ifconfig tun3 destroy"]  # nothing is left


def test_devfs_that_shows_tun() -> None:
    asked = Asked(create="tun3")
    assert freebsd.devfs(jailed=True, ask=asked, listdir=lambda _: ["tun3"]) == []
    assert asked.calls == ["ifconfig tun create", "ifconfig tun3 destroy"]


def test_no_tun_at_all() -> None:
    (found,) = freebsd.devfs(jailed=False, ask=Asked(), listdir=lambda _: [])
    assert found.cure == "kldload if_tuntap"


def test_if_wg_is_for_the_host_to_load() -> None:
    assert freebsd.no_module(jailed=False, wanted=False).severity == INFO
    assert freebsd.no_module(jailed=False, wanted=True).cure.startswith("kldload if_wg")
    assert freebsd.no_module(jailed=True, wanted=True).cure.startswith("on the host: kldload")


PACKAGE_SCRIPT = b"#!/bin/sh\n\n# PROVIDE: wireguard\n# REQUIRE: NETWORKING\n"


@pytest.mark.parametrize(("enabled", "severity"), [("YES", ERROR), ("NO", WARNING), ("", WARNING)])
def test_the_packages_script_beside_ours(tmp_path: Path, enabled: str, severity: str) -> None:
    for folder, script in (("base", rcscript.shipped()), ("local", PACKAGE_SCRIPT)):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / "wireguard"
        path.write_bytes(script)
        path.chmod(0o555)
    (tmp_path / "local" / "wireguard.saved").write_bytes(PACKAGE_SCRIPT)  # rc(8) skips this too
    folders = (str(tmp_path / "base"), str(tmp_path / "local"), str(tmp_path / "none"))
    found = freebsd.rc_scripts(folders, lambda _: enabled)[0]
    assert found.severity == severity
    assert str(tmp_path / "local" / "wireguard") in found.what
    assert found.cure == f"chmod -x {tmp_path}/local/wireguard"


def test_no_script_and_one_that_is_not_enabled(tmp_path: Path) -> None:
    (found,) = freebsd.rc_scripts((str(tmp_path),), Asked())
    assert found.cure == "wgsvc install-rc"
    script = tmp_path / "wireguard"
    script.write_bytes(rcscript.shipped())
    script.chmod(0o555)
    (found,) = freebsd.rc_scripts((str(tmp_path),), Asked())
    assert found.cure == "sysrc wireguard_enable=YES"
    assert freebsd.rc_scripts((str(tmp_path),), lambda _: "yes") == []


def test_ask_is_bounded_and_forgives(monkeypatch: pytest.MonkeyPatch) -> None:
    assert freebsd.ask(["echo", "a", "b"]) == "a b"
    assert freebsd.ask(["false"]) == ""
    assert freebsd.ask(["/nonexistent/program"]) == ""
    monkeypatch.setattr(freebsd, "_TIMEOUT_S", 0.05)
    assert freebsd.ask(["sleep", "60"]) == ""


@pytest.mark.parametrize(
    ("text", "effect"),
    [
        ("", True),
        ("resolv_conf=/etc/resolv.conf\n", True),
        ('# from local-unbound-setup\nresolv_conf="/dev/null"\n', False),
        ('resolv_conf="/dev/null" \nunbound_conf="/var/unbound/forward.conf"\n', True),
        ('resolv_conf="/dev/null"\n#unbound_conf="/var/unbound/forward.conf"\n', False),
        ('#resolv_conf="/dev/null"\n', True),
    ],
)
def test_resolvconf_without_effect(text: str, effect: bool) -> None:  # noqa: FBT001
    assert dns.has_effect(text) is effect


def test_dns_is_looked_at_only_for_tunnels_that_have_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "resolvconf.conf"
    config.write_text('resolv_conf="/dev/null"\n')
    monkeypatch.setattr(dns, "CONFIG", str(config))
    plain, named = Tunnel("wg0"), Tunnel("wg1", dns_servers=("192.0.2.1",))
    assert dns.find(Host(Settings(), current(), (plain,))) == []
    (found,) = dns.find(Host(Settings(), current(), (plain, named)))
    assert found.what.startswith("wg1: ")
    assert dns.find(Host(Settings(dns="off"), current(), (named,))) == []


class TwoFibs:
    """A system with net.fibs=2."""

    def fib_count(self) -> int:
        """Return 2."""
        return 2


def test_fibs_that_there_are_not() -> None:
    tunnels = (Tunnel("wg0", table=1), Tunnel("wg1", table=2), Tunnel("wg2"), Tunnel("wg3"))
    settings = Settings(per_tunnel={"wg3": {"fib": "9"}, "wg1": {}})
    system: Any = TwoFibs()
    found = configs.find_fibs(Host(settings, system, tunnels))
    assert [each.cure for each in found] == ["sysctl net.fibs=3", "sysctl net.fibs=10"]


def test_programs_that_are_missing(tmp_path: Path) -> None:
    settings = Settings(wireguard_go=str(tmp_path / "no-go"))
    (found, *_) = programs.find(Host(settings, current(), ()))
    assert found.severity == ERROR
    assert str(tmp_path / "no-go") in found.what
    (tmp_path / "no-go").touch(mode=0o644)
    (found, *_) = programs.find(Host(settings, current(), ()))
    assert found.cure == f"chmod +x {tmp_path}/no-go"


def call(capsys: pytest.CaptureFixture[str], settings: Settings) -> tuple[int, Any, str]:
    """Run the verb twice; return its exit status, its JSON and its text."""
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    status = command.run(parser.parse_args(["--json"]), settings)
    document = json.loads(capsys.readouterr().out)
    assert command.run(parser.parse_args([]), settings) == status
    return status, document, capsys.readouterr().out


def test_command_tells_permissions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "wireguard"
    folder.mkdir(mode=0o755)
    (folder / "wg0.conf").write_text("[Interface]\nPrivateKey = " + "A" * 43 + "=\n")
    (folder / "wg0.conf").chmod(0o622)
    run_dir = tmp_path / "run"
    run_dir.symlink_to(tmp_path)
    settings = Settings(config_dirs=(str(folder),), run_dir=str(run_dir), uapi_dir=str(run_dir))
    status, document, text = call(capsys, settings)
    assert status == 1
    assert document["schema"] == 1
    assert document["ok"] is False
    subjects = {each["subject"]: each for each in document["findings"]}
    assert "everybody can write to it" in subjects["configuration"]["what"]
    assert subjects["configuration"]["cure"] == f"chmod go-w {folder}/wg0.conf"
    assert "chmod" not in subjects["configuration"]["what"]
    assert "symbolic link" in subjects["run directory"]["what"]
    assert "error: run directory: " in text
    assert "cure: " in text


def test_a_cure_names_the_file_wherever_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "wire guard"
    folder.mkdir(mode=0o755)
    (folder / "office.conf").write_text("[Interface]\nMTU = x\n")
    (folder / "office.conf").chmod(0o600)
    (folder / "wg0.conf").symlink_to("office.conf")
    settings = Settings(config_dirs=(str(folder),), run_dir=str(tmp_path / "run"))

    (found,) = configs.find(settings, [("wg0", load("wg0", settings))])

    assert found.cure == f"wgsvc check '{folder}/wg0.conf'"


def test_command_finds_nothing_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = Settings(
        config_dirs=(str(tmp_path),), run_dir=str(tmp_path / "run"), uapi_dir=str(tmp_path / "uapi")
    )
    status, document, _ = call(capsys, settings)
    errors = [each for each in document["findings"] if each["severity"] == ERROR]
    if os.geteuid() != 0:
        errors = [each for each in errors if each["subject"] != "privileges"]
    assert errors == [] or status == 1
    assert document["ok"] is (status == 0)


def test_an_interface_that_can_not_be_destroyed_is_told_with_the_kernels_reason() -> None:
    """The destroying child's own words, not an errno of ours."""
    jail = Machine(FLAVOURS["13.2"]).jail("one")
    tun = FreeBSD(ModelKernel(jail)).create_tun("wg0")
    os.close(tun.fd)
    user = FreeBSD(ModelKernel(jail, root=False))

    with pytest.raises(WgsvcError) as caught:
        interfaces.destroy(user, "wg0", tun.ifindex)

    assert "SIOCIFDESTROY wg0: not permitted" in caught.value.message
