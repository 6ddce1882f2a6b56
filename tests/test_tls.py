"""TLS on the listening sockets (`--tls-cert`, `--tls-key`)."""

import hashlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Start
from support import procs
from support.http import Connection, chunked, request
from support.poll import until
from support.server import Server, free_port, run

MIB = 1 << 20


def certificate(folder: Path, name: str, *, rsa: bool = False) -> tuple[Path, Path]:
    """A self-signed one for localhost."""
    chain, key = folder / f"{name}.pem", folder / f"{name}-key.pem"
    kind = ["rsa:2048"] if rsa else ["ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command = ["openssl", "req", "-x509", "-newkey", *kind, "-nodes", "-days", "2", "-subj", f"/CN={name}"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(chain)]
    subprocess.run(command, check=True, capture_output=True)
    return chain, key


def context(chain: Path, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=str(chain))
    made.set_alpn_protocols(["http/1.1"])
    if version:
        made.minimum_version = made.maximum_version = version
    return made


@pytest.fixture
def identity(tmp_path: Path) -> tuple[Path, Path]:
    return certificate(tmp_path, "first")


@pytest.fixture
def tmp_path_for_all() -> Iterator[Path]:
    """Where the edge's own account can read, which pytest's private folders are not."""
    folder = Path(tempfile.mkdtemp(prefix="trivet-tls-", dir="/var/tmp"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def secure(start: Start, identity: tuple[Path, Path], app: str, *flags: str) -> Server:
    return start(app, "--tls-cert", str(identity[0]), "--tls-key", str(identity[1]), *flags)


def common_name(connection: Connection) -> str:
    assert isinstance(connection.socket, ssl.SSLSocket)
    subject = dict(pair for pairs in connection.socket.getpeercert()["subject"] for pair in pairs)  # type: ignore[index,union-attr]
    return subject["commonName"]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("rsa", [False, True])
def test_requests_over_tls(start: Start, tmp_path: Path, version: ssl.TLSVersion, rsa: bool) -> None:
    identity = certificate(tmp_path, "own", rsa=rsa)
    server = secure(start, identity, "rules")
    server.wait_for_log("https://127.0.0.1")
    with server.connect(tls=context(identity[0], version)) as connection:
        assert isinstance(connection.socket, ssl.SSLSocket)
        assert connection.socket.selected_alpn_protocol() == "http/1.1"
        for _ in range(3):
            shown = connection.request("GET", "/plain/show").json()["strings"]
            assert shown["wsgi.url_scheme"] == "https"
            assert shown["SERVER_PORT"] == str(server.address[1])
        several = request("GET", "/plain/show", {}) * 5
        connection.send(several)
        for _ in range(5):
            assert connection.read().status == 200
        connection.send(request("GET", "/plain/show", {"Connection": "close"}))
        assert connection.read().says_close
        connection.assert_closed()


def test_old_versions_are_refused(start: Start, identity: tuple[Path, Path]) -> None:
    server = secure(start, identity, "echo")
    host, port = server.address
    for version, works in ("-tls1_1", False), ("-tls1_2", True):
        done = subprocess.run(
            ["openssl", "s_client", "-connect", f"{host}:{port}", version, "-cipher", "ALL:@SECLEVEL=0"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        assert (done.returncode == 0) == works, done


@pytest.mark.parametrize("buffering", ["buffered", "streaming"])
def test_bodies_of_all_kinds_arrive_unchanged(
    start: Start, identity: tuple[Path, Path], transport: str, buffering: str, tmp_path_for_all: Path
) -> None:
    public = tmp_path_for_all
    big = public / "big"
    big.write_bytes(hashlib.sha256(b"file").digest() * (8 * MIB // 32))
    flags = ["--transport", transport, "--static", f"/static={public}"]
    server = start(
        "big",
        *["--tls-cert", str(identity[0]), "--tls-key", str(identity[1])],
        *flags,
        *(["--no-request-buffering"] if buffering == "streaming" else []),
        env={"BIG_FILE": str(big)},
    )
    block = hashlib.sha256(b"block").digest() * (MIB // 32)
    with server.connect(tls=context(identity[0])) as connection:
        digest = hashlib.sha256(block * 8).hexdigest()
        assert connection.request("POST", "/upload", body=block * 8).json() == [8 * MIB, digest]
        connection.send(request("POST", "/upload", {"Transfer-Encoding": "chunked"}))
        connection.send(chunked(*[block] * 8))
        assert connection.read().json() == [8 * MIB, digest]
        for kind in "generate", "generate-sized":
            answer = connection.request("GET", f"/{kind}/{8 * MIB}")
            assert (
                hashlib.sha256(answer.body).digest()
                == hashlib.sha256(bytes(range(256)) * (8 * MIB // 256)).digest()
            )
        for target in "/file", "/static/big":
            assert connection.request("GET", target).body == big.read_bytes()
        part = {"Range": "bytes=1000000-3000000"}
        assert connection.request("GET", "/static/big", part).body == big.read_bytes()[1_000_000:3_000_001]


def test_a_slow_reader_holds_no_worker(start: Start, identity: tuple[Path, Path]) -> None:
    server = secure(start, identity, "big")
    with server.connect(tls=context(identity[0]), receive_buffer=4096) as slow:
        slow.send(request("GET", f"/generate/{MIB // 2}", {}))
        slow.read_head()
        with server.connect(tls=context(identity[0])) as other:
            for _ in range(5):
                assert other.request("GET", "/").status == 200


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_sessions_are_resumed(start: Start, identity: tuple[Path, Path], version: ssl.TLSVersion) -> None:
    server = secure(start, identity, "echo")
    client = context(identity[0], version)
    with server.connect(tls=client) as connection:
        assert connection.request("GET", "/").status == 200
        assert isinstance(connection.socket, ssl.SSLSocket)
        session = connection.socket.session
    with server.connect(tls=client, session=session) as connection:
        assert connection.request("GET", "/").status == 200
        assert isinstance(connection.socket, ssl.SSLSocket)
        assert connection.socket.session_reused
    os.kill(server.edge(), signal.SIGKILL)
    server.wait_for_log("edge is back")
    with server.connect(tls=client, session=session) as connection:
        assert connection.request("GET", "/").status == 200
        assert isinstance(connection.socket, ssl.SSLSocket)
        assert connection.socket.session_reused, "the next edge reads the tickets of the one before"


def test_plain_http_is_told_where_it_is(start: Start, identity: tuple[Path, Path]) -> None:
    server = secure(start, identity, "echo")
    answer = server.get("/")
    assert answer.status == 400
    assert "https://" in answer.text


def test_a_renewed_certificate_is_taken_up_and_a_broken_one_is_not(
    start: Start, identity: tuple[Path, Path], tmp_path: Path
) -> None:
    server = secure(start, identity, "echo")
    chain, key = identity
    first = context(chain)
    second_chain, second_key = certificate(tmp_path, "second")
    second = context(second_chain)
    kept = server.connect(tls=first)
    chain.write_text("-----BEGIN CERTIFICATE-----\nbroken\n")
    server.wait_for_log("the new certificate is not taken")
    with server.connect(tls=first) as connection:
        assert common_name(connection) == "first"
    edge = server.edge()
    chain.write_bytes(second_chain.read_bytes())
    key.write_bytes(second_key.read_bytes())

    def renewed() -> bool:
        try:
            with server.connect(tls=second) as connection:
                return common_name(connection) == "second"
        except ssl.SSLError:
            return False

    until(renewed, 10, "the new certificate is in use")
    with kept:
        assert kept.request("GET", "/").status == 200, "an open connection goes on"
    assert server.edge() == edge
    os.kill(edge, signal.SIGKILL)
    until(renewed, 10, "and a new edge has it too")


def test_wrong_files_are_told_at_once(tmp_path: Path, identity: tuple[Path, Path]) -> None:
    chain, key = identity
    other = certificate(tmp_path, "other")[1]
    (tmp_path / "text").write_text("hello")
    for flags, words in [
        (["--tls-cert", str(chain)], "--tls-key"),
        (["--tls-cert", "nowhere", "--tls-key", str(key)], "cannot read"),
        (["--tls-cert", str(chain), "--tls-key", str(other)], "does not belong"),
        (["--tls-cert", "text", "--tls-key", str(key)], "no certificate"),
        (["--tls-cert", str(chain), "--tls-key", "text"], "private key"),
        (["--certfile", str(chain), "--keyfile", "text"], "private key"),
        (["--tls-cert", "text", "--tls-key", str(key), "--check-config"], "no certificate"),
    ]:
        done = run("run", "echo", "--bind", "127.0.0.1:0", *flags, cwd=tmp_path)
        assert done.code in (64, 78), (flags, done)
        assert words in done.err, done.err
        assert "hint:" in done.err


def test_rubbish_and_silence_harm_nobody(start: Start, identity: tuple[Path, Path]) -> None:
    server = secure(start, identity, "echo")
    silent = [socket.create_connection(server.address) for _ in range(200)]  # type: ignore[arg-type]
    for n in range(200):
        with socket.create_connection(server.address) as rubbish:  # type: ignore[arg-type]
            rubbish.sendall(hashlib.sha512(str(n).encode()).digest() * 20)
            rubbish.settimeout(5)
            try:
                while rubbish.recv(4096):
                    pass
            except ConnectionError:
                pass
    with server.connect(tls=context(identity[0])) as connection:
        assert connection.request("GET", "/").status == 200
    for s in silent:
        s.close()


def test_many_clients_at_once(start: Start, identity: tuple[Path, Path]) -> None:
    server = secure(start, identity, "echo", "--workers", "2")
    client = context(identity[0])
    wrong: list[object] = []

    def work() -> None:
        for _ in range(20):
            with server.connect(tls=client) as connection:
                for n in range(5):
                    answer = connection.request("POST", "/", body=b"x" * n * 30_000)
                    if answer.status != 200:
                        wrong.append(answer)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.slow
def test_a_handshake_that_does_not_come_ends(start: Start, identity: tuple[Path, Path]) -> None:
    server = secure(start, identity, "echo")
    with socket.create_connection(server.address) as silent:  # type: ignore[arg-type]
        silent.settimeout(30)
        begun = time.monotonic()
        assert silent.recv(1) == b""
        assert 8 < time.monotonic() - begun < 15


def test_a_large_answer_to_a_slow_reader_stays_out_of_memory(
    start: Start, identity: tuple[Path, Path]
) -> None:
    server = secure(start, identity, "big")
    edge = server.edge()
    with server.connect(tls=context(identity[0]), receive_buffer=65536) as slow:
        slow.send(request("GET", f"/generate-sized/{96 * MIB}", {}))
        slow.read_head()
        assert isinstance(slow.socket, ssl.SSLSocket)
        left = 96 * MIB - len(slow.buffer)
        most = 0
        while left:
            left -= len(slow.socket.recv(65536))
            if left % 97 == 0:
                most = max(most, procs.memory_bytes(edge))
                time.sleep(0.001)
    assert most < 32 * MIB


def test_the_end_of_an_answer_without_a_length_is_told_from_a_cut(
    start: Start, identity: tuple[Path, Path]
) -> None:
    server = secure(start, identity, "big")
    with server.connect(tls=context(identity[0])) as old:
        old.send(b"GET /generate/1048576 HTTP/1.0\r\n\r\n")
        assert len(old.read().body) == MIB


def test_plain_http_is_sent_to_tls(start: Start, identity: tuple[Path, Path], tmp_path_for_all: Path) -> None:
    (tmp_path_for_all / "token").write_bytes(b"proof")
    plain = ("127.0.0.1", free_port())
    challenge = f"/.well-known/acme-challenge={tmp_path_for_all}"
    server = secure(
        start, identity, "echo", "--redirect-http", f"{plain[0]}:{plain[1]}", "--static", challenge
    )
    port = server.address[1]
    server.wait_for_log(f"https://127.0.0.1:{port} and http://127.0.0.1:{plain[1]} \\(to https\\)")

    def location(target: str, host: str = "shop.example:80", method: str = "GET") -> str | None:
        with Connection(plain) as connection:
            connection.send(f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            answer = connection.read(method)
            assert answer.status == 308
            return answer.get("location")

    assert location("/a%20b?c=d//e") == f"https://shop.example:{port}/a%20b?c=d//e"
    assert location("/", "[::1]:80") == f"https://[::1]:{port}/"
    assert location("//evil.example/x") == f"https://shop.example:{port}//evil.example/x"
    assert location("http://other.example/y") == f"https://other.example:{port}/y"
    assert location("*", method="OPTIONS") == f"https://shop.example:{port}/"
    with Connection(plain) as connection:
        connection.send(b"POST /form HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
        answer = connection.read()
        assert (answer.status, answer.says_close) == (308, True)
    with Connection(plain) as connection:
        connection.send(b"GET / HTTP/1.0\r\n\r\n")
        assert connection.read().status == 400
    with Connection(plain) as connection:
        connection.send(request("GET", "/.well-known/acme-challenge/token", {}))
        assert connection.read().body == b"proof"
    with server.connect(tls=context(identity[0])) as connection:
        assert connection.request("GET", "/").status == 200
