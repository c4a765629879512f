"""What the short commands import: names, since times depend on the machine."""

from __future__ import annotations

import base64
import os
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("own_network")]

HEAVY = [
    "argparse",
    "asyncio",
    "collections",
    "contextlib",
    "ctypes",
    "daemon",
    "dataclasses",
    "enum",
    "functools",
    "importlib",
    "importlib.metadata",
    "inspect",
    "ipaddress",
    "json",
    "logging",
    "pathlib",
    "psutil",
    "re",
    "selectors",
    "signal",
    "socket",
    "subprocess",
    "syslog",
    "tempfile",
    "threading",
    "tomllib",
    "traceback",
    "types",
    "typing",
]
"""Each of them takes 0.5 ms or more, and these commands need none."""

REPORT = """
import sys
before = set(sys.modules)
from wgsvc.cli import run
status = run(sys.argv[1:])
print("MODULES", *(set(sys.modules) - before))
sys.exit(status)
"""


def imported_by(*arguments: str) -> set[str]:
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    ran = subprocess.run(
        [sys.executable, "-S", "-c", REPORT, *arguments],
        check=True,
        cwd=root,
        stdout=subprocess.PIPE,
        encoding="ascii",
    )
    return set(ran.stdout.rpartition("MODULES")[2].split())


@pytest.fixture(name="tunnel")
def _tunnel() -> str:
    keys = [base64.b64encode(os.urandom(32)).decode() for _ in range(2)]
    with open("/usr/local/etc/wireguard/wg0.conf", "w", encoding="ascii") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(f"[Interface]\nPrivateKey = {keys[0]}\nAddress = 192.168.222.1/32\n")
        file.write(f"[Peer]\nPublicKey = {keys[1]}\nAllowedIPs = 192.168.222.2/32\n")
    return "wg0"


def test_status_and_stop_of_a_running_tunnel_import_nothing_heavy(tunnel: str) -> None:
    subprocess.run([sys.executable, "-m", "wgsvc", "start", tunnel], check=True)

    for command in ("status", "status --json", "stop --timings"):
        found = imported_by(*command.split(), tunnel)

        assert "wgsvc.supervise.client" in found
        assert sorted(found.intersection(HEAVY)) == []
