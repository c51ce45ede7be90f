"""Two addresses for whoever watches the server: is it alive, and can it work?

Owns /healthz (the process answers) and /readyz (the model is loaded and the server is not closing). They
say nothing about visitors.
"""

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from ehmfaces import __version__
from ehmfaces.ui.door import ServerState


def health_routes(state: ServerState) -> list[Route]:
    """Return the routes to mount."""

    async def alive(_: Request) -> JSONResponse:
        return JSONResponse({"status": "ok", "version": __version__})

    async def ready(_: Request) -> JSONResponse:
        status = "closing" if state.is_closing else "ready" if state.session.is_ready else "loading"
        return JSONResponse({"status": status}, 200 if status == "ready" else 503)

    return [Route("/healthz", alive), Route("/readyz", ready)]
