"""A strict HTTP/1.1 client over raw sockets: it repairs nothing, so what it accepts is what the server said.

The parser is a generator that asks for bytes and knows no socket; `Connection` drives it for plain tests and
`AsyncConnection` for load.
"""

import asyncio
import json as jsonlib
import re
import socket
import ssl
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-9][0-9][0-9]) ([\t\x20-\x7e\x80-\xff]*)\r\n\Z")
CHUNK_SIZE = re.compile(rb"([0-9a-fA-F]+)\r\n\Z")
LINE_BYTES_MAX = 64 * 1024
PATIENCE_SECONDS = 30.0

Address = tuple[str, int] | str


class Violation(AssertionError):
    """The server broke the protocol."""


class Cut(Exception):
    """The connection ended before the response was whole. `head` is true if a status line had come."""

    def __init__(self, why: str, *, head: "Response | None" = None) -> None:
        super().__init__(why)
        self.head = head


@dataclass
class Response:
    status: int
    reason: str
    fields: list[tuple[str, str]]
    framing: str
    body: bytes = b""
    interim: list["Response"] = field(default_factory=list)

    def all(self, name: str) -> list[str]:
        return [v for n, v in self.fields if n.lower() == name.lower()]

    def get(self, name: str) -> str | None:
        values = self.all(name)
        assert len(values) <= 1, f"{name} occurs {len(values)} times"
        return values[0] if values else None

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        return jsonlib.loads(self.body)

    @property
    def says_close(self) -> bool:
        return "close" in [o.strip().lower() for v in self.all("connection") for o in v.split(",")]


# What the parser asks for: a line with its end, exactly so many bytes, or what is there (empty at the end).
Wish = tuple[str, int]
Parser = Generator[Wish, bytes, Response]


def _fields() -> Generator[Wish, bytes, list[tuple[str, str]]]:
    fields = []
    while True:
        line = yield ("line", 0)
        if line == b"\r\n":
            return fields
        if not line.endswith(b"\r\n"):
            raise Violation(f"field line without CRLF: {line!r}")
        name, colon, value = line[:-2].partition(b":")
        if not colon or not TOKEN.match(name):
            raise Violation(f"bad field name: {line!r}")
        if re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", value):
            raise Violation(f"control byte in a field: {line!r}")
        fields.append((name.decode("ascii"), value.strip(b" \t").decode("latin-1")))


def _head(method: str) -> Generator[Wish, bytes, Response]:
    line = yield ("line", 0)
    match = STATUS_LINE.match(line)
    if not match:
        raise Violation(f"bad status line: {line[:200]!r}")
    status = int(match[1])
    fields = yield from _fields()
    response = Response(status, match[2].decode("latin-1"), fields, "none")
    lengths = response.all("content-length")
    encodings = response.all("transfer-encoding")
    if len(lengths) + len(encodings) > 1:
        raise Violation(f"framing said more than once: {lengths} {encodings}")
    if (status < 200 or status == 204) and lengths + encodings:
        raise Violation(f"{status} with framing fields: {fields}")
    if status >= 200:
        for once in "date", "server":
            if len(response.all(once)) != 1:
                raise Violation(f"{once} occurs {len(response.all(once))} times: {fields}")
    if lengths and not re.fullmatch("[0-9]+", lengths[0]):
        raise Violation(f"bad content-length: {lengths}")
    if encodings and encodings != ["chunked"]:
        raise Violation(f"bad transfer-encoding: {encodings}")
    if method == "HEAD" or status < 200 or status in (204, 304):
        response.framing = "none"
    elif encodings:
        response.framing = "chunked"
    elif lengths:
        response.framing = "length"
    else:
        response.framing = "close"
        if not response.says_close:
            raise Violation(f"delimited by close without saying so: {fields}")
    return response


