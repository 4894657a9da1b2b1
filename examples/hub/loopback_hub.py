"""A Hub on the loopback address, with the endpoints that `huggingface_hub` needs for model repositories."""

import base64
import hashlib
import json
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

_ROUTES = (
    ("POST", r"/api/repos/create", "create"),
    ("POST", r"/api/validate-yaml", "validate"),
    ("POST", r"/api/models/(?P<repo>[^/]+/[^/]+)/preupload/(?P<revision>[^/]+)", "preupload"),
    ("POST", r"/(?P<repo>[^/]+/[^/]+)\.git/info/lfs/objects/batch", "batch"),
    ("PUT", r"/objects/(?P<oid>[0-9a-f]{64})", "put_object"),
    ("POST", r"/api/models/(?P<repo>[^/]+/[^/]+)/commit/(?P<revision>[^/]+)", "commit"),
    ("GET", r"/api/models/(?P<repo>[^/]+/[^/]+)/tree/(?P<revision>[^/]+)(/(?P<folder>.+))?", "tree"),
    ("GET", r"/api/models/(?P<repo>[^/]+/[^/]+)(/revision/(?P<revision>[^/]+))?", "info"),
    ("GET", r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "resolve"),
)


class LoopbackHub(ThreadingHTTPServer):
    """Repositories as folders under a root, with one branch; the id of a commit is the hash of its content.

    Args:
        root: an empty folder.
        owner: the owner of repositories whose name does not include one.
    """

    def __init__(self, root: Path, owner: str = "someone"):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.root, self.owner = root, owner
        (root / "objects").mkdir(parents=True)

    @property
    def endpoint(self) -> str:
        """For ``HF_ENDPOINT``."""
        return f"http://127.0.0.1:{self.server_port}"

    def folder(self, repo: str) -> Path:
        return self.root / "repos" / repo

    def head(self, repo: str) -> str:
        """The id of the newest commit, 40 hex digits."""
        digest = hashlib.sha1(repo.encode())
        for path in self.files(repo):
            stat = path.stat()
            digest.update(f"{path} {stat.st_size} {stat.st_mtime_ns}".encode())
        return digest.hexdigest()

    def files(self, repo: str) -> list[Path]:
        return sorted(path for path in self.folder(repo).rglob("*") if path.is_file())


@contextmanager
def serve(root: Path) -> Iterator[LoopbackHub]:
    """A running hub, which stops at the end of the block.

    Args:
        root: an empty folder.
    """
    hub = LoopbackHub(root)
    thread = threading.Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: LoopbackHub

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Log nothing: the client reports errors."""

    def do_GET(self) -> None:
        self._route("GET")

    def do_HEAD(self) -> None:
        self._route("GET")

    def do_POST(self) -> None:
        self._route("POST")

    def do_PUT(self) -> None:
        self._route("PUT")

    def _route(self, method: str) -> None:
        path = unquote(urlsplit(self.path).path)
        for verb, pattern, name in _ROUTES:
            match = re.fullmatch(pattern, path) if verb == method else None
            if match:
                getattr(self, f"_{name}")(**{k: v for k, v in match.groupdict().items() if v is not None})
                return
        self._missing("EntryNotFound", f"no such endpoint: {method} {path}")

    # Each endpoint below follows the Hub's documentation (huggingface.co/docs/hub/api) or the batch API of git-lfs.

    def _create(self) -> None:
        body = json.loads(self._body())
        repo = f"{body.get('organization') or self.server.owner}/{body['name']}"
        self.server.folder(repo).mkdir(parents=True, exist_ok=True)
        self._json({"url": f"{self.server.endpoint}/{repo}", "name": repo})

    def _validate(self) -> None:
        self._body()
        self._json({"errors": [], "warnings": []})

    def _preupload(self, repo: str, revision: str) -> None:
        files = json.loads(self._body())["files"]
        large = {file["path"] for file in files if file["path"].endswith(".safetensors")}
        modes = [(file["path"], "lfs" if file["path"] in large else "regular") for file in files]
        self._json({"files": [{"path": path, "uploadMode": mode, "shouldIgnore": False} for path, mode in modes]})

    def _batch(self, repo: str) -> None:
        objects = json.loads(self._body())["objects"]
        for entry in objects:
            entry["actions"] = {"upload": {"href": f"{self.server.endpoint}/objects/{entry['oid']}"}}
        self._json({"transfer": "basic", "objects": objects})

    def _put_object(self, oid: str) -> None:
        digest, left = hashlib.sha256(), int(self.headers["Content-Length"])
        with (self.server.root / "objects" / oid).open("wb") as file:
            while left:
                chunk = self.rfile.read(min(left, 1 << 20))
                digest.update(chunk)
                file.write(chunk)
                left -= len(chunk)
        self._json({}, 200 if digest.hexdigest() == oid else 422)

    def _commit(self, repo: str, revision: str) -> None:
        for line in self._body().splitlines():
            entry = json.loads(line)
            if entry["key"] == "header":
                continue
            value = entry["value"]
            target = self.server.folder(repo) / value["path"]
            target.parent.mkdir(parents=True, exist_ok=True)
            if entry["key"] == "lfsFile":
                shutil.copyfile(self.server.root / "objects" / value["oid"], target)
            else:
                target.write_bytes(base64.b64decode(value["content"]))
        oid = self.server.head(repo)
        url = f"{self.server.endpoint}/{repo}/commit/{oid}"
        self._json({"success": True, "commitOid": oid, "commitUrl": url, "hookOutput": ""})

    def _info(self, repo: str, revision: str = "main") -> None:
        if self._known(repo):
            folder = self.server.folder(repo)
            siblings = [{"rfilename": str(path.relative_to(folder))} for path in self.server.files(repo)]
            self._json({"id": repo, "modelId": repo, "sha": self.server.head(repo), "siblings": siblings, "tags": []})

    def _tree(self, repo: str, revision: str, folder: str = "") -> None:
        if not self._known(repo):
            return
        start = self.server.folder(repo)
        if not (start / folder).is_dir():
            self._missing("EntryNotFound", folder)
            return
        files = [path for path in self.server.files(repo) if path.is_relative_to(start / folder)]
        self._json(
            [
                {"type": "file", "path": str(path.relative_to(start)), "size": path.stat().st_size, "oid": "0" * 40}
                for path in files
            ]
        )

    def _resolve(self, repo: str, revision: str, path: str) -> None:
        if not self._known(repo):
            return
        file = self.server.folder(repo) / path
        if not file.is_file():
            self._missing("EntryNotFound", path)
            return
        content = file.read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", self.server.head(repo))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def _known(self, repo: str) -> bool:
        if self.server.folder(repo).is_dir():
            return True
        self._missing("RepoNotFound", repo)
        return False

    def _missing(self, code: str, message: str) -> None:
        self._json({"error": message}, 404, {"X-Error-Code": code, "X-Error-Message": message})

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers["Content-Length"]))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _json(self, answer: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
