"""The command line: verbs, usage, exit status, and which modules a plain verb imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from wgsvc import cli
from wgsvc.errors import StepsFailedError, WgsvcError

ROOT = Path(__file__).parents[2]


def run(*words: str, run_dir: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "wgsvc", "--run-dir", str(run_dir), *words],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_has_help(verb: str, tmp_path: Path) -> None:
    done = run(verb, "--help", run_dir=tmp_path)

    assert done.returncode == 0, done.stderr
    assert "usage: wgsvc" in done.stdout
    assert verb in done.stdout


def test_help_names_every_verb(tmp_path: Path) -> None:
    done = run("--help", run_dir=tmp_path)

    assert done.returncode == 0
    assert [verb for verb in cli.VERBS if verb not in done.stdout] == []


def test_version(tmp_path: Path) -> None:
    from wgsvc import __version__

    assert run("--version", run_dir=tmp_path).stdout == f"wgsvc {__version__}\n"


@pytest.mark.parametrize(
    "words",
    [
        ("fly",), (), ("start", "--fly", "wg0"), ("--fly",),
        *(("start", "--timeout", text, "wg0") for text in ("nan", "inf", "-1", "1e9", "x")),
    ],
)  # fmt: skip
def test_usage(words: tuple[str, ...], tmp_path: Path) -> None:
    done = run(*words, run_dir=tmp_path)

    assert done.returncode in (2, 64)
    assert "usage" in done.stderr
    assert "Traceback" not in done.stderr


def test_status_without_anything_running(tmp_path: Path) -> None:
    done = run("status", run_dir=tmp_path / "none")

    assert (done.returncode, done.stdout) == (3, "no tunnel is running\n")
    assert not (tmp_path / "none").exists()


def test_an_error_with_parts_shows_each_with_its_cure(capsys: pytest.CaptureFixture[str]) -> None:
    cli.show_error(StepsFailedError([WgsvcError("first", cure="do this"), WgsvcError("second")]))

    assert capsys.readouterr().err == "wgsvc: first\n       do this\nwgsvc: second\n"


HEAVY = (
    "argparse", "asyncio", "daemon", "dataclasses", "importlib.metadata", "inspect", "json",
    "logging", "pathlib", "psutil", "re", "subprocess", "tomllib", "typing",
)  # fmt: skip


@pytest.mark.parametrize("verb", ["status", "stop"])
def test_a_plain_verb_imports_nothing_heavy(verb: str, tmp_path: Path) -> None:
    code = (
        "import sys; before = set(sys.modules)\n"
        "from wgsvc import cli\n"
        f"cli.run([{verb!r}, 'wg-none'])\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        cwd=ROOT, capture_output=True, text=True, check=True,
        env={"WGSVC_RUN_DIR": str(tmp_path), "WGSVC_CONFIG_DIR": str(tmp_path)},
    )  # fmt: skip

    loaded = set(done.stdout.splitlines()[-1].split())
    assert loaded & set(HEAVY) == set()
