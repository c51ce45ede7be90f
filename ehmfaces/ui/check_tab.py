"""The Check tab and the endpoint of the same name: a facepack in, what is wrong with it out.

Owns the layout and the table of findings; knows no rule.
"""

from collections.abc import Callable
from pathlib import Path

import gradio as gr

from ehmfaces import endpoints
from ehmfaces.errors import InputError
from ehmfaces.facepack.check import CheckResult, check_pack
from ehmfaces.facepack.finding import encode_findings, printable
from ehmfaces.ui.boundary import with_sentences
from ehmfaces.ui.roster_reading import Corrections, read_upload
from ehmfaces.ui.session import Session

_TITLES = ["Severity", "Code", "File", "What to do"]
_SHOWN = 200

CheckView = tuple[str, list[list[str]], str]


def make_check(session: Session) -> Callable[..., CheckView]:
    """Return the function behind the endpoint."""

    @with_sentences
    def check(pack: str | None, roster: str | None = None) -> CheckView:
        """Check a facepack of anybody: names, folders, pictures, and optionally against a roster.

        Args:
            pack: A ZIP file.
            roster: A roster; then it is said who has no picture and which pictures nobody has.

        Returns:
            The number of findings in words, the first 200 (severity, code, file, what to do), and all
            of them as CSV.
        """
        if not pack:
            raise InputError("No facepack was given. Choose a ZIP file.")
        people = [read_upload(roster, Corrections(), session.limits)] if roster else []
        deadline = session.deadline()

        def stop_when_late(_done: int, _of: int) -> None:
            if session.is_late(deadline):
                raise InputError("The pack is too large to check here. Use the command: ehmfaces check PACK")

        result = check_pack(Path(pack), people, workers=1, progress=stop_when_late)
        path = session.new_folder() / "findings.csv"
        path.write_bytes(encode_findings(result.findings))
        return _summary(result), _rows(result), str(path)

    return check


def _summary(result: CheckResult) -> str:
    if not result.findings:
        return f"{result.pictures} pictures, nothing to report."
    counts = result.counts
    more = f" The first {_SHOWN} are shown." if len(result.findings) > _SHOWN else ""
    return (
        f"{result.pictures} pictures: {counts['error']} errors, {counts['warning']} warnings, "
        f"{counts['notice']} notices.{more}"
    )


def _rows(result: CheckResult) -> list[list[str]]:
    shown = result.findings[:_SHOWN]
    return [[one.severity, one.code, printable(one.file)[:300], printable(one.text)] for one in shown]


def build_check_tab(session: Session) -> None:
    """Lay out the tab."""
    with gr.Tab("Check", id="check"):
        with gr.Row():
            pack = gr.File(label="Facepack (ZIP)", file_types=[".zip"], height=150)
            roster = gr.File(label="Roster (optional)", height=150)
        start = gr.Button("Check the facepack", variant="primary")
        summary = gr.Textbox(label="Result", interactive=False)
        findings = gr.Dataframe(
            headers=_TITLES,
            datatype="str",
            label="Findings",
            interactive=False,
            wrap=True,
            column_widths=["90px", "150px", "330px", "430px"],
            elem_classes="ehm-table",
        )
        report = gr.File(label="All findings (CSV)", interactive=False, height=110)
        gr.Markdown(
            "For Eastside Hockey Manager. Nothing is changed here; the command `ehmfaces check --fix` mends "
            "what is safe."
        )
    start.click(make_check(session), [pack, roster], [summary, findings, report], api_name=endpoints.CHECK)
