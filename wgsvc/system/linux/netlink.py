"""
Netlink's wire format and one connection to the kernel's routing family.

rtnetlink(7), netlink(7) and linux/netlink.h describe the messages. Requests are answered
while they are sent, so a batch of any size needs one acknowledgement: its last message's.
"""

from __future__ import annotations

import errno
import os
import socket
import struct

from wgsvc.errors import (
    NotPermittedError,
    OSFailureError,
    ProtocolError,
    TimeoutExpiredError,
    WgsvcError,
)
from wgsvc.light import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from typing_extensions import Self  # only for the type checker: Python has it from 3.11

NEWLINK, DELLINK, GETLINK, SETLINK = 16, 17, 18, 19
NEWADDR, DELADDR, GETADDR = 20, 21, 22
NEWROUTE, DELROUTE, GETROUTE = 24, 25, 26
NEWRULE, DELRULE, GETRULE = 32, 33, 34

NAMES = {
    NEWLINK: "RTM_NEWLINK",
    DELLINK: "RTM_DELLINK",
    GETLINK: "RTM_GETLINK",
    SETLINK: "RTM_SETLINK",
    NEWADDR: "RTM_NEWADDR",
    DELADDR: "RTM_DELADDR",
    GETADDR: "RTM_GETADDR",
    NEWROUTE: "RTM_NEWROUTE",
    DELROUTE: "RTM_DELROUTE",
    GETROUTE: "RTM_GETROUTE",
    NEWRULE: "RTM_NEWRULE",
    DELRULE: "RTM_DELRULE",
    GETRULE: "RTM_GETRULE",
}

REQUEST, ACK, DUMP_INTERRUPTED = 0x1, 0x4, 0x10
DUMP = 0x300
EXCLUSIVE, CREATE = 0x200, 0x400

ERROR, DONE = 2, 3
NESTED = 0x8000  # NLA_F_NESTED, which strict checking insists on for some attributes
TYPE_MASK = 0x3FFF

SOL_NETLINK, CAP_ACK, GET_STRICT_CHECK = 270, 10, 12

HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
ATTRIBUTE = struct.Struct("=HH")  # length, type
INT32 = struct.Struct("=i")

BATCH = 128  # messages a send: were all refused, the answers still fit a default SO_RCVBUF
RECEIVE_BYTES = 1 << 16  # the kernel fills dumps up to 32 KiB a datagram; notices are far smaller
TIMEOUT_S = 10  # the kernel answers at once; this only bounds a wait for an answer that was lost
DUMP_ATTEMPTS = 8


