"""tests/bare.py: what runs where pytest has no plugins is bounded and says what it lacks."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests import bare

if TYPE_CHECKING:
    from pathlib import Path

TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

HANGS = """
import time, pytest

def test_quick():
    pass

@pytest.mark.timeout(0.1)
def test_hangs():
    time.sleep(30)
"""

# Loaded before tests.bare, which then believes that they are not installed.
HIDING = """
import importlib.util

real = importlib.util.find_spec
importlib.util.find_spec = lambda name: None if name == "pytest_timeout" else real(name)
"""


def test_a_test_that_hangs_fails(tmp_path: Path) -> None:
    (tmp_path / "hiding.py").write_text(HIDING)
    (tmp_path / "test_hangs.py").write_text(HANGS)
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --strict-config\ntimeout = 20\n")
    arguments = "-m pytest -ra -p hiding -p tests.bare -p no:cacheprovider test_hangs.py"
    done = subprocess.run(
        [sys.executable, *arguments.split()],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTHONPATH": f"{TREE}:{tmp_path}",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert "1 failed, 1 passed" in done.stdout
    assert "not done after 0.1 seconds" in done.stdout


def test_only_hypothesis_is_skipped() -> None:
    assert bare._NeedsHypothesis.find_spec("nowhere") is None
    for name in ("hypothesis", "hypothesis.strategies"):
        with pytest.raises(pytest.skip.Exception, match="needs hypothesis"):
            bare._NeedsHypothesis.find_spec(name)
