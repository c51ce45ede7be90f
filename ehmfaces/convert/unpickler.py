"""Reads pickles as data: a machine for the opcodes of protocols 2 to 5 that never imports or calls anything.

Owns the opcodes, their limits and the refusals. A name in the pickle becomes an entry of the vocabulary that
the caller gives, or the file is refused; "calling" it runs a constructor of inert records, never the thing
that is named. Knows no torch, no NumPy and no network, and does not need the `pickle` module at all.

Limits: opcodes and bytes are counted in one budget for a file and all pickles nested in it, nothing is
allocated from a length that the file does not hold, nothing recurses, keys and set members are plain values.
Not covered: protocols 0 and 1, out-of-band buffers, extension codes, protocol 2 strings of Python 2 outside
ASCII and Latin-1.
"""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from ehmfaces.convert.records import Blob, PlainObject, printable
from ehmfaces.errors import ModelError, UnsafePickleError

MAX_OPCODES = 1_000_000
MAX_NAME_LENGTH = 256
MAX_INT_BYTES = 32

Build = Callable[[tuple[Any, ...], "Unpickler"], Any]


@dataclass(frozen=True, slots=True, eq=False)
class Name:
    """An allowed name.

    Attributes:
        text: "module.name" as the pickle has it.
        call: Makes the record for a REDUCE, or None where that is not allowed.
        new: Makes the record for a NEWOBJ, or None.
    """

    text: str
    call: Build | None = None
    new: Build | None = None


@dataclass(slots=True)
class Budget:
    """What a file may cost, nested pickles included."""

    opcodes: int
    nbytes: int


def budget_for(nbytes: int) -> Budget:
    """Return the budget of a file of `nbytes`; protocol 2 decodes bytes and then reads them: twice."""
    return Budget(MAX_OPCODES, 2 * nbytes + 2**16)


