"""The Facepack tab and the endpoint of the same name: a roster in, a ZIP of portraits out.

Owns the run that the page watches: throttled events, cancelling, what is left at the end. How rosters are
read and packs written is elsewhere.
"""

import shutil
import time
import zipfile
from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from ehmfaces import endpoints
from ehmfaces.errors import InputError
from ehmfaces.facepack.changes import PackOptions
from ehmfaces.facepack.games import GAMES
from ehmfaces.facepack.manifest import REPORT_NAME
from ehmfaces.facepack.plan import FacepackPlan, FacepackSettings, plan_facepack
from ehmfaces.facepack.uniqueness import DEFAULT_THRESHOLD, describe_uniqueness
from ehmfaces.facepack.writer import FacepackEvent, FacepackResult, iter_facepack
from ehmfaces.latents.directions import Sex, Wishes
from ehmfaces.types import NoiseMode
from ehmfaces.ui import fields
from ehmfaces.ui.boundary import with_sentences
from ehmfaces.ui.model_shelf import DEFAULT
from ehmfaces.ui.roster_reading import (
    COLUMN_FIELDS,
    CORRECTION_COUNT,
    DEFAULT_GAMES,
    TABLE_TITLES,
    Corrections,
    column_choices,
    describe_plan,
    read_upload,
    table_rows,
)
from ehmfaces.ui.session import PACK_QUEUE, Job, Session, on_gpu

EXAMPLE = Path(__file__).parent / "example_roster.csv"
_ENCODINGS = [("automatic", ""), "utf-8", "utf-16", "cp1252", "cp1250", "cp1251", "iso8859-15"]
_SEPARATORS = [("automatic", ""), "comma", "semicolon", "tab", "bar"]
_DATE_ORDERS = [
    ("automatic", ""),
    ("day month year", "dmy"),
    ("month day year", "mdy"),
    ("year month day", "ymd"),
]
_FIELD_LABELS = ("First name", "Last name", "Whole name", "Birth date", "Nation", "Player or staff")

View = tuple[str, Any, str | None, str | None]  # status, faces, ZIP, report


def make_facepack(session: Session) -> Callable[..., Iterator[View]]:
    """Return the function behind the endpoint."""

    @with_sentences
    @on_gpu
    def facepack(
        roster: str | None,
        pack_key: str = "",
        truncation_psi: float = 0.7,
        noise_mode: NoiseMode = "const",
        portrait_format: str = "ehm",
        background: str = "none",
        cutout: str = "deeplab",
        limit: int = 0,
        zero_pad_dates: bool = False,
        encoding: str = "",
        separator: str = "",
        date_order: str = "",
        first_name_column: str = "",
        last_name_column: str = "",
        name_column: str = "",
        birth_date_column: str = "",
        nation_column: str = "",
        classification_column: str = "",
        model: str = DEFAULT,
        games: str = DEFAULT_GAMES,
        pack: str | None = None,
        only: str = "",
        reroll: str = "",
        unique: bool = True,
        sex: Sex = "men",
        request: gr.Request | None = None,
    ) -> Iterator[View]:
        """Make one portrait for each person of a roster and give back a ZIP with the game's file names.

        A face depends on name, birth date and pack key only: the same person keeps it in every roster.

        Args:
            roster: A roster file (CSV, xlsx, RTF, HTML, JSON) with names and birth dates.
            pack_key: Another key gives everybody another face.
            truncation_psi: Variety from 0 (the average face) to 1.5; 0.7 is usual, 1 is off.
            noise_mode: Fine details: "const", "random" (drawn from the seed) or "none".
            portrait_format: "ehm" (160x200), "ehm-157", "ehm-184", "ehm-200", "plain-256" or "full".
            background: "none" (transparent), "game" or a colour like "#1f2c38".
            cutout: "deeplab" or "rembg".
            limit: Make at most so many portraits, from the top; 0 = all.
            zero_pad_dates: Write 07_03_2006 in file names, where the game expects 7_3_2006.
            encoding: Python's name of the file's encoding; empty = found out, as for all below.
            separator: One character, or "comma", "semicolon", "tab", "bar".
            date_order: "dmy", "mdy" or "ymd".
            first_name_column: Title of the column, or its position from 1.
            last_name_column: Title of the column, or its position from 1.
            name_column: Title or position of a column with the whole name.
            birth_date_column: Title of the column, or its position from 1.
            nation_column: Title of the column, or its position from 1.
            classification_column: Title or position of the column that tells players from staff.
            model: "default", or another of the models that this page offers.
            games: "ehm", "fm", "ootp", "fhm", "zengm", or several with commas.
            pack: A ZIP made earlier: its pictures stay, newcomers are added.
            only: Names of people, with commas; nobody else is drawn.
            reroll: Names of people of that ZIP, with commas, who get another face.
            unique: Draw faces that are too much alike again.
            sex: "any", "men" or "women"; without meaning for models that cannot tell.
            request: Filled in by the server.

        Returns:
            A status in HTML, the newest faces, the ZIP and its report.csv; the files at the end only.
        """
        columns = (first_name_column, last_name_column, name_column, birth_date_column, nation_column)
        corrections = Corrections.from_texts(encoding, separator, date_order, *columns, classification_column)
        people = read_upload(roster, corrections, session.limits, games or DEFAULT_GAMES)
        renderer = session.renderer(portrait_format, background, truncation_psi, noise_mode, cutout, model)
        if renderer.pipeline.directions is None:
            sex = "any"
        renderer.wishes = Wishes(sex)
        settings = FacepackSettings(
            pack_key=pack_key or "",
            portrait_format=portrait_format,
            background=background,
            truncation_psi=float(truncation_psi),
            noise_mode=noise_mode,
            cutout=cutout,
            sex=sex,
            zero_pad_dates=bool(zero_pad_dates),
            games=games or DEFAULT_GAMES,
            limit=_check_limit(limit),
            model_id=renderer.pipeline.model_id,
            model_hash=renderer.pipeline.model_hash,
        )
        options = PackOptions(
            only=_names(only),
            reroll=_names(reroll),
            threshold=DEFAULT_THRESHOLD if unique else None,
            is_partial_published=True,
        )
        run = PackRun(session, plan_facepack(people, settings), _key(request), options, pack)
        yield from run.watch(lambda seed: session.render(renderer, seed))

    return facepack


