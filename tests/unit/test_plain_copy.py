"""`bin/wgsvc` starts from a plain copy of the tree, and from nowhere that others can write to."""

from __future__ import annotations

import grp
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import wgsvc

TREE = Path(wgsvc.__file__).resolve().parent.parent
VERSION = "77.7.7"


@pytest.fixture(name="copy")
def _copy(tmp_path: Path) -> Path:
    """Copy what it takes; the copy has a version of its own."""
    folder = tmp_path / "copy"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(TREE / "wgsvc", folder / "wgsvc", ignore=ignored)
    shutil.copytree(TREE / "bin", folder / "bin")
    subprocess.run(["chmod", "-R", "go-w", folder], check=True)
    marked(folder / "wgsvc")
    return folder


def marked(package: Path) -> None:
    """Make it recognisable that this package was imported."""
    (package / "__init__.py").write_text(f'"""Marked."""\n\n__version__ = "{VERSION}"\n')


def run(*argv: str | Path, cwd: str | Path = "/") -> subprocess.CompletedProcess[str]:
    """Run it without what tells Python where this tree is."""
    environment = {
        "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return subprocess.run(
        argv, env=environment, cwd=cwd, capture_output=True, text=True, timeout=50, check=False
    )


@pytest.mark.parametrize("options", [[], ["-P"] if sys.version_info >= (3, 11) else ["-E"], ["-I"]])
def test_it_starts_from_a_copy(copy: Path, options: list[str]) -> None:
    done = run(sys.executable, *options, copy / "bin" / "wgsvc", "--version")

    assert done.stdout == f"wgsvc {VERSION}\n", done.stderr


@pytest.mark.skipif(shutil.which("python3") is None, reason="needs python3 in PATH")
def test_it_is_a_program_also_through_a_link_and_from_its_folder(
    copy: Path, tmp_path: Path
) -> None:
    link = tmp_path / "linked"
    link.symlink_to(copy / "bin" / "wgsvc")

    for program, folder in ((copy / "bin" / "wgsvc", "/"), (link, "/"), ("./wgsvc", copy / "bin")):
        done = run(program, "--version", cwd=folder)
        assert done.stdout == f"wgsvc {VERSION}\n", done.stderr


def test_every_verb_is_found(copy: Path) -> None:
    config = copy / "wg0.conf"
    config.write_text("[Interface]\nPrivateKey = 8DlDYe7fBA/vCahHGEBj+6DXs111eFiAIGEnDoKtckA=\n")
    config.chmod(0o600)

    assert run(sys.executable, copy / "bin" / "wgsvc", "check", str(config)).returncode == 0


def test_nothing_is_imported_from_where_it_is_started(copy: Path, tmp_path: Path) -> None:
    """Neither with a package beside the script nor without one."""
    here = tmp_path / "here"
    evil = here / "wgsvc"
    evil.mkdir(parents=True)
    (evil / "__init__.py").write_text("print('evil')\n")
    shutil.copy(evil / "__init__.py", evil / "__main__.py")
    alone = tmp_path / "alone" / "bin"
    shutil.copytree(copy / "bin", alone)

    for script in (copy / "bin" / "wgsvc", alone / "wgsvc"):
        done = run(sys.executable, script, "--version", cwd=here)
        assert "evil" not in done.stdout + done.stderr


def test_an_installed_one_takes_the_installed_package(copy: Path) -> None:
    """The script that pip puts into bin has no package beside it."""
    shutil.move(copy / "wgsvc", copy / "elsewhere")

    done = run(sys.executable, "-c", "import wgsvc; print(wgsvc.__version__)")
    installed = f"wgsvc {done.stdout}" if done.returncode == 0 else ""

    assert run(sys.executable, copy / "bin" / "wgsvc", "--version").stdout == installed


@pytest.mark.parametrize("mode", [0o020, 0o002])
@pytest.mark.parametrize("name", ["", "__init__.py", "supervise", "supervise/daemon.py"])
def test_what_others_can_write_is_refused(copy: Path, name: str, mode: int) -> None:
    path = copy / "wgsvc" / name
    if mode == 0o020 and os.geteuid() == 0:
        os.chown(path, -1, 12345)
    path.chmod(path.stat().st_mode | mode)

    refused(copy, path)


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to group 0: needs root")
def test_what_an_archive_of_gits_is_unpacked_to_is_refused_if_group_0_has_members(
    copy: Path,
) -> None:
    subprocess.run(["chgrp", "-R", "0", copy], check=True)
    subprocess.run(["chmod", "-R", "g+w", copy], check=True)

    if set(grp.getgrgid(0).gr_mem) - {"root"}:
        refused(copy, copy / "wgsvc")
    else:
        assert run(sys.executable, copy / "bin" / "wgsvc", "--version").returncode == 0


def test_a_link_is_refused(copy: Path) -> None:
    shutil.move(copy / "wgsvc" / "cli.py", copy / "cli.py")
    (copy / "wgsvc" / "cli.py").symlink_to(copy / "cli.py")

    refused(copy, copy / "wgsvc" / "cli.py")


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away: needs root")
@pytest.mark.parametrize("name", ["", "plan/steps.py"])
def test_what_belongs_to_others_is_refused(copy: Path, name: str) -> None:
    path = copy / "wgsvc" / name
    os.chown(path, 12345, -1)

    refused(copy, path)


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away: needs root")
def test_a_copy_that_is_its_users_whole_is_as_good_as_its_script(copy: Path) -> None:
    subprocess.run(["chown", "-R", "12345", copy], check=True)

    assert run(sys.executable, copy / "bin" / "wgsvc", "--version").returncode == 0


def refused(copy: Path, path: Path) -> None:
    done = run(sys.executable, copy / "bin" / "wgsvc", "--version")
    assert done.returncode == 77
    assert str(path) in done.stderr
    assert "chmod -R go-w" in done.stderr
    assert VERSION not in done.stdout
