"""A small Hub on this machine for the real client: create, preupload, LFS, commit, tree and resolve over HTTP."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_" + "t" * 34
SMALL_BYTES = 20_000  # larger files and all weights go by LFS


@dataclass
class Repo:
    private: bool
    gated: bool = False
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[list[str]] = field(default_factory=list)  # paths that each of them touched

    @property
    def head(self) -> str:
        return hashlib.sha1(repr((len(self.commits), sorted(self.files))).encode()).hexdigest()


@dataclass
class Hub:
    """What it holds, what it was asked, and how often it shall break a connection."""

    repos: dict[str, Repo] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)  # LFS
    asked: list[tuple[str, str]] = field(default_factory=list)
    received: list[str] = field(default_factory=list)  # LFS objects that were sent, once for each time
    cut_uploads: int = 0  # the next uploads break in the middle
    cut_commits: int = 0  # the next commits break before they are made
    url: str = ""

    @contextmanager
    def running(self) -> Iterator[Hub]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": self}))
        server.daemon_threads = True
        self.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


class Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        if (found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", self._path())) and self.hub.cut_commits:
            self.hub.cut_commits -= 1
            return self._cut()
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = self._path()
        if path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        if not self._writes():
            return self._refuse(401, "Invalid username or password.")
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if found:
            return self._commit(found[1], [json.loads(line) for line in body.splitlines()])
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/main", path):
            files = [{"path": each["path"], "uploadMode": self._mode(each), "shouldIgnore": False, "oid": None}
                     for each in json.loads(body)["files"]]  # fmt: skip
            return self._json({"files": files})
        if re.fullmatch(r"/[^/]+/[^/]+\.git/info/lfs/objects/batch", path):
            return self._json({"transfer": "basic", "objects": [self._place(o) for o in json.loads(body)["objects"]]})
        if path == "/lfs/verify":
            known = json.loads(body)["oid"] in self.hub.objects
            return self._json({}) if known else self._refuse(404, "no such object")
        return self._refuse(404, "not found")

    def do_PUT(self) -> None:
        count = int(self.headers["Content-Length"])
        if self.hub.cut_uploads:
            self.hub.cut_uploads -= 1
            self.rfile.read(count // 2)
            return self._cut()
        oid, content = self._path().rpartition("/")[2], self.rfile.read(count)
        if hashlib.sha256(content).hexdigest() != oid:
            return self._refuse(400, "content and name differ")
        self.hub.objects[oid] = content
        self.hub.received.append(oid)
        return self._json({})

    def do_GET(self) -> None:
        path = self._path()
        if path == "/api/whoami-v2":
            return self._json({"name": "me", "type": "user"}) if self._writes() else self._refuse(401, "Unauthorized")
        if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
            return self._file(found[1], unquote(found[2]))
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(/revision/[^/]+|/tree/[^/]+.*)?", path):
            repo = self._readable(found[1])
            if repo is None:
                return None
            if "/tree/" in (found[2] or ""):
                return self._json([{"type": "file", "path": name, "size": len(content), "oid": _git(content)}
                                   for name, content in repo.files.items()])  # fmt: skip
            siblings = [{"rfilename": name} for name in repo.files]
            return self._json({"id": found[1], "sha": repo.head, "private": repo.private, "siblings": siblings})
        return self._refuse(404, "not found")

    do_HEAD = do_GET

    def _create(self, asked: dict[str, Any]) -> None:
        name = f"{asked.get('organization') or 'me'}/{asked['name']}"
        if not name.startswith("me/"):
            return self._refuse(403, f"You don't have the rights to create a model under the namespace of {name}")
        if name in self.hub.repos:
            return self._json({"url": f"{self.hub.url}/{name}"}, 409)
        self.hub.repos[name] = Repo(asked.get("visibility") == "private" or bool(asked.get("private")))
        return self._json({"url": f"{self.hub.url}/{name}"})

    def _commit(self, name: str, lines: list[dict[str, Any]]) -> None:
        repo = self.hub.repos[name]
        files, touched = dict(repo.files), []
        for line in lines[1:]:
            value = line["value"]
            touched.append(value["path"])
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                if value["oid"] not in self.hub.objects:
                    return self._refuse(400, "no such object")
                files[value["path"]] = self.hub.objects[value["oid"]]
            else:
                files.pop(value["path"])
        repo.files = files
        repo.commits.append(touched)
        return self._json({"commitUrl": f"{self.hub.url}/{name}/commit/{repo.head}", "commitOid": repo.head})

    def _place(self, asked: dict[str, Any]) -> dict[str, Any]:
        there = asked["oid"] in self.hub.objects
        actions = {"upload": {"href": f"{self.hub.url}/lfs/{asked['oid']}"},
                   "verify": {"href": f"{self.hub.url}/lfs/verify"}}  # fmt: skip
        return {**asked, **({} if there else {"actions": actions})}

    def _mode(self, asked: dict[str, Any]) -> str:
        return "lfs" if asked["size"] > SMALL_BYTES or asked["path"].endswith(".safetensors") else "regular"

    def _file(self, name: str, path: str) -> None:
        repo = self._readable(name)
        if repo is None:
            return None
        if path not in repo.files:
            return self._refuse(404, "Entry not found", "EntryNotFound")
        content = repo.files[path]
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        return self._answer(200, content, {"ETag": etag, "X-Repo-Commit": repo.head, "Accept-Ranges": "bytes"})

    def _readable(self, name: str) -> Repo | None:
        """The repository; what is private is not there for others, what is gated is refused."""
        repo = self.hub.repos.get(name)
        if repo is None or (repo.private and not self._writes()):
            self._refuse(401 if repo is None else 404, "Repository not found", "RepoNotFound")
        elif repo.gated and not self._writes():
            self._refuse(401, f"Access to model {name} is restricted.", "GatedRepo")
        else:
            return repo
        return None

    def _path(self) -> str:
        return urlsplit(self.path).path

    def _writes(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _json(self, value: Any, status: int = 200) -> None:
        self._answer(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _refuse(self, status: int, message: str, code: str = "") -> None:
        headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})}
        self._answer(status, json.dumps({"error": message}).encode(), {"Content-Type": "application/json", **headers})

    def _answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.hub.asked.append((self.command, self._path()))
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _cut(self) -> None:
        """The connection breaks without an answer."""
        self.hub.asked.append((self.command, "cut"))
        self.close_connection = True
        self.connection.close()

    def log_message(self, *_: Any) -> None:
        """Tests are quiet."""


def _git(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
