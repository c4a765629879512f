"""Fixtures of the tests on Linux."""

from __future__ import annotations

from tests.tunnels import host_fixture, pytest_runtest_makereport

__all__ = ["host_fixture", "pytest_runtest_makereport"]
