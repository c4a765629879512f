"""
Bad input to a start: the exit status, what it says one can do, and that nothing changed.

sysexits(3): 64 usage, 69 unavailable, 71 a system call, 73 a name that is taken, 75 busy,
77 not permitted, 78 the file.
"""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from tests.tunnels import CONFIG_DIR, RUN_DIR, Host, Result, eventually, ip, private_key, script

pytestmark = pytest.mark.root


def refused(host: Host, result: Result, code: int, *words: str) -> None:
    """Check that a start was refused: with this status and words, without any effect."""
    assert result.code == code, result.said
    for word in words:
        assert word in result.err, result.said
    assert "Traceback" not in result.said
    assert result.took_s < 15
    eventually(lambda: not host.strangers(), what="the daemon has ended")
    host.untouched()
    assert host.run_dir() <= {"wgsvc.pid"}
    host.startable.clear()


# --- which file


def test_no_such_file(host: Host) -> None:
    refused(host, host.wgsvc("start", "wg7"), 78, "/etc/wireguard/wg7.conf", "no such file")


def test_no_name_at_all(host: Host) -> None:
    refused(host, host.wgsvc("start"), 64, "wgsvc start IF")


def test_all_of_an_empty_folder(host: Host) -> None:
    refused(host, host.wgsvc("start", "all"), 64, "/etc/wireguard")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("wg 0", "name"),
        ("wg0;reboot", "name"),
        ("..", "can't be called"),
        ("-x", ""),
        ("sixteen-bytes-xx", "15"),
        ("größe", "name"),
        ("wg%d", "name"),
        ("", "name"),
    ],
)
def test_bad_name(host: Host, name: str, why: str) -> None:
    result = host.wgsvc("start", "--", name)

    refused(host, result, 78, why)


def test_name_of_fifteen_bytes_is_fine(host: Host) -> None:
    host.tunnel("fifteen-bytes-x")

    host.ok("start", "fifteen-bytes-x")

    assert host.state("fifteen-bytes-x")["state"] == "up"


def test_directory_as_file(host: Host) -> None:
    (CONFIG_DIR / "wg0.conf").mkdir()

    refused(host, host.wgsvc("start", "wg0"), 78, "not a regular file")


def test_fifo_as_file(host: Host) -> None:
    os.mkfifo(CONFIG_DIR / "wg0.conf", 0o600)

    refused(host, host.wgsvc("start", "wg0", timeout_s=10), 78, "not a regular file")


def test_device_as_file(host: Host) -> None:
    (CONFIG_DIR / "wg0.conf").symlink_to("/dev/zero")

    refused(host, host.wgsvc("start", "wg0", timeout_s=10), 78, "not a regular file")


def test_socket_as_file(host: Host) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(CONFIG_DIR / "wg0.conf"))

        refused(host, host.wgsvc("start", "wg0"), 78, "wg0.conf")


def test_symlink_to_nothing(host: Host) -> None:
    (CONFIG_DIR / "wg0.conf").symlink_to("nothing")

    refused(host, host.wgsvc("start", "wg0"), 78, "no such file")


def test_symlink_loop(host: Host) -> None:
    (CONFIG_DIR / "wg0.conf").symlink_to("wg0.conf")

    refused(host, host.wgsvc("start", "wg0"), 78, "wg0.conf")


def test_symlink_to_a_file_of_somebody_else(host: Host, tmp_path: Path) -> None:
    host.tunnel("wg1")
    other = tmp_path / "x.conf"
    other.write_text((CONFIG_DIR / "wg1.conf").read_text())
    other.chmod(0o600)
    os.chown(other, 65534, 65534)
    (CONFIG_DIR / "wg0.conf").symlink_to(other)

    refused(host, host.wgsvc("start", "wg0"), 78, "can't be trusted", "chown root")


def test_symlink_of_ones_own_is_followed_and_names_the_interface(host: Host) -> None:
    host.tunnel("wg1").rename(CONFIG_DIR / "office.txt")
    (CONFIG_DIR / "wg1.conf").symlink_to("office.txt")

    host.ok("start", "wg1")

    assert host.state("wg1")["config"] == "/etc/wireguard/office.txt"


