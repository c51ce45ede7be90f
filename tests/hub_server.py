"""A small server that speaks the Hub's protocol on loopback: models only, everything in memory.

What it does is what the Hub does as far as its client can tell: repository info, trees, resolve with HEAD,
ETags, redirects of large files to another host name, ranges, tokens, private and gated repositories, error
codes, and uploads through preupload, the LFS batch call and one commit. Faults are switched on by tests.
"""

import base64
import hashlib
import json
import re
import socket
import sys
import threading
import urllib.parse
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import sleep  # bound here: tests make the client's waiting short

import yaml

OWNER_TOKEN = "hf_owner"
STRANGER_TOKEN = "hf_stranger"


def git_blob_id(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


@dataclass
class Repo:
    repo_id: str
    kind: str = "model"
    private: bool = False
    gated: bool = False
    branches: dict = field(default_factory=dict)  # name -> commit id
    commits: dict = field(default_factory=dict)  # commit id -> {path: content}
    messages: list = field(default_factory=list)

    def commit(self, files, branch="main", message=""):
        seed = f"{self.repo_id}{branch}{len(self.commits)}".encode()
        commit_id = hashlib.sha1(seed, usedforsecurity=False).hexdigest()
        self.commits[commit_id] = {**self.files(branch), **files}
        self.branches[branch] = commit_id
        self.messages.append(message)
        return commit_id

    def resolve(self, revision):
        return revision if revision in self.commits else self.branches.get(revision)

    def files(self, revision):
        return self.commits.get(self.resolve(revision) or "", {})


@dataclass
class Request:
    method: str
    path: str
    range: str | None
    has_token: bool
    host: str
    sent_bytes: int = 0


class HubServer(ThreadingHTTPServer):
    """Listens on a free port; use as a context manager."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.cdn = f"http://localhost:{self.server_port}/cdn"  # another host name, as the real one has
        self.repos, self.objects, self.log, self.crashes = {}, {}, [], []
        self.connections = []
        self.breaks = []  # after how many bytes the next downloads of large files break off
        self.corrupted = set()  # SHA-256 of large files that are sent with wrong content
        self.ignores_ranges = False
        self.delay_sec = 0.0
        self.status = None  # answers every call of the API with this
        self.lfs_limit_bytes = 2000  # larger files and safetensors are stored as large files

    def handle_error(self, request, client_address):
        error = sys.exception()
        if not isinstance(error, ConnectionError):  # a client that went away is part of the tests
            self.crashes.append(repr(error))

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.stop()

    def process_request(self, request, client_address):
        self.connections.append(request)
        super().process_request(request, client_address)

    def stop(self):
        """Go away: listen no more and drop the connections that are open."""
        self.shutdown()
        self.server_close()
        for connection in self.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def add(self, repo_id, files, branch="main", **options):
        repo = self.repos.setdefault(repo_id, Repo(repo_id, **options))
        for path, content in files.items():
            if self.is_large(path, len(content)):
                self.objects[hashlib.sha256(content).hexdigest()] = content
        return repo.commit(files, branch)

    def add_folder(self, repo_id, folder, **options):
        paths = [path for path in folder.rglob("*") if path.is_file()]
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
        return self.add(repo_id, files, **options)

    def is_large(self, path, size):
        return path.endswith((".safetensors", ".bin", ".pkl", ".onnx", ".png")) or size > self.lfs_limit_bytes

    def downloads(self):
        """Return the requests that fetched files."""
        return [r for r in self.log if r.method == "GET" and ("/resolve/" in r.path or "/cdn/" in r.path)]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.answer("GET")

    def do_HEAD(self):
        self.answer("HEAD")

    def do_POST(self):
        self.answer("POST")

    def do_PUT(self):
        self.answer("PUT")

    def answer(self, method):
        url = urllib.parse.urlsplit(self.path)
        self.query = urllib.parse.parse_qs(url.query)
        self.body = self.read_body()
        self.token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        host = self.headers["Host"].split(":")[0]
        self.entry = Request(method, url.path, self.headers.get("Range"), bool(self.token), host)
        self.server.log.append(self.entry)
        sleep(self.server.delay_sec)
        if self.server.status and "/cdn/" not in url.path:
            return self.error(self.server.status, "", "Out of order")
        for pattern, name in ROUTES:
            match = re.fullmatch(pattern, url.path)
            if match:
                return getattr(self, name)(method, *map(urllib.parse.unquote, match.groups("")))
        return self.error(404, "", f"No such route: {method} {url.path}")

    def read_body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    # answers

    def reply(self, content, status=200, headers=None):
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
            self.entry.sent_bytes = len(content)

    def json(self, content, status=200):
        self.reply(json.dumps(content).encode(), status, {"Content-Type": "application/json"})

    def error(self, status, code, message):
        headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self.reply(json.dumps({"error": message}).encode(), status, headers)

    def find(self, repo_id, kind="model", writes=False):
        """Return a repository that this caller may see, or answer with the Hub's error and None."""
        repo = self.server.repos.get(repo_id)
        if self.token and self.token not in (OWNER_TOKEN, STRANGER_TOKEN):
            self.error(401, "", "Invalid credentials in Authorization header")
        elif repo is None or repo.kind != kind or (repo.private and self.token != OWNER_TOKEN):
            self.error(404 if self.token else 401, "RepoNotFound", "Repository not found")
        elif writes and self.token != OWNER_TOKEN:
            self.error(403 if self.token else 401, "", "You have no write access")
        else:
            return repo
        return None

    # reading

    def info(self, method, kind, repo_id, revision="main"):
        repo = self.find(repo_id, kind)
        if repo is None:
            return None
        commit = repo.resolve(revision)
        if commit is None:
            return self.error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        siblings = [self.sibling(path, content) for path, content in repo.files(commit).items()]
        info = {"_id": "1", "id": repo_id, "modelId": repo_id, "sha": commit, "private": repo.private,
                "gated": "manual" if repo.gated else False, "disabled": False, "tags": [], "downloads": 0,
                "likes": 0, "siblings": siblings, "cardData": self.card(repo.files(commit))}  # fmt: skip
        return self.json(info)

    def sibling(self, path, content):
        entry = {"rfilename": path}
        if "blobs" in self.query:
            entry |= {"size": len(content), "blobId": git_blob_id(content)}
            if self.server.is_large(path, len(content)):
                entry["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content),
                                "pointerSize": 130}  # fmt: skip
        return entry

    def card(self, files):
        match = re.match(rb"---\n(.*?)\n---", files.get("README.md", b""), re.S)
        return yaml.safe_load(match[1]) if match else {}

    def tree(self, method, repo_id, revision, _path=""):
        repo = self.find(repo_id)
        if repo is None:
            return None
        if repo.resolve(revision) is None:
            return self.error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        entries = []
        for path, content in repo.files(revision).items():
            entry = {"type": "file", "path": path, "size": len(content), "oid": git_blob_id(content)}
            if self.server.is_large(path, len(content)):
                oid = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"oid": oid, "size": len(content), "pointerSize": 130}
            entries.append(entry)
        return self.json(entries)

    def file(self, method, repo_id, revision, path):
        repo = self.find(repo_id)
        if repo is None:
            return None
        commit = repo.resolve(revision)
        if commit is None:
            return self.error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        if repo.gated and self.token != OWNER_TOKEN:
            return self.error(403 if self.token else 401, "GatedRepo", "Access to this model is restricted")
        content = repo.files(commit).get(path)
        if content is None:
            return self.error(404, "EntryNotFound", "Entry not found")
        headers = {"X-Repo-Commit": commit}
        if self.server.is_large(path, len(content)):
            oid = hashlib.sha256(content).hexdigest()
            headers |= {"X-Linked-Size": str(len(content)), "X-Linked-Etag": f'"{oid}"',
                        "Location": f"{self.server.cdn}/{oid}"}  # fmt: skip
            return self.reply(b"", 302, headers)
        return self.reply(content, 200, headers | {"ETag": f'"{git_blob_id(content)}"'})

    def large_file(self, method, oid):
        content = self.server.objects[oid]
        if oid in self.server.corrupted:
            content = bytes(byte ^ 1 for byte in content)
        start, status, headers = 0, 200, {"ETag": f'"{oid}"', "Accept-Ranges": "bytes"}
        match = re.fullmatch(r"bytes=(\d+)-", self.entry.range or "")
        if match and not self.server.ignores_ranges:
            start, status = int(match[1]), 206
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        if start >= len(content):
            return self.error(416, "", "Range not satisfiable")
        if method == "GET" and self.server.breaks:
            return self.break_off(content[start:], status, headers, self.server.breaks.pop(0))
        return self.reply(content[start:], status, headers)

    def break_off(self, content, status, headers, after_bytes):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[:after_bytes])
        self.wfile.flush()
        self.entry.sent_bytes = min(after_bytes, len(content))
        self.close_connection = True

    # writing

    def create(self, method):
        order = json.loads(self.body)
        repo_id = f"{order.get('organization') or 'someone'}/{order['name']}"
        if self.token != OWNER_TOKEN:
            return self.error(401 if not self.token else 403, "", "You cannot make repositories here")
        if repo_id in self.server.repos:
            return self.json({"error": "exists", "url": f"{self.server.url}/{repo_id}"}, 409)
        private = bool(order.get("private")) or order.get("visibility") == "private"
        self.server.repos[repo_id] = repo = Repo(repo_id, private=private)
        repo.commit({".gitattributes": b"*.safetensors filter=lfs\n"}, message="initial commit")
        return self.json({"url": f"{self.server.url}/{repo_id}", "name": repo_id, "id": "1"})

    def branch(self, method, repo_id, name):
        repo = self.find(repo_id, writes=True)
        if repo is None:
            return None
        if name in repo.branches:
            return self.error(409, "", "Reference already exists")
        repo.branches[name] = repo.branches["main"]
        return self.json({})

    def preupload(self, method, repo_id, revision):
        repo = self.find(repo_id, writes=True)
        if repo is None:
            return None
        answer = []
        for file in json.loads(self.body)["files"]:
            mode = "lfs" if self.server.is_large(file["path"], file["size"]) else "regular"
            answer.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False})
        return self.json({"files": answer})

    def batch(self, method, repo_id):
        if self.find(repo_id, writes=True) is None:
            return None
        objects = []
        for order in json.loads(self.body)["objects"]:
            entry = {"oid": order["oid"], "size": order["size"]}
            if order["oid"] not in self.server.objects:
                base = self.server.cdn
                verify = {"href": f"{self.server.url}/api/verify", "header": {}}
                upload = {"href": f"{base}/{order['oid']}", "header": {}}
                entry["actions"] = {"upload": upload, "verify": verify}
            objects.append(entry)
        return self.json({"transfer": "basic", "objects": objects})

    def store(self, method, oid):
        if method != "PUT":
            return self.large_file(method, oid)
        if hashlib.sha256(self.body).hexdigest() != oid:
            return self.error(400, "", "Wrong content")
        self.server.objects[oid] = self.body
        return self.reply(b"")

    def verify(self, method):
        order = json.loads(self.body)
        ok = len(self.server.objects.get(order["oid"], b"")) == order["size"]
        return self.json({}, 200 if ok else 404)

    def commit(self, method, repo_id, revision):
        repo = self.find(repo_id, writes=True)
        if repo is None:
            return None
        if revision not in repo.branches:
            return self.error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        files, message = {}, ""
        for line in self.body.decode().splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "header":
                message = value["summary"]
            elif item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                files[value["path"]] = self.server.objects[value["oid"]]
            else:
                return self.error(400, "", f"Unknown key {item['key']}")
        commit = repo.commit(files, revision, message)
        return self.json({"commitUrl": f"{self.server.url}/{repo_id}/commit/{commit}", "commitOid": commit})

    def check_yaml(self, method):
        return self.json({"errors": [], "warnings": []})


_ID = r"([\w.-]+/[\w.-]+)"
ROUTES = [
    (r"/api/repos/create", "create"),
    (r"/api/validate-yaml", "check_yaml"),
    (r"/api/verify", "verify"),
    (r"/cdn/(\w+)", "store"),
    (rf"/api/(model|dataset|space)s/{_ID}", "info"),
    (rf"/api/(model|dataset|space)s/{_ID}/revision/([^/]+)", "info"),
    (rf"/api/models/{_ID}/tree/([^/]+)(/.*)?", "tree"),
    (rf"/api/models/{_ID}/branch/([^/]+)", "branch"),
    (rf"/api/models/{_ID}/preupload/([^/]+)", "preupload"),
    (rf"/api/models/{_ID}/commit/([^/]+)", "commit"),
    (rf"/{_ID}\.git/info/lfs/objects/batch", "batch"),
    (rf"/{_ID}/resolve/([^/]+)/(.+)", "file"),
]
