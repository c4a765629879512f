"""Files that are passed over for their names are told of, each with its reason and its cure."""

from __future__ import annotations

import argparse
import json
import subprocess
from pathlib import Path

import pytest

from wgsvc import cli, files, unread
from wgsvc.commands import check
from wgsvc.config.model import Diagnostic
from wgsvc.doctor import configs
from wgsvc.errors import ConfigError, WgsvcError
from wgsvc.settings import Settings

KEY = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk="
CONF = f"[Interface]\nPrivateKey = {KEY}\n"


@pytest.fixture(name="settings")
def _settings(tmp_path: Path) -> Settings:
    return Settings(config_dirs=(str(tmp_path),))


def make(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(mode=0o755, exist_ok=True)
        path.write_text(CONF if path.parent == folder else "")
        path.chmod(0o600)


def told(settings: Settings) -> dict[str, Diagnostic]:
    """Return what is passed over: name in the folder -> its warning."""
    (folder,) = settings.config_dirs
    found = unread.unread(settings)
    assert all((each.severity, each.line, each.key) == ("warning", 0, "") for each in found)
    return {each.file.removeprefix(folder + "/"): each for each in found}


@pytest.mark.parametrize(
    ("name", "why", "better"),
    [
        ("bad name.conf", "letters, digits and _=+.-", "bad-name.conf"),
        ("averyveryverylongname.conf", "at most 15 characters", "averyveryverylo.conf"),
        ("größe.conf", "letters, digits and _=+.-", "gr--e.conf"),
        ("-wg0.conf", "can't begin with -", "wg0.conf"),
        ("wg0.CONF", "ends in .conf, in small letters", "wg0.conf"),
        ("; rm -rf x.Conf", "letters, digits", "rm--rf-x.conf"),
        ("wg0.conf.d/laptop.CONF", "in small letters", "wg0.conf.d/laptop.conf"),
        ("wg0.conf.d/laptop", "of this folder only *.conf is", ""),
        ("wg0.conf.d/README.txt", "of this folder only *.conf is", ""),
        ("wg1.conf.d/laptop.conf", "there is no {folder}/wg1.conf", ""),
    ],
)
def test_what_is_not_read_is_named(
    tmp_path: Path, settings: Settings, name: str, why: str, better: str
) -> None:
    """The cure, pasted into a shell, is the end of it."""
    if "/" in name:
        make(tmp_path, "wg0.conf")
    make(tmp_path, name)
    ((file, found),) = told(settings).items()

    assert file == (name if "wg1" not in name else "wg1.conf.d")
    assert found.message.startswith("is not read: ")
    assert why.replace("{folder}", str(tmp_path)) in found.message
    assert bool(found.cure) == bool(better)
    if better:
        subprocess.run(["sh", "-c", found.cure], check=True, cwd="/")
        assert (tmp_path / better).exists()
        assert told(settings) == {}


def test_what_was_put_aside_on_purpose_is_left_alone(tmp_path: Path, settings: Settings) -> None:
    """Backups, hidden files, what is off; and everything that no tunnel is."""
    make(tmp_path, "wg0.conf", "wg0.conf.previous", "bad name.conf.bak", ".bad name.conf", ".conf")
    make(tmp_path, "wgsvc.toml", "wg0.key", "wg0.conf~", "WG0.CONF.OFF", "x" * 30 + ".conf.orig")
    make(tmp_path, *(f"wg0.conf.d/{name}" for name in (
        "1.conf", ".2.conf", "1.conf.previous", "1.conf~", "3.CONF.disabled", "notes~"
    )))  # fmt: skip
    (tmp_path / "wg9.conf.d").write_text("not a folder")

    assert told(settings) == {}
    assert files.available(settings) == ["wg0"]


def test_a_cure_never_takes_the_place_of_another_file(tmp_path: Path, settings: Settings) -> None:
    """Mv would replace it without a word."""
    make(tmp_path, "bad-name.conf", "bad name.conf")

    assert told(settings)["bad name.conf"].cure == ""


def test_every_folder_is_looked_at(tmp_path: Path) -> None:
    """A folder that is not there has nothing in it; one that can't be read is an error."""
    folders = [tmp_path / name for name in ("1 a", "2", "not there")]
    for folder in folders[:2]:
        folder.mkdir()
        make(folder, "bad name.conf")

    found = unread.unread(Settings(config_dirs=tuple(map(str, folders))))
    assert [(each.file, each.cure) for each in found] == [
        (
            f"{tmp_path}/1 a/bad name.conf",
            f"mv '{tmp_path}/1 a/bad name.conf' '{tmp_path}/1 a/bad-name.conf'",
        ),
        (
            f"{tmp_path}/2/bad name.conf",
            f"mv '{tmp_path}/2/bad name.conf' {tmp_path}/2/bad-name.conf",
        ),
    ]
    (tmp_path / "4").symlink_to("4")
    with pytest.raises(WgsvcError):
        unread.unread(Settings(config_dirs=(str(tmp_path / "4"),)))


def test_names_that_freebsd_keeps_for_itself(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There such a file is no tunnel; elsewhere it is."""
    make(tmp_path, "tun0.conf", "vmnet.conf", "tunnel.conf")
    assert files.available(settings) == ["tun0", "tunnel", "vmnet"]
    assert told(settings) == {}

    monkeypatch.setattr(files, "FREEBSD", True)
    monkeypatch.setattr(unread, "FREEBSD", True)

    assert files.available(settings) == ["tunnel"]
    assert {name: found.cure.rpartition("/")[2] for name, found in told(settings).items()} == {
        "tun0.conf": "wg-tun0.conf",
        "vmnet.conf": "wg-vmnet.conf",
    }


def test_of_many_twenty_are_named(tmp_path: Path, settings: Settings) -> None:
    """And the number of the others."""
    make(tmp_path, *(f"bad {number}.conf" for number in range(100, 150)))
    found = unread.unread(settings)

    assert len(found) == 21
    assert found[20].message == (
        "and 30 more (an interface's name consists of letters, digits and _=+.-)"
    )


def test_check_names_them_also_where_there_is_no_other_file(
    tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """In text, in JSON; not for a check of one file."""
    make(tmp_path, "bad name.conf")
    line = (
        f"{tmp_path}/bad name.conf: warning: is not read: an interface's name consists of "
        f"letters, digits and _=+.-; mv '{tmp_path}/bad name.conf' {tmp_path}/bad-name.conf"
    )

    with pytest.raises(ConfigError, match="no configuration file"):
        check.run(argparse.Namespace(what=[], json=False), settings)
    assert capsys.readouterr().out.splitlines() == [line]
    with pytest.raises(ConfigError, match="no configuration file"):
        check.run(argparse.Namespace(what=[], json=True), settings)
    document = json.loads(capsys.readouterr().out)
    assert (document["ok"], document["files"]) == (False, [])
    assert [Diagnostic(**found) for found in document["not_read"]] == [
        told(settings)["bad name.conf"]
    ]
    make(tmp_path, "wg0.conf")
    assert check.run(argparse.Namespace(what=[], json=False), settings) == 0
    assert capsys.readouterr().out.splitlines() == [line, "wg0: ok, 0 peers"]
    assert check.run(argparse.Namespace(what=["wg0"], json=True), settings) == 0
    assert json.loads(capsys.readouterr().out)["not_read"] == []


def test_all_names_them_and_doctor_too(
    tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """What `start all`, `restart all`, `reload all` and `plan all` take their names from."""
    make(tmp_path, "bad name.conf", "wg0.conf")

    assert cli.names_of(argparse.Namespace(names=["wg0"]), settings) == ["wg0"]
    assert capsys.readouterr().err == ""
    assert cli.names_of(argparse.Namespace(names=["all"]), settings) == ["wg0"]
    assert capsys.readouterr().err == f"wgsvc: {told(settings)['bad name.conf']}\n"
    (found,) = configs.find(settings._replace(run_dir=str(tmp_path / "none")), [("wg0",
        files.load("wg0", settings))])  # fmt: skip
    assert "bad name.conf: warning: is not read" in found.what
    assert found.cure == told(settings)["bad name.conf"].cure
