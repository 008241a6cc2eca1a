"""A hub on this machine: the part of Hugging Face's HTTP interface that `chorus pull` and huggingface_hub use, and its CDN on another
port. Large files (by ending) are LFS: they redirect to the CDN. `fault` is asked before every answer and may spoil it.
"""
import functools
import hashlib
import json
import re
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

LFS = (".safetensors", ".gguf", ".bin")


@functools.lru_cache
def git_sha1(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@functools.lru_cache
def sha256(data):
    return hashlib.sha256(data).hexdigest()


def etag_of(path, data):
    return sha256(data) if path.endswith(LFS) else git_sha1(data)


class Fault:
    """What is wrong with one answer. cut: bytes of the body after which the connection ends. flip: an offset in the file whose byte
    is wrong. status with headers: an answer instead. whole: a Range is not heeded. extra: headers of the answer; None takes one away."""

    def __init__(self, cut=None, flip=None, status=None, headers=None, whole=False, extra=None, stall_s=0, longer=b"", body=None):
        self.cut, self.flip, self.status, self.headers, self.whole = cut, flip, status, headers or {}, whole
        self.extra, self.stall_s, self.longer, self.body = extra or {}, stall_s, longer, body


class Repository:
    def __init__(self, files, commit=None, token=None, gated=False):
        self.commits = {}
        self.refs = {}
        self.token, self.gated = token, gated
        self.push(files, commit)

    def push(self, files, commit=None, ref="main"):
        text = json.dumps({k: hashlib.sha1(v).hexdigest() for k, v in files.items()}, sort_keys=True)
        commit = commit or hashlib.sha1(text.encode()).hexdigest()
        self.commits[commit] = files
        self.refs[ref] = commit
        return commit

    def find(self, revision):
        return revision if revision in self.commits else self.refs.get(revision)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()

    def answer(self):
        hub = self.server.hub
        parts = urlsplit(self.path)
        with hub.lock:
            hub.requests.append((self.server.role, self.command, self.path, dict(self.headers)))
        fault = hub.fault(self.server.role, self.command, unquote(parts.path), self.headers) or Fault()
        if fault.stall_s:
            time.sleep(fault.stall_s)
        if fault.status:
            return self.send(fault.status, b"no", fault.headers, fault)
        if self.server.role == "cdn":
            return self.cdn(parts, fault)
        for pattern, method in ((r"/api/models/(.+?)/revision/(.+)", self.info), (r"/api/models/(.+?)/tree/([^/]+)", self.tree),
                                (r"/api/resolve-cache/models/(.+?)/([0-9a-f]{40})/(.+)", self.small),
                                (r"/(.+?)/resolve/([^/]+)/(.+)", self.resolve), (r"/api/models/(.+)", self.info)):
            m = re.fullmatch(pattern, parts.path)
            if m:
                return method(fault, *[unquote(g) for g in m.groups()])
        return self.error(404, "", "nothing here", fault)

    def repository(self, name, revision, fault):
        hub = self.server.hub
        repo = hub.repositories.get(name)
        given = self.headers.get("Authorization", "")
        if repo and repo.token and given != "Bearer " + repo.token:
            if repo.gated:
                return self.error(403 if given else 401, "GatedRepo", "Access to model is restricted.", fault)
            return self.error(401 if not given else 404, "RepoNotFound", "Repository not found", fault)
        if not repo:
            return self.error(404 if given else 401, "RepoNotFound", "Repository not found", fault)
        commit = repo.find(revision)
        if not commit:
            return self.error(404, "RevisionNotFound", "Invalid rev id", fault)
        return repo, commit

    def info(self, fault, name, revision="main"):
        found = self.repository(name, revision, fault)
        if not found:
            return
        repo, commit = found
        siblings = []
        for path, data in repo.commits[commit].items():
            entry = {"rfilename": path, "size": len(data), "blobId": git_sha1(data)}
            if path.endswith(LFS):
                entry["lfs"] = {"sha256": etag_of(path, data), "size": len(data), "pointerSize": 134}
            siblings.append(entry)
        body = fault.body if fault.body is not None else json.dumps({"_id": "1", "id": name, "modelId": name, "sha": commit, "private": bool(repo.token),
                                         "gated": repo.gated, "tags": [], "downloads": 0, "siblings": siblings}).encode()
        self.send(200, body, {"Content-Type": "application/json"}, fault)

    def tree(self, fault, name, revision):
        found = self.repository(name, revision, fault)
        if not found:
            return
        repo, commit = found
        entries = []
        for path, data in repo.commits[commit].items():
            entry = {"type": "file", "oid": git_sha1(data), "size": len(data), "path": path}
            if path.endswith(LFS):
                entry["lfs"] = {"oid": etag_of(path, data), "size": len(data), "pointerSize": 134}
            entries.append(entry)
        self.send(200, json.dumps(entries).encode(), {"Content-Type": "application/json"}, fault)

    def resolve(self, fault, name, revision, path):
        found = self.repository(name, revision, fault)
        if not found:
            return
        repo, commit = found
        data = repo.commits[commit].get(path)
        if data is None:
            return self.error(404, "EntryNotFound", "Entry not found", fault)
        head = {"X-Repo-Commit": commit}
        if path.endswith(LFS):
            head |= {"X-Linked-Etag": f'"{etag_of(path, data)}"', "X-Linked-Size": str(len(data)), "ETag": '"of-the-redirect"',
                     "Location": f"{self.server.hub.cdn_url}/{etag_of(path, data)}?signature=1"}
            return self.send(302, b"Found", head, fault)
        head["Location"] = f"/api/resolve-cache/models/{name}/{commit}/{path}"
        self.send(307, b"Temporary Redirect", head, fault)

    def small(self, fault, name, commit, path):
        data = self.server.hub.repositories[name].commits[commit][path]
        self.send_file(data, {"X-Repo-Commit": commit, "ETag": f'W/"{etag_of(path, data)}"'}, fault)

    def cdn(self, parts, fault):
        data = self.server.hub.blob(parts.path.strip("/"))
        if data is None:
            return self.send(403, b"expired", {}, fault)
        self.send_file(data, {"ETag": '"of-the-cdn"'}, fault)

    def send_file(self, data, head, fault):
        if fault.flip is not None:
            data = bytearray(data)
            data[fault.flip] ^= 1
            data = bytes(data)
        m = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not m or fault.whole:
            return self.send(200, data + fault.longer, head | {"Accept-Ranges": "bytes"}, fault)
        begin = int(m.group(1))
        end = min(int(m.group(2)) + 1, len(data)) if m.group(2) else len(data)
        if begin >= len(data):
            return self.send(416, b"", {"Content-Range": f"bytes */{len(data)}"}, fault)
        self.send(206, data[begin:end], head | {"Content-Range": f"bytes {begin}-{end - 1}/{len(data)}"}, fault)

    def error(self, status, code, text, fault):
        self.send(status, text.encode(), {"X-Error-Code": code, "X-Error-Message": text}, fault)

    def send(self, status, body, head, fault):
        self.send_response(status)
        for k, v in ({"Content-Length": str(len(body))} | head | fault.extra).items():
            if v is not None:
                self.send_header(k, v)
        self.end_headers()
        if self.command == "HEAD":
            return
        hub = self.server.hub
        limit = len(body) if fault.cut is None else min(fault.cut, len(body))
        for at in range(0, limit, 65536):
            self.wfile.write(body[at:min(at + 65536, limit)])
            if hub.pace_s:
                self.wfile.flush()
                time.sleep(hub.pace_s)
        with hub.lock:
            hub.sent += limit
        if limit < len(body):
            self.wfile.flush()
            self.close_connection = True


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, hub, role, host):
        self.hub, self.role = hub, role
        super().__init__((host, 0), Handler)

    def handle_error(self, request, address):
        pass  # a client that left


