"""
Asking name servers of one's own choice for a host's addresses (RFC 1035, RFC 3596).

getaddrinfo(3) asks those of resolv.conf, by the way that the routes lead. A tunnel whose
endpoint has a new address has both led into itself: then only servers that were there before
it, asked around it, know where its peer is. One question, A and AAAA, over UDP; everything
here runs in a child that ends after it. A library of that size (dnspython) takes 80 ms and 13 MiB
to import, which on a small router is more than the rest of the supervisor.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from collections.abc import Callable, Sequence

HOSTS = "/etc/hosts"
HOSTS_LIMIT_BYTES = 1 << 20
ANSWER_LIMIT_BYTES = 4096
PORT = 53
PATIENCE_S = 2.0
"""How long one server is waited for before the next one is asked."""

ROUNDS = 2
KINDS = {1: (socket.AF_INET, 4), 28: (socket.AF_INET6, 16)}  # A, AAAA
HEADER = struct.Struct("!HHHHHH")
RECORD = struct.Struct("!HHIH")  # type, class, time to live, length
QUERY, RECURSION = 0x8000, 0x0100  # an answer has the first one set
RESPONSE_CODE = 0x000F
NO_SUCH_NAME = 3
IN = 1
LONGEST_NAME = 128  # labels and pointers that are followed


class NoSuchNameError(Exception):
    """A server says that there is no such name."""


def addresses(
    host: str, servers: Sequence[str], prepare: Callable[[socket.socket], None]
) -> list[str]:
    """
    Return the addresses of a host, by /etc/hosts or else by the first server that has an answer.

    `servers` are numeric; `prepare` is called with each socket before anything is sent.
    Raises: NoSuchNameError if all that answered say so.
    """
    found = in_hosts_file(host)
    refused = False
    for server in () if found else tuple(servers) * ROUNDS:
        try:
            found = _ask(host, server, prepare)
        except NoSuchNameError:
            refused = True
            continue
        except (OSError, ValueError):
            continue
        if found:
            break
    if not found and refused:
        raise NoSuchNameError
    return found


def in_hosts_file(host: str, path: str = HOSTS) -> list[str]:
    """Return the addresses that hosts(5) gives a name."""
    try:
        with open(path, "rb", buffering=0) as file:
            lines = file.read(HOSTS_LIMIT_BYTES).split(b"\n")
    except OSError:
        return []
    wanted = host.lower().encode("ascii", "replace")
    words = [line.partition(b"#")[0].lower().split() for line in lines]
    return [word[0].decode("ascii", "replace") for word in words if wanted in word[1:]]


def _ask(host: str, server: str, prepare: Callable[[socket.socket], None]) -> list[str]:
    family, kind, protocol, _, address = socket.getaddrinfo(
        server, PORT, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST
    )[0]
    open_questions = {
        int.from_bytes(os.urandom(2), "big") & ~1 | number: question
        for number, question in enumerate(KINDS)
    }
    found: dict[int, list[str]] = {}
    no_such_name = False
    with socket.socket(family, kind, protocol) as asking:
        prepare(asking)
        asking.connect(address)  # the kernel passes on nothing that another one sends
        for number, question in open_questions.items():
            asking.send(encode(host, question, number))
        deadline = time.monotonic() + PATIENCE_S
        while open_questions:
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not select.select([asking], [], [], left_s)[0]:
                break
            data = asking.recv(ANSWER_LIMIT_BYTES)
            number = int.from_bytes(data[:2], "big")
            question = open_questions.get(number, 0)
            try:
                found[question] = parse(data, encode(host, question, number))
            except NoSuchNameError:
                no_such_name = True
            except ValueError:
                continue  # nothing that answers this
            del open_questions[number]
    if no_such_name and not any(found.values()):
        raise NoSuchNameError
    return [each for question in KINDS for each in found.get(question, ())]


def encode(host: str, kind: int, number: int) -> bytes:
    """Return a question. Raises: ValueError for a name that can't be one."""
    labels = host.removesuffix(".").encode("ascii").split(b".")
    if not all(0 < len(label) < 64 for label in labels):
        raise ValueError("a label of impossible length")
    name = b"".join(bytes((len(label),)) + label for label in labels) + b"\0"
    return HEADER.pack(number, RECURSION, 1, 0, 0, 0) + name + struct.pack("!HH", kind, IN)


def parse(data: bytes, question: bytes) -> list[str]:
    """
    Return the addresses in an answer to a question.

    Raises: ValueError if it is no answer to that, NoSuchNameError.
    """
    try:
        number, flags, questions, answers, _, _ = HEADER.unpack_from(data)
        end = len(question)
        if (
            number != HEADER.unpack_from(question)[0]
            or not flags & QUERY
            or questions != 1
            or data[HEADER.size : end].lower() != question[HEADER.size :].lower()
        ):
            raise ValueError("not an answer to this question")
        if flags & RESPONSE_CODE == NO_SUCH_NAME:
            raise NoSuchNameError
        (kind,) = struct.unpack_from("!H", question, end - 4)
        family, size = KINDS[kind]
        found = []
        for _ in range(answers):
            end = _after_name(data, end)
            got, group, _, length = RECORD.unpack_from(data, end)
            end += RECORD.size
            if (got, group, length) == (kind, IN, size):
                found.append(socket.inet_ntop(family, data[end : end + length]))
            end += length
    except (struct.error, IndexError, KeyError) as error:
        raise ValueError("an answer that ends too early") from error
    return found


def _after_name(data: bytes, at: int) -> int:
    """Return where the name that begins at `at` ends; a pointer is its end, and is not followed."""
    for _ in range(LONGEST_NAME):
        length = data[at]
        if length >= 0xC0:
            return at + 2
        at += 1 + length
        if length == 0:
            return at
    raise ValueError("a name without end")
