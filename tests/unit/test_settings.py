"""Settings: built-in, wgsvc.toml, environment, options; the later wins, and nonsense is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from wgsvc.errors import ConfigError, UsageError, WgsvcError
from wgsvc.settings import Settings, load_settings, with_changes


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    folder = tmp_path / "wireguard"
    folder.mkdir(0o755)
    return folder


def with_file(folder: Path, text: str, *changes: str) -> Settings:
    path = folder / "wgsvc.toml"
    path.write_text(text)
    path.chmod(0o644)
    return load_settings(config_dir=str(folder), changes=changes, environ={})


def test_built_in(tmp_path: Path) -> None:
    settings = load_settings(config_dir=str(tmp_path), environ={})

    assert settings == Settings(config_dirs=(str(tmp_path),))


def test_file(folder: Path) -> None:
    settings = with_file(
        folder, 'backend = "auto"\nstep_timeout_s = 3\n[tunnel.wg0]\nbackend = "kernel"\n'
    )

    assert (settings.backend, settings.step_timeout_s) == ("auto", 3.0)
    assert settings.per_tunnel["wg0"] == {"backend": "kernel"}


def test_options_win_over_the_environment_and_that_over_the_file(folder: Path) -> None:
    environ = {"WGSVC_RUN_DIR": "/run/environment", "WGSVC_CONFIG_DIR": str(folder)}
    (folder / "wgsvc.toml").write_text('run_dir = "/run/file"\n')
    (folder / "wgsvc.toml").chmod(0o644)

    assert load_settings(config_dir=str(folder), environ={}).run_dir == "/run/file"
    assert load_settings(environ=environ).run_dir == "/run/environment"
    assert load_settings(run_dir="/run/option", environ=environ).run_dir == "/run/option"


def test_a_change_of_one_call(folder: Path) -> None:
    settings = with_file(folder, "", "hooks=off", "ready_timeout_s=0.5", "wg.1.backend=auto")

    assert (settings.hooks, settings.ready_timeout_s) == ("off", 0.5)
    assert settings.per_tunnel == {"wg.1": {"backend": "auto"}}


def test_an_interface_may_be_called_nearly_anything(folder: Path) -> None:
    settings = with_file(folder, "", "a=b.fib=1", "wg-1.2.routes=10.0.0.0/8", "hook_shell=/a.fib=1")

    assert settings.per_tunnel == {"a=b": {"fib": "1"}, "wg-1.2": {"routes": "10.0.0.0/8"}}
    assert settings.hook_shell == "/a.fib=1"


def test_changes_add_up_and_one_without_a_value_takes_them_back(folder: Path) -> None:
    first = with_file(folder, 'on_exit = "stop"\n', "on_exit=restart", "wg0.fib=1", "wg1.fib=2")

    second = with_changes(first, ["wg0.fib=", "wg1.fib=3", "hooks=off"])
    third = with_changes(second, ["on_exit=", "hooks=", "wg1.fib="])

    assert (second.on_exit, second.hooks, second.per_tunnel) == (
        "restart", "off", {"wg1": {"fib": "3"}},
    )  # fmt: skip
    assert second.changes == ("on_exit=restart", "wg1.fib=3", "hooks=off")
    assert (third.on_exit, third.hooks, third.per_tunnel) == ("stop", "on", {})
    assert third.changes == ()


@pytest.mark.parametrize(
    ("text", "group"),
    [
        ("", "wireguard"),
        ('interface_group = "vpn"', "vpn"),
        ('interface_group = "a1_b.C-"', "a1_b.C-"),
        ('interface_group = "_"', "_"),
        ('interface_group = "abcdefghijklmno"', "abcdefghijklmno"),
        ('interface_group = "off"', ""),
        ('interface_group = ""', ""),
    ],
)
def test_the_interface_group(folder: Path, text: str, group: str) -> None:
    settings = with_file(folder, text + "\n")

    assert settings.interface_group == group
    assert with_changes(settings, ["interface_group=off"]).interface_group == ""
    assert with_changes(settings, ["interface_group="]).interface_group == group


@pytest.mark.parametrize(
    ("text", "group"),
    [
        ("", ""),
        ('status_group = "wheel"', "wheel"),
        ('status_group = ""', ""),
        ("status_group = 0", "0"),
        ('status_group = "1001"', "1001"),
        ('status_group = "WORK\\\\admins"', "WORK\\admins"),
    ],
)
def test_the_status_group(folder: Path, text: str, group: str) -> None:
    settings = with_file(folder, text + "\n")

    assert settings.status_group == group
    assert with_changes(settings, ["status_group=mon"]).status_group == "mon"
    assert with_changes(settings, ["status_group="]).status_group == group


@pytest.mark.parametrize(
    "text",
    [
        "status_group = true",
        "status_group = -1",
        "status_group = 1.5",
        "status_group = []",
        'status_group = "a b"',
        'status_group = "a,b"',
        'status_group = "a\\n"',
        "interface_group = 1",
        'interface_group = "wg0"',
        'interface_group = "abcdefghijklmnop"',
        'interface_group = "a b"',
        'interface_group = "a/b"',
        'interface_group = "\u00e4"',
        "backend = ",
        'backend = "kernal"',
        "backend = 1",
        "step_timeout_s = 0",
        "step_timeout_s = -1",
        "step_timeout_s = 1e9",
        "step_timeout_s = true",
        "step_timeout_s = nan",
        "step_timeout_s = inf",
        'step_timeout_s = "3"',
        'wireguard_go = ""',
        'run_dir = "relative"',
        "tunnel = 3",
        "surprise = 1",
        "tunnel.wg0 = 3",
        'tunnel.wg0.backend = "kernal"',
        "tunnel.wg0.surprise = 1",
    ],
)
def test_a_file_that_can_not_be_used(folder: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"wgsvc\.toml") as caught:
        with_file(folder, text + "\n")
    assert caught.value.exit_code == 78


@pytest.mark.parametrize(
    "change",
    ["backend", "backend=x", "surprise=1", "step_timeout_s=x", "step_timeout_s=nan", "=x",
     "wg0.hooks=off", "interface_group=wg0", "wg0.interface_group=x", "wg0.backend=kernal",
     "surprise=", "wg0.surprise="],
)  # fmt: skip
def test_a_change_that_can_not_be_made(change: str, folder: Path) -> None:
    with pytest.raises(UsageError):
        with_file(folder, "", change)


def test_a_file_that_others_can_write(folder: Path) -> None:
    path = folder / "wgsvc.toml"
    path.touch()
    path.chmod(0o666)

    with pytest.raises(WgsvcError, match="can't be trusted"):
        load_settings(config_dir=str(folder), environ={})
