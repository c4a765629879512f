"""Capture with bpf(4), opened in a jail and read from outside, without a program of its own."""

from __future__ import annotations

import array
import fcntl
import os
import socket
import struct
from functools import partial

from wgsvc.errors import OSFailureError, WgsvcError
from wgsvc.lab import freebsd_jails
from wgsvc.lab.packets import Frame

# net/bpf.h
BIOCSBLEN = 0xC0044266
BIOCGDLT = 0x4004426A
BIOCSETIF = 0x8020426C
BIOCGSTATS = 0x4008426F
BIOCIMMEDIATE = 0x80044270
DLT_EN10MB = 1
BUFFER_BYTES = 1 << 19  # net.bpf.maxbufsize, by default
_IFREQ = struct.Struct("@16s16x")
_UINT = struct.Struct("@I")
# struct bpf_hdr with the 64-bit timeval: seconds, microseconds, kept, on the wire, header length.
_HEADER = struct.Struct("@qqIIH")
_ALIGNMENT = 8


def open_device(interface: str) -> int:
    """
    Return a descriptor that hears `interface` of the network stack this process is in.

    Raises: OSFailureError.
    """
    descriptor = -1
    try:
        descriptor = os.open("/dev/bpf", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        # The size first: the interface fixes it.
        fcntl.ioctl(descriptor, BIOCSBLEN, bytearray(_UINT.pack(BUFFER_BYTES)))
        fcntl.ioctl(descriptor, BIOCIMMEDIATE, bytearray(_UINT.pack(1)))
        fcntl.ioctl(descriptor, BIOCSETIF, bytearray(_IFREQ.pack(interface.encode())))
    except OSError as error:
        if descriptor >= 0:
            os.close(descriptor)
        raise OSFailureError("bpf", interface, error.errno or 0) from None
    return descriptor


class BpfCapture:
    """A capture on an interface of a jail."""

    def __init__(self, jid: int, interface: str) -> None:
        here, there = socket.socketpair()
        with here, there:
            opening = partial(_hand_over, there, interface)
            status = freebsd_jails.inside(jid, opening, keep=there.fileno())
            if status != 0:
                why = _said(here) or f"the child there exited with {status}"
                raise WgsvcError(f"capture on {interface} in jail {jid}: {why}")
            # Room for two: for one, recv_fds asks for less than FreeBSD pads the message to,
            # and the kernel drops a descriptor that does not fit (MSG_CTRUNC).
            _, descriptors, _, _ = socket.recv_fds(here, 2, 2)
        self._descriptor = descriptors[0]

    def read(self) -> list[Frame]:
        """Return the frames seen since the last call."""
        frames: list[Frame] = []
        while True:
            try:
                data = os.read(self._descriptor, BUFFER_BYTES)
            except BlockingIOError:
                return frames
            if not data:
                return frames
            frames += parse(data)

    def dropped(self) -> int:
        """Return how many frames were lost for want of room."""
        answer = array.array("I", [0, 0])  # struct bpf_stat: received, dropped
        fcntl.ioctl(self._descriptor, BIOCGSTATS, answer)
        return answer[1]

    def close(self) -> None:
        """End it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1


def _hand_over(there: socket.socket, interface: str) -> None:
    try:
        descriptor = open_device(interface)
    except OSFailureError as error:
        there.send(error.message.encode())
        os._exit(1)
    socket.send_fds(there, [b"ok"], [descriptor])


def _said(here: socket.socket) -> str:
    """Return why it could not be opened there, "" if that was not told."""
    here.setblocking(False)
    try:
        return here.recv(4000).decode("utf-8", "replace")
    except BlockingIOError:
        return ""


def parse(data: bytes) -> list[Frame]:
    """Return the frames of one read from a bpf device."""
    frames = []
    position = 0
    while position + _HEADER.size <= len(data):
        seconds, microseconds, kept, _, header = _HEADER.unpack_from(data, position)
        start = position + header
        frames.append(
            Frame(seconds * 1_000_000_000 + microseconds * 1000, data[start : start + kept])
        )
        position += -(-(header + kept) // _ALIGNMENT) * _ALIGNMENT  # BPF_WORDALIGN
    return frames
