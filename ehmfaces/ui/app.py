"""The whole page, and how it is served.

Owns the order of the tabs and the server's settings. What a tab does is in its own file.
"""

import os
import threading
from importlib.util import find_spec
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from ehmfaces import __version__
from ehmfaces.ui.about_tab import build_about_tab
from ehmfaces.ui.api_tab import build_api_tab
from ehmfaces.ui.check_tab import build_check_tab
from ehmfaces.ui.cutout_tab import build_cutout_tab
from ehmfaces.ui.door import Door, ServerState
from ehmfaces.ui.facepack_tab import build_facepack_tab
from ehmfaces.ui.generate_tab import build_generate_tab
from ehmfaces.ui.health import health_routes
from ehmfaces.ui.log import log_event, start_log
from ehmfaces.ui.mix_tab import build_mix_tab
from ehmfaces.ui.model_picker import build_model_picker
from ehmfaces.ui.session import Limits, Session
from ehmfaces.ui.settings import ServerSettings, from_environment, settings_for
from ehmfaces.ui.shutdown import serve_until_stopped
from ehmfaces.ui.theme import CSS, build_theme
from ehmfaces.ui.workfolder import start_sweeping, work_folder

DEFAULT_PORT = 7860
# gradio copies the whole page's settings (0.27 MB) for each session, and each call of the API is one. The
# page keeps nothing in them.
SESSIONS_KEPT = 128
_HEAD = "# ehmfaces\nFaces of people who do not exist, ready for your hockey manager."
_SWEEPS = 10  # in the time that files are kept
_SPACE_EMBEDDERS = "'self' https://huggingface.co https://*.hf.space"


def build_app(session: Session | None = None) -> gr.Blocks:
    """Build the page.

    Args:
        session: Models and limits; None = the defaults of this machine, changed by EHMFACES_ variables.
    """
    session = session or Session(limits=from_environment(Limits()))
    work_folder()  # before gradio asks where uploads go
    keep_sec = from_environment(ServerSettings()).keep_files_sec
    with gr.Blocks(
        title="ehmfaces", analytics_enabled=False, delete_cache=(_sweep_interval(keep_sec), int(keep_sec) + 1)
    ) as demo:
        gr.Markdown(_HEAD, elem_classes="ehm-head")
        model = build_model_picker(session)
        with gr.Tabs():
            build_generate_tab(session, model)
            build_mix_tab(session, model)
            build_facepack_tab(session, model)
            build_check_tab(session)
            build_cutout_tab(session)
            build_api_tab(demo)
            build_about_tab(session)
    demo.session = session
    if is_space():
        session.preload()
    # without api_open=False everybody could go past the queue
    return demo.queue(max_size=session.limits.max_waiting, default_concurrency_limit=2, api_open=False)


def _sweep_interval(keep_sec: float) -> int:
    return max(int(keep_sec / _SWEEPS), 1)


def is_space() -> bool:
    """Tell whether this runs as a Space on the Hub."""
    return bool(os.environ.get("SPACE_ID"))


def launch(
    demo: gr.Blocks,
    port: int | None = None,
    host: str | None = None,
    *,
    rules: ServerSettings | None = None,
    prevent_thread_lock: bool = False,
    **options: Any,
) -> Any:
    """Serve a page with the settings that the page needs.

    Args:
        demo: As `build_app` gives it.
        port: None = the first free one from 7860 on; on a Space always 7860.
        host: None = this machine only; on a Space every address.
        rules: Limits for visitors; None = by host and EHMFACES_ variables.
        prevent_thread_lock: Return while the server runs on.
        **options: Further options of gradio's launch.

    Returns:
        What gradio's launch returns: its server, the local address and the public one.
    """
    on_space = is_space()
    address = host or ("0.0.0.0" if on_space else "127.0.0.1")
    rules = rules or settings_for(address, on_space)
    state = ServerState(demo.session, rules, _SPACE_EMBEDDERS if on_space else "'self'")
    state.learn_events(demo.fns)
    # uvicorn must not believe X-Forwarded-For by itself: the door reads it where a setting says so
    os.environ.setdefault("FORWARDED_ALLOW_IPS", "")
    settings: dict[str, Any] = {
        "server_name": address,
        "server_port": port or (DEFAULT_PORT if on_space else None),
        "prevent_thread_lock": True,
        "theme": build_theme(),
        "css": CSS,
        "max_file_size": demo.session.limits.max_upload_bytes,
        "allowed_paths": [],
        "ssr_mode": False,
        "share": False,
        "state_session_capacity": SESSIONS_KEPT,
        "enable_monitoring": False,
        "run_history": False,
        "footer_links": ["api", "settings"],
        "mcp_server": find_spec("mcp") is not None,
        "app_kwargs": {"middleware": [Middleware(Door, state=state)], "routes": health_routes(state)},
    }
    launched = demo.launch(**(settings | options))
    if not prevent_thread_lock:
        _run(demo, state)
    return launched


def _run(demo: gr.Blocks, state: ServerState) -> None:
    """Serve until a signal comes, with log, sweeper and the model loaded beforehand."""
    start_log()
    keep_sec = state.settings.keep_files_sec
    every_sec = _sweep_interval(keep_sec)
    # a little later than gradio, which forgets its files only when it removes them itself
    stop_sweeping = start_sweeping(
        work_folder(), keep_sec + 2 * every_sec, every_sec, lambda count: log_event("swept", files=count)
    )
    threading.Thread(target=demo.session.preload, name="preload", daemon=True).start()
    log_event("started", version=__version__, address=demo.local_url)
    try:
        serve_until_stopped(demo, state)
    finally:
        stop_sweeping.set()
        work_folder().remove()


def serve(
    port: int | None = None,
    host: str = "127.0.0.1",
    model: str | None = None,
    rules: ServerSettings | None = None,
) -> None:
    """Serve the page until it is interrupted.

    Args:
        port: None = the first free one from 7860 on.
        host: Address to listen on.
        model: Folder or Hub id of the generator; None = EHMFACES_MODEL or the embedded default.
        rules: Limits for visitors; None = by host and EHMFACES_ variables.
    """
    launch(build_app(Session(model=model, limits=from_environment(Limits()))), port, host, rules=rules)