@pytest.mark.parametrize("mode", [0o666, 0o620, 0o602])
def test_file_that_others_can_write(host: Host, mode: int) -> None:
    host.tunnel().chmod(mode)

    refused(host, host.wgsvc("start", "wg0"), 78, "can write to it", "chmod go-w")


def test_empty_file_is_a_tunnel_without_a_key_and_a_warning(host: Host) -> None:
    host.write("wg0", "")

    result = host.ok("start", "wg0")

    assert "wg0.conf: warning: PrivateKey" in result.err
    assert host.links() == {"lo", "wg0"}


# --- what is in it


@pytest.mark.parametrize(
    ("line", "where"),
    [
        (b"Address = 10.0.0.1/24\0", ":4:"),
        (b"PostUp = echo a\0b", ":4:"),
        (b"Address = 10.0.0.1/24\x1b[2J", ":4:"),
        (b"Address = 10.0.0.1/24\rListenPort = 1", ":4:"),
        (b"ListenPort = 65536", ":4:"),
        (b"Adress = 10.0.0.1/24", "Address"),
        (b"\xff\xfe", ":4:"),
    ],
)
def test_bytes_that_no_file_has(host: Host, line: bytes, where: str) -> None:
    key = private_key()
    path = host.write("wg0", f"[Interface]\nPrivateKey = {key}\n")
    path.write_bytes(path.read_bytes() + b"# a comment\n" + line + b"\n")

    refused(host, host.wgsvc("start", "wg0"), 78, "wg0.conf:", where)


def test_a_byte_order_mark_is_either_read_or_refused_in_words(host: Host) -> None:
    path = host.tunnel()
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())

    result = host.wgsvc("start", "wg0")

    if result.code == 0:
        assert host.state()["state"] == "up"
    else:
        refused(host, result, 78, "byte order mark")


def test_a_wrong_key_is_never_shown(host: Host) -> None:
    text = "dGhpcyBpcyBub3QgYSBrZXkgYnV0IGEgc2VjcmV0IQ"
    host.write("wg0", f"[Interface]\nPrivateKey = {text}\n")

    result = host.wgsvc("start", "wg0")

    assert text not in result.said
    refused(host, result, 78, "wg0.conf:2:", "PrivateKey")


def test_all_errors_of_a_file_in_one_go(host: Host) -> None:
    host.write("wg0", "[Interface]\nPrivateKey = x\nListenPort = y\nMTU = z\n[Peer]\n")

    refused(host, host.wgsvc("start", "wg0"), 78, ":2:", ":3:", ":4:", ":5:")


def test_a_bad_file_leaves_what_runs_alone(host: Host) -> None:
    host.tunnel("wg0")
    host.write("wg1", "[Interface]\nPrivateKey = x\n")
    host.startable.discard("wg1")
    host.ok("start", "wg0")
    pid = host.daemon()

    result = host.wgsvc("start", "wg1")

    assert (result.code, host.daemon(), host.links()) == (78, pid, {"lo", "wg0"})
    assert "wg1.conf:2:" in result.err


# --- what is in the way


@pytest.fixture(name="taken", params=["dummy", "bridge", "tun", "wireguard"])
def _taken(request: pytest.FixtureRequest, host: Host) -> str:
    host.tunnel()
    words = {
        "dummy": ("link", "add", "wg0", "type", "dummy"),
        "bridge": ("link", "add", "wg0", "type", "bridge"),
        "tun": ("tuntap", "add", "dev", "wg0", "mode", "tun"),
        "wireguard": ("link", "add", "wg0", "type", "wireguard"),
    }[request.param]
    made = subprocess.run(["ip", *words], capture_output=True, check=False)
    if made.returncode:
        pytest.skip(f"no {request.param} here: {made.stderr.decode().strip()}")
    ip("address", "add", "10.99.0.1/24", "dev", "wg0")
    ip("link", "set", "wg0", "up")
    host.before = host.shown()
    return str(request.param)


def test_b04_name_taken_by_somebody_else(host: Host, taken: str) -> None:
    result = host.wgsvc("start", "wg0")

    refused(host, result, 73, taken, "wg0", "left alone")
    stopped = host.wgsvc("stop", "wg0")
    host.untouched()
    assert stopped.code == 0, stopped.said


def test_udp_port_in_use(host: Host) -> None:
    host.tunnel("wg0", "ListenPort = 51820")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind(("", 51820))

        refused(host, host.wgsvc("start", "wg0"), 75, "51820", "ss -ulnp")


