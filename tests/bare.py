"""
For hosts that are slow, or have pytest and none of its plugins: `-p tests.bare`.

It does what pytest-timeout is configured to do, and turns tests that need hypothesis into
skips that say so. pytest-timeout is left to do its own work; hypothesis tries fewer
examples and does not measure how long they take, which says nothing of an emulated host.
"""

from __future__ import annotations

import signal
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, NoReturn

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import FrameType


class _NeedsHypothesis:
    """Skips the module that imports hypothesis; the last on sys.meta_path."""

    @staticmethod
    def find_spec(name: str, _path: object = None, _target: object = None) -> None:
        if name.partition(".")[0] == "hypothesis":
            pytest.skip("needs hypothesis", allow_module_level=True)


class _Bound:
    """
    Fails a test that takes too long.

    SIGALRM interrupts what Python waits for; what the kernel holds is left to a timeout(1)
    around the whole run.
    """

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, None, None]:
        """Run the test with an alarm set."""
        marker = item.get_closest_marker("timeout")
        bound_s = float(marker.args[0] if marker else item.config.getini("timeout"))

        def expired(_signal: int, _frame: FrameType | None) -> NoReturn:
            pytest.fail(f"not done after {bound_s:g} seconds")

        before = signal.signal(signal.SIGALRM, expired)
        signal.setitimer(signal.ITIMER_REAL, bound_s)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Know the option that pyproject.toml sets."""
    if find_spec("pytest_timeout") is None:
        parser.addini("timeout", "seconds for each test", default="60")


def pytest_configure(config: pytest.Config) -> None:
    """Take the place of what is missing."""
    if find_spec("pytest_timeout") is None:
        config.addinivalue_line("markers", "timeout(seconds): another bound for this test")
        config.pluginmanager.register(_Bound())
    if find_spec("hypothesis") is None:
        sys.meta_path.append(_NeedsHypothesis)
    else:
        from hypothesis import HealthCheck, settings

        settings.register_profile(
            "bare", max_examples=20, deadline=None, suppress_health_check=list(HealthCheck)
        )
        settings.load_profile("bare")
