"""Rosters that a game prints: Football Manager's RTF and HTML files.

Owns the way from such a file to text or to rows of cells. Does not know titles, people or dates.

Football Manager calls its text print-outs .rtf, but writes plain text with bars in them; those are read
as any other text. A real RTF document is stripped of its control words first. An HTML page gives its
table with the most cells; markup in cells is left out, so that a name is always plain text.

Not covered: pictures, merged cells over rows, tables within tables (each is taken for itself).
"""

import re
from typing import Any

from ehmfaces.errors import RosterError

MAX_RTF_BYTES = 16 * 2**20
MAX_HTML_BYTES = 24 * 2**20
_MAX_FONT_TABLE = 20_000
_HTML = re.compile(
    r"\s*(?:<\?xml[^>]{0,200}>\s*)?(?:<!--[^>]{0,500}-->\s*)*<(?:!doctype\s+html|html|head|body|table)\b",
    re.IGNORECASE,
)
_SURROGATES = re.compile("[\ud800-\udfff]+")


def is_rtf(data: bytes) -> bool:
    """Tell whether a file is a real RTF document."""
    return data[:64].lstrip(b"\xef\xbb\xbf\r\n\t ").startswith(b"{\\rtf")


def is_html(text: str) -> bool:
    """Tell whether a text is an HTML page or a table of one."""
    return _HTML.match(text[:4000]) is not None


def rtf_text(data: bytes, source_name: str) -> str:
    """Return the text of an RTF document, one line for each paragraph or table row.

    Raises:
        RosterError: It is damaged or too large.
    """
    from striprtf.striprtf import font_table_group, rtf_to_text

    if len(data) > MAX_RTF_BYTES:
        raise RosterError(f"{source_name} is larger than {MAX_RTF_BYTES // 2**20} MB as RTF. Split the list.")
    try:
        raw = data.decode("utf-8")
    except UnicodeDecodeError:
        raw = data.decode("cp1252", errors="replace")
    raw = raw.replace("\\fldinst", "\\nofield")  # links say nothing here, and their pattern is slow
    if len(font_table_group(raw)) > _MAX_FONT_TABLE:
        raise RosterError(f"{source_name} is an RTF document with too many fonts. Save it as plain text.")
    try:
        text = str(rtf_to_text(raw, errors="replace"))
    except Exception as error:  # the library fails in many ways on damaged documents
        raise RosterError(
            f"{source_name} is a damaged RTF document ({type(error).__name__}). Save it as text or HTML."
        ) from error
    if not text.strip():
        raise RosterError(f"{source_name} is empty. Give a roster with one person a line.")
    return _SURROGATES.sub(_join_surrogates, text)


def _join_surrogates(match: re.Match[str]) -> str:
    """Return the letters that RTF writes as pairs of 16-bit numbers."""
    return match[0].encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def html_rows(text: str, source_name: str, *, max_rows: int, max_columns: int) -> list[list[str]]:
    """Return the cells of the largest table of an HTML page.

    Args:
        text: The page.
        source_name: Name of the file, for sentences.
        max_rows: The most rows that are accepted.
        max_columns: A row is cut one cell beyond so many.

    Raises:
        RosterError: There is no table, or it is too large.
    """
    from lxml import etree

    data = _SURROGATES.sub("\ufffd", text).replace("\x00", "").encode("utf-8")
    if len(data) > MAX_HTML_BYTES:
        raise RosterError(
            f"{source_name} is larger than {MAX_HTML_BYTES // 2**20} MB as HTML. Split the list."
        )
    parser = etree.HTMLParser(encoding="utf-8", no_network=True, huge_tree=False, remove_comments=True)
    try:
        page = etree.fromstring(data, parser)
        tables = [] if page is None else _tables(page)
    except etree.Error as error:
        raise RosterError(f"{source_name} is an HTML page that cannot be read: {error}.") from error
    rows = max(tables, key=lambda table: sum(map(len, table)), default=[])
    if not any(any(row) for row in rows):
        raise RosterError(
            f"{source_name} is an HTML page without a table. Print the list to a web page, or save it as CSV."
        )
    if len(rows) > max_rows + 10:
        raise RosterError(
            f"{source_name} has {len(rows)} rows. At most {max_rows} are allowed. Split the file."
        )
    return [row[: max_columns + 1] for row in rows]


def _tables(page: Any) -> list[list[list[str]]]:
    """Return the rows of every table; a row belongs to the innermost table around it."""
    tables: dict[Any, list[list[str]]] = {}
    for row in page.iter("tr"):
        table = next(row.iterancestors("table"), None)
        cells = ["".join(cell.itertext()).strip() for cell in row if cell.tag in ("td", "th")]
        tables.setdefault(table, []).append(cells)
    return list(tables.values())