def attribute(kind: int, payload: bytes) -> bytes:
    """Return one attribute, padded to four bytes."""
    return ATTRIBUTE.pack(4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def attribute_u32(kind: int, value: int) -> bytes:
    """Return an attribute that holds a 32-bit number."""
    return struct.pack("=HHI", 8, kind, value)


def attributes(message: bytes, offset: int = 0) -> dict[int, bytes]:
    """
    Return the attributes of a message from `offset` on, by type.

    Raises: ProtocolError if a length leads out of the message.
    """
    found = {}
    end = len(message)
    unpack = ATTRIBUTE.unpack_from
    while end - offset >= 4:
        length, kind = unpack(message, offset)
        if length < 4 or offset + length > end:
            raise ProtocolError("netlink: an attribute is longer than its message")
        found[kind & TYPE_MASK] = message[offset + 4 : offset + length]
        offset += length + 3 & ~3
    return found


def messages(datagram: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """
    Yield type, flags, sequence number and body of each message in a datagram.

    Raises: ProtocolError if a length leads out of the datagram.
    """
    offset = 0
    end = len(datagram)
    while end - offset >= 16:
        length, kind, flags, sequence, _port = HEADER.unpack_from(datagram, offset)
        if length < 16 or offset + length > end:
            raise ProtocolError("netlink: a message is longer than its datagram")
        yield kind, flags, sequence, datagram[offset + 16 : offset + length]
        offset += length + 3 & ~3


def failure(call: str, subject: str, number: int) -> WgsvcError:
    """Return the error for a call that the kernel refused with errno `number`."""
    # For root EACCES is no lack of a right, but something that is switched off, such as IPv6.
    if number == errno.EPERM or (number == errno.EACCES and os.geteuid() != 0):
        return NotPermittedError(
            f"{call} {subject}: not permitted",
            cure="run as root, or with CAP_NET_ADMIN in this network namespace",
        )
    return OSFailureError(call, subject, number)


def _error_of(kind: int, body: bytes) -> int:
    """Return the errno in an NLMSG_ERROR or NLMSG_DONE, 0 for success."""
    if len(body) < 4:
        if kind == DONE:
            return 0
        raise ProtocolError("netlink: an answer without its error number")
    return -int(INT32.unpack_from(body)[0])


class Connection:
    """
    A netlink socket for requests, in the network namespace of the moment.

    Use it with `with`. It is opened for each piece of work (10 µs), never kept: a
    process may change its namespace.
    """

    def __init__(self) -> None:
        try:
            self._socket = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
            )
        except OSError as error:
            raise failure("socket", "AF_NETLINK", error.errno or 0) from None
        self._sequence = 0
        timeout = struct.pack("@ll", TIMEOUT_S, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeout)
        for option in (CAP_ACK, GET_STRICT_CHECK):
            try:
                self._socket.setsockopt(SOL_NETLINK, option, 1)
            except OSError:  # Linux before 4.20 filters no dumps; we filter them again anyway
                continue

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def request(self, kind: int, flags: int, body: bytes, subject: str) -> list[bytes]:
        """
        Send one request; return the bodies of what the kernel says before it acknowledges.

        Raises: NotPermittedError, OSFailureError with the message type's name and `subject`.
        """
        self._sequence += 1
        sequence = self._sequence
        header = HEADER.pack(16 + len(body), kind, flags | REQUEST | ACK, sequence, 0)
        self._send(header + body, kind, subject)
        bodies = []
        while True:
            for got, _flags, answers, answer in messages(self._receive(kind, subject)):
                if answers != sequence:
                    continue
                if got != ERROR:
                    bodies.append(answer)
                    continue
                number = _error_of(got, answer)
                if number:
                    raise failure(NAMES[kind], subject, number)
                return bodies

    def bulk(self, kind: int, flags: int, bodies: Sequence[bytes], subject: str) -> list[int]:
        """
        Send many requests of one kind; return an errno for each, 0 for success.

        Only the last of each send asks for an acknowledgement: refusals are always told.
        """
        errors = [0] * len(bodies)
        base = self._sequence + 1
        self._sequence += len(bodies)
        flags |= REQUEST
        for start in range(0, len(bodies), BATCH):
            parts: list[bytes] = []
            batch = bodies[start : start + BATCH]
            for sequence, body in enumerate(batch, base + start):
                parts += (HEADER.pack(16 + len(body), kind, flags, sequence, 0), body)
            last = base + start + len(batch) - 1
            parts[-2] = HEADER.pack(16 + len(batch[-1]), kind, flags | ACK, last, 0)
            self._send(b"".join(parts), kind, subject)
            self._collect(kind, subject, base, last, errors)
        return errors

    def dump(self, kind: int, body: bytes, subject: str) -> list[bytes]:
        """
        Return the bodies of a multi-part answer.

        Asked again if the kernel says that the table changed in between.

        Raises: NotPermittedError, OSFailureError.
        """
        for _attempt in range(DUMP_ATTEMPTS):
            bodies, interrupted = self._dump_once(kind, body, subject)
            if not interrupted:
                break
        return bodies

    def _dump_once(self, kind: int, body: bytes, subject: str) -> tuple[list[bytes], bool]:
        self._sequence += 1
        sequence = self._sequence
        header = HEADER.pack(16 + len(body), kind, REQUEST | DUMP, sequence, 0)
        self._send(header + body, kind, subject)
        bodies = []
        interrupted = False
        while True:
            for got, flags, answers, answer in messages(self._receive(kind, subject)):
                if answers != sequence:
                    continue
                interrupted = interrupted or bool(flags & DUMP_INTERRUPTED)
                if got not in (ERROR, DONE):
                    bodies.append(answer)
                    continue
                number = _error_of(got, answer)
                if number:
                    raise failure(NAMES[kind], subject, number)
                return bodies, interrupted

    def _collect(self, kind: int, subject: str, base: int, last: int, errors: list[int]) -> None:
        """Read the answers to a batch, up to that of sequence number `last`."""
        while True:
            for got, _flags, answers, answer in messages(self._receive(kind, subject)):
                if got != ERROR or not base <= answers <= last:
                    continue
                errors[answers - base] = _error_of(got, answer)
                if answers == last:
                    return

    def _send(self, data: bytes, kind: int, subject: str) -> None:
        try:
            self._socket.send(data)
        except OSError as error:
            raise failure(NAMES[kind], subject, error.errno or 0) from None

    def _receive(self, kind: int, subject: str) -> bytes:
        while True:
            try:
                data, (port, _groups) = self._socket.recvfrom(RECEIVE_BYTES)
            except BlockingIOError:
                raise TimeoutExpiredError(
                    f"{NAMES[kind]} {subject}: no answer from the kernel in {TIMEOUT_S} s"
                ) from None
            except OSError as error:
                raise failure(NAMES[kind], subject, error.errno or 0) from None
            if port == 0:  # the kernel's own; another process's words don't count
                return bytes(data)