def _check_limit(limit: float | None) -> int | None:
    if not limit:
        return None
    if limit < 0 or limit != int(limit):
        raise InputError(f"The limit cannot be {limit}. Give a whole number, or 0 for everybody.")
    return int(limit)


def _names(text: str | None) -> tuple[str, ...]:
    """Return names that are separated by commas or lines."""
    names = (text or "").replace("\n", ",").replace(";", ",").split(",")
    return tuple(name.strip() for name in names if name.strip())


def _key(request: gr.Request | None) -> str:
    return str(getattr(request, "session_hash", None) or id(request))


class PackRun:
    """One facepack in the making, as the page sees it.

    Args:
        session: Limits, jobs and folders.
        plan: What is to be made.
        key: Names the visitor, for cancelling.
        options: What may change in an earlier pack.
        pack: A ZIP made earlier.
    """

    def __init__(
        self,
        session: Session,
        plan: FacepackPlan,
        key: str,
        options: PackOptions | None = None,
        pack: str | None = None,
    ) -> None:
        """Prepare a private folder; nothing is made yet."""
        self._session = session
        self._options = options or PackOptions(is_partial_published=True)
        self._earlier = pack
        self._plan = plan
        self._key = key
        self._folder = session.new_folder()
        self._faces: list[tuple[str, str]] = []
        self._began = time.monotonic()

    def watch(self, worker: Callable[[int], bytes]) -> Iterator[View]:
        """Make the pack and yield what the page shows, the files at the end.

        Closing this iterator ends the run; what is done stays in the ZIP.

        Raises:
            FacepackError: The ZIP cannot be written, or the earlier one cannot be read.
        """
        job = self._session.start_job(self._key)
        try:
            yield status_html("Reading is done. The first face is on its way.", 0), [], None, None
            yield from self._watch_job(worker, job)
        finally:
            self._session.end_job(self._key, job)

    def _watch_job(self, worker: Callable[[int], bytes], job: Job) -> Iterator[View]:
        target = self._folder / "facepack.zip"
        if self._earlier:
            shutil.copyfile(self._earlier, target)
        events = iter_facepack(
            self._plan, lambda: worker, target, should_stop=job.should_stop, options=self._options
        )
        shown_at = 0.0
        try:
            while True:
                event = next(events)
                self._keep_face(event)
                if time.monotonic() - shown_at >= self._session.limits.refresh_sec:
                    shown_at = time.monotonic()
                    yield self._progress(event), list(self._faces), None, None
        except StopIteration as end:
            yield self._last_view(_result_sentence(end.value, job), end.value.path)
        finally:
            events.close()

    def _keep_face(self, event: FacepackEvent) -> None:
        """Put a face in front of the gallery and drop the oldest beyond the cap."""
        if not event.png:
            return
        path = self._folder / f"row{event.job.row_number}.png"
        path.write_bytes(event.png)
        caption = f"{event.job.first_name} {event.job.last_name}".strip()
        self._faces = [face for face in self._faces if face[0] != str(path)]  # a look-alike drawn again
        self._faces.insert(0, (str(path), caption))
        del self._faces[self._session.limits.gallery_faces :]

    def _progress(self, event: FacepackEvent) -> str:
        rate = event.done / max(time.monotonic() - self._began, 1e-3)
        left = (event.total - event.done) / rate
        words = f"{event.done} of {event.total} portraits, {rate:.1f} a second, {_duration(left)} left."
        if event.done == event.total:
            words = f"{event.total} portraits drawn; comparing the faces."
        return status_html(words, event.done / event.total)

    def _last_view(self, sentence: str, path: Path) -> View:
        report = path.with_name(REPORT_NAME)
        with zipfile.ZipFile(path) as pack, pack.open(REPORT_NAME) as source, report.open("wb") as target:
            shutil.copyfileobj(source, target)
        return status_html(sentence, 1), list(self._faces), str(path), str(report)


