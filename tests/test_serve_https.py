"""Sites over https: certificates by name, the way there from http, and what is said over it only."""

import ssl
from pathlib import Path

import pytest
from conftest import Serve
from support.certificates import certificate, common_name, trusting
from support.http import Connection, Response
from support.poll import until
from support.server import SiteServer

SITE = """
[app.a]
wsgi = "site_app"
folder = "${APPS}"
venv = "${VENV}"
[site.one]
listen = ["http://127.0.0.1:${P0}", "https://127.0.0.1:${P1}"]
hosts = ["one.example"]
tls = { cert = "one.pem", key = "one-key.pem" }
hsts = "1y"
health = "/health"
security-headers = true
route = [
  { path = "/*", app = "a" },
  { path = "/.well-known/*", static = "well-known", plain = true },
  { path = "/open", respond = { text = "open" }, plain = true },
  { path = "/text", respond = { text = "text" } },
  { path = "/to", redirect = "{scheme}://{host}/x" },
]
[site.two]
listen = ["http://127.0.0.1:${P0}", "https://127.0.0.1:${P1}"]
hosts = ["two.example"]
tls = { cert = "two.pem", key = "two-key.pem" }
hsts = { max-age = "2y", subdomains = true, preload = true }
route = [{ path = "/*", respond = { text = "two" } }]
[site.wild]
listen = ["https://127.0.0.1:${P1}"]
hosts = ["*.wild.example"]
tls = { cert = "wild.pem", key = "wild-key.pem" }
route = [{ path = "/*", respond = { text = "wild" } }]
[site.both]
listen = ["http://127.0.0.1:${P0}", "https://127.0.0.1:${P1}"]
hosts = ["both.example"]
to-https = false
hsts = "1d"
tls = { cert = "two.pem", key = "two-key.pem" }
route = [{ path = "/*", respond = { text = "both {scheme}" } }]
"""


@pytest.fixture(scope="module")
def chains(place_shared: Path) -> dict[str, Path]:
    (place_shared / "well-known" / "acme-challenge").mkdir(parents=True)
    (place_shared / "well-known" / "acme-challenge" / "token").write_text("proof")
    made = {
        "one": certificate(place_shared, "one", "one.example"),
        "two": certificate(place_shared, "two", "two.example", "both.example"),
        "wild": certificate(place_shared, "wild", "*.wild.example"),
    }
    return {name: chain for name, (chain, _) in made.items()}


@pytest.fixture(scope="module")
def server(serve_shared: Serve, chains: dict[str, Path]) -> SiteServer:
    assert chains
    return serve_shared(SITE)


def secure(
    server: SiteServer, chains: dict[str, Path], target: str, host: str, **options: object
) -> Response:
    return server.ask(target, host, port=1, tls=trusting(*chains.values()), sni=host, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "shown"),
    [("one.example", "one"), ("two.example", "two"), ("a.wild.example", "wild"), ("ONE.example", "one")],
)
def test_the_name_chooses_the_certificate(
    server: SiteServer, chains: dict[str, Path], name: str, shown: str
) -> None:
    with Connection(("127.0.0.1", server.ports[1]), tls=trusting(*chains.values()), sni=name) as connection:
        assert common_name(connection) == shown


@pytest.mark.parametrize("name", ["nobody.example", None])
def test_an_unknown_name_gets_a_certificate_or_no_connection(
    server: SiteServer, chains: dict[str, Path], name: str | None
) -> None:
    client = trusting(*chains.values())
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    try:
        with Connection(("127.0.0.1", server.ports[1]), tls=client, sni=name) as connection:
            answer = connection.request("GET", "/", {"Host": "nobody.example"})
            assert answer.status == 421
    except ssl.SSLError:
        pass  # refused, which is as good


def test_a_request_for_another_site_than_the_connection_s_is_answered_by_its_own_or_421(
    server: SiteServer, chains: dict[str, Path]
) -> None:
    client = trusting(*chains.values())
    with Connection(("127.0.0.1", server.ports[1]), tls=client, sni="one.example") as connection:
        answer = connection.request("GET", "/", {"Host": "two.example"})
        assert answer.status == 421 or answer.text == "two"


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
@pytest.mark.parametrize("target", ["/", "/a%2fb?x=1&y=%20", "/text", "/%zz", "//evil.example/x", "/?//evil"])
def test_what_comes_without_tls_is_sent_to_https(server: SiteServer, target: str, method: str) -> None:
    for host in "one.example", "one.example:80", "ONE.example.":
        answer = server.ask(target, host, method=method)
        assert answer.status == 308
        name = host.partition(":")[0]
        assert answer.get("location") == f"https://{name}:{server.ports[1]}{target}"
        assert answer.get("strict-transport-security") is None


def test_plain_routes_and_health_are_served_without(server: SiteServer) -> None:
    assert server.ask("/.well-known/acme-challenge/token", "one.example").text == "proof"
    assert server.ask("/.well-known/../x", "one.example").status == 308
    assert server.ask("/open", "one.example").text == "open"
    assert server.ask("/open", "two.example").status == 308
    until(lambda: server.ask("/health", "one.example").status == 200, 10, "health without TLS")
    assert server.ask("/", "nobody.example").status == 421
    assert server.ask("/", "a.wild.example").status == 421, "that site has no http:// address"
    assert server.ask("/", "both.example").text == "both {scheme}"


