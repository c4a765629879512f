"""
The names of `typing` that are needed when the program runs, without importing it.

That costs 6 ms of a start (with `re`, which it imports), and each class of its NamedTuple
0.15 ms; bare Python takes 10 in all. Type checkers see `typing` itself. A NamedTuple of here
is to its users what they know: fields, defaults, keywords, _replace, _asdict, _fields, match.
"""

from __future__ import annotations

__all__ = (
    "TYPE_CHECKING",
    "Any",
    "Generic",
    "NamedTuple",
    "NoReturn",
    "Protocol",
    "TypeVar",
)

TYPE_CHECKING = False
"""As in `typing`; type checkers take a name like this for true."""

if TYPE_CHECKING:
    from typing import Any, Generic, NamedTuple, NoReturn, Protocol, TypeVar
else:
    from _collections import _tuplegetter as field_getter  # as collections.namedtuple has it

    Any = NoReturn = None  # for annotations, which nobody evaluates
    Protocol = object

    class Generic:
        """A base that takes [T] and stays what it is."""

        def __class_getitem__(cls, _):
            return cls

    def TypeVar(name):  # noqa: N802 - typing's name
        """Return something to stand for a type."""
        return name

    def _new_of(name, fields, defaults):
        """Return __new__ for these fields: text, since only a signature of its own is fast."""
        wanted = "".join(
            f", {field}=_defaults[{field!r}]" if field in defaults else f", {field}"
            for field in fields
        )
        given = "".join(f"{field}, " for field in fields)
        space = {"_new": tuple.__new__, "_defaults": defaults}
        made = eval(f"lambda cls{wanted}: _new(cls, ({given}))", space)  # noqa: S307 - names of ours
        made.__name__ = "__new__"
        made.__qualname__ = f"{name}.__new__"
        return made

    class _Base(tuple):
        """What all named tuples can do."""

        __slots__ = ()
        _fields = ()

        @classmethod
        def _make(cls, values):
            return cls(*values)

        def _replace(self, **changes):
            made = tuple.__new__(type(self), map(changes.pop, self._fields, self))
            if changes:
                raise ValueError(f"no such fields: {', '.join(changes)}")
            return made

        def _asdict(self):
            return dict(zip(self._fields, self, strict=True))

        def __repr__(self):
            values = ", ".join(f"{n}={v!r}" for n, v in zip(self._fields, self, strict=True))
            return f"{type(self).__name__}({values})"

        def __getnewargs__(self):
            return tuple(self)

    class _Meta(type):
        """Makes a tuple class of the annotated names in a class's body."""

        def __new__(cls, name, _bases, body):
            fields = tuple(body.get("__annotations__", ()))
            defaults = {field: body.pop(field) for field in fields if field in body}
            for index, field in enumerate(fields):
                body[field] = field_getter(index, "")
            body["_fields"] = body["__match_args__"] = fields
            body["_field_defaults"] = defaults

            def first(cls, *values, **named):
                """Make __new__ now: compiling it takes 25 us, and many classes go unused."""
                made = _new_of(name, fields, defaults)
                cls.__new__ = staticmethod(made)
                return made(cls, *values, **named)

            body["__new__"] = first
            body["__slots__"] = ()
            return type(name, (_Base,), body)

    NamedTuple = type.__new__(_Meta, "NamedTuple", (), {})
