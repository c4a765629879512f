"""Fixtures of the tests on Linux."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.tunnels import host_fixture, pytest_runtest_makereport

__all__ = ["host_fixture", "pytest_runtest_makereport"]


@pytest.fixture(name="openresolv")
def _openresolv(
    own_network: None,  # noqa: ARG001 - it is where we are
    tmp_path: Path,
) -> Path:
    """Let the real resolvconf write a file of this test; return it."""
    written = Path("/run/resolv.conf")
    written.write_text("")
    settings = tmp_path / "resolvconf.conf"
    settings.write_text("resolv_conf=/run/resolv.conf\n")
    subprocess.run(["mount", "--bind", str(settings), "/etc/resolvconf.conf"], check=True)
    return written