def test_hsts_is_said_over_https_only(server: SiteServer, chains: dict[str, Path]) -> None:
    for target in (
        "/",
        "/text",
        "/.well-known/none",
        "/to",
        "/answer?field=Strict-Transport-Security:max-age=0",
    ):
        answer = secure(server, chains, target, "one.example")
        assert answer.get("strict-transport-security") == "max-age=31536000", target
        assert answer.get("x-frame-options") == "SAMEORIGIN"
    value = secure(server, chains, "/", "two.example").get("strict-transport-security") or ""
    assert {v.strip() for v in value.split(";")} == {"max-age=63072000", "includeSubDomains", "preload"}
    for target in "/open", "/text", "/.well-known/acme-challenge/token":
        assert server.ask(target, "one.example").get("strict-transport-security") is None
    assert server.ask("/", "both.example").get("strict-transport-security") is None
    assert secure(server, chains, "/", "both.example").get("strict-transport-security") == "max-age=86400"


def test_the_app_knows_that_it_is_spoken_to_over_https(server: SiteServer, chains: dict[str, Path]) -> None:
    environ = secure(server, chains, "/", "one.example").json()["environ"]
    assert environ["wsgi.url_scheme"] == "https"
    assert environ["SERVER_PORT"] == str(server.ports[1])
    assert secure(server, chains, "/to", "one.example").get("location") == "https://one.example/x"


def test_forwarded_words_of_strangers_change_nothing(serve: Serve, place: Path) -> None:
    chain, _ = certificate(place, "own", "own.example")
    text = """
    [server]
    forwarded-allow-ips = []
    [site.own]
    listen = ["http://127.0.0.1:${P0}", "https://127.0.0.1:${P1}"]
    hosts = ["own.example"]
    hsts = "1y"
    tls = { cert = "own.pem", key = "own-key.pem" }
    route = [{ path = "/*", respond = { text = "own" } }]
    """
    server = serve(text)
    answer = server.ask(
        "/", "own.example", fields={"X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example"}
    )
    assert answer.status == 308
    assert answer.get("location") == f"https://own.example:{server.ports[1]}/"
    assert answer.get("strict-transport-security") is None
    assert server.ask("/", "own.example", port=1, tls=trusting(chain), sni="own.example").text == "own"


def test_a_renewed_certificate_is_taken_up_without_a_word(serve: Serve, place: Path) -> None:
    first = certificate(place, "first", "own.example", "localhost")
    second = certificate(place, "second", "own.example", "localhost")
    other = certificate(place, "other", "other.example", "localhost")
    certificate_, key = place / "live.pem", place / "live-key.pem"
    certificate_.write_bytes(first[0].read_bytes())
    key.write_bytes(first[1].read_bytes())
    text = """
    [site.own]
    listen = ["http://127.0.0.1:${P0}", "https://127.0.0.1:${P1}"]
    hosts = ["own.example"]
    tls = { cert = "live.pem", key = "live-key.pem" }
    route = [{ path = "/*", respond = { text = "own" } }]
    [site.other]
    listen = ["https://127.0.0.1:${P1}"]
    hosts = ["other.example"]
    tls = { cert = "other.pem", key = "other-key.pem" }
    route = [{ path = "/*", respond = { text = "other" } }]
    """
    server = serve(text)
    client = trusting(first[0], second[0], other[0])

    def shown(name: str) -> str:
        with Connection(("127.0.0.1", server.ports[1]), tls=client, sni=name) as connection:
            return common_name(connection)

    assert shown("own.example") == "first"
    # As certbot does it, the chain first: in between the two do not belong together.
    certificate_.write_bytes(second[0].read_bytes())
    key.write_bytes(second[1].read_bytes())
    until(lambda: shown("own.example") == "second", 15, "the renewed one is in use")
    assert shown("other.example") == "other"
    certificate_.write_text("rubbish")
    server.wait_for_log("the new certificate is not taken")
    assert shown("own.example") == "second"
    key.unlink()
    assert shown("own.example") == "second"


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (("one-key.pem", "two-key.pem"), 8),
        (('cert = "one.pem"', 'cert = "nowhere.pem"'), 8),
        (('tls = { cert = "one.pem", key = "one-key.pem" }\n', ""), 6),
        (("preload = true", "preload = true, x = 1"), 23),
    ],
)
def test_wrong_certificates_are_told_with_their_line(
    serve: Serve, place: Path, change: tuple[str, str], line: int
) -> None:
    certificate(place, "one", "one.example")
    certificate(place, "two", "two.example", "both.example")
    certificate(place, "wild", "*.wild.example")
    (place / "well-known").mkdir()
    server = serve(SITE)
    assert server.check().code == 0, server.check()
    server.write(SITE.replace(*change))
    done = server.check()
    assert done.code == 78
    assert f"{server.file.name}:{line}:" in done.err, done.err


def test_who_came_by_tls_to_a_trusted_proxy_is_not_sent_to_https_again(server: SiteServer) -> None:
    https = {"X-Forwarded-Proto": "https"}
    for fields in https, {"Forwarded": "for=192.0.2.1;proto=https"}:
        answer = server.ask("/x", "one.example", fields=fields)
        assert answer.status == 200, answer
        assert answer.json()["environ"]["wsgi.url_scheme"] == "https"
    assert server.ask("/text", "one.example", fields=https).text == "text"
    assert server.ask("/to", "one.example", fields=https).get("location") == "https://one.example/x"
    assert server.ask("/", "two.example", fields=https).text == "two"
    assert server.ask("/", "both.example", fields=https).text == "both {scheme}"
    assert server.ask("/", "nobody.example", fields=https).status == 421
    for fields in {}, {"X-Forwarded-Proto": "http"}, {"X-Forwarded-For": "192.0.2.1"}:
        answer = server.ask("/x", "one.example", fields=fields)
        assert answer.status == 308, fields
        assert answer.get("location") == f"https://one.example:{server.ports[1]}/x"
