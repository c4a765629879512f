"""The same code inside jails: without a network stack, and with a devfs that hides tun."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))


def sysctl(name: str) -> str:
    done = subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def why_not() -> str:
    if not sys.platform.startswith("freebsd"):
        return "needs FreeBSD"
    if sysctl("security.jail.jailed") != "0":
        return "makes jails: needs the host"
    return "" if sysctl("kern.features.vimage") == "1" else "needs a kernel with VIMAGE"


pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(why_not()), reason=why_not())]


class Jail:
    """A jail on the host's own files, read-only, with a /dev of its own."""

    def __init__(self, root: str, *, vnet: bool, ruleset: int) -> None:
        self.root = root
        self.name = f"wgsvctest{os.getpid()}"
        run("mount", "-t", "nullfs", "-o", "ro", "/", root)
        run("mount", "-t", "devfs", "-o", f"ruleset={ruleset}", "devfs", f"{root}/dev")
        kind = ["vnet"] if vnet else ["ip4=inherit", "ip6=inherit"]
        run("jail", "-c", f"name={self.name}", f"path={root}", "persist", *kind)

    def python(self, code: str) -> str:
        begin = f"import os, sys\nsys.path.insert(0, {ROOT!r})\n"
        begin += (
            "from wgsvc.errors import *\nfrom wgsvc.system import current\nsystem = current()\n"
        )
        return run("jexec", self.name, sys.executable, "-B", "-c", begin + code)

    def remove(self) -> None:
        run("jail", "-r", self.name)
        run("umount", f"{self.root}/dev")
        run("umount", self.root)


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def interfaces() -> str:
    return run("ifconfig", "-l")


@pytest.fixture(name="jail", params=["vnet", "vnet hidden", "plain"])
def _jail(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Jail]:
    before = interfaces()
    hidden = "hidden" in request.param
    made = Jail(str(tmp_path), vnet="vnet" in request.param, ruleset=4 if hidden else 0)
    try:
        yield made
    finally:
        made.remove()
    assert interfaces() == before
    assert made.name not in run("jls", "-d", "name")


CREATE = """
def ours():
    return [one.name for one in system.interfaces() if one.kind == "tun"]
for attempt in range(3):
    try:
        tun = system.create_tun("wgt0")
    except WgsvcError as error:
        print(type(error).__name__, bool(error.cure), ours())
    else:
        os.close(tun.fd)
        system.destroy("wgt0", tun.ifindex)
        print("made", ours())
"""


def test_creation_works_or_says_why_and_leaves_nothing(
    jail: Jail, request: pytest.FixtureRequest
) -> None:
    lines = jail.python(CREATE).splitlines()
    kind = request.node.callspec.params["jail"]
    if kind == "plain":
        assert lines == ["NotPermittedError True []"] * 3
    else:
        expected = "UnavailableError True []" if "hidden" in kind else "made []"
        assert lines == [expected] * 3


def test_processes_in_a_jail(jail: Jail) -> None:
    code = """
system.become_reaper()
system.become_reaper()
print(len(system.boot_id()) > 8, system.start_id(os.getpid()) is not None, system.start_id(1))
"""
    assert jail.python(code).split() == ["True", "True", "None"]
