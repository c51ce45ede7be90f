"""From the bytes of any kind of roster file to rows of cells.

Owns the recognition of the kind of a file: workbook, RTF, HTML, JSON or text in columns. How each is read
is in `workbook`, `printout`, `league`, `decoding` and `table`. Does not know titles, people or dates.
"""

from dataclasses import dataclass, replace

from ehmfaces.roster.decoding import Decoded, decode_roster, repair_double_encoding
from ehmfaces.roster.league import is_json, json_rows
from ehmfaces.roster.printout import html_rows, is_html, is_rtf, rtf_text
from ehmfaces.roster.table import Table, read_table, table_of_cells
from ehmfaces.roster.titles import TitleTable
from ehmfaces.roster.workbook import is_workbook, read_workbook


@dataclass(frozen=True)
class ContentOptions:
    """What is known about a file before it is read; None = found out.

    Attributes:
        encoding: Python's name of the encoding of a text.
        separator: One character between the cells of a text.
        sheet: Title of the sheet of a workbook.
        max_rows: The most rows that are accepted.
        max_columns: Wider rows are cut one cell beyond so many.
        titles: Titles that are known, by which a separator is chosen.
    """

    encoding: str | None
    separator: str | None
    sheet: str | None
    max_rows: int
    max_columns: int
    titles: TitleTable


def read_contents(data: bytes, source_name: str, options: ContentOptions) -> tuple[Decoded, Table]:
    """Return how a file was decoded, and its rows.

    Args:
        data: The whole file.
        source_name: Name of the file, for sentences.
        options: What is known before.

    Raises:
        RosterError: The file is of no kind that holds a roster, damaged or too large.
    """
    size = {"max_rows": options.max_rows, "max_columns": options.max_columns}
    if is_workbook(data):
        rows, sheet, notes = read_workbook(data, source_name, sheet=options.sheet, **size)
        return Decoded("", f'xlsx, sheet "{sheet}"', notes), table_of_cells(rows)
    if is_rtf(data):
        decoded = repair_double_encoding(Decoded(rtf_text(data, source_name), "RTF"))
        return decoded, _split(decoded.text, source_name, options)
    decoded = decode_roster(data, source_name, options.encoding)
    if is_html(decoded.text):
        rows = html_rows(decoded.text, source_name, **size)
        return replace(decoded, encoding=f"{decoded.encoding}, HTML"), table_of_cells(rows)
    if is_json(decoded.text):
        rows = json_rows(decoded.text, source_name, **size)
        return replace(decoded, encoding=f"{decoded.encoding}, JSON"), table_of_cells(rows)
    return decoded, _split(decoded.text, source_name, options)


def _split(text: str, source_name: str, options: ContentOptions) -> Table:
    return read_table(text, source_name, options.separator, options.max_rows, options.titles)