def test_udp_port_in_use_by_another_tunnel(host: Host) -> None:
    host.tunnel("wg0", "ListenPort = 51820")
    host.tunnel("wg1", "ListenPort = 51820", number=2)
    host.ok("start", "wg0")

    result = host.wgsvc("start", "wg1")

    assert result.code == 75, result.said
    assert host.links() == {"lo", "wg0"}
    host.startable.discard("wg1")


# --- wireguard-go


def start_with(host: Host, program: str) -> Result:
    """Start wg0 with another program, without much patience."""
    host.tunnel()
    return host.wgsvc(
        "--set", f"wireguard_go={program}", "--set", "ready_timeout_s=1",
        "--set", "step_timeout_s=1", "start", "wg0",
    )  # fmt: skip


def test_wireguard_go_missing(host: Host) -> None:
    refused(host, start_with(host, "/nowhere/wireguard-go"), 69, "/nowhere/wireguard-go")


def test_wireguard_go_not_installed(host: Host) -> None:
    refused(host, start_with(host, "wireguard-gone"), 69, "wireguard-gone", "not installed")


def test_wireguard_go_not_executable(host: Host, tmp_path: Path) -> None:
    program = script(tmp_path / "wireguard-go", "#!/bin/sh\n", 0o644)

    refused(host, start_with(host, program), 69, program, "chmod +x")


def test_wireguard_go_of_another_architecture(host: Host, tmp_path: Path) -> None:
    program = script(tmp_path / "wireguard-go", "neither a script nor a program\n")

    refused(host, start_with(host, program), 69, program)


def test_wireguard_go_is_a_directory(host: Host, tmp_path: Path) -> None:
    refused(host, start_with(host, str(tmp_path)), 69, str(tmp_path))


def test_wireguard_go_exits_0_at_once(host: Host, tmp_path: Path) -> None:
    program = script(tmp_path / "wireguard-go", "#!/bin/sh\nexit 0\n")

    refused(host, start_with(host, program), 69, "exited with 0", "LOG_LEVEL=verbose")


def test_wireguard_go_fails_and_its_last_words_are_shown(host: Host, tmp_path: Path) -> None:
    program = script(tmp_path / "wireguard-go", "#!/bin/sh\necho 'no luck today' >&2\nexit 3\n")

    refused(host, start_with(host, program), 69, "exited with 3", "no luck today")


def test_wireguard_go_hangs_before_it_listens(host: Host, tmp_path: Path) -> None:
    program = script(tmp_path / "wireguard-go", "#!/bin/sh\nexec sleep 1000\n")

    refused(host, start_with(host, program), 75, "does not listen", "after 1 s")


def test_wireguard_go_hangs_and_ignores_sigterm(host: Host, tmp_path: Path) -> None:
    program = script(
        tmp_path / "wireguard-go",
        "#!/bin/sh\ntrap '' TERM\nwhile :; do read -r x </dev/zero; done\n",
    )

    refused(host, start_with(host, program), 75, "does not listen")


def test_wireguard_go_listens_and_never_answers(host: Host, tmp_path: Path) -> None:
    program = script(
        tmp_path / "wireguard-go",
        "#!/usr/bin/env python3\n"
        "import os, socket, sys, time\n"
        "os.makedirs('/run/wireguard', exist_ok=True)\n"
        "path = f'/run/wireguard/{sys.argv[-1]}.sock'\n"
        "listener = socket.socket(socket.AF_UNIX)\n"
        "listener.bind(path)\n"
        "listener.listen(9)\n"
        "time.sleep(1000)\n",
    )

    refused(host, start_with(host, program), 75, "no answer in time")


def test_wireguard_go_answers_nonsense(host: Host, tmp_path: Path) -> None:
    program = script(
        tmp_path / "wireguard-go",
        "#!/usr/bin/env python3\n"
        "import os, socket, sys\n"
        "os.makedirs('/run/wireguard', exist_ok=True)\n"
        "listener = socket.socket(socket.AF_UNIX)\n"
        "listener.bind(f'/run/wireguard/{sys.argv[-1]}.sock')\n"
        "listener.listen(9)\n"
        "while True:\n"
        "    caller = listener.accept()[0]\n"
        "    if caller.recv(4096):\n"
        "        caller.sendall(b'private_key=zz\\n\\n')\n"
        "    caller.close()\n",
    )

    refused(host, start_with(host, program), 76, "wg0.sock")


