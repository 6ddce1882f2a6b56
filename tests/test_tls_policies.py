"""Who is let in by TLS: certificates of clients, names that nobody has; and the authority of `trivet dev`."""

import hashlib
import signal
import socket
import ssl
import subprocess
from pathlib import Path

import pytest
from conftest import Start
from support.http import Connection, Response
from support.http2 import Peer
from support.poll import until
from support.server import APPS, Server, free_port, run

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
Pair = tuple[Path, Path]


def issue(folder: Path, name: str, subject: str, *extensions: str, by: Pair | None = None) -> Pair:
    """A certificate, self-signed or by an authority, and its key."""
    chain, key = folder / f"{name}.pem", folder / f"{name}-key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command += ["-nodes", "-days", "2", "-utf8", "-subj", subject, "-keyout", str(key), "-out", str(chain)]
    command += [part for extension in extensions for part in ("-addext", extension)]
    if by:
        command += ["-CA", str(by[0]), "-CAkey", str(by[1])]
    subprocess.run(command, check=True, capture_output=True)
    return chain, key


def client_of(folder: Path, name: str, by: Pair, subject: str = "/C=DE/O=Smith, Ltd/CN=j\u00f6rg") -> Pair:
    return issue(folder, name, subject, "basicConstraints=critical,CA:FALSE", by=by)


@pytest.fixture
def server_pair(tmp_path: Path) -> Pair:
    names = "DNS:localhost,DNS:open.example,DNS:secret.example,DNS:maybe.example"
    return issue(tmp_path, "server", "/CN=server", f"subjectAltName={names}")


@pytest.fixture
def authority(tmp_path: Path) -> Pair:
    return issue(tmp_path, "ca", "/CN=authority")


def context(
    pair: Pair | None = None, version: ssl.TLSVersion | None = None, *, h2: bool = False
) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    made.set_alpn_protocols(["h2" if h2 else "http/1.1"])
    if pair:
        made.load_cert_chain(*map(str, pair))
    if version:
        made.minimum_version = made.maximum_version = version
    return made


APP = f"""
[app.rules]
wsgi = "rules"
venv = "@VENV@"
folder = "{APPS}"
"""
TLS = 'cert = "server.pem", key = "server-key.pem"'


def site(name: str, rule: str = "", *, port: object = "@PORT@", host: str | None = None) -> str:
    return f"""
[site.{name}]
listen = ["https://127.0.0.1:{port}"]
hosts = ["{host or name}{"" if host else ".example"}"]
tls = {{ {TLS}{rule} }}
"""


REQUIRED = ', client-ca = "ca.pem"'
OPTIONAL = ', client-ca = "ca.pem", client = "optional"'


def strings(answer: Response) -> dict[str, str]:
    assert answer.status == 200, answer
    return {k: v for k, v in answer.json()["strings"].items() if k.startswith("SSL_")}


def ask(server: Server, client: ssl.SSLContext, name: str, **options: object) -> Response:
    """One request on a connection of its own."""
    with server.connect(tls=client, sni=name, **options) as connection:
        return connection.request("GET", "/validated/show", {"Host": name})


def is_refused(server: Server, client: ssl.SSLContext, name: str, **options: object) -> bool:
    """By TLS: with its last version the client hears of it when it reads."""
    try:
        ask(server, client, name, **options)
    except (ssl.SSLError, ConnectionError):
        return True
    return False


