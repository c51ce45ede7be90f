"""The door of the server: every HTTP request passes here before gradio sees it.

Owns what is let in (hosts, origins, addresses of the page, sizes, files, budgets) and the headers of every
answer. Does not know tabs or models. A refusal is a status, one sentence, and nothing of the request in it.

Not covered: who the visitor is (there are no accounts), and floods below HTTP; a proxy in front has to
hold those.
"""

import json
import re
import secrets
import shutil
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from math import ceil
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ehmfaces.ui.budget import FACES, PACKS, REQUESTS, Accounts
from ehmfaces.ui.log import log_event
from ehmfaces.ui.session import GPU_QUEUE, PACK_QUEUE, Session
from ehmfaces.ui.settings import ServerSettings, is_loopback
from ehmfaces.ui.visit import SCOPE_KEY, Visit, client_address
from ehmfaces.ui.workfolder import work_folder

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_API = "/gradio_api/"
_MAX_JSON_BYTES = 2**20
_FILES_AN_UPLOAD = 4  # of the largest size
_LEAST_FREE_BYTES = 256 * 2**20
_PICKLES = frozenset({".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib", ".dill"})
_RELAY = b"x-ehmfaces-visit"  # on calls that the MCP server makes to itself
_OPEN_PATHS = re.compile(
    r"/(?:healthz|readyz|config/?|theme\.css|favicon\.ico|manifest\.json|robots\.txt"
    r"|(?:assets|static|svelte|pwa_icon)(?:/[^:]*)?"
    r"|gradio_api/(?:info/?|openapi\.json|startup-events|theme\.css|app_id/?|login_check/?|cancel|reset/?"
    r"|queue/(?:join|data|status)|call/(?:v2/)?[\w-]+(?:/\w*)?|run/[\w-]+/?|upload|upload_progress|heartbeat/\w+"
    r"|mcp(?:/.*)?|file=(?!\w\w+:).+))?"
)
_KINDS = {GPU_QUEUE: FACES, PACK_QUEUE: PACKS}
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' blob:; font-src 'self' data:; worker-src 'self' blob:; "
    "connect-src 'self' data: blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors "
)
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=(), payment=()"),
    (b"cross-origin-opener-policy", b"same-origin-allow-popups"),
)


class RefusedError(Exception):
    """A request that is not let in.

    Args:
        status: Of HTTP.
        sentence: For the person.
        wait_sec: When to come again; 0 = not said.
    """

    def __init__(self, status: int, sentence: str, wait_sec: float = 0.0) -> None:
        """Remember all."""
        super().__init__(sentence)
        self.status, self.sentence, self.wait_sec = status, sentence, wait_sec


class ServerState:
    """What the door, the health page and the shutdown share.

    Args:
        session: Models and limits.
        settings: As the owner wants them.
        embedders: Sites that may show the page in a frame, as CSP writes them.
    """

    def __init__(self, session: Session, settings: ServerSettings, embedders: str = "'self'") -> None:
        """Let nobody in yet."""
        self.session = session
        self.policy = (_POLICY + embedders).encode()
        self.apply(settings)
        self.kinds: dict[int | str, str] = {}  # index and name of an event -> which budget pays
        self.is_closing = False
        self.open_answers = 0  # requests that somebody waits for, heartbeats aside
        self.relayed: dict[bytes, Visit] = {}

    def apply(self, settings: ServerSettings) -> None:
        """Follow these settings from now on; all budgets are full again."""
        self.settings = settings
        self.accounts = Accounts(settings)
        self.proxies = settings.proxy_networks
        self.hosts = settings.host_names
        self.is_local = bool(self.hosts) and all(is_loopback(host) for host in self.hosts)

    def learn_events(self, events: MutableMapping[int, Any]) -> None:
        """Remember which events compute faces or packs, by gradio's table of events."""
        for index, event in events.items():
            kind = _KINDS.get(event.concurrency_id, REQUESTS)
            self.kinds[index] = kind
            if isinstance(event.api_name, str):
                self.kinds[event.api_name] = kind