# --- the run directory


def tiny_run_dir(options: str) -> None:
    """Mount a file system of its own there."""
    RUN_DIR.mkdir(0o750)
    words = ["mount", "-t", "tmpfs", "-o", f"mode=0750,{options}", "tmpfs", str(RUN_DIR)]
    subprocess.run(words, check=True)


def test_disk_full_for_the_lock(host: Host) -> None:
    tiny_run_dir("size=4k")
    (RUN_DIR / "filler").write_bytes(bytes(4096))
    host.tunnel()

    result = host.wgsvc("start", "wg0")

    assert result.code == 71, result.said
    assert "ENOSPC" in result.err
    assert "df /var/run/wgsvc" in result.err
    eventually(lambda: not host.strangers())
    host.untouched()
    subprocess.run(["umount", RUN_DIR], check=True)


def test_disk_full_for_the_journal(host: Host) -> None:
    tiny_run_dir("size=4k")  # one page: the lock file has it
    host.tunnel()

    result = host.wgsvc("start", "wg0")

    assert result.code == 71, result.said
    assert "ENOSPC" in result.err
    assert "df /var/run/wgsvc" in result.err
    eventually(lambda: not host.strangers())
    host.untouched()
    subprocess.run(["umount", RUN_DIR], check=True)


def test_run_dir_read_only(host: Host) -> None:
    tiny_run_dir("ro")
    host.tunnel()

    result = host.wgsvc("start", "wg0")

    assert result.code == 71, result.said
    assert "EROFS" in result.err
    eventually(lambda: not host.strangers())
    host.untouched()
    subprocess.run(["umount", RUN_DIR], check=True)


def test_run_dir_is_a_symlink(host: Host, tmp_path: Path) -> None:
    RUN_DIR.symlink_to(tmp_path)
    host.tunnel()

    refused(host, host.wgsvc("start", "wg0"), 77, "symbolic link", "rm /var/run/wgsvc")
    assert list(tmp_path.iterdir()) == []
    RUN_DIR.unlink()


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770])
def test_run_dir_that_others_can_write(host: Host, mode: int) -> None:
    RUN_DIR.mkdir()
    RUN_DIR.chmod(mode)
    host.tunnel()

    refused(host, host.wgsvc("start", "wg0"), 77, "written by others", "chmod 750")
    assert list(RUN_DIR.iterdir()) == []


def test_run_dir_of_somebody_else(host: Host) -> None:
    RUN_DIR.mkdir(0o750)
    os.chown(RUN_DIR, 65534, 65534)
    host.tunnel()

    refused(host, host.wgsvc("start", "wg0"), 77, "uid 65534", "chown root")
    assert list(RUN_DIR.iterdir()) == []


def test_run_dir_is_a_file(host: Host) -> None:
    RUN_DIR.write_text("mine\n")
    host.tunnel()

    result = host.wgsvc("start", "wg0")

    assert RUN_DIR.read_text() == "mine\n"
    RUN_DIR.unlink()
    refused(host, result, 77, "not a directory", "rm /var/run/wgsvc")


def test_lock_file_is_a_symlink(host: Host, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious\n")
    RUN_DIR.mkdir(0o750)
    (RUN_DIR / "wgsvc.pid").symlink_to(victim)
    host.tunnel()

    result = host.wgsvc("start", "wg0")

    assert victim.read_text() == "precious\n"
    refused(host, result, 77, "wgsvc.pid")
    (RUN_DIR / "wgsvc.pid").unlink()


def test_a_setting_there_is_not(host: Host) -> None:
    host.tunnel()

    refused(host, host.wgsvc("--set", "wireguard=x", "start", "wg0"), 64, "wireguard_go")


def test_a_bad_wgsvc_toml(host: Host) -> None:
    host.tunnel()
    (CONFIG_DIR / "wgsvc.toml").write_text("backend = \n")

    refused(host, host.wgsvc("start", "wg0"), 78, "wgsvc.toml", "TOML")
    (CONFIG_DIR / "wgsvc.toml").unlink()
