"""The whole page, and how it is served.

Owns the order of the tabs and the server's settings. What a tab does is in its own file.
"""

import os
from importlib.util import find_spec
from typing import Any

import gradio as gr

from ehmfaces.ui.about_tab import build_about_tab
from ehmfaces.ui.api_tab import build_api_tab
from ehmfaces.ui.cutout_tab import build_cutout_tab
from ehmfaces.ui.facepack_tab import build_facepack_tab
from ehmfaces.ui.generate_tab import build_generate_tab
from ehmfaces.ui.mix_tab import build_mix_tab
from ehmfaces.ui.session import Limits, Session
from ehmfaces.ui.theme import CSS, build_theme

DEFAULT_PORT = 7860
_HEAD = "# ehmfaces\nFaces of people who do not exist, ready for your hockey manager."
_CACHE_SWEEP_SEC, _CACHE_AGE_SEC = 3600, 3 * 3600


def build_app(session: Session | None = None) -> gr.Blocks:
    """Build the page.

    Args:
        session: Models and limits; None = the defaults of this machine.
    """
    session = session or Session()
    with gr.Blocks(
        title="ehmfaces", analytics_enabled=False, delete_cache=(_CACHE_SWEEP_SEC, _CACHE_AGE_SEC)
    ) as demo:
        gr.Markdown(_HEAD, elem_classes="ehm-head")
        with gr.Tabs():
            build_generate_tab(session)
            build_mix_tab(session)
            build_facepack_tab(session)
            build_cutout_tab(session)
            build_api_tab(demo)
            build_about_tab(session)
    if is_space():
        session.preload()
    return demo.queue(max_size=session.limits.max_waiting, default_concurrency_limit=2)


def is_space() -> bool:
    """Tell whether this runs as a Space on the Hub."""
    return bool(os.environ.get("SPACE_ID"))


def launch(
    demo: gr.Blocks,
    port: int | None = None,
    host: str | None = None,
    *,
    prevent_thread_lock: bool = False,
    **options: Any,
) -> Any:
    """Serve a page with the settings that the page needs.

    Args:
        demo: As `build_app` gives it.
        port: None = the first free one from 7860 on; on a Space always 7860.
        host: None = this machine only; on a Space every address.
        prevent_thread_lock: Return while the server runs on.
        **options: Further options of gradio's launch.

    Returns:
        What gradio's launch returns: its server, the local address and the public one.
    """
    on_space = is_space()
    settings: dict[str, Any] = {
        "server_name": host or ("0.0.0.0" if on_space else "127.0.0.1"),
        "server_port": port or (DEFAULT_PORT if on_space else None),
        "prevent_thread_lock": prevent_thread_lock,
        "theme": build_theme(),
        "css": CSS,
        "max_file_size": Limits().max_upload_bytes,
        "allowed_paths": [],
        "ssr_mode": False,
        "share": False,
        "enable_monitoring": False,
        "run_history": False,
        "footer_links": ["api", "settings"],
        "mcp_server": find_spec("mcp") is not None,
    }
    return demo.launch(**(settings | options))


def serve(port: int | None = None, host: str = "127.0.0.1", model: str | None = None) -> None:
    """Serve the page until it is interrupted.

    Args:
        port: None = the first free one from 7860 on.
        host: Address to listen on.
        model: Folder or Hub id of the generator; None = EHMFACES_MODEL or the embedded default.
    """
    launch(build_app(Session(model=model)), port, host)
