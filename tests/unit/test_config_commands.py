"""`wgsvc check` and `wgsvc strip`: what they print, and their exit status."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from wgsvc.commands import check, strip
from wgsvc.errors import ConfigError
from wgsvc.files import load
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


B_KEY = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="
B_PUBLIC = "+Jqdb9PFSoPelqcH4yXkIB9o5rH/KIKiUA7aHjoHwhg="


def checked(
    settings: Settings, capsys: pytest.CaptureFixture[str], *names: str
) -> tuple[int, list[str]]:
    """Run `check`; return its status, and what it says without the folder."""
    status = check.run(parsed(check, *names), settings)
    (folder,) = settings.config_dirs
    return status, capsys.readouterr().out.replace(f"{folder}/", "").splitlines()


def test_check_compares_all_files(
    tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """One port, key or address in two files: both are named, also if one of them was asked for."""
    write(tmp_path, "wg0.conf", f"{GOOD}Address = fe80::1/64, fd00::1\nListenPort = 7\n{PEER}")
    other = f"[Interface]\nPrivateKey = {KEY}\nListenPort = 7\nAddress = fe80::1/64, fd00::1/64\n"
    write(tmp_path, "wg1.conf", other + PEER)
    write(tmp_path, "wg2.conf", f"[Interface]\nPrivateKey = {B_KEY}\nListenPort = 0\n{PEER}")
    write(tmp_path, "wg3.conf", BAD.replace("MTU", "ListenPort = 7\nMTU"))
    one_key = "peers take them for one, so only one of them can be connected"
    one_port = "only one of them can run at a time"
    lines = [
        f"{{}}.conf: warning: ListenPort: 7 is also that of {{}}.conf: {one_port}",
        f"{{}}.conf: warning: PrivateKey: is also that of {{}}.conf: {one_key}",
        "{}.conf: warning: Address: fd00::1 is also an address of {}.conf",
    ]

    status, said = checked(settings, capsys)

    assert status == 78
    assert said[:9] == [
        *(line.format("wg0", "wg1") for line in lines),
        "wg0: ok, 1 peer, 3 warnings",
        *(line.format("wg1", "wg0") for line in lines),
        "wg1: ok, 1 peer, 3 warnings",
        "wg2: ok, 1 peer",
    ]
    assert checked(settings, capsys, "wg1") == (0, said[4:8])
    assert checked(settings, capsys, "wg2") == (0, said[8:9])


def test_check_names_one_of_many_files(
    tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line a file, not one a pair."""
    for number in range(100, 200):
        write(tmp_path, f"wg{number}.conf", f"[Interface]\nPrivateKey = {KEY}\n")

    status, said = checked(settings, capsys)

    assert status == 0
    assert len(said) == 200
    warning = "warning: PrivateKey: is also that of"
    assert said[0].startswith(f"wg100.conf: {warning} wg101.conf and 98 others: ")
    assert said[2].startswith(f"wg101.conf: {warning} wg100.conf and 98 others: ")


def test_check_of_a_copy_is_not_compared_with_the_original(
    tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file of the same interface elsewhere is going to be its next version."""
    write(tmp_path, "wg0.conf", f"{GOOD}ListenPort = 7\n{PEER}")
    (tmp_path / "new").mkdir(mode=0o755)
    write(tmp_path / "new", "wg0.conf", f"{GOOD}ListenPort = 0\n{PEER}")
    for number in (1, 2):
        key = KEY.replace("y", str(number))
        text = f"[Interface]\nPrivateKey = {key}\nListenPort = {7 * (number % 2)}\n"
        write(tmp_path, f"wg{number}.conf", text)

    assert checked(settings, capsys, f"{tmp_path}/new/wg0.conf") == (
        0,
        ["new/wg0.conf: ok, 1 peer"],
    )


@pytest.mark.parametrize("key_file", [False, True])
def test_check_finds_keys_in_the_wrong_place(
    tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str], *, key_file: bool
) -> None:
    """Another file's private key, an error; the own public key, which WireGuard ignores."""
    line = f"PrivateKey = {B_KEY}"
    if key_file:
        line = "# wgsvc: private-key-file = key"
        write(tmp_path, "key", B_KEY)
    own = f"[Peer]\nPublicKey = {B_PUBLIC}\nAllowedIPs = ::/0\n"
    write(tmp_path, "wg0.conf", f"[Interface]\n{line}\n{own}")
    write(tmp_path, "wg1.conf", GOOD + PEER + own.replace(B_PUBLIC, B_KEY))
    ignored = "WireGuard ignores such a peer"
    place = "wg0.conf" if key_file else "wg0.conf:4:1"

    status, said = checked(settings, capsys)

    assert status == 78
    assert said == [
        f"{place}: warning: PublicKey: is this tunnel's own public key: {ignored}",
        "wg0: ok, 1 peer, 1 warning",
        (
            "wg1.conf: PublicKey: is the private key of wg0.conf, a secret: its public key "
            "belongs here, which wg pubkey makes of it"
        ),
        "wg1: 1 error",
    ]
    assert checked(settings, capsys, "wg1") == (78, said[2:])


def test_only_a_check_looks_for_the_own_public_key(tmp_path: Path, settings: Settings) -> None:
    """It takes 3 ms, which no start pays."""
    own = f"[Peer]\nPublicKey = {B_PUBLIC}\nAllowedIPs = ::/0\n"
    write(tmp_path, "wg0.conf", f"[Interface]\nPrivateKey = {B_KEY}\n{own}")

    assert load("wg0", settings).diagnostics == ()
    assert len(load("wg0", settings, thorough=True).diagnostics) == 1


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
