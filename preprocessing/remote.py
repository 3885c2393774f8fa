"""Files on web servers, read by ranges: from hosts that the user named, without redirects, in bounded time.

GDAL's own /vsicurl follows every redirect and reads ~/.netrc; it has no option against the first.
"""

import base64
import http.client
import netrc
import os
import re
import ssl
import threading
import time
from collections import OrderedDict
from collections.abc import Collection
from datetime import UTC, datetime
from email.message import Message
from email.utils import parsedate_to_datetime
from functools import lru_cache
from urllib.parse import SplitResult, urlsplit

from geoloc.errors import ImageryError
from preprocessing.seekable import Seekable
from preprocessing.source import State, posix_time

CHUNK = 1 << 17
"""Bytes are fetched and kept in pieces of this size."""

TIMEOUT_S = 30.0
TRIES = 3
_WHOLE_REQUEST_S = 120.0
_MOST_AT_ONCE = 1 << 26
_KEPT_CHUNKS = 64
_PLAIN = re.compile(r"[!-~]+")
_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")

ALLOWED = "GEOLOC_ALLOW_HOSTS"
"""The environment's variable of hosts that may be read from."""


def is_url(address: str) -> bool:
    """Whether an address is on the web."""
    return address.lower().startswith(("http://", "https://"))


def host_of(url: str) -> str:
    """HOST or HOST:PORT of a URL, in lower case. Raises ImageryError for a URL that is none."""
    parts = _split(url)
    return parts.netloc.lower()


def allowed_hosts() -> frozenset[str]:
    """The hosts in GEOLOC_ALLOW_HOSTS, separated by spaces."""
    return frozenset(os.environ.get(ALLOWED, "").lower().split())


def refuse_foreign(url: str, hosts: Collection[str]) -> None:
    """Raise ImageryError for a URL on a host that nobody named."""
    if host_of(url) not in {host.lower() for host in hosts}:
        raise ImageryError(
            f"{url} is on a host that was not named; if you trust it, add --allow-host {host_of(url)}, "
            f"or set {ALLOWED}."
        )


@lru_cache(maxsize=32)
def remote(url: str) -> "RemoteFile":
    """The file at a URL that may be read, looked at once. Raises ImageryError."""
    return RemoteFile(url)


