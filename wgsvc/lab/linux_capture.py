"""Capture with a packet socket: what packet(7) and socket(7) give, without a program of its own."""

from __future__ import annotations

import socket
import struct
import time

from wgsvc.lab.packets import Frame

_ETH_P_ALL = 3
_SO_TIMESTAMPNS = 35  # the control message has the same number
_SOL_PACKET = 263
_PACKET_STATISTICS = 6
_BUFFER_BYTES = 4 << 20  # asked for; net.core.rmem_max may give less, so losses are counted
_FRAME_BYTES = 1 << 16


def open_socket(interface: str) -> socket.socket:
    """Return a socket that hears `interface` of the present network namespace. Raises: OSError."""
    listener = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        listener.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        # Bound last: before that it hears nothing, so no frame of another interface gets in.
        listener.bind((interface, _ETH_P_ALL))
    except BaseException:
        listener.close()
        raise
    return listener


class LinuxCapture:
    """A capture through a socket that `open_socket` made."""

    def __init__(self, listener: socket.socket) -> None:
        self._socket = listener
        self._socket.setblocking(False)
        self._dropped = 0

    def read(self) -> list[Frame]:
        """Return the frames seen since the last call."""
        frames: list[Frame] = []
        while True:
            try:
                data, ancillary, _, _ = self._socket.recvmsg(_FRAME_BYTES, 64)
            except BlockingIOError:
                return frames
            frames.append(Frame(_time_ns(ancillary), data))

    def dropped(self) -> int:
        """Return how many frames were lost for want of room."""
        # struct tpacket_stats; reading it sets the kernel's counter back.
        raw = self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)
        self._dropped += struct.unpack("II", raw)[1]
        return self._dropped

    def close(self) -> None:
        """End it."""
        self._socket.close()


def _time_ns(ancillary: list[tuple[int, int, bytes]]) -> int:
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS):
            seconds, nanoseconds = struct.unpack("ll", data[: struct.calcsize("ll")])
            return int(seconds) * 1_000_000_000 + int(nanoseconds)
    return time.time_ns()
