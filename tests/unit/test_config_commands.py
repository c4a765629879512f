"""`wgsvc check` and `wgsvc strip`: what they print, and their exit status."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from wgsvc.commands import check, strip
from wgsvc.errors import ConfigError
from wgsvc.settings import Settings

KEY = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk="
GOOD = f"[Interface]\nPrivateKey = {KEY}\nAddress = 10.0.0.1\nPostUp = true\n"
PEER = (
    "[Peer]\nPublicKey = oK56DE9Ue9zK76rAc8pBl6opph+1v36lm7cXXsQKrQM=\nAllowedIPs = 10.0.0.2/32\n"
)
BAD = f"[Interface]\nPrivateKey = {KEY}\nMTU = 1\nAdress = 10.0.0.1\n"


@pytest.fixture(name="settings")
def _settings(tmp_path: Path) -> Settings:
    return Settings(config_dirs=(str(tmp_path),))


def write(folder: Path, name: str, text: str) -> None:
    """Make a file as it should be."""
    (folder / name).write_text(text)
    (folder / name).chmod(0o600)


def parsed(verb: object, *arguments: str) -> argparse.Namespace:
    """Return the options of a command line."""
    parser = argparse.ArgumentParser()
    verb.add_arguments(parser)  # type: ignore[attr-defined]  # a module
    return parser.parse_args(arguments)


def test_check_all(tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    """Every error with its place, and a line for each file; one bad file is 78."""
    write(tmp_path, "wg0.conf", GOOD + PEER)
    write(tmp_path, "wg1.conf", BAD)

    assert check.run(parsed(check), settings) == 78
    assert capsys.readouterr().out.splitlines() == [
        "wg0: ok, 1 peer",
        f'{tmp_path}/wg1.conf:3:7: MTU: "1" must be a number from 576 to 65535',
        f"{tmp_path}/wg1.conf:4:1: Adress: no such key in [Interface]; did you mean Address?",
        "wg1: 2 errors",
    ]


def test_check_one_with_a_warning(
    tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """A warning is said and doesn't fail."""
    write(tmp_path, "wg0.conf", GOOD + PEER.replace("0.2/32", "0.2/8"))
    write(tmp_path, "wg1.conf", BAD)

    assert check.run(parsed(check, "wg0"), settings) == 0
    assert capsys.readouterr().out.splitlines() == [
        (
            f"{tmp_path}/wg0.conf:7:14: warning: AllowedIPs: 10.0.0.2/8 has host bits set: "
            "10.0.0.0/8 is used"
        ),
        "wg0: ok, 1 peer, 1 warning",
    ]


def test_check_json(tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    """One document for all; no key in it."""
    write(tmp_path, "wg0.conf", GOOD + PEER)
    write(tmp_path, "wg1.conf", BAD)

    assert check.run(parsed(check, "--json"), settings) == 78
    out = capsys.readouterr().out
    document = json.loads(out)

    assert KEY not in out
    assert (document["schema"], document["ok"]) == (1, False)
    assert [(file["interface"], file["ok"], file["peers"]) for file in document["files"]] == [
        ("wg0", True, 1),
        (None, False, None),
    ]
    assert document["files"][1]["diagnostics"][0] == {
        "severity": "error",
        "file": f"{tmp_path}/wg1.conf",
        "line": 3,
        "column": 7,
        "key": "MTU",
        "message": '"1" must be a number from 576 to 65535',
        "cure": "",
    }


def test_check_without_any_file(settings: Settings) -> None:
    """A wrong --config-dir must not look like success."""
    with pytest.raises(ConfigError, match="no configuration file"):
        check.run(parsed(check), settings)


def test_check_of_a_name_no_terminal_should_see(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """File names may hold escape sequences, and bytes that are no text."""
    assert check.run(parsed(check, "./\x1b[2J\udcff/wg0.conf"), settings) == 78
    out = capsys.readouterr().out

    assert out.replace("\n", "").isprintable()
    assert "\\x1b[2J\\udcff" in out


def test_strip(tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    """What wg takes, and nothing else."""
    write(tmp_path, "wg0.conf", GOOD + PEER)

    assert strip.run(parsed(strip, "wg0"), settings) == 0
    assert capsys.readouterr().out == f"[Interface]\nPrivateKey = {KEY}\n\n{PEER}"


def test_strip_of_a_bad_file(
    tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing on stdout: an empty input would wipe an interface (wg setconf)."""
    write(tmp_path, "wg0.conf", BAD)

    assert strip.run(parsed(strip, "wg0"), settings) == 78
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "wg1" not in captured.err
    assert f"{tmp_path}/wg0.conf:3:7: MTU: " in captured.err
