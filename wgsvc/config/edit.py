"""
Changing a configuration file as a careful person does: here a value, there a line.

Everything that is not changed stays byte for byte: comments, order, blanks, line ends. Reads a
line as wgsvc.config.reader does; the file must have been checked before.
"""

from __future__ import annotations

from wgsvc.config import directives, fields
from wgsvc.config.fields import BLANKS, BadValue
from wgsvc.light import TYPE_CHECKING
from wgsvc.values import Prefix

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Token = tuple[int, int, Prefix]
"""Where in a line an entry of a list begins and ends, and what it is."""


class Section:
    """One section: where its header is, which line has which key (in small letters)."""

    __slots__ = ("header", "keys", "last", "public_key")

    def __init__(self, header: int) -> None:
        self.header = header
        self.keys: list[tuple[bytes, int]] = []
        self.last = header  # the last line that is not only a comment of people's
        self.public_key = b""

    def lines(self, key: str) -> list[int]:
        """Return the lines that hold a key."""
        word = key.lower().encode()
        return [line for found, line in self.keys if found == word]


class Text:
    """A file that is being changed."""

    def __init__(self, data: bytes) -> None:
        self._lines: list[bytes | None] = list(data.split(b"\n"))
        self._end = b"\r" if self._line(0).endswith(b"\r") else b""
        if self._line(-1) == b"":
            self._lines.pop()
        self._inserted: dict[int, list[bytes]] = {}
        self._appended: list[bytes] = []
        self._cut_end = False
        self.interface: list[Section] = []
        self.peers: list[Section] = []
        self._scan()

    def _line(self, number: int) -> bytes:
        return self._lines[number] or b""

    def _scan(self) -> None:
        section: Section | None = None
        for number in range(len(self._lines)):
            raw = self._line(number)
            mark = raw.find(b"#")
            head, equals, value = (raw if mark < 0 else raw[:mark]).partition(b"=")
            word = head.translate(None, BLANKS).lower()
            if equals and section is not None:
                section.keys.append((word, number))
                section.last = number
                if word == b"publickey":
                    section.public_key = fields.key(value)
            elif word[:1] == b"[":
                section = Section(number)
                (self.peers if word == b"[peer]" else self.interface).append(section)
            elif section is not None and mark >= 0 and directives.split(raw, mark):
                section.last = number

    # --- single values

    def set_value(self, section: Section, key: str, value: str) -> None:
        """Replace the value of a key, its last one in the section; add a line if it has none."""
        lines = section.lines(key)
        if not lines:
            self.add_line(section, key, value)
            return
        raw = self._line(lines[-1])
        start, end = _span(raw)
        self._lines[lines[-1]] = raw[:start] + value.encode() + raw[end:]

    def drop_key(self, section: Section, key: str) -> None:
        """Remove a key; a comment on its line stays."""
        for number in section.lines(key):
            self._drop_line(number)

    def add_line(self, section: Section, key: str, value: str) -> None:
        """Add a line at the section's end, in the style of the line before."""
        number = section.keys[-1][1] if section.keys else section.header
        indent, equals = b"", b" = "
        samples = [self._line(line) for _, line in section.keys]
        raw = next((raw for raw in reversed(samples) if b"=" in raw.partition(b"#")[0]), b"")
        if raw:
            head = raw[: raw.index(b"=")]
            indent = head[: len(head) - len(head.lstrip())]
            after = raw[len(head) + 1 :]
            blanks = after[: len(after) - len(after.lstrip(b" \t"))]
            equals = head[len(head.rstrip()) :] + b"=" + blanks
        line = indent + key.encode() + equals + value.encode() + self._end
        self._inserted.setdefault(number, []).append(line)

    def _drop_line(self, number: int) -> None:
        raw = self._line(number)
        mark = raw.find(b"#")
        self._lines[number] = raw[mark:] if mark >= 0 else None

    # --- lists

    def remove_entries(
        self, section: Section, key: str, unwanted: Callable[[Prefix], bool]
    ) -> None:
        """Remove entries of a list with the separators that go with them."""
        for number in section.lines(key):
            raw = self._line(number)
            tokens = tokens_of(raw, key)
            kept = [at for at, token in enumerate(tokens) if not unwanted(token[2])]
            if len(kept) == len(tokens):
                continue
            if not kept:
                self._drop_line(number)
                continue
            parts = [raw[: tokens[0][0]]]
            for place, at in enumerate(kept):
                start, end, _ = tokens[at]
                if place:  # what stood before it stays before it
                    parts.append(raw[tokens[at - 1][1] : start])
                parts.append(raw[start:end])
            parts.append(raw[tokens[-1][1] :])
            self._lines[number] = b"".join(parts)

    def add_entries(self, section: Section, key: str, new: Iterable[Prefix]) -> None:
        """Add entries to a list: on its last line, or each on its own where that is the style."""
        lines = [number for number in section.lines(key) if self._lines[number] is not None]
        lines = [number for number in lines if tokens_of(self._line(number), key)]
        if not lines:
            self.add_line(section, key, ", ".join(map(str, new)))
            return
        raw = self._line(lines[-1])
        tokens = tokens_of(raw, key)
        if len(lines) > 1 and len(tokens) == 1:
            for prefix in new:
                self.add_line(section, key, str(prefix))
            return
        separator = raw[tokens[-2][1] : tokens[-1][0]] if len(tokens) > 1 else b", "
        at = tokens[-1][1]
        added = b"".join(separator + str(prefix).encode() for prefix in new)
        self._lines[lines[-1]] = raw[:at] + added + raw[at:]

    def entries(self, section: Section, key: str) -> Iterator[Prefix]:
        """Yield the entries of a list as they stand now."""
        for number in section.lines(key):
            for _, _, prefix in tokens_of(self._line(number), key):
                yield prefix

    # --- whole sections

    def new_interface(self) -> Section:
        """Begin the file with an [Interface]; for one that has none."""
        self._inserted[-1] = [b"[Interface]" + self._end]
        self.interface.append(Section(-1))
        return self.interface[0]

    def remove_section(self, section: Section) -> None:
        """
        Remove a section, the comment line directly over it, and the blank lines after it.

        Comments outside it stay: they may be about something else.
        """
        start, end = section.header, section.last + 1
        if start and _is_comment(self._line(start - 1)):
            start -= 1
        over = start - 1
        while end < len(self._lines) and not self._line(end).strip():
            end += 1
        for number in range(start, end):
            self._lines[number] = None
        self._cut_end = self._cut_end or end == len(self._lines)
        comment_over = over >= 0 and _is_comment(self._line(over))
        if comment_over and end < len(self._lines) and self._line(end).lstrip()[:1] == b"[":
            self._inserted.setdefault(over, []).append(self._end)  # it is not the next one's name

    def append_section(self, header: str, lines: Iterable[str]) -> None:
        """Add a section at the end of the file, after a blank line."""
        self._appended += [b"", header.encode()]
        self._appended += [line.encode() for line in lines]

    def __bytes__(self) -> bytes:
        """Return the file as it is now."""
        out = list(self._inserted.get(-1, ()))
        for number, line in enumerate(self._lines):
            if line is not None:
                out.append(line)
            out += self._inserted.get(number, ())
        if self._cut_end or self._appended:
            while out and not out[-1].strip():
                out.pop()
        out += [line + self._end for line in self._appended]
        return b"\n".join(out) + b"\n"


def _is_comment(raw: bytes) -> bool:
    return raw.lstrip()[:1] == b"#"


def _span(raw: bytes) -> tuple[int, int]:
    """Return where the value of a line begins and ends."""
    mark = raw.find(b"#")
    value = raw if mark < 0 else raw[:mark]
    start = raw.index(b"=") + 1
    end = max(start, len(value.rstrip()))
    return start + len(value[start:end]) - len(value[start:end].lstrip()), end


def tokens_of(raw: bytes, key: str) -> list[Token]:
    """Return the entries of a line with a list of addresses (Address, AllowedIPs)."""
    if b"=" not in raw.partition(b"#")[0]:
        return []
    start, end = _span(raw)
    value = raw[start:end]
    if key == "Address":
        words = fields.words(value)
    else:
        words, at = [], 0
        for part in value.split(b","):
            entry = part.strip()
            words.append((at + part.find(entry), entry))
            at += len(part) + 1
    tokens = []
    for offset, word in words:
        try:
            prefix = fields.prefix(word.translate(None, BLANKS).removeprefix(b"+"))
        except BadValue:
            continue  # an empty value
        place = start + offset
        tokens.append((place, place + len(word), prefix if key == "Address" else prefix.network))
    return tokens
