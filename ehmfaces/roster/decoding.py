"""From the bytes of a roster file to text.

Owns the recognition of files that are no text, the choice of the encoding and the repair of text that
was encoded twice. Does not know rows, columns or people.

Order: a byte order mark decides; then valid UTF-8; then an 8-bit code page. Between 8-bit code pages
charset-normalizer gives the plausible ones; short lists of names are too little for it, so that
letters which only one code page makes sensible, and the nations in the same line, decide the rest.

Not covered: Mac Roman, ISO-8859-2 and East Asian code pages are read when they are asked for by name.
"""

import codecs
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass

from charset_normalizer import from_bytes

from ehmfaces.errors import RosterError

_MAGIC = (
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"RIFF", "a WebP picture or another media file"),
    (b"PK\x03\x04", "a ZIP archive or an Excel workbook (.xlsx)"),
    (b"PK\x05\x06", "an empty ZIP archive"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook (.xls)"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"%PDF", "a PDF document"),
)
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CONTROL_LETTERS = re.compile("[\0-\x08\x0e-\x1f]")
_CONTROLS = bytes(set(range(32)) - {9, 10, 11, 12, 13})
# Python's own notations, which no roster is written in.
_NO_CHARSETS = frozenset(
    ("unicode_escape", "raw_unicode_escape", "unicodeescape", "idna", "punycode", "undefined")
)
_ADVICE = "Save it as CSV (UTF-8) and try again."

# Bytes that only Central European names (cp1250) or only Western ones (cp1252) make likely.
_CENTRAL = frozenset(
    b"\x8d\x8f\x9c\x8c\x9d\x9f\xa3\xa5\xaa\xaf\xb3\xb9\xba\xbc\xbe\xbf\xc8\xcc\xcf\xd2\xec\xf2\xf9"
)
_WESTERN = frozenset(b"\xc0\xc5\xe0\xe5")
# Bytes that are common letters in both, told apart by the nation in the same line.
_EITHER = frozenset(b"\xc3\xc6\xca\xd0\xd1\xd5\xd8\xdb\xde\xe3\xe6\xe8\xea\xef\xf0\xf1\xf5\xf8\xfb\xfe")
_CENTRAL_NATION = re.compile(
    rb"czech|cesk|\xe8esk|slova[kc]|sloven|pol(?:and|ska|en)|hungar|magyar|ungarn|croat|hrvat|serb|roman|bosn"
    rb"|\b(?:cze|svk|pol|hun|cro|srb|slo|rou)\b",
    re.IGNORECASE,
)
_WESTERN_NATION = re.compile(
    rb"norw|norge|denmark|danmark|d\xe4nemark|iceland|sweden|sverige|finland|suomi|estonia|eesti|canad|franc"
    rb"|spain|espa|portug|brazil|italy|switz|german|united|\b(?:nor|den|isl|swe|fin|est|can|fra|usa|ger)\b",
    re.IGNORECASE,
)
_HIGH_RUN = re.compile(r"[\u0080-\u2122]{2,}")
_TWICE_ENCODED = re.compile("[ÂÃÄÅ][\u0080-\u2122]")


@dataclass(frozen=True)
class Decoded:
    """Text of a file, Python's name of the encoding, and sentences about what was decided."""

    text: str
    encoding: str
    notes: tuple[str, ...] = ()


