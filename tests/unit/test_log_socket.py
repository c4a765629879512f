"""Lines to syslogd: they never wait and never fail."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from wgsvc.supervise import log_socket


@pytest.fixture(name="syslog")
def _syslog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    path = str(tmp_path / "log")
    monkeypatch.setattr(log_socket, "PATHS", (str(tmp_path / "absent"), path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(path)
        listener.setblocking(False)
        yield listener


def test_a_line(syslog: socket.socket) -> None:
    log_socket.send("wg0: up", error=False)
    log_socket.send("wg0: bad", error=True)

    first, second = syslog.recv(4096).decode(), syslog.recv(4096).decode()
    assert first.startswith("<30>")
    assert first.endswith(f" wgsvc[{os.getpid()}]: wg0: up")
    assert second.startswith("<27>")


def test_lines_in_a_message_are_one(syslog: socket.socket) -> None:
    log_socket.send("a\nb\rc\x1b", error=False)

    assert b"\n" not in syslog.recv(4096)


def test_long_ones_are_cut(syslog: socket.socket) -> None:
    log_socket.send("ü" * 10_000, error=False)

    assert len(syslog.recv(1 << 16)) == log_socket.LINE_LIMIT_BYTES


def test_nobody_reads(syslog: socket.socket) -> None:
    for _ in range(2000):
        log_socket.send("x" * 500, error=False)

    assert syslog.recv(4096)


def test_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_socket, "PATHS", ("/nowhere/log",))

    log_socket.send("x", error=False)


def test_no_descriptor_left(syslog: socket.socket) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (syslog.fileno(), hard))
    try:
        log_socket.send("x", error=False)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with pytest.raises(BlockingIOError):
        syslog.recv(10)
