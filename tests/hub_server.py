"""A server on this machine that speaks the Hugging Face Hub's protocol as far as gan push and ckpt=hf: use it."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

COMMIT = "c0ffee" * 6 + "beef"


class Hub(ThreadingHTTPServer):
    """Repositories by name, each with its files, and what was asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.visibility: dict[str, Any] = {}
        self.objects: dict[str, bytes] = {}  # of git's large file storage, by their SHA-256
        self.requests: list[str] = []
        self.token = "hf_right"

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def serving() -> Iterator[Hub]:
    hub = Hub()
    thread = Thread(target=hub.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        thread.join()
        hub.server_close()


class Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None: ...

    def answer(self, content: Any = b"", status: int = 200, **headers: str) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        kind = "application/octet-stream" if isinstance(content, bytes) else "application/json"
        for name, value in ({"content-type": kind, "content-length": str(len(data))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def begin(self) -> tuple[str, bytes]:
        path = urlsplit(self.path).path
        self.server.requests.append(f"{self.command} {path}")
        return path, self.rfile.read(int(self.headers.get("content-length") or 0))

    def do_GET(self) -> None:
        path, _ = self.begin()
        found = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        files = self.server.repositories.get(found[1]) if found else None
        if not found or files is None:
            self.answer(status=401, X_Error_Code="RepoNotFound", X_Error_Message="Repository not found")
        elif found[2] not in ("main", COMMIT):
            self.answer(status=404, X_Error_Code="RevisionNotFound", X_Error_Message="Invalid rev id")
        elif found[3] not in files:
            self.answer(status=404, X_Error_Code="EntryNotFound", X_Repo_Commit=COMMIT)
        else:
            data = files[found[3]]
            self.answer(data, ETag=f'"{hashlib.sha256(data).hexdigest()}"', X_Repo_Commit=COMMIT)

    do_HEAD = do_GET

    def do_PUT(self) -> None:
        path, data = self.begin()
        self.server.objects[path.rpartition("/")[2]] = data
        self.answer()

    def do_POST(self) -> None:
        path, data = self.begin()
        if path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif self.headers.get("authorization") != f"Bearer {self.server.token}":
            self.answer({"error": "You don't have the rights to create a model"}, 403)
        elif path == "/api/repos/create":
            asked = json.loads(data)
            name = f"{asked['organization']}/{asked['name']}"
            self.server.repositories.setdefault(name, {})
            self.server.visibility[name] = asked
            self.answer({"url": f"{self.server.endpoint}/{name}"})
        elif "/preupload/" in path:
            modes = {True: "lfs", False: "regular"}
            files = json.loads(data)["files"]
            wanted = [{"path": f["path"], "uploadMode": modes[f["path"].endswith(".safetensors")]} for f in files]
            self.answer({"files": [{**file, "shouldIgnore": False, "oid": None} for file in wanted]})
        elif path.endswith("/objects/batch"):
            objects = json.loads(data)["objects"]
            upload = {o["oid"]: {"upload": {"href": f"{self.server.endpoint}/put/{o['oid']}"}} for o in objects}
            actions = [{**o, "actions": upload[o["oid"]]} for o in objects]
            self.answer({"transfer": "basic", "objects": actions})
        else:
            name = path.removeprefix("/api/models/").partition("/commit/")[0]
            for line in map(json.loads, data.splitlines()):
                if line["key"] == "file":
                    self.server.repositories[name][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                elif line["key"] == "lfsFile":
                    self.server.repositories[name][line["value"]["path"]] = self.server.objects[line["value"]["oid"]]
            self.answer({"commitUrl": f"{self.server.endpoint}/{name}/commit/{COMMIT}", "commitOid": COMMIT})