class Door:
    """The ASGI middleware.

    Args:
        app: What comes behind.
        state: Shared with the rest of the server.
    """

    def __init__(self, app: App, state: ServerState) -> None:
        """Stand in front of an app."""
        self._app = app
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request in, or answer it here."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        relay = _header(scope, _RELAY)
        visit = self._visit(scope, relay)
        scope[SCOPE_KEY] = visit
        answer = _Answer(scope, send, visit, self._state.policy)
        with self._counted(scope):
            try:
                self._check_address(scope)
                receive = await self._check_body(scope, receive, visit)
                with self._relaying(scope, visit):
                    await self._app(scope, receive, answer.send)
            except RefusedError as refusal:
                _log_refusal(scope, refusal, visit)
                await answer.refuse(refusal)

    def _visit(self, scope: Scope, relay: bytes) -> Visit:
        outer = self._state.relayed.get(relay)
        if outer is not None:
            return Visit(outer.account, outer.accounts, outer.request_id)
        address = client_address(scope, self._state.proxies)
        return Visit(self._state.accounts.of(address), self._state.accounts)

    @contextmanager
    def _counted(self, scope: Scope) -> Iterator[None]:
        weight = (
            0 if scope["path"].startswith((_API + "heartbeat", _API + "mcp", "/healthz", "/readyz")) else 1
        )
        self._state.open_answers += weight
        try:
            yield
        finally:
            self._state.open_answers -= weight

    @contextmanager
    def _relaying(self, scope: Scope, visit: Visit) -> Iterator[None]:
        """Let the MCP server's calls to itself pay from the account of its caller."""
        if not scope["path"].startswith(_API + "mcp"):
            yield
            return
        token = secrets.token_hex(16).encode()
        self._state.relayed[token] = visit
        scope["headers"] = [*(pair for pair in scope["headers"] if pair[0] != _RELAY), (_RELAY, token)]
        try:
            yield
        finally:
            del self._state.relayed[token]

    def _check_address(self, scope: Scope) -> None:
        """Check host, origin and path.

        Raises:
            RefusedError: The server does not answer to them.
        """
        if not self._is_our_name(scope, _header(scope, b"host").decode("latin-1")):
            raise RefusedError(421, "This server does not answer to that host name. See allowed_hosts.")
        origin = _header(scope, b"origin").decode("latin-1")
        if self._state.is_local and origin and not is_loopback(_host_of(origin)):
            raise RefusedError(403, "Another site may not use a page that runs on this machine only.")
        if not _OPEN_PATHS.fullmatch(scope["path"]):
            raise RefusedError(404, "There is nothing here.")
        if self._state.is_closing and scope["method"] == "POST" and not scope["path"].endswith("cancel"):
            raise RefusedError(503, "The server is about to restart. Try again in a minute.", 60)

    def _is_our_name(self, scope: Scope, host: str) -> bool:
        name = _host_of(f"//{host}")
        peer = (scope.get("client") or ("",))[0]
        return not self._state.hosts or name in self._state.hosts or (is_loopback(peer) and is_loopback(name))

    async def _check_body(self, scope: Scope, receive: Receive, visit: Visit) -> Receive:
        """Check what a POST brings and let its visitor pay.

        Raises:
            RefusedError: It is too large, names a file that was not uploaded here, or the budget is used up.
        """
        if scope["method"] != "POST":
            return receive
        path = scope["path"]
        if path.startswith(_API + "upload"):
            self._pay(visit, REQUESTS)
            return self._limited_upload(scope, receive)
        body = await _read_all(receive, _MAX_JSON_BYTES)
        data = {} if path.startswith(_API + "mcp") else _parse(body)
        for file in _files_in(data):
            _check_file(file, self._state.settings.keep_files_sec)
        if not path.startswith((_API + "cancel", _API + "reset")):
            self._pay(visit, self._kind(path, data))
        return _replay(body, receive)

    def _kind(self, path: str, data: Any) -> str:
        index = data.get("fn_index") if isinstance(data, dict) else None
        name = path.removeprefix(_API + "call/").removeprefix("v2/").strip("/")
        kinds = self._state.kinds
        known = kinds.get(index) if isinstance(index, int) else None
        return known or kinds.get(name, REQUESTS)

    def _pay(self, visit: Visit, kind: str) -> None:
        sentence, wait = visit.accounts.take(visit.account, kind)
        if sentence:
            raise RefusedError(429, sentence, wait)

    def _limited_upload(self, scope: Scope, receive: Receive) -> Receive:
        """Return a `receive` that breaks off when an upload becomes too large."""
        folder = work_folder()
        most = self._state.session.limits.max_upload_bytes * _FILES_AN_UPLOAD
        free = shutil.disk_usage(folder.root).free
        if folder.used_bytes > self._state.settings.max_disk_bytes or free < _LEAST_FREE_BYTES:
            raise RefusedError(
                507, "The disk of the server is full of other people's files. Try again later.", 600
            )
        length = _header(scope, b"content-length")
        if length.isdigit() and int(length) > most:
            raise _too_large(most)
        seen = 0

        async def limited() -> Message:
            nonlocal seen
            message = await receive()
            size = len(message.get("body", b""))
            seen += size
            folder.used_bytes += size
            if seen > most:
                raise _too_large(most)
            return message

        return limited


