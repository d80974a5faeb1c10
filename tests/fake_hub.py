"""A data-set hub on the loopback, as far as `hf:` asks it: one commit of a folder, by the hub's own HTTP interface."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs, unquote, urlsplit

SHA = "0123456789abcdef0123456789abcdef01234567"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "FakeHub"

    def log_message(self, *arguments: object) -> None:
        self.server.asked.append(f"{self.command} {self.path}")

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        is_json = "json" in self.headers["Content-Type"]
        asked = json.loads(body)["paths"] if is_json else parse_qs(body)["paths"]
        self._json([entry for path in asked for entry in self._tree(path, True) if entry["path"] == path])

    def do_GET(self) -> None:
        path, hub = unquote(urlsplit(self.path).path), self.server
        api, file = f"/api/datasets/{hub.name}", f"/datasets/{hub.name}/resolve/"
        if path in (api, f"{api}/revision/{SHA}", f"{api}/revision/main"):
            self._json({"id": hub.name, "sha": SHA, "private": False, "siblings": [], "tags": []})
        elif path.startswith(f"{api}/tree/"):
            below = path.removeprefix(f"{api}/tree/").partition("/")[2]
            self._json(self._tree(below, "recursive=true" in self.path.lower()))
        elif path.startswith(file) and (where := hub.folder / path.removeprefix(file).partition("/")[2]).is_file():
            self._file(where)
        else:
            code = "RevisionNotFound" if path.startswith(f"{api}/revision/") else "RepoNotFound"
            code = "EntryNotFound" if path.startswith(file) else code
            self._send(404, b"{}", {"X-Error-Code": code})

    def _tree(self, below: str, recursive: bool) -> list[dict]:
        folder = self.server.folder
        entries = []
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            inside = not below or name == below or name.startswith(f"{below}/")
            if inside and (recursive or "/" not in name.removeprefix(below).strip("/")):
                oid = hashlib.sha1(name.encode()).hexdigest()
                size = {"size": path.stat().st_size} if path.is_file() else {"size": 0}
                entries.append({"type": "file" if path.is_file() else "directory", "path": name, "oid": oid, **size})
        return entries

    def _json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _file(self, path: Path) -> None:
        data, status = path.read_bytes(), 200
        if (span := self.headers.get("Range")) is not None:
            first, _, last = span.removeprefix("bytes=").partition("-")
            data, status = data[int(first) : int(last) + 1 if last else None], 206
            self.server.left -= len(data)
            if self.server.left < 0:
                status, data = 503, b""
        self._send(status, data, {"ETag": f'"{hashlib.sha1(path.read_bytes()).hexdigest()}"', "X-Repo-Commit": SHA})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body)), "Accept-Ranges": "bytes"}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class FakeHub(ThreadingHTTPServer):
    """`name` is the data set's, `folder` has its files, `asked` what was asked for; `left`, the bytes that it gives."""

    daemon_threads = True

    def __init__(self, name: str, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.name, self.folder, self.left = name, folder, 1 << 40
        self.asked: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def served(name: str, folder: Path) -> Iterator[FakeHub]:
    """Serve a folder as a data set of this name."""
    with FakeHub(name, folder) as hub:
        Thread(target=hub.serve_forever, daemon=True).start()
        yield hub
        hub.shutdown()