class Unpickler:
    """Reads one pickle.

    Args:
        data: The bytes; the pickle begins at `start`.
        vocabulary: (module, name) -> what that name may do.
        label: File name for error texts.
        budget: Shared with enclosing pickles.
        load_persistent: Makes the record of a persistent id, or None where they are not allowed.
        start: Where the pickle begins in `data`.
        base: Where `data` begins in the file, for error texts.
    """

    def __init__(
        self,
        data: memoryview,
        vocabulary: Mapping[tuple[str, str], Name],
        label: str,
        budget: Budget,
        load_persistent: Build | None = None,
        start: int = 0,
        base: int = 0,
    ) -> None:
        self.data, self.vocabulary, self.label = data, vocabulary, label
        self.budget, self.load_persistent, self.base = budget, load_persistent, base
        self.position = self.opcode_at = start
        self.stack: list[Any] = []
        self.outer: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def load(self) -> Any:
        """Return what the pickle holds; `position` is then behind it.

        Raises:
            UnsafePickleError: It holds something else than the vocabulary's data.
            ModelError: It is damaged or too large.
        """
        try:
            self._check_protocol()
            while True:
                self.opcode_at = self.position
                opcode = self.data[self.position]
                self.position += 1
                if opcode == _STOP:
                    return self.stack.pop()
                self.budget.opcodes -= 1
                if self.budget.opcodes < 0:
                    self.refuse(f"more than {MAX_OPCODES:,} steps")
                handler = _HANDLERS.get(opcode)
                if handler is None:
                    self.refuse(_REFUSED.get(opcode, f"the unknown opcode 0x{opcode:02x}"))
                handler(self)
        except IndexError:
            self.damaged("the pickle breaks off, or takes more than it has put down")

    def refuse(self, what: str) -> NoReturn:
        """Raise UnsafePickleError that names what was found and where."""
        raise UnsafePickleError(
            f"{self.label}, byte {self.base + self.opcode_at:,}: found {printable(what)}. A checkpoint "
            "holds only numbers and names of known layers; nothing was run or imported. Ask for a "
            "safetensors file."
        )

    def damaged(self, what: str) -> NoReturn:
        """Raise ModelError that says what is broken and where."""
        raise ModelError(
            f"{self.label}, byte {self.base + self.opcode_at:,}: {what}. The file is damaged or no "
            "checkpoint: get it again."
        )

    def spend(self, nbytes: int) -> None:
        """Count bytes or items that are copied or read again; the budget has room for honest files."""
        self.budget.nbytes -= nbytes
        if self.budget.nbytes < 0:
            self.refuse("the same bytes over and over again")

    def call(self, callee: Any, args: Any, how: str) -> Any:
        """Make the record for a name that is called (`how` "call") or made (`how` "new").

        Raises:
            UnsafePickleError: This name may not be used like that.
        """
        build = getattr(callee, how) if isinstance(callee, Name) else None
        if build is None:
            what = callee.text if isinstance(callee, Name) else f"a {type(callee).__name__}"
            self.refuse(f"a call of {what}")
        if not isinstance(args, tuple):
            self.refuse(f"a call of {callee.text} without a tuple of arguments")
        try:
            return build(args, self)
        except ValueError as error:
            self.refuse(str(error))

    def _check_protocol(self) -> None:
        if self.data[self.position] != 0x80:
            self.damaged("no pickle of protocol 2 to 5 begins here")
        if not 2 <= self.data[self.position + 1] <= 5:
            self.damaged(f"pickle protocol {self.data[self.position + 1]}; known are 2 to 5")
        self.position += 2

    # Reading

    def _take(self, count: int) -> memoryview:
        if count > len(self.data) - self.position:
            self.damaged(f"{count:,} bytes are announced, {len(self.data) - self.position:,} are left")
        self.position += count
        return self.data[self.position - count : self.position]

    def _unsigned(self, size: int) -> int:
        return int.from_bytes(self._take(size), "little")

    def _text(self, count: int, encoding: str = "utf-8") -> str:
        raw = self._take(count)
        try:
            return str(raw, encoding, "surrogatepass" if encoding == "utf-8" else "strict")
        except UnicodeDecodeError:
            self.damaged("a text that is not UTF-8")

    def _line(self) -> str:
        raw = bytes(self.data[self.position : self.position + MAX_NAME_LENGTH])
        end = raw.find(b"\n")
        if end < 0:
            self.refuse(f"a name of more than {MAX_NAME_LENGTH} bytes")
        text = self._text(end)
        self.position += 1
        return text

    def _pop_mark(self) -> list[Any]:
        items = self.stack
        self.stack = self.outer.pop()
        return items

    def _top(self, kind: type, what: str) -> Any:
        if type(self.stack[-1]) is not kind:
            self.refuse(f"{what} on a {_kind(self.stack[-1])}")
        return self.stack[-1]

    # Opcodes

    def _frame(self) -> None:
        if self._unsigned(8) > len(self.data) - self.position:
            self.damaged("a frame longer than the file")

    def _push_int(self, size: int, signed: bool = False) -> None:
        self.stack.append(int.from_bytes(self._take(size), "little", signed=signed))

    def _push_long(self, size_bytes: int) -> None:
        size = self._unsigned(size_bytes)
        if size > MAX_INT_BYTES:
            self.refuse(f"a whole number of {size:,} bytes")
        self._push_int(size, signed=True)

    def _push_float(self) -> None:
        self.stack.append(struct.unpack(">d", self._take(8))[0])

    def _push_text(self, size_bytes: int, encoding: str = "utf-8") -> None:
        self.stack.append(self._text(self._unsigned(size_bytes), encoding))

    def _push_bytes(self, size_bytes: int) -> None:
        size = self._unsigned(size_bytes)
        start = self.position
        self.stack.append(Blob(self._take(size), self.base + start))

    def _mark(self) -> None:
        self.outer.append(self.stack)
        self.stack = []

    def _push_tuple(self, count: int) -> None:
        if count > len(self.stack):
            raise IndexError
        split = len(self.stack) - count
        self.stack[split:] = [tuple(self.stack[split:])]

    def _tuple(self) -> None:
        items = self._pop_mark()
        self.stack.append(tuple(items))

    def _append(self) -> None:
        item = self.stack.pop()
        self._top(list, "an append").append(item)

    def _appends(self) -> None:
        items = self._pop_mark()
        self._top(list, "an append").extend(items)

    def _set_items(self, items: list[Any]) -> None:
        target = self._top(dict, "keys")
        if len(items) % 2:
            raise IndexError
        for key in items[::2]:
            self.check_plain(key)
        target.update(zip(items[::2], items[1::2], strict=True))

    def _setitem(self) -> None:
        value = self.stack.pop()
        key = self.stack.pop()
        self._set_items([key, value])

    def _setitems(self) -> None:
        items = self._pop_mark()
        self._set_items(items)

    def _additems(self) -> None:
        items = self._pop_mark()
        for item in items:
            self.check_plain(item)
        self._top(set, "members").update(items)

    def _frozenset(self) -> None:
        items = self._pop_mark()
        for item in items:
            self.check_plain(item)
        self.stack.append(set(items))

    def check_plain(self, key: Any) -> None:
        """Raise unless a value is cheap to hash.

        Raises:
            UnsafePickleError: It is no text, number or None.
        """
        if key is not None and type(key) not in (str, int, float, bool):
            self.refuse(f"a {_kind(key)} as a key")

    def _pop(self) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self._pop_mark()

    def _drop_mark(self) -> None:
        self._pop_mark()

    def _put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def _memoize(self) -> None:
        self._put(len(self.memo))

    def _get(self, index: int) -> None:
        if index not in self.memo:
            self.damaged(f"a reference to entry {index}, which is not there")
        self.stack.append(self.memo[index])

    def _global(self) -> None:
        module = self._line()
        self._push_name(module, self._line())

    def _stack_global(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self._push_name(module, name)

    def _push_name(self, module: Any, name: Any) -> None:
        if type(module) is not str or type(name) is not str:
            self.refuse("a name that is no text")
        known = self.vocabulary.get((module, name))
        if known is None:
            self.refuse(f"the name {ascii(module[:80])[1:-1]}.{ascii(name[:80])[1:-1]}")
        self.stack.append(known)

    def _reduce(self) -> None:
        args = self.stack.pop()
        self.stack[-1] = self.call(self.stack[-1], args, "call")

    def _newobj(self) -> None:
        args = self.stack.pop()
        self.stack[-1] = self.call(self.stack[-1], args, "new")

    def _build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if type(target) is dict and isinstance(state, dict):
            return  # attributes of a dict, like the _metadata of a state_dict: not needed
        if isinstance(target, PlainObject) and isinstance(state, dict):
            target.state = state
            return
        build = getattr(target, "build_state", None)
        if build is None:
            self.refuse(f"a BUILD on {_kind(target)}")
        try:
            build(state)
        except ValueError as error:
            self.refuse(str(error))

    def _persistent(self) -> None:
        if self.load_persistent is None:
            self.refuse("a persistent id")
        identity = self.stack.pop()
        if not isinstance(identity, tuple):
            self.refuse("a persistent id that is no tuple")
        try:
            self.stack.append(self.load_persistent(identity, self))
        except ValueError as error:
            self.refuse(str(error))


def _kind(value: Any) -> str:
    return f"the name {value.text}" if isinstance(value, Name) else type(value).__name__


_STOP = 0x2E

_HANDLERS: dict[int, Callable[[Unpickler], None]] = {
    0x95: Unpickler._frame,
    ord("N"): lambda u: u.stack.append(None),
    0x88: lambda u: u.stack.append(True),
    0x89: lambda u: u.stack.append(False),
    ord("J"): lambda u: u._push_int(4, signed=True),
    ord("K"): lambda u: u._push_int(1),
    ord("M"): lambda u: u._push_int(2),
    0x8A: lambda u: u._push_long(1),
    0x8B: lambda u: u._push_long(4),
    ord("G"): Unpickler._push_float,
    0x8C: lambda u: u._push_text(1),
    ord("X"): lambda u: u._push_text(4),
    0x8D: lambda u: u._push_text(8),
    ord("U"): lambda u: u._push_text(1, "latin-1"),
    ord("T"): lambda u: u._push_text(4, "latin-1"),
    ord("C"): lambda u: u._push_bytes(1),
    ord("B"): lambda u: u._push_bytes(4),
    0x8E: lambda u: u._push_bytes(8),
    0x96: lambda u: u._push_bytes(8),
    ord("]"): lambda u: u.stack.append([]),
    ord("}"): lambda u: u.stack.append({}),
    0x8F: lambda u: u.stack.append(set()),
    ord(")"): lambda u: u.stack.append(()),
    0x85: lambda u: u._push_tuple(1),
    0x86: lambda u: u._push_tuple(2),
    0x87: lambda u: u._push_tuple(3),
    ord("("): Unpickler._mark,
    ord("t"): Unpickler._tuple,
    ord("a"): Unpickler._append,
    ord("e"): Unpickler._appends,
    ord("s"): Unpickler._setitem,
    ord("u"): Unpickler._setitems,
    0x90: Unpickler._additems,
    0x91: Unpickler._frozenset,
    ord("0"): Unpickler._pop,
    ord("1"): Unpickler._drop_mark,
    ord("q"): lambda u: u._put(u._unsigned(1)),
    ord("r"): lambda u: u._put(u._unsigned(4)),
    0x94: Unpickler._memoize,
    ord("h"): lambda u: u._get(u._unsigned(1)),
    ord("j"): lambda u: u._get(u._unsigned(4)),
    ord("c"): Unpickler._global,
    0x93: Unpickler._stack_global,
    ord("R"): Unpickler._reduce,
    0x81: Unpickler._newobj,
    ord("b"): Unpickler._build,
    ord("Q"): Unpickler._persistent,
}

# Opcodes that Python has but that no checkpoint of protocol 2 to 5 needs.
_REFUSED = {
    0x80: "a second PROTO opcode",
    ord("i"): "an INST opcode (makes an object of any class)",
    ord("o"): "an OBJ opcode (makes an object of any class)",
    0x92: "a NEWOBJ_EX opcode (makes an object with keywords)",
    0x82: "an EXT1 opcode (a name by number)",
    0x83: "an EXT2 opcode (a name by number)",
    0x84: "an EXT4 opcode (a name by number)",
    ord("P"): "a PERSID opcode (a persistent id of protocol 0)",
    0x97: "a NEXT_BUFFER opcode (the data lie in another file)",
    0x98: "a READONLY_BUFFER opcode (the data lie in another file)",
    ord("2"): "a DUP opcode",
    **{ord(letter): f"an opcode of protocol 0 ({letter})" for letter in "ILFSVpgdl"},
}