def is_turned_away(peer: Peer, stream: int) -> bool:
    answer = peer.answers[stream]
    peer.until(lambda: answer.ended or answer.reset is not None or peer.goaway is not None)
    return answer.status in (0, 400)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_certificate_is_required_and_told(
    start: Start, tmp_path: Path, server_pair: Pair, authority: Pair, version: ssl.TLSVersion
) -> None:
    server = start(config=APP + site("secret", REQUIRED))
    mine = client_of(tmp_path, "mine", authority)
    told = strings(ask(server, context(mine, version), "secret.example"))
    der = ssl.PEM_cert_to_DER_cert(mine[0].read_text())
    assert told["SSL_CLIENT_VERIFY"] == "SUCCESS"
    assert told["SSL_CLIENT_S_DN"] == "CN=j\\C3\\B6rg,O=Smith\\, Ltd,C=DE"
    assert ssl.PEM_cert_to_DER_cert(told["SSL_CLIENT_CERT"]) == der
    assert told["SSL_CLIENT_FINGERPRINT"] == hashlib.sha256(der).hexdigest()
    shown = subprocess.run(
        ["openssl", "x509", "-in", str(mine[0]), "-noout", "-serial"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert shown.stdout.strip() == f"serial={told['SSL_CLIENT_SERIAL']}"
    assert is_refused(server, context(None, version), "secret.example")
    strange = client_of(tmp_path, "strange", issue(tmp_path, "other", "/CN=authority"))
    assert is_refused(server, context(strange, version), "secret.example")


def test_a_certificate_may_be_optional(
    start: Start, tmp_path: Path, server_pair: Pair, authority: Pair
) -> None:
    server = start(config=APP + site("maybe", OPTIONAL))
    assert strings(ask(server, context(), "maybe.example")) == {"SSL_CLIENT_VERIFY": "NONE"}
    mine = context(client_of(tmp_path, "mine", authority))
    assert strings(ask(server, mine, "maybe.example"))["SSL_CLIENT_VERIFY"] == "SUCCESS"
    strange = client_of(tmp_path, "strange", issue(tmp_path, "other", "/CN=authority"))
    assert is_refused(server, context(strange), "maybe.example")


def test_nobody_else_says_what_a_certificate_says(start: Start, server_pair: Pair, authority: Pair) -> None:
    server = start(config=APP + site("maybe", OPTIONAL) + site("open"))
    forged = dict.fromkeys(("SSL-Client-Verify", "SSL_CLIENT_VERIFY", "Ssl-Client-S-DN"), "SUCCESS")
    for name, expected in ("maybe.example", {"SSL_CLIENT_VERIFY": "NONE"}), ("open.example", {}):
        with server.connect(tls=context(), sni=name) as connection:
            answer = connection.request("GET", "/plain/show", {"Host": name, **forged})
            assert strings(answer) == expected
            assert answer.json()["strings"]["HTTP_SSL_CLIENT_VERIFY"] == "SUCCESS", "an ordinary field"
            connection.send(
                f"GET /plain/show HTTP/1.1\r\nHost: {name}\r\n:ssl-client-verify: SUCCESS\r\n\r\n".encode()
            )
            assert connection.read().status == 400
        with Peer(server.address, tls=context(h2=True), sni=name) as peer:
            peer.authority = name
            stream = peer.ask("/plain/show", more=[(":ssl-client-verify", "SUCCESS")])
            assert is_turned_away(peer, stream)


def test_a_request_for_a_site_with_another_rule_is_misdirected(
    start: Start, tmp_path: Path, server_pair: Pair, authority: Pair
) -> None:
    config = APP + site("open") + site("secret", REQUIRED) + site("maybe", OPTIONAL)
    server = start(config=config + site("also", REQUIRED))
    mine = client_of(tmp_path, "mine", authority)
    sites = ["open", "secret", "maybe", "also"]
    alike = {"secret", "also"}
    for asked in sites:
        right = {other: 200 if other == asked or {asked, other} == alike else 421 for other in sites}
        got = {}
        with server.connect(tls=context(mine), sni=f"{asked}.example") as connection:
            for other in sites:
                answer = connection.request("GET", "/plain/show", {"Host": f"{other}.EXAMPLE:443"})
                got[other] = answer.status
        assert got == right, asked
        got = {}
        with Peer(server.address, tls=context(mine, h2=True), sni=f"{asked}.example") as peer:
            for other in sites:
                peer.authority = f"{other}.example"
                stream = peer.get("/plain/show")
                got[other] = stream.status
                told = b'"SSL_CLIENT_VERIFY": "SUCCESS"' in stream.body
                assert told == (stream.status == 200 and asked != "open")
        assert got == right, asked


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_is_good_for_its_own_rule_only(
    start: Start, tmp_path: Path, server_pair: Pair, authority: Pair, version: ssl.TLSVersion
) -> None:
    """The name is the same everywhere, so that nothing but the rule keeps a session from being resumed."""
    rules = {"first": "", "second": "", "maybe": OPTIONAL, "secret": REQUIRED, "again": REQUIRED}
    ports = {name: free_port() for name in rules}
    ports["first"] = 0
    config = APP
    for name, rule in rules.items():
        config += site(name, rule, port=ports[name] or "@PORT@", host="localhost")
    server = start(config=config)
    ports["first"] = int(server.address[1])
    localhost = {"Host": "localhost"}

    def session_of(client: ssl.SSLContext, at: str) -> ssl.SSLSession | None:
        with Connection(("127.0.0.1", ports[at]), tls=client) as connection:
            assert connection.request("GET", "/plain/show", localhost).status == 200
            assert isinstance(connection.socket, ssl.SSLSocket)
            return connection.socket.session

    def is_resumed(client: ssl.SSLContext, at: str, session: ssl.SSLSession | None) -> bool:
        with Connection(("127.0.0.1", ports[at]), tls=client, session=session) as connection:
            told = strings(connection.request("GET", "/plain/show", localhost))
            expected = {"first": None, "second": None, "maybe": "NONE" if client is nobody else "SUCCESS"}
            assert told.get("SSL_CLIENT_VERIFY") == expected.get(at, "SUCCESS")
            assert isinstance(connection.socket, ssl.SSLSocket)
            return bool(connection.socket.session_reused)

    nobody = context(None, version)
    mine = context(client_of(tmp_path, "mine", authority), version)
    for begun in "first", "maybe":
        session = session_of(nobody, begun)
        for at in "secret", "again":
            with pytest.raises((ssl.SSLError, ConnectionError)):
                is_resumed(nobody, at, session)
        assert is_resumed(nobody, "second", session) == (begun == "first")
        assert is_resumed(nobody, "maybe", session) == (begun == "maybe")
    for begun in "first", "maybe", "secret":
        session = session_of(mine, begun)
        assert is_resumed(mine, "second", session) == (begun == "first")
        assert is_resumed(mine, "maybe", session) == (begun == "maybe")
        assert is_resumed(mine, "again", session) == (begun == "secret")


def test_new_authorities_are_taken_up_and_old_sessions_are_not(
    start: Start, tmp_path: Path, server_pair: Pair, authority: Pair
) -> None:
    server = start(config=APP + site("secret", REQUIRED))
    old = context(client_of(tmp_path, "old", authority))
    kept = server.connect(tls=old, sni="secret.example")
    assert kept.request("GET", "/plain/show", {"Host": "secret.example"}).status == 200
    assert isinstance(kept.socket, ssl.SSLSocket)
    session = kept.socket.session
    other = issue(tmp_path, "other", "/CN=another")
    new = context(client_of(tmp_path, "new", other))
    assert is_refused(server, new, "secret.example")
    authority[0].write_text("broken")
    server.wait_for_log("the new certificate is not taken")
    assert not is_refused(server, old, "secret.example")
    (tmp_path / "next.pem").write_bytes(other[0].read_bytes())
    (tmp_path / "next.pem").replace(authority[0])
    until(lambda: not is_refused(server, new, "secret.example"), 10, "the new authority is believed")
    assert is_refused(server, old, "secret.example")
    assert is_refused(server, old, "secret.example", session=session)
    with kept:
        answer = kept.request("GET", "/plain/show", {"Host": "secret.example"})
        assert answer.status == 200, "an open connection goes on"


def test_a_rule_that_comes_with_a_reload_holds_for_open_connections(
    start: Start, tmp_path: Path, server_pair: Pair, authority: Pair
) -> None:
    server = start(config=APP + site("secret"))
    mine = context(client_of(tmp_path, "mine", authority))
    with server.connect(tls=context(), sni="secret.example") as connection:
        assert connection.request("GET", "/plain/show", {"Host": "secret.example"}).status == 200
        server.configure(APP + site("secret", REQUIRED))
        server.signal(signal.SIGHUP)
        until(lambda: is_refused(server, context(), "secret.example"), 10, "the rule holds")
        assert connection.request("GET", "/plain/show", {"Host": "secret.example"}).status == 421
    assert strings(ask(server, mine, "secret.example"))["SSL_CLIENT_VERIFY"] == "SUCCESS"


def test_a_hello_in_small_pieces_and_rubbish(
    start: Start, tmp_path: Path, server_pair: Pair, authority: Pair
) -> None:
    server = start(config=APP + site("secret", REQUIRED))
    client = context(client_of(tmp_path, "mine", authority))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = client.wrap_bio(incoming, outgoing, server_hostname="secret.example")
    with socket.create_connection(server.address) as plain:  # type: ignore[arg-type]
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        plain.settimeout(10)
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                for byte in outgoing.read():
                    plain.sendall(bytes([byte]))
                data = plain.recv(65536)
                assert data, "the server goes on"
                incoming.write(data)
        tls.write(b"GET /plain/show HTTP/1.1\r\nHost: secret.example\r\nConnection: close\r\n\r\n")
        plain.sendall(outgoing.read())
        got = b""
        while data := plain.recv(65536):
            incoming.write(data)
            try:
                while piece := tls.read(65536):
                    got += piece
            except ssl.SSLWantReadError:
                pass
        assert got.startswith(b"HTTP/1.1 200")
    too_long = b"\x16\x03\x01\x40\x00\x01\x00\xff\xff" + bytes(0x3FFC)
    too_long += (b"\x16\x03\x01\x40\x00" + bytes(0x4000)) * 8
    for rubbish in too_long, b"\x16\x03\x01\x00\x01\x63", bytes(5000), b"":
        with socket.create_connection(server.address) as plain:  # type: ignore[arg-type]
            plain.settimeout(5)
            try:
                plain.sendall(rubbish)
                if rubbish is not too_long:
                    plain.shutdown(socket.SHUT_WR)
                while plain.recv(4096):
                    pass
            except ConnectionError:
                pass
    assert server.get("/").status == 400, "plain HTTP is told where it is"
    assert not is_refused(server, client, "secret.example")


@pytest.mark.parametrize("version", VERSIONS)
def test_unknown_names_are_refused_where_that_is_asked_for(
    start: Start, server_pair: Pair, version: ssl.TLSVersion
) -> None:
    strict = "[server]\nstrict-sni = true\n"
    wild = site("wild", host="*.shop.example")
    server = start(config=strict + APP + site("open") + wild)
    client = context(None, version)
    for name in "open.example", "OPEN.example", "a.shop.example":
        assert ask(server, client, name).status == 200
    for name in "other.example", "shop.example", "localhost":
        with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"):
            server.connect(tls=client, sni=name)
    with server.connect(tls=client, sni=None) as connection:
        assert connection.request("GET", "/plain/show", {"Host": "open.example"}).status == 200
        assert connection.request("GET", "/plain/show", {"Host": "other.example"}).status == 421
    server.configure(APP + site("open"))
    server.signal(signal.SIGHUP)
    until(lambda: not is_refused(server, client, "other.example"), 10, "they get the default certificate")


def test_no_name_is_unknown_to_a_site_for_all(start: Start, server_pair: Pair) -> None:
    every = site("every").replace('hosts = ["every.example"]', "")
    server = start(config="[server]\nstrict-sni = true\n" + APP + site("open") + every)
    assert ask(server, context(), "other.example").status == 200


def data_home(folder: Path) -> dict[str, str]:
    return {"XDG_DATA_HOME": str(folder / "data")}


def test_dev_serves_localhost_with_its_own_authority(start: Start, tmp_path: Path) -> None:
    code = tmp_path / "app.py"
    text = "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'one']\n"
    code.write_text(text)
    server = start("app", command="dev", chdir=tmp_path, env=data_home(tmp_path))
    log = server.wait_for_log(f"at https://127.0.0.1:{server.address[1]}")
    authority = tmp_path / "data/trivet/ca.pem"
    assert log.count(f"curl --cacert {authority} https://localhost") == 1, "how it is trusted is told"
    key = authority.with_name("ca-key.pem")
    assert key.stat().st_mode & 0o777 == 0o600

    def answer(name: str = "localhost") -> bytes:
        client = ssl.create_default_context(cafile=str(authority))
        client.set_alpn_protocols(["http/1.1"])
        with server.connect(tls=client, sni=name) as connection:
            return connection.request("GET", "/seen").body

    assert answer() == b"one"
    assert answer("127.0.0.1") == b"one"
    with pytest.raises(ssl.SSLCertVerificationError):
        answer("shop.example")
    server.wait_for_log(r'"GET /seen HTTP/1\.1" 200')
    code.write_text(text.replace("one", "another"))
    until(lambda: answer() == b"another", 15, "it is loaded anew")
    made = [path.read_bytes() for path in sorted(authority.parent.iterdir())]
    assert server.stop() == 0
    again = start("app", command="dev", chdir=tmp_path, env=data_home(tmp_path))
    assert "--cacert" not in again.log(), "it is told once"
    assert [path.read_bytes() for path in sorted(authority.parent.iterdir())] == made


def test_dev_says_where_its_authority_is(tmp_path: Path) -> None:
    path = tmp_path / "data/trivet/ca.pem"
    for _ in range(2):
        done = run("dev", "--ca", cwd=tmp_path, env=data_home(tmp_path))
        assert (done.code, done.out, done.err) == (0, f"{path}\n", "")
    assert path.exists()
    path.unlink()
    path.mkdir()
    done = run("dev", "--ca", cwd=tmp_path, env=data_home(tmp_path))
    assert done.code == 78
    assert "hint:" in done.err
    done = run("dev", "--ca", cwd=tmp_path, env={"XDG_DATA_HOME": "", "HOME": ""})
    assert done.code == 78
    assert "hint: set HOME" in done.err