def decode_roster(data: bytes, source_name: str, encoding: str | None = None) -> Decoded:
    """Return the text of a roster file.

    Args:
        data: The whole file.
        source_name: Name of the file, for sentences.
        encoding: Python's name of an encoding; None = find it out.

    Raises:
        RosterError: The file is empty or no text, or it is not in the encoding asked for.
    """
    _check_is_text(data, source_name)
    decoded = _decode_as(data, source_name, encoding) if encoding else _find_encoding(data, source_name)
    text = decoded.text.removeprefix("\ufeff")
    if len(_CONTROL_LETTERS.findall(text)) > max(2, len(text) // 50):
        raise RosterError(f"{source_name} is a binary file, not a roster in text form. {_ADVICE}")
    if not text.strip():
        raise RosterError(f"{source_name} is empty. Give a roster with one person a line.")
    return Decoded(text, decoded.encoding, decoded.notes)


def _check_is_text(data: bytes, source_name: str) -> None:
    if not data.strip(b"\x00\t\n\r "):
        raise RosterError(f"{source_name} is empty. Give a roster with one person a line.")
    start = data[:16].lstrip().lower()
    for magic, what in _MAGIC:
        if data.startswith(magic) or start.startswith(magic.lower()):
            raise RosterError(f"{source_name} is {what}, not a roster in text form. {_ADVICE}")


def _decode_as(data: bytes, source_name: str, encoding: str) -> Decoded:
    try:
        if re.sub(r"\W+", "_", encoding.lower()) in _NO_CHARSETS:
            raise LookupError
        text = data.decode(encoding)
    except (LookupError, ValueError) as error:
        known = isinstance(error, ValueError)
        what = f"is not in the encoding {encoding}" if known else f'cannot be read: no encoding "{encoding}"'
        raise RosterError(
            f"{source_name} {what}. Use a name like utf-8, utf-16, cp1252 or cp1250, or leave it out."
        ) from error
    return Decoded(text, encoding.lower())


def _find_encoding(data: bytes, source_name: str) -> Decoded:
    for bom, encoding in _BOMS:
        if data.startswith(bom):
            return _decode_with_bom(data, encoding)
    wide = _wide_without_bom(data)
    if wide is not None:
        return wide
    if len(data) - len(data.translate(None, _CONTROLS)) > max(2, len(data) // 50):
        raise RosterError(f"{source_name} is a binary file, not a roster in text form. {_ADVICE}")
    try:
        return repair_double_encoding(Decoded(data.decode("utf-8"), "utf-8"))
    except UnicodeDecodeError:
        return _decode_mixed(data) or _decode_code_page(data)


def _decode_with_bom(data: bytes, encoding: str) -> Decoded:
    text = data.decode(encoding, errors="replace")
    damaged = text.count("\ufffd")
    note = (f"{damaged} characters are damaged: the file says {encoding} but is not all in it.",)
    return repair_double_encoding(Decoded(text, encoding, note if damaged else ()))


def _wide_without_bom(data: bytes) -> Decoded | None:
    """Read UTF-16 without a byte order mark: nearly every second byte of it is zero."""
    sample = data[: len(data) // 2 * 2][:4096]
    for encoding, zeros in (("utf-16-le", sample[1::2]), ("utf-16-be", sample[0::2])):
        if len(sample) >= 16 and zeros.count(0) > 0.7 * len(zeros) and sample.count(0) < 0.6 * len(sample):
            return Decoded(data.decode(encoding, errors="replace"), encoding)
    return None


def _decode_mixed(data: bytes) -> Decoded | None:
    """Read a file that is UTF-8 in most lines but not in all, as after pasting two files together."""
    lines, broken, whole = [], 0, 0
    for line in data.split(b"\n"):
        try:
            lines.append(line.decode("utf-8"))
            whole += not line.isascii()
        except UnicodeDecodeError:
            lines.append(line.decode("cp1252", errors="replace"))
            broken += 1
    if whole <= broken:
        return None
    note = f"{broken} lines are not UTF-8 as the others are; they were read as cp1252."
    return Decoded("\n".join(lines), "utf-8", (note,))


def _decode_code_page(data: bytes) -> Decoded:
    choice = _guess_code_page(data)
    note = (
        f"The file is not UTF-8; its letters were read as {choice}. "
        "Look at the names, and choose the encoding if they are wrong."
    )
    for encoding in (choice, "cp1252", "latin-1"):
        try:
            return Decoded(data.decode(encoding), encoding, (note.replace(choice, encoding),))
        except UnicodeDecodeError:
            continue
    raise AssertionError("latin-1 reads every byte")  # pragma: no cover


def _guess_code_page(data: bytes) -> str:
    found = from_bytes(data[:200_000], cp_isolation=["cp1252", "cp1250", "cp1251"])
    best = found.best()
    if best is not None and best.encoding == "cp1251" and _is_mostly_high_words(data):
        return "cp1251"
    return "cp1250" if _central_evidence(data) > 0 else "cp1252"


def _is_mostly_high_words(data: bytes) -> bool:
    """Tell Cyrillic (whole words of high bytes) from Latin (single high bytes in ASCII words)."""
    words = [word for word in re.findall(rb"[A-Za-z\x80-\xff]+", data[:200_000]) if not word.isascii()]
    high = sum(sum(byte > 127 for byte in word) for word in words)
    return 2 * high > sum(map(len, words))


def _central_evidence(data: bytes) -> int:
    score = 0
    for line in data[:2_000_000].split(b"\n"):
        if line.isascii():
            continue
        counts = Counter(byte for byte in line if byte > 127)
        score += 2 * sum(n for byte, n in counts.items() if byte in _CENTRAL)
        score -= 2 * sum(n for byte, n in counts.items() if byte in _WESTERN)
        leaning = bool(_CENTRAL_NATION.search(line)) - bool(_WESTERN_NATION.search(line))
        score += leaning * sum(n for byte, n in counts.items() if byte in _EITHER)
    return score


def repair_double_encoding(decoded: Decoded) -> Decoded:
    """Undo UTF-8 that was read as cp1252 and stored as UTF-8 again, as in "JÃ¸rn" for "Jørn"."""
    if not _TWICE_ENCODED.search(decoded.text):
        return decoded
    repaired: list[tuple[str, str]] = []

    def undo(match: re.Match[str]) -> str:
        plain = _decode_twice(match[0])
        if plain is not None:
            repaired.append((match[0], plain))
        return plain or match[0]

    text = _HIGH_RUN.sub(undo, decoded.text)
    if not repaired:
        return decoded
    wrong, right = repaired[0]
    note = (
        f'{len(repaired)} times letters were encoded twice, like "{wrong}" for "{right}"; '
        "they were read as meant."
    )
    return Decoded(text, decoded.encoding, (*decoded.notes, note))


def _decode_twice(run: str) -> str | None:
    """Return the Latin letters that `run` stands for, or None when it is no doubly encoded text."""
    try:
        plain = b"".join(_cp1252_byte(char) for char in run).decode("utf-8")
    except UnicodeError:
        return None
    is_latin = all("\u00a0" < char < "\u0180" and unicodedata.category(char)[0] == "L" for char in plain)
    return plain if is_latin else None


def _cp1252_byte(char: str) -> bytes:
    return bytes([ord(char)]) if "\x80" <= char <= "\x9f" else char.encode("cp1252")