def parse(method: str = "GET", sink: Any = None) -> Parser:
    """One final response with its interim ones. With `sink` the body goes there in pieces and is not kept."""
    interim: list[Response] = []
    while True:
        response = yield from _head(method)
        if response.status >= 200 or response.status == 101:
            break
        interim.append(response)
    response.interim = interim
    pieces: list[bytes] = []
    take = sink or pieces.append
    try:
        if response.framing == "length":
            left = int(response.get("content-length") or 0)
            while left:
                piece = yield ("some", left)
                if not piece:
                    raise Cut(f"{left} bytes short of content-length", head=response)
                left -= len(piece)
                take(piece)
        elif response.framing == "chunked":
            while True:
                line = yield ("line", 0)
                match = CHUNK_SIZE.match(line)
                if not match:
                    raise Violation(f"bad chunk size line: {line[:100]!r}")
                left = int(match[1], 16)
                if not left:
                    yield from _fields()
                    break
                while left:
                    piece = yield ("some", left)
                    if not piece:
                        raise Cut("in a chunk", head=response)
                    left -= len(piece)
                    take(piece)
                if (yield ("exact", 2)) != b"\r\n":
                    raise Violation("chunk without CRLF at its end")
        elif response.framing == "close":
            while piece := (yield ("some", 1 << 20)):
                take(piece)
    except Cut as cut:
        response.body = b"".join(pieces)
        cut.head = response
        raise
    response.body = b"".join(pieces)
    return response


