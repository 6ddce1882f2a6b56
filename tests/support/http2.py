"""A client of HTTP/2 whose frames are made by hand where the library would be too well-behaved."""

import contextlib
import socket
import ssl
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings
from hyperframe.frame import Frame

from support.http import Address

Fields = list[tuple[str, str]]
CALM = h2.errors.ErrorCodes.ENHANCE_YOUR_CALM
# RFC 9113 §6.8: after GOAWAY the streams that are open go on. The library gives them up.
_transitions = h2.connection.H2ConnectionStateMachine._transitions
_open = h2.connection.ConnectionState.CLIENT_OPEN
_transitions[_open, h2.connection.ConnectionInputs.RECV_GOAWAY] = (None, _open)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@dataclass
class Answer:
    status: int = 0
    fields: dict[str, str] = field(default_factory=dict)
    informational: list[Fields] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)
    ended: bool = False
    reset: int | None = None


class Peer:
    """One connection. Windows are opened as data comes, unless told otherwise."""

    def __init__(
        self,
        address: Address,
        *,
        tls: ssl.SSLContext | None = None,
        window: int = 1 << 24,
        opens_windows: bool = True,
        seconds: float = 20,
        receive_buffer: int = 0,
        sni: str = "localhost",
    ) -> None:
        assert not isinstance(address, str)
        plain = socket.socket()
        plain.settimeout(seconds)
        if receive_buffer:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        plain.connect(address)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = tls.wrap_socket(plain, server_hostname=sni) if tls else plain
        self.seconds = seconds
        self.authority = f"{address[0]}:{address[1]}"
        self.opens_windows = opens_windows
        self.answers: dict[int, Answer] = defaultdict(Answer)
        self.goaway: int | None = None
        self.goaways: list[int] = []
        self.closed = False
        self.config = h2.config.H2Configuration(
            header_encoding="utf-8",
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
            validate_inbound_headers=True,
        )
        self.machine = h2.connection.H2Connection(self.config)
        self.machine.local_settings = h2.settings.Settings(
            client=True,
            initial_values={
                h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window,
                h2.settings.SettingCodes.ENABLE_PUSH: 0,
                h2.settings.SettingCodes.MAX_HEADER_LIST_SIZE: 1 << 16,
            },
        )
        self.machine.initiate_connection()
        if window > 65_535:
            self.machine.increment_flow_control_window(window - 65_535)
        self.flush()

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    # What goes out.

    def flush(self) -> None:
        data = self.machine.data_to_send()
        if data:
            self.socket.sendall(data)

    def raw(self, *parts: bytes | Frame) -> None:
        self.flush()
        self.socket.sendall(b"".join(p.serialize() if isinstance(p, Frame) else p for p in parts))

    def fields(self, method: str, path: str, more: Fields | None = None) -> Fields:
        return [
            (":method", method),
            (":scheme", "https" if isinstance(self.socket, ssl.SSLSocket) else "http"),
            (":authority", self.authority),
            (":path", path),
            *(more or []),
        ]

    def ask(
        self, path: str, method: str = "GET", more: Fields | None = None, body: bytes | None = None
    ) -> int:
        stream = self.machine.get_next_available_stream_id()
        self.machine.send_headers(stream, self.fields(method, path, more), end_stream=body is None)
        self.flush()
        if body is not None:
            self.upload(stream, body)
        return stream

    def upload(self, stream: int, body: bytes, end: bool = True) -> None:
        view = memoryview(body)
        while len(view):
            room = min(self.machine.local_flow_control_window(stream), 16_384)
            if room <= 0:
                self.pump()
                continue
            self.machine.send_data(stream, view[:room].tobytes())
            self.flush()
            view = view[room:]
        if end:
            self.machine.end_stream(stream)
            self.flush()

    # What comes in.

    def pump(self, seconds: float | None = None) -> bool:
        """Takes what the next read brings. `False`: nothing came, or the end."""
        self.socket.settimeout(self.seconds if seconds is None else seconds)
        try:
            data = self.socket.recv(1 << 16)
        except TimeoutError:
            if seconds is None:
                raise
            return False
        except (ConnectionResetError, BrokenPipeError, ssl.SSLError):
            self.closed = True
            return False
        if not data:
            self.closed = True
            return False
        for event in self.machine.receive_data(data):
            self.take(event)
        with contextlib.suppress(OSError):
            self.flush()
        return True

    def take(self, event: h2.events.Event) -> None:
        answer = self.answers[getattr(event, "stream_id", 0) or 0]
        if isinstance(event, h2.events.ResponseReceived):
            pairs = [(str(k), str(v)) for k, v in event.headers or []]
            answer.fields = {}
            for name, value in pairs:
                answer.fields[name] = f"{answer.fields[name]}, {value}" if name in answer.fields else value
            answer.status = int(answer.fields.pop(":status"))
        elif isinstance(event, h2.events.InformationalResponseReceived):
            answer.informational.append([(str(k), str(v)) for k, v in event.headers or []])
        elif isinstance(event, h2.events.DataReceived):
            answer.body += event.data or b""
            if self.opens_windows and event.flow_controlled_length:
                with contextlib.suppress(h2.exceptions.ProtocolError):
                    self.machine.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            answer.ended = True
        elif isinstance(event, h2.events.StreamReset):
            answer.reset = int(event.error_code or 0)
        elif isinstance(event, h2.events.ConnectionTerminated):
            self.goaway = int(event.error_code or 0)
            self.goaways.append(event.last_stream_id or 0)

    def until(self, what: Callable[[], object], seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while not what():
            left = deadline - time.monotonic()
            assert left > 0, f"not within {seconds} s; closed {self.closed}, goaway {self.goaway}"
            assert not self.closed, f"closed too early; goaway {self.goaway}"
            self.pump(left)

    def wait(self, stream: int, seconds: float = 20) -> Answer:
        """The whole answer, or its reset."""
        answer = self.answers[stream]
        self.until(lambda: answer.ended or answer.reset is not None, seconds)
        return answer

    def get(
        self, path: str, method: str = "GET", more: Fields | None = None, body: bytes | None = None
    ) -> Answer:
        return self.wait(self.ask(path, method, more, body))

    def until_closed(self, seconds: float = 10) -> int | None:
        """The error of the last GOAWAY, once the connection has ended."""
        deadline = time.monotonic() + seconds
        while not self.closed:
            left = deadline - time.monotonic()
            assert left > 0, f"still open after {seconds} s; goaway {self.goaway}"
            try:
                self.pump(left)
            except h2.exceptions.ProtocolError:
                continue
        return self.goaway
