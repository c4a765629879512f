"""`wgsvc install-rc`: never loses another package's script, never leaves two to rc(8)."""

from __future__ import annotations

import argparse
import os
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from wgsvc import rcscript
from wgsvc.commands import install_rc
from wgsvc.errors import NameTakenError, NotPermittedError, OSFailureError, UnavailableError
from wgsvc.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

PACKAGE_SCRIPT = "#!/bin/sh\n# PROVIDE: wireguard\n. /etc/rc.subr\nwg-quick up wg0\n"


def call(prefix: Path, *arguments: str) -> int:
    """Run the verb for `prefix`."""
    parser = argparse.ArgumentParser()
    install_rc.add_arguments(parser)
    options = parser.parse_args([*arguments, "--prefix", str(prefix)])
    return install_rc.run(options, Settings())


@pytest.fixture(name="prefix")
def _prefix(tmp_path: Path) -> Path:
    (tmp_path / "etc" / "rc.d").mkdir(parents=True)
    return tmp_path


def scripts(prefix: Path) -> list[str]:
    """Return the files rc(8) would run."""
    folder = prefix / "etc" / "rc.d"
    return [name for name in sorted(os.listdir(folder)) if os.access(folder / name, os.X_OK)]


def test_installs_and_removes(prefix: Path) -> None:
    target = prefix / "etc" / "rc.d" / "wireguard"
    assert call(prefix) == 0
    assert target.read_bytes() == rcscript.shipped()
    assert stat.S_IMODE(target.stat().st_mode) == 0o555
    assert os.listdir(target.parent) == ["wireguard"]
    assert call(prefix, "--remove") == 0
    assert os.listdir(target.parent) == []
    assert call(prefix, "--remove") == 0


def test_an_older_one_of_ours_is_replaced_unasked(prefix: Path) -> None:
    target = prefix / "etc" / "rc.d" / "wireguard"
    target.write_bytes(rcscript.shipped() + b"# older\n")
    call(prefix)
    assert target.read_bytes() == rcscript.shipped()
    assert os.listdir(target.parent) == ["wireguard"]


def test_second_time_writes_nothing(prefix: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call(prefix)
    target = prefix / "etc" / "rc.d" / "wireguard"
    before = target.stat()
    call(prefix)
    assert os.path.samestat(target.stat(), before)
    assert target.stat().st_mtime_ns == before.st_mtime_ns  # reading it may change its atime
    assert "is up to date" in capsys.readouterr().out


@pytest.mark.parametrize("mode", [0o755, 0o555])
def test_another_packages_script_is_kept_and_comes_back(prefix: Path, mode: int) -> None:
    target = prefix / "etc" / "rc.d" / "wireguard"
    target.write_text(PACKAGE_SCRIPT)
    target.chmod(mode)
    with pytest.raises(NameTakenError, match="another package's"):
        call(prefix)
    assert target.read_text() == PACKAGE_SCRIPT
    with pytest.raises(NameTakenError, match="left alone"):
        call(prefix, "--remove")

    call(prefix, "--replace")
    assert target.read_bytes() == rcscript.shipped()
    assert scripts(prefix) == ["wireguard"]  # what is kept is nothing that rc(8) runs
    call(prefix)  # an update does not lose what is kept
    call(prefix, "--remove")
    assert target.read_text() == PACKAGE_SCRIPT
    assert stat.S_IMODE(target.stat().st_mode) == mode
    assert os.listdir(target.parent) == ["wireguard"]


def test_what_is_kept_comes_back_also_if_ours_is_gone(prefix: Path) -> None:
    target = prefix / "etc" / "rc.d" / "wireguard"
    target.write_text(PACKAGE_SCRIPT)
    call(prefix, "--replace")
    target.unlink()
    call(prefix, "--remove")
    assert target.read_text() == PACKAGE_SCRIPT


def test_link_in_its_place_is_refused(prefix: Path) -> None:
    target = prefix / "etc" / "rc.d" / "wireguard"
    target.symlink_to(prefix / "elsewhere")
    with pytest.raises(NotPermittedError, match="not a plain file"):
        call(prefix, "--replace")
    assert not (prefix / "elsewhere").exists()


def test_no_rc_d_directory(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match=r"etc/rc\.d"):
        call(tmp_path)


def test_a_failed_write_changes_nothing(prefix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = prefix / "etc" / "rc.d" / "wireguard"
    target.write_text(PACKAGE_SCRIPT)

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSFailureError, match="ENOSPC"):
        call(prefix, "--replace")
    assert target.read_text() == PACKAGE_SCRIPT
    assert os.listdir(target.parent) == ["wireguard"]


def test_the_script_calls_the_wgsvc_that_installed_it(
    prefix: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = prefix / "bin" / "wgsvc"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(program), "install-rc"])
    call(prefix)
    text = (prefix / "etc" / "rc.d" / "wireguard").read_text()
    assert f': ${{wireguard_wgsvc:="{program}"}}' in text
    assert "/usr/local/bin/wgsvc" not in text
    subprocess.run(["/bin/sh", "-n", str(prefix / "etc" / "rc.d" / "wireguard")], check=True)


@pytest.mark.parametrize("program", ['/a"b/wgsvc', "/a b/wgsvc", "/a$b/wgsvc", "/ä/wgsvc"])
def test_a_program_that_sh_can_not_name_is_refused(program: str) -> None:
    with pytest.raises(UnavailableError, match="can't call"):
        rcscript.for_program(b"", program)


@pytest.mark.skipif(sys.platform.startswith("freebsd"), reason="FreeBSD has rc.d")
def test_without_prefix_only_on_freebsd() -> None:
    with pytest.raises(UnavailableError, match="FreeBSD"):
        install_rc.run(argparse.Namespace(replace=False, remove=False, prefix=None), Settings())