class Connection:
    """A client connection. All waits end after `PATIENCE_SECONDS`."""

    def __init__(
        self,
        address: Address,
        *,
        source: str | None = None,
        receive_buffer: int = 0,
        tls: ssl.SSLContext | None = None,
        session: ssl.SSLSession | None = None,
        name: str | None = "localhost",
    ) -> None:
        if isinstance(address, str):
            self.socket = socket.socket(socket.AF_UNIX)
        else:
            self.socket = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(PATIENCE_SECONDS)
        if source:
            self.socket.bind((source, 0))
        try:
            self.socket.connect(address)
        except OSError:
            self.socket.close()
            raise
        if not isinstance(address, str):
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            # An end without TLS's own word for it is an error here, not an end.
            self.socket = tls.wrap_socket(
                self.socket, server_hostname=name, session=session, suppress_ragged_eofs=False
            )
        self.buffer = bytearray()

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> "Connection":
        self.socket.sendall(data)
        return self

    def finish_sending(self) -> "Connection":
        self.socket.shutdown(socket.SHUT_WR)
        return self

    def reset(self) -> None:
        """Leaves with a RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        self.socket.close()

    def _fill(self) -> bool:
        data = self.socket.recv(256 * 1024)
        self.buffer += data
        return bool(data)

    def _grant(self, wish: Wish) -> bytes:
        kind, size = wish
        if kind == "line":
            at = self.buffer.find(b"\n")
            while at < 0:
                if len(self.buffer) > LINE_BYTES_MAX:
                    raise Violation("endless line")
                if not self._fill():
                    raise Cut(f"at the end of {bytes(self.buffer[:200])!r}")
                at = self.buffer.find(b"\n")
            size = at + 1
        elif kind == "exact":
            while len(self.buffer) < size:
                if not self._fill():
                    raise Cut("before the promised bytes")
        elif not self.buffer:
            data = self.socket.recv(min(size, 1 << 20))
            return data
        taken = bytes(self.buffer[:size])
        del self.buffer[:size]
        return taken

    def read(self, method: str = "GET", sink: Any = None) -> Response:
        """The next response; `Cut` if the connection ends first, by FIN or RST."""
        parser = parse(method, sink)
        try:
            wish = next(parser)
            while True:
                try:
                    granted = self._grant(wish)
                except (Cut, ConnectionError) as error:
                    cut = error if isinstance(error, Cut) else Cut(repr(error))
                    wish = parser.throw(cut)
                else:
                    wish = parser.send(granted)
        except StopIteration as done:
            return done.value

    def read_chunk(self) -> bytes:
        """One chunk of a chunked body whose head has been read with `read_head`."""
        line = self._grant(("line", 0))
        match = CHUNK_SIZE.match(line)
        if not match:
            raise Violation(f"bad chunk size line: {line!r}")
        data = self._grant(("exact", int(match[1], 16) + 2))
        if not data.endswith(b"\r\n"):
            raise Violation("chunk without CRLF at its end")
        return data[:-2]

    def read_head(self, method: str = "GET") -> Response:
        parser = _head(method)
        try:
            wish = next(parser)
            while True:
                wish = parser.send(self._grant(wish))
        except StopIteration as done:
            return done.value

    def request(
        self,
        method: str,
        target: str,
        fields: dict[str, str] | None = None,
        body: bytes | None = None,
        *,
        sink: Any = None,
    ) -> Response:
        return self.send(request(method, target, fields, body)).read(method, sink)

    def rest(self) -> bytes:
        """All bytes up to the end of the connection, which must come."""
        try:
            while self._fill():
                pass
        except ConnectionError:
            pass
        taken = bytes(self.buffer)
        self.buffer.clear()
        return taken

    def rest_within(self, size: int) -> bytes:
        """Exactly so many raw bytes, e.g. of a body whose head has been read."""
        return self._grant(("exact", size))

    def assert_closed(self) -> None:
        rest = self.rest()
        assert rest == b"", f"more bytes before the end: {rest[:300]!r}"


def request(
    method: str, target: str, fields: dict[str, str] | None = None, body: bytes | None = None
) -> bytes:
    """A request with Host, and Content-Length if there is a body."""
    lines = [f"{method} {target} HTTP/1.1"]
    fields = {"Host": "test.example", **(fields or {})}
    if body is not None and "Transfer-Encoding" not in fields:
        fields["Content-Length"] = str(len(body))
    lines += [f"{name}: {value}" for name, value in fields.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


def chunked(*chunks: bytes, trailer: bytes = b"") -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(c), c) for c in chunks) + b"0\r\n" + trailer + b"\r\n"


def once(
    address: Address,
    method: str = "GET",
    target: str = "/",
    fields: dict[str, str] | None = None,
    body: bytes | None = None,
    **options: Any,
) -> Response:
    """One request on a connection of its own."""
    with Connection(address, **options) as connection:
        return connection.request(method, target, {"Connection": "close", **(fields or {})}, body)


class AsyncConnection:
    """The same for load: many connections in one thread."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.closing = False

    @classmethod
    async def open(cls, address: Address) -> "AsyncConnection":
        if isinstance(address, str):
            return cls(*await asyncio.open_unix_connection(address))
        return cls(*await asyncio.open_connection(*address))

    def close(self) -> None:
        self.writer.close()

    async def _grant(self, wish: Wish) -> bytes:
        kind, size = wish
        try:
            if kind == "line":
                return await self.reader.readuntil(b"\n")
            if kind == "exact":
                return await self.reader.readexactly(size)
        except asyncio.IncompleteReadError as error:
            raise Cut(f"at the end of {error.partial[:200]!r}") from None
        return await self.reader.read(size)

    async def request(self, data: bytes, method: str = "GET") -> Response:
        """Raises `Cut` when the connection ends without a whole answer. Has no deadline: its caller has."""
        try:
            self.writer.write(data)
            await self.writer.drain()
        except ConnectionError:
            pass  # what the server said before it closed is still to be read
        parser = parse(method)
        try:
            wish = next(parser)
            while True:
                try:
                    granted = await self._grant(wish)
                except (Cut, ConnectionError) as error:
                    wish = parser.throw(error if isinstance(error, Cut) else Cut(repr(error)))
                else:
                    wish = parser.send(granted)
        except StopIteration as done:
            self.closing = done.value.says_close
            return done.value