def status_html(sentence: str, fraction: float) -> str:
    """Return a bar with a sentence under it."""
    bar = f'<div class="ehm-bar"><div style="width: {fraction:.1%}"></div></div>'
    return f"{bar}<p>{escape(sentence)}</p>"


def _duration(seconds: float) -> str:
    return f"about {seconds / 60:.0f} min" if seconds >= 90 else f"about {seconds:.0f} s"


def _result_sentence(result: FacepackResult, job: Job) -> str:
    kept = f"{result.kept} kept, " if result.kept else ""
    counts = f"{result.made} portraits made, {kept}{result.skipped} rows skipped"
    if not result.cancelled:
        size = result.path.stat().st_size / 1e6
        notices = "".join(f" {notice}" for notice in result.notices)
        return (
            f"Done: {counts}. The ZIP ({size:.1f} MB) and its report are ready."
            f"{describe_uniqueness(result.uniqueness, names=False)}{notices}"
        )
    why = "Cancelled" if job.cancelled.is_set() else "The time for one pack is used up"
    return f"{why}: {counts}, {result.not_made} not made. What is done is in the ZIP."


def make_reader(session: Session) -> Callable[..., tuple[Any, ...]]:
    """Return the function that shows how a roster is understood."""

    @with_sentences
    def read(roster: str | None, *answers: str | None) -> tuple[Any, ...]:
        """Read a roster and plan it, without making anything."""
        texts, games = answers[:CORRECTION_COUNT], "".join(map(str, answers[CORRECTION_COUNT:]))
        games = games or DEFAULT_GAMES
        people = read_upload(roster, Corrections.from_texts(*texts), session.limits, games)
        plan = plan_facepack(people, FacepackSettings(games=games))
        choices = [gr.update(choices=column_choices(people.reading, name)) for name in COLUMN_FIELDS]
        table = gr.update(value=table_rows(people, plan), visible=True)
        return describe_plan(people.reading, plan), table, *choices

    return read


def make_example(session: Session) -> Callable[[], str]:
    """Return the function that puts the example roster into the upload field."""

    @with_sentences
    def example() -> str:
        """Copy the example to where the page may serve it from."""
        return shutil.copy(EXAMPLE, session.new_folder() / EXAMPLE.name).__str__()

    return example


def make_cancel(session: Session) -> Callable[..., None]:
    """Return the function behind the Cancel button."""

    @with_sentences
    def cancel(request: gr.Request) -> None:
        """Stop this visitor's pack after the face that is being made."""
        if session.cancel_job(_key(request)):
            gr.Info("Stopping after this face. What is done is kept.")
        else:
            gr.Info("No pack is being made.")

    return cancel