class RemoteFile:
    """A file on a web server and its pieces last read, for many threads.

    state: its size, ETag and date. failure: what went wrong last, for callers that GDAL stands between.
    Raises ImageryError for a server that cannot serve ranges, redirects, fails three times or takes over
    two minutes for one piece, and for a file that changed since it was first looked at.
    """

    def __init__(self, url: str) -> None:
        self._connection: http.client.HTTPConnection | None = None
        self.url = url
        self.failure: ImageryError | None = None
        self._parts = _split(url)
        self._lock = threading.Lock()
        self._chunks: OrderedDict[int, bytes] = OrderedDict()
        self._stamp: str | None = None
        self.size = CHUNK
        first, headers = self._fetch(0, CHUNK)
        self._chunks[0] = first
        self._stamp = _stamp(headers)
        self.state = State(self.size, self._stamp, *_dated(headers))

    def __del__(self) -> None:
        self._hang_up()

    def read(self, offset: int, length: int) -> bytes:
        """At most `length` bytes from an offset, fewer at the end of the file."""
        stop = min(self.size, offset + length)
        if stop <= offset:
            return b""
        if stop - offset > _MOST_AT_ONCE:
            raise ImageryError(f"{self.url} wants {stop - offset:,} bytes at once; rewrite it as a COG.")
        with self._lock:
            numbers = range(offset // CHUNK, -(-stop // CHUNK))
            self._load([number for number in numbers if number not in self._chunks])
            for number in numbers:
                self._chunks.move_to_end(number)
            whole = b"".join(self._chunks[number] for number in numbers)
            while len(self._chunks) > _KEPT_CHUNKS:
                self._chunks.popitem(last=False)
        start = numbers.start * CHUNK
        return whole[offset - start : stop - start]

    def _load(self, missing: list[int]) -> None:
        """Fetch pieces, neighbours in one request."""
        while missing:
            run = [number for at, number in enumerate(missing) if number == missing[0] + at]
            missing = missing[len(run) :]
            start = run[0] * CHUNK
            body, _ = self._fetch(start, min(self.size, (run[-1] + 1) * CHUNK))
            for number in run:
                self._chunks[number] = body[number * CHUNK - start : (number + 1) * CHUNK - start]

    def _fetch(self, start: int, stop: int) -> tuple[bytes, Message]:
        for attempt in range(TRIES):
            try:
                return self._request(start, stop)
            except (OSError, http.client.HTTPException) as cause:
                self._hang_up()
                if attempt == TRIES - 1:
                    raise ImageryError(
                        f"{self.url} could not be read ({cause or type(cause).__name__}); "
                        "check the connection and run again."
                    ) from cause
                time.sleep(0.2 * 4**attempt)
        raise AssertionError("the last try returns or raises")

    def _request(self, start: int, stop: int) -> tuple[bytes, Message]:
        if self._connection is None:
            self._connection = _connect(self._parts)
        path = (self._parts.path or "/") + (f"?{self._parts.query}" if self._parts.query else "")
        headers = {
            "Range": f"bytes={start}-{stop - 1}",
            "Accept-Encoding": "identity",
            "User-Agent": "geoloc",
            **_credentials(self._parts),
        }
        self._connection.request("GET", path, headers=headers)
        response = self._connection.getresponse()
        try:
            self._check(response, start, stop)
            body = _body(response, min(stop, self.size) - start)
        except ImageryError:
            self._hang_up()
            raise
        reusable = response.length is not None and not response.will_close
        response.close()
        if not reusable:
            self._hang_up()
        return body, response.headers

    def _check(self, response: http.client.HTTPResponse, start: int, stop: int) -> None:
        """Refuse what is not the range that was asked for, of the file as it was."""
        _refuse_status(self.url, response)
        said = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if said is None:
            raise ImageryError(f"{self.url}: the server does not say how large it is; download it first.")
        first, last, size = map(int, said.groups())
        if self._stamp is not None and (size, _stamp(response.headers)) != (self.size, self._stamp):
            raise ImageryError(f"{self.url} changed while it was read; run the same command again.")
        self.size = size
        if (first, last) != (start, min(stop, size) - 1):
            raise ImageryError(f"{self.url}: the server sent another range than asked; download it first.")

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None


class RangeReader(Seekable):
    """A remote file as GDAL reads it; what goes wrong is kept in the file's `failure`, as GDAL drops it."""

    def __init__(self, file: RemoteFile, address: str, *_: object, **__: object) -> None:
        super().__init__(file.size)
        if address != file.url:
            raise FileNotFoundError(address)
        self._file = file
        file.failure = None

    def read(self, size: int = -1) -> bytes:
        """The next bytes; none after a failure."""
        try:
            found = self._file.read(self._at, self._file.size if size < 0 else size)
        except ImageryError as cause:
            self._file.failure = cause
            return b""
        self._at += len(found)
        return found


def read_whole(url: str, most: int) -> bytes:
    """A small file. Raises ImageryError where it is over `most` bytes."""
    file = remote(url)
    if file.size > most:
        raise ImageryError(f"{url} is over {most >> 20} MiB; ask for a smaller part of it.")
    return b"".join(file.read(start, _MOST_AT_ONCE) for start in range(0, file.size, _MOST_AT_ONCE))


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        port_is_number = parts.port is None or parts.port > 0
    except ValueError:
        port_is_number, parts = False, SplitResult("", "", "", "", "")
    on_the_web = parts.scheme in ("http", "https") and parts.hostname and port_is_number
    if not (on_the_web and _PLAIN.fullmatch(url)):
        raise ImageryError(f"{url!r} is no http or https address; check it, and write spaces as %20.")
    if "@" in parts.netloc:
        raise ImageryError(
            f"The address on {parts.hostname} holds a password; put that into a file that GEOLOC_NETRC names."
        )
    return parts


def _connect(parts: SplitResult) -> http.client.HTTPConnection:
    assert parts.hostname is not None
    if parts.scheme == "http":
        return http.client.HTTPConnection(parts.hostname, parts.port, timeout=TIMEOUT_S)
    context = ssl.create_default_context()
    return http.client.HTTPSConnection(parts.hostname, parts.port, timeout=TIMEOUT_S, context=context)


def _credentials(parts: SplitResult) -> dict[str, str]:
    """Of the host, from the netrc file that GEOLOC_NETRC names; none over plain http but to this machine."""
    path = os.environ.get("GEOLOC_NETRC")
    if not path or not (parts.scheme == "https" or parts.hostname in ("127.0.0.1", "localhost", "::1")):
        return {}
    try:
        known = netrc.netrc(path).hosts.get(parts.hostname or "")
    except (OSError, netrc.NetrcParseError, UnicodeDecodeError) as cause:
        raise ImageryError(f"GEOLOC_NETRC names {path}, which is no netrc file; mend or unset it.") from cause
    if known is None:
        return {}
    pair = f"{known[0]}:{known[2]}".encode()
    return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}


def _refuse_status(url: str, response: http.client.HTTPResponse) -> None:
    status = response.status
    if status == 206:
        return
    if 300 <= status < 400:
        where = response.headers.get("Location", "nowhere")[:200]
        raise ImageryError(f"{url} redirects to {where!r}; if you trust that address, give it instead.")
    if status == 200:
        raise ImageryError(f"{url}: the server does not serve parts of files; download it first.")
    if status in (401, 403):
        raise ImageryError(
            f"{url} wants a login ({status}); put it into a netrc file that GEOLOC_NETRC names."
        )
    if status in (429, 500, 502, 503, 504):
        raise http.client.HTTPException(f"the server answers {status}")
    raise ImageryError(f"{url} cannot be had: the server answers {status}; check the address.")


def _body(response: http.client.HTTPResponse, wanted: int) -> bytes:
    """Exactly the bytes wanted, in time."""
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise http.client.HTTPException("the server compresses ranges")
    if response.length not in (None, wanted):
        raise http.client.HTTPException("the server announces another length than asked")
    deadline, body = time.monotonic() + _WHOLE_REQUEST_S, bytearray()
    while len(body) < wanted:
        part = response.read1(min(1 << 16, wanted - len(body)))
        if not part:
            raise http.client.HTTPException("the connection broke off")
        if time.monotonic() > deadline:
            raise TimeoutError("too slow")
        body += part
    return bytes(body)


def _stamp(headers: Message) -> str:
    return (headers.get("ETag") or headers.get("Last-Modified") or "")[:200]


def _dated(headers: Message) -> tuple[datetime, str]:
    try:
        moment = parsedate_to_datetime(headers.get("Last-Modified", ""))
    except (TypeError, ValueError):
        return posix_time(0), "nothing"
    return moment.replace(tzinfo=moment.tzinfo or UTC), "the server's date"
