"""Lines of a configuration file to the keys of its sections."""

from __future__ import annotations

from collections.abc import Callable

from wgsvc.config import directives, interface, peers
from wgsvc.config.fields import BLANKS, BadValue, LookUps
from wgsvc.config.findings import Findings, column
from wgsvc.config.interface import Interface
from wgsvc.config.model import Diagnostic
from wgsvc.config.peers import PeerSection
from wgsvc.light import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wgsvc.config.foreign import Foreign

LINE_MAX = 8 << 20  # bytes; 100 000 AllowedIPs are about 2 MB
_NAME_SHOWN_MAX = 20
_HEADS_MAX = 1000
_PRINTED = bytes(
    byte for byte in range(256) if (byte >= 32 and byte != 127) or byte in b"\t\n\r\v\f"
)

_Take = Callable[[Any, bytes, "Reader"], None]
_SPELLING = {name.lower().encode(): name for name in (*interface.KEYS, *peers.KEYS)}


class Reader:
    """
    Reads files, one after the other, into one Interface and a list of PeerSections.

    While a key is taken, `line` and the methods `wrong`, `odd`, `once` and `again` speak of it.
    """

    def __init__(self, findings: Findings, look_ups: LookUps) -> None:
        self.findings = findings
        self.look_ups = look_ups
        self.interface = Interface()
        self.peers: list[PeerSection] = []
        self.file = ""
        self.line = 0
        self._raw = b""
        self._value_at = 0
        self._value = b""
        self._section: Interface | PeerSection | None = None
        self._keys: dict[str, _Take] = {}
        self._muted = False  # in a section that was already complained about
        self._remark = b""  # the comment line directly over this one
        self._heads: dict[bytes, str] = {}  # as written -> the key; only those that are known
        self._foreign: Foreign | None = None  # what of other programs is in this file
        self._keys_listed: set[tuple[str, str]] = set()  # files and sections

    def read(self, data: bytes, file: str, *, dropin: bool = False) -> None:
        """Read one file; a drop-in may hold [Peer] sections only."""
        self.file = file
        self._section, self._keys, self._muted, self._remark = None, {}, False, b""
        self._foreign = None
        if data.startswith(b"\xef\xbb\xbf"):
            what = "the file begins with a byte order mark: save it as UTF-8 without one"
            self.findings.error(file, 1, 1, "", what)
            data = data[3:]
        self._read_lines(data, dropin=dropin)
        if self._foreign is not None:
            self._foreign.report(self.findings)

    def _read_lines(self, data: bytes, *, dropin: bool) -> None:
        suspect = bool(data.translate(None, _PRINTED)) or len(data) > LINE_MAX
        for number, raw in enumerate(data.split(b"\n"), 1):
            if suspect and not self._is_clean(number, raw):
                continue
            mark = raw.find(b"#")
            head, equals, value = (raw if mark < 0 else raw[:mark]).partition(b"=")
            if equals:
                self._remark = b""
                if not self._muted:
                    self.line = number
                    self._raw = raw
                    self._assign(head, value)
            elif word := head.translate(None, BLANKS):
                if word[:1] == b"[":
                    self._enter(number, raw, word, dropin=dropin)
                else:
                    self._refuse(number, raw)
                self._remark = b""
            elif mark < 0:
                self._remark = b""
            elif not self._directive(number, raw, mark):
                self._remark = raw[mark + 1 :]

    def wrong(self, key: str, offset: int, entry: bytes, bad: BadValue) -> None:
        """Note a value, or the entry of a list at byte `offset` of it, that can't be used."""
        if self.findings.wants("error", key, bad.rule):
            from wgsvc.config.quote import quoted  # only a mistake pays for it

            message = f"{quoted(entry, key)} {bad.message}".lstrip()
            at = self._column(offset)
            found = Diagnostic("error", self.file, self.line, at, key, message)
            self.findings.add(found, bad.rule)

    def odd(self, offset: int, key: str, message: str, *values: object) -> None:
        """
        Warn of the value at hand; `offset` is a byte within it, -1 the whole.

        Each {} of the message stands for one of `values`.
        """
        if self.findings.wants("warning", key, message):
            text = message.format(*values) if values else message
            at = self._column(offset)
            found = Diagnostic("warning", self.file, self.line, at, key, text)
            self.findings.add(found, message)

    def again(self, key: str) -> None:
        """Warn that a key that counts once came again."""
        self.odd(-1, key, "is given again in this section; the last one counts")

    def once(self, seen: set[str], key: str) -> None:
        """Warn if a key was seen before."""
        if key in seen:
            self.again(key)
        seen.add(key)

    @property
    def value_column(self) -> int:
        """The column where the value at hand begins."""
        return self._column(-1)

    def _column(self, offset: int) -> int:
        if offset < 0:
            offset = len(self._value) - len(self._value.lstrip())
        return column(self._raw, self._value_at + offset)

    def _is_clean(self, number: int, raw: bytes) -> bool:
        """Report what no line may hold; comments may hold anything but NUL."""
        if len(raw) > LINE_MAX:
            what = f"the line is longer than {LINE_MAX >> 20} MiB"
        elif b"\0" in raw:
            what = "the line holds a NUL byte; wg would read only what is before it"
        else:
            bad = raw.partition(b"#")[0].translate(None, _PRINTED)
            if not bad:
                return True
            rule = "the line holds a control character"
            at = column(raw, raw.index(bad[:1]))
            what = f"{rule} (0x{bad[0]:02x})"
            self.findings.error(self.file, number, at, "", what, rule=rule)
            return False
        self.findings.error(self.file, number, max(raw.find(b"\0"), 0) + 1, "", what)
        return False

    def _enter(self, number: int, raw: bytes, word: bytes, *, dropin: bool) -> None:
        """Begin a section."""
        name = word.lower()
        self._muted = False
        if name == b"[peer]":
            self._section = PeerSection(self.file, number, self._remark)
            self.peers.append(self._section)
            self._keys = peers.KEYS
        elif name == b"[interface]" and not dropin:
            self._section = self.interface
            self.interface.line = self.interface.line or number
            self._keys = interface.KEYS
        else:
            self._section, self._keys, self._muted = None, {}, True
            at = column(raw, raw.find(b"["))
            if dropin:
                what = "a drop-in may hold [Peer] sections only"
                self.findings.error(self.file, number, at, "", what)
            elif not self._of_another_program(name, number, at):
                from wgsvc.config.quote import quoted

                rule = "no such section; there are [Interface] and [Peer]"
                shown = quoted(raw.partition(b"#")[0])
                what = f"{shown} is no section; there are [Interface] and [Peer]" if shown else rule
                self.findings.error(self.file, number, at, "", what, rule=rule)

    def _refuse(self, number: int, raw: bytes) -> None:
        if not self._muted:
            what = "this line is no KEY = VALUE, [SECTION] or # comment"
            at = column(raw, len(raw) - len(raw.lstrip()))
            self.findings.error(self.file, number, at, "", what)

    def _assign(self, head: bytes, value: bytes) -> None:
        """Take `head = value`."""
        key = self._heads.get(head, "")
        if key not in self._keys:
            key = self._look_up(head, value)
            if not key:
                return
        self._value_at = len(head) + 1
        self._value = self._raw[self._value_at :] if key in interface.HOOKS else value
        try:
            self._keys[key](self._section, self._value, self)
        except BadValue as bad:
            self.wrong(key, -1, self._value, bad)

    def _look_up(self, head: bytes, value: bytes) -> str:
        """Return a key as it is usually spelt; complain and return "" if it is none here."""
        word = head.translate(None, BLANKS).lower()
        key = _SPELLING.get(word, "")
        if key in self._keys:
            if len(self._heads) < _HEADS_MAX:
                self._heads[head] = key
            return key
        at = column(self._raw, len(head) - len(head.lstrip()))
        if not key and self._of_another_program(word, self.line, at):
            return ""
        if key or self._section is None:
            what = "this key stands before the first [Interface] or [Peer]"
            if self._section is not None:
                what = f"belongs in {'[Interface]' if key in interface.KEYS else '[Peer]'}"
            self.findings.error(self.file, self.line, at, key, what)
        else:
            self._unknown(head, value, word, at)
        return ""

    def _of_another_program(self, word: bytes, line: int, at: int) -> bool:
        if self._foreign is None:
            from wgsvc.config.foreign import Foreign  # paid for a mistake only

            self._foreign = Foreign(self.file)
        return self._foreign.take(word, line, at)

    def _unknown(self, head: bytes, value: bytes, word: bytes, at: int) -> None:
        name = "[Peer]" if isinstance(self._section, PeerSection) else "[Interface]"
        rule = f"no such key in {name}"
        if not self.findings.wants("error", "", rule):
            return
        from difflib import get_close_matches  # 6 ms, paid for a mistake only

        meant = get_close_matches(word[:40].decode("ascii", "replace"), _SPELLED_LOW, 1, 0.7)
        what = rule
        if meant:
            key = _SPELLING[meant[0].encode()]
            what += f"; did you mean {key}?" if key in self._keys else f"; {key} belongs elsewhere"
        elif (self.file, name) not in self._keys_listed:
            self._keys_listed.add((self.file, name))
            what += f"; there are {', '.join(self._keys)}"
        # The word may be a piece of key material (a lost `PrivateKey =`): that one ends in `=`
        # or is long. Only what looks like a key with a value is shown.
        shown = head.strip().decode("ascii", "replace")
        like_a_key = shown.isalnum() and shown.isascii() and len(shown) <= _NAME_SHOWN_MAX
        if not like_a_key or not value.strip(b"= \t\r\v\f"):
            shown = ""
        found = Diagnostic("error", self.file, self.line, at, shown, what)
        self.findings.add(found, rule, key="")

    def _directive(self, number: int, raw: bytes, mark: int) -> bool:
        """Take a comment that is addressed to wgsvc; False if this one is not."""
        found = directives.split(raw, mark)
        if found is None or self._muted:
            return found is not None
        key, self._value_at, self._value = found
        self.line = number
        self._raw = raw
        try:
            directives.take(key, self._value, self._section, self)
        except BadValue as bad:
            self.wrong(f"wgsvc: {key}", -1, self._value, bad)
        return True


_SPELLED_LOW = [word.decode() for word in _SPELLING]