def build_facepack_tab(session: Session, model: gr.Dropdown) -> None:
    """Lay out the tab; `model` is the picker of the page."""
    with gr.Tab("Facepack", id="facepack"):
        with gr.Row():
            with gr.Column(scale=2, min_width=280):
                roster, example, corrections = _build_roster_part()
                games = gr.Dropdown(
                    [(game.title, game.name) for game in GAMES.values()],
                    value=DEFAULT_GAMES,
                    label="Game",
                    allow_custom_value=True,
                )
            with gr.Column(scale=3, min_width=300):
                reading = gr.Markdown(
                    "A roster needs names and birth dates. How it is understood is shown here, before "
                    "anything is made.",
                    elem_classes="ehm-reading",
                )
        table = gr.Dataframe(
            headers=TABLE_TITLES,
            label="First rows",
            interactive=False,
            visible=False,
            wrap=True,
            column_widths=["60px", "130px", "140px", "110px", "130px", "80px", "460px"],
            elem_classes="ehm-table",
        )
        settings, sex = _build_settings_part()
        changes = _build_changes_part(session)
        with gr.Row():
            start = gr.Button("Make the facepack", variant="primary", min_width=160)
            cancel = gr.Button("Cancel and keep what is done", min_width=160)
        status = gr.HTML(label="Status", show_label=False, elem_classes="ehm-status")
        with gr.Row():
            made = gr.File(label="Facepack (ZIP)", interactive=False, min_width=200, height=110)
            report = gr.File(label="Report (CSV)", interactive=False, min_width=200, height=110)
        faces = gr.Gallery(
            label="Newest faces", columns=6, height="auto", object_fit="contain", format="png",
            buttons=["download", "fullscreen"], elem_classes=["ehm-gallery", "ehm-faces"], interactive=False,
        )  # fmt: skip
    read_event = {
        "fn": make_reader(session),
        "inputs": [roster, *corrections, games],
        "outputs": [reading, table, *corrections[3:]],
        "api_visibility": "private",
    }
    roster.upload(**read_event)
    example.click(make_example(session), outputs=roster, api_visibility="private").then(**read_event)
    for correction in (*corrections, games):
        correction.input(**read_event)
    start.click(
        make_facepack(session),
        [roster, *settings, *corrections, model, games, *changes, sex],
        [status, faces, made, report],
        api_name=endpoints.FACEPACK,
        concurrency_id=PACK_QUEUE,
        concurrency_limit=1,
        show_progress="hidden",
    )
    cancel.click(make_cancel(session), api_visibility="private", queue=False)


def _build_roster_part() -> tuple[gr.File, gr.Button, list[gr.Dropdown]]:
    roster = gr.File(label="Roster", height=150)
    example = gr.Button("Take the example roster", size="sm")
    with gr.Accordion("Correct the reading", open=False):
        corrections = [
            _correction("Encoding", _ENCODINGS),
            _correction("Separator", _SEPARATORS),
            _correction("Date order", _DATE_ORDERS),
            *(_correction(label, [("automatic", "")]) for label in _FIELD_LABELS),
        ]
    return roster, example, corrections


def _correction(label: str, choices: list[Any]) -> gr.Dropdown:
    return gr.Dropdown(choices, value="", label=label, allow_custom_value=True)


def _build_settings_part() -> tuple[list[Any], gr.Radio]:
    with gr.Accordion("How the portraits look", open=True):
        with gr.Row():
            pack_key = gr.Textbox(
                "",
                label="Pack key",
                info="Any word. Another word gives everybody another face.",
                max_length=200,
                min_width=200,
            )
            limit = gr.Number(
                0, label="At most", info="0 = everybody.", precision=0, minimum=0, min_width=120
            )
            portrait_format, background = fields.format_field(), fields.background_field()
        sex = fields.sex_field("men")
        truncation = fields.truncation_field()
        with gr.Accordion("More", open=False):
            noise, cutout = fields.noise_field(), fields.cutout_field()
            padded = gr.Checkbox(False, label="Zeros in dates (07_03_2006)", info="EHM expects 7_3_2006.")
    return [pack_key, truncation, noise, portrait_format, background, cutout, limit, padded], sex


def _build_changes_part(session: Session) -> list[Any]:
    with gr.Accordion("Extend or change a pack", open=False):
        most = session.limits.max_upload_bytes // 2**20
        pack = gr.File(
            label=f"A facepack made earlier (ZIP, up to {most} MB); its pictures stay",
            file_types=[".zip"],
            height=110,
        )
        with gr.Row():
            only = gr.Textbox(
                "", label="Only", info="Names, with commas. Nobody else is drawn.", max_length=5000
            )
            reroll = gr.Textbox(
                "", label="Another face for", info="Names of people in that ZIP.", max_length=5000
            )
        unique = gr.Checkbox(True, label="Draw faces that are too much alike again")
    return [pack, only, reroll, unique]