class Hub:
    def __init__(self):
        self.repositories = {}
        self.requests = []  # (role, method, path, headers)
        self.sent = 0       # bytes of bodies
        self.pace_s = 0     # between pieces of 64 KiB
        self.fault = lambda role, method, path, headers: None
        self.lock = threading.Lock()
        self.servers = [Server(self, "hub", "127.0.0.1"), Server(self, "cdn", "127.0.0.1")]
        ports = [s.server_address[1] for s in self.servers]
        self.url, self.cdn_url = f"http://127.0.0.1:{ports[0]}", f"http://localhost:{ports[1]}"
        self.same_host_url = f"http://127.0.0.1:{ports[1]}"  # the CDN under the hub's name: another port is another place
        for s in self.servers:
            self.serve(s)

    def add(self, host, tls=None):
        """One more door to the hub; tls: files of a certificate and its key. -> its port"""
        s = Server(self, "hub", host)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            s.socket = context.wrap_socket(s.socket, server_side=True, do_handshake_on_connect=False)
        self.servers.append(s)
        self.serve(s)
        return s.server_address[1]

    @staticmethod
    def serve(s):
        threading.Thread(target=s.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def blob(self, etag):
        for repo in self.repositories.values():
            for files in repo.commits.values():
                for path, data in files.items():
                    if etag_of(path, data) == etag:
                        return data
        return None

    def close(self):
        for s in self.servers:
            s.shutdown()
            s.server_close()