class _Answer:
    """Sends an answer with the headers that every answer has."""

    def __init__(self, scope: Scope, send: Send, visit: Visit, policy: bytes) -> None:
        self._scope, self._send = scope, send
        self._headers = [
            *_HEADERS,
            (b"content-security-policy", policy),
            (b"x-request-id", visit.request_id.encode()),
        ]
        if scope["path"].startswith((_API + "file=", _API + "call", _API + "queue")):
            self._headers.append((b"cache-control", b"private, no-store"))
        self._visit = visit
        self._is_begun = self._is_replaced = False

    async def send(self, message: Message) -> None:
        """Pass on what the app sends; its own words for a full queue are replaced by ours."""
        if self._is_replaced:
            return
        if message["type"] == "http.response.start":
            if message["status"] == 503 and self._scope["method"] == "POST":
                refusal = RefusedError(503, "The queue is full. Try again in a minute.", 60)
                _log_refusal(self._scope, refusal, self._visit)
                await self.refuse(refusal)
                self._is_replaced = True
                return
            self._is_begun = True
            ours = {name for name, _ in self._headers}
            theirs = [pair for pair in message.get("headers", []) if pair[0].lower() not in ours]
            message = {**message, "headers": [*theirs, *self._headers]}
        await self._send(message)

    async def refuse(self, refusal: RefusedError) -> None:
        """Send a refusal, unless the answer has begun."""
        if self._is_begun:
            return
        body = json.dumps({"detail": refusal.sentence}).encode()
        headers = [
            *self._headers,
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ]
        if refusal.wait_sec:
            headers.append((b"retry-after", str(ceil(refusal.wait_sec)).encode()))
        await self._send({"type": "http.response.start", "status": refusal.status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})


def _log_refusal(scope: Scope, refusal: RefusedError, visit: Visit) -> None:
    path = scope["path"]
    log_event(
        "refusal",
        status=refusal.status,
        path=path if path.startswith(_API + "call") and _OPEN_PATHS.fullmatch(path) else None,
        method=scope["method"] if scope["method"] in {"GET", "HEAD", "POST"} else "other",
        request=visit.request_id,
        client=visit.account.name,
    )


def _header(scope: Scope, name: bytes) -> bytes:
    return next((value for key, value in scope["headers"] if key == name), b"")


def _host_of(url: str) -> str:
    """Return the name in an origin or a host header.

    Example:
        >>> _host_of("http://127.0.0.1:7860"), _host_of("//[::1]:80"), _host_of("null")
        ('127.0.0.1', '::1', '')
    """
    try:
        return (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return ""


def _too_large(most: int) -> RefusedError:
    return RefusedError(413, f"This is too large. At most {most // 2**20} MB are taken at once.")


async def _read_all(receive: Receive, most: int) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > most:
            raise _too_large(most)
    return body


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives a body that was read already, then what follows."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay


def _parse(body: bytes) -> Any:
    """Return the JSON of a body; gradio itself says what is wrong with other bodies."""
    try:
        return json.loads(body or b"{}")
    except (ValueError, RecursionError):
        return {}


def _files_in(data: Any) -> Iterator[str]:
    """Yield all paths of files in gradio's payload."""
    pending = [data]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            pending.extend(value.values())
            if isinstance(value.get("path"), str):
                yield value["path"]
        elif isinstance(value, list):
            pending.extend(value)


def _check_file(path: str, keep_sec: float) -> None:
    """Check that a path is a file which somebody uploaded here.

    Raises:
        RefusedError: It is an address, a file of the server, a pickle, or gone.
    """
    if re.match(r"[\w+.-]+://", path) or path.startswith(("//", "data:")):
        raise RefusedError(400, "Files are not fetched from addresses. Upload the file itself first.")
    root = work_folder().root
    try:
        file = Path(path).resolve()
        is_ours = file.is_relative_to(root) and file != root
        is_there = is_ours and file.is_file()
    except (OSError, ValueError):
        is_ours = is_there = False
    if not is_ours:
        raise RefusedError(
            400, "This file was not uploaded here. Upload it first, and give the path of the answer."
        )
    if file.suffix.lower() in _PICKLES:
        raise RefusedError(
            400, "Pickled files can hold programs, so none is read here. Convert it to safetensors."
        )
    if not is_there:
        hours = keep_sec / 3600
        raise RefusedError(
            400, f"This file is no longer here: files are kept for {hours:g} hours. Upload it again."
        )
