"""A web server on 127.0.0.1 that serves the files of a folder, in ranges, and counts what it serves."""

import http.server
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Served:
    """Where the server is, and what was asked of it. says: answers instead of files, by path."""

    url: str
    host: str
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    bytes: int = 0
    says: dict[str, tuple[int, dict[str, str]]] = field(default_factory=dict)
    ranges: bool = True


@contextmanager
def serving(folder: Path) -> Iterator[Served]:
    """The server, until the end of the block."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            here.requests.append((self.path, dict(self.headers)))
            path = folder / self.path.lstrip("/").partition("?")[0]
            status, headers = here.says.get(self.path, (206 if path.is_file() else 404, {}))
            body = path.read_bytes() if path.is_file() and status in (200, 206) else b""
            said = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            if said and here.ranges and status == 206:
                first, last = int(said[1]), min(int(said[2]), len(body) - 1)
                headers = {
                    "Content-Range": f"bytes {first}-{last}/{len(body)}",
                    "ETag": f'"{path.stat().st_mtime_ns}"',
                    **headers,
                }
                body = body[first : last + 1]
            elif status == 206:
                status = 200
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            with suppress(ConnectionError):  # the other side may have heard enough
                self.wfile.write(body)
            here.bytes += len(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        host = f"127.0.0.1:{server.server_port}"
        here = Served(f"http://{host}", host)
        thread = threading.Thread(target=server.serve_forever, daemon=True, kwargs={"poll_interval": 0.02})
        thread.start()
        yield here
        server.shutdown()
        thread.join()
