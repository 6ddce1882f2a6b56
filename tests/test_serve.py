"""`trivet serve`: which site and which route a request is for, and what `--explain` says of it."""

import random
import re
import textwrap
from pathlib import Path

import pytest
from conftest import Serve
from support.http import Connection, Response
from support.server import SiteServer

HOSTS = """
[site.exact]
listen = ["http://127.0.0.1:${P0}"]
hosts = ["a.example", "deep.x.w.example"]
route = [{ path = "/*", respond = { text = "exact" } }]
[site.wild]
listen = ["http://127.0.0.1:${P0}"]
hosts = ["*.w.example"]
route = [{ path = "/*", respond = { text = "wild" } }]
[site.longer]
listen = ["http://127.0.0.1:${P0}", "http://127.0.0.1:${P1}"]
hosts = ["*.x.w.example"]
route = [{ path = "/*", respond = { text = "longer" } }]
[site.default]
listen = ["http://127.0.0.1:${P1}"]
route = [{ path = "/*", respond = { text = "default" } }]
[site.address]
listen = ["http://127.0.0.1:${P0}"]
hosts = ["127.0.0.1"]
route = [{ path = "/*", respond = { text = "address" } }]
"""


@pytest.fixture(scope="module")
def hosts(serve_shared: Serve) -> SiteServer:
    return serve_shared(HOSTS)


def raw(server: SiteServer, text: str, port: int = 0) -> Response:
    with Connection(("127.0.0.1", server.ports[port])) as connection:
        connection.send(text.replace("\n", "\r\n").encode("latin-1") + b"\r\n\r\n")
        return connection.read(text.split()[0])


@pytest.mark.parametrize(
    ("host", "site"),
    [
        ("a.example", "exact"),
        ("A.ExAmple", "exact"),
        ("a.example.", "exact"),
        ("a.example:8080", "exact"),
        ("a.example.:1", "exact"),
        ("deep.x.w.example", "exact"),
        ("b.w.example", "wild"),
        ("c.b.w.example", "wild"),
        ("B.W.EXAMPLE.:80", "wild"),
        ("b.x.w.example", "longer"),
        ("a.deep.x.w.example", "longer"),
        ("x.w.example", "wild"),
        ("127.0.0.1", "address"),
        ("127.0.0.1:9", "address"),
        ("w.example", None),
        ("aw.example", None),
        ("a.example.evil.example", None),
        ("evil-a.example", None),
        ("[::1]", None),
    ],
)
def test_the_host_chooses_the_site(hosts: SiteServer, host: str, site: str | None) -> None:
    answer = hosts.ask("/", host)
    assert (answer.status, answer.text if site else None) == ((200, site) if site else (421, None))
    with_default = hosts.ask("/", host, port=1)
    assert with_default.text == ("longer" if site == "longer" or host == "deep.x.w.example" else "default")


def test_the_target_s_authority_counts_before_the_host_field(hosts: SiteServer) -> None:
    answer = raw(hosts, "GET http://a.example/x HTTP/1.1\nHost: a.example")
    assert answer.text == "exact"
    answer = raw(hosts, "GET http://b.w.example/x HTTP/1.1\nHost: a.example")
    assert answer.status == 400 or answer.text == "wild"
    assert raw(hosts, "GET http://nobody.example/ HTTP/1.1\nHost: nobody.example").status == 421


def test_http_1_0_without_a_host_gets_the_default_site_or_421(hosts: SiteServer) -> None:
    assert raw(hosts, "GET / HTTP/1.0").status == 421
    assert raw(hosts, "GET / HTTP/1.0", port=1).text == "default"
    assert raw(hosts, "GET / HTTP/1.0\nHost: a.example").text == "exact"
    assert raw(hosts, "GET / HTTP/1.1").status == 400


def test_421_leaves_the_connection_usable(hosts: SiteServer) -> None:
    with hosts.connect() as connection:
        assert connection.request("GET", "/", {"Host": "nobody.example"}).status == 421
        assert connection.request("GET", "/", {"Host": "a.example"}).text == "exact"


ROUTES = [
    ('path = "/a/b"', "exact"),
    ('path = "/a/*"', "prefix"),
    ('path = "/a/b/*"', "longer prefix"),
    ('path = "/*"', "all"),
    ('path = "/*/c"', "pattern"),
    ('path = "/**/*.php"', "php"),
    ('path = "/m", methods = ["POST", "PUT"]', "m post put"),
    ('path = "/m2/*", methods = ["POST"]', "m2 post"),
    ('path = "/m2/*"', "m2"),
    ('path = "/h", headers = { X-Beta = "1" }', "beta 1"),
    ('path = "/h", headers = { X-Beta = "*", X-More = "*" }', "beta and more"),
    ('path = "/h"', "h"),
    ('path = "/h", methods = ["GET"]', "h get"),
    ('path = "/café/*"', "café"),
    ('path = "/a b"', "space"),
    ('path = "/inner/*", internal = true', "internal"),
]


def routes(lines: list[tuple[str, str]]) -> str:
    made = [f'{{ {rule}, respond = {{ text = "{name}" }} }},' for rule, name in lines]
    return "\n".join(
        ["[site.main]", 'listen = ["http://127.0.0.1:${P0}"]', "route = [", *made, "]", "[site.strict]"]
        + ['listen = ["http://127.0.0.1:${P1}"]', "route = ["]
        + [line for line in made if '"/*"' not in line]
        + ["]"]
    )


@pytest.fixture(scope="module", params=["as written", "backwards", "shuffled"])
def routed(request: pytest.FixtureRequest, serve_shared: Serve) -> SiteServer:
    lines = list(ROUTES)
    if request.param == "backwards":
        lines.reverse()
    elif request.param == "shuffled":
        random.Random(3).shuffle(lines)
    return serve_shared(routes(lines))


@pytest.mark.parametrize(
    ("target", "fields", "name"),
    [
        ("/", {}, "all"),
        ("/a", {}, "prefix"),
        ("/a/", {}, "prefix"),
        ("/ab", {}, "all"),
        ("/A/b", {}, "all"),
        ("/a/b", {}, "exact"),
        ("/a/b?q=/x.php", {}, "exact"),
        ("/a/b/", {}, "longer prefix"),
        ("/a/b/c.php", {}, "longer prefix"),
        ("/a/x.php", {}, "prefix"),
        ("/x/c", {}, "pattern"),
        ("/x/y/c", {}, "all"),
        ("/x.php", {}, "php"),
        ("/x/y/z.php", {}, "php"),
        ("/x.php/", {}, "all"),
        ("//a//b", {}, "exact"),
        ("/%61/%62", {}, "exact"),
        ("/x/../a/./b", {}, "exact"),
        ("/../../a/b", {}, "exact"),
        ("/caf%C3%A9/x", {}, "café"),
        ("/caf%c3%a9", {}, "café"),
        ("/a%20b", {}, "space"),
        ("/m", {}, "all"),
        ("/h", {}, "h get"),
        ("/h", {"X-Beta": "1"}, "h get"),
        ("/inner/x", {}, "all"),
    ],
)
def test_the_most_specific_route_wins(
    routed: SiteServer, target: str, fields: dict[str, str], name: str
) -> None:
    answer = routed.ask(target, fields=fields)
    assert (answer.status, answer.text) == (200, name)


@pytest.mark.parametrize(
    ("method", "fields", "name"),
    [
        ("POST", {}, "h"),
        ("POST", {"X-Beta": "1"}, "beta 1"),
        ("POST", {"x-beta": "1", "X-MORE": ""}, "beta and more"),
        ("POST", {"X-Beta": "2"}, "h"),
        ("POST", {"X-Beta": "2", "X-More": "2"}, "beta and more"),
        ("GET", {"X-Beta": "2", "X-More": "2"}, "h get"),
        ("HEAD", {}, "h get"),
    ],
)
def test_then_the_method_then_the_fields(
    routed: SiteServer, method: str, fields: dict[str, str], name: str
) -> None:
    answer = routed.ask("/h", method=method, fields=fields)
    assert answer.status == 200
    if method == "HEAD":
        assert answer.get("content-length") == str(len(name))
    else:
        assert answer.text == name


def test_a_method_that_no_route_takes_is_told_those_that_there_are(routed: SiteServer) -> None:
    assert routed.ask("/m", method="PUT", port=1).text == "m post put"
    answer = routed.ask("/m", port=1)
    assert answer.status == 405
    assert {m.strip() for m in (answer.get("allow") or "").split(",")} == {"POST", "PUT"}
    assert routed.ask("/m", method="HEAD", port=1).status == 405
    assert routed.ask("/m2/x", method="DELETE").text == "m2", "the route for all methods takes the others"
    assert routed.ask("/nowhere", port=1).status == 404
    assert routed.ask("/nowhere", method="POST", body=b"x" * 100, port=1).status == 404
    assert routed.ask("/m", method="post", port=1).status == 405, "methods have capital letters"


def test_internal_routes_are_nobody_s(routed: SiteServer) -> None:
    for target in "/inner/x", "/inner", "//inner/x", "/%69nner/x", "/a/../inner/x":
        assert routed.ask(target, port=1).status == 404


@pytest.mark.parametrize(
    "target", ["/a%2fb", "/a%5cb", "/a/..%2fa/b", "/%2e%2e%2fa/b", "/a/b%00", "/a/%c0%ae%c0%ae/b", "/a%2Fb/c"]
)
def test_a_spelling_that_two_readers_read_differently_is_refused_or_is_one_route_s(
    routed: SiteServer, target: str
) -> None:
    answer = routed.ask(target)
    # What is no text is a letter like others where nothing but the prefix before it counts.
    one = ["all"] + ["prefix"] * ("%c0" in target)
    assert answer.status == 400 or (answer.status == 200 and answer.text in one), answer.text
    strict = routed.ask(target, port=1)
    assert strict.status in (400, 404) or strict.text in one


def test_a_tie_is_an_error_with_both_lines(serve: Serve, place: Path) -> None:
    server = serve(routes(ROUTES))
    for first, second in [
        ('path = "/x/*"', 'path = "/x/*"'),
        ('path = "/a*c"', 'path = "/*bc"'),
        ('path = "/m", methods = ["GET", "PUT"]', 'path = "/m", methods = ["PUT"]'),
        ('path = "/h", headers = { A = "1" }', 'path = "/h", headers = { B = "1" }'),
    ]:
        server.write(routes([(first, "1"), (second, "2")]))
        done = server.check()
        assert done.code == 78, (first, second)
        assert f"{server.file.name}:5:" in done.err, done.err
        assert "line 4" in done.err, done.err
        assert server.reload().code != 0


# What `--explain` says and what is served.


def explained(server: SiteServer, url: str, *more: str) -> tuple[str, str]:
    """The site's and the route's name, or `421`, `404`, `405`, `400`."""
    done = server.check("--explain", url, *more)
    if done.code != 0:
        assert "400" in done.said or "421" in done.said, done
        return "", "400" if "400" in done.said else "421"
    site = re.search(r"^site `([^`]+)`", done.out, re.MULTILINE)
    if not site:
        assert "\nno site: " in done.out, done
        return "", "421"
    route = re.search(r"^route `(.*?)`(?: for .*?)?(?: with `.*?`)*: (.*)$", done.out, re.MULTILINE)
    if route:
        return site[1], route[2]
    found = re.search(r"\b(400|404|405)\b", done.out.split("\n", 2)[2])
    assert found, done
    return site[1], found[1]


def random_rule(dice: random.Random) -> str:
    segments = [dice.choice(["a", "b", "ab", "c.php", "é"]) for _ in range(dice.randint(1, 3))]
    kind = dice.random()
    if kind < 0.35:
        segments.append("*")
    elif kind < 0.6:
        segments[dice.randrange(len(segments))] = dice.choice(["*", "a*", "*.php", "**"])
    return "/" + "/".join(segments)


def random_sites(dice: random.Random) -> str:
    lines = []
    number = 200
    for site, hosts in (
        ("one", '["one.example", "*.one.example"]'),
        ("two", '["*.two.example"]'),
        ("rest", None),
    ):
        lines += [f"[site.{site}]", 'listen = ["http://127.0.0.1:${P0}"]']
        lines += [f"hosts = {hosts}"] if hosts else []
        lines += ["route = ["]
        taken: set[str] = set()
        for _ in range(9):
            rule = dice.choice(["/*", random_rule(dice), random_rule(dice)])
            methods = dice.choice(["", "", ', methods = ["GET"]', ', methods = ["POST"]'])
            headers = dice.choice(
                ["", "", ', headers = { X-A = "1" }', ', headers = { X-A = "*", X-B = "2" }']
            )
            key = f"{rule}{bool(methods)}{headers}"
            if key in taken:
                continue
            taken.add(key)
            number += 1
            status = number if number not in (204, 205) else number + 100
            lines.append(f'{{ path = "{rule}"{methods}{headers}, respond = {{ status = {status} }} }},')
        lines.append("]")
    return "\n".join(lines)


def random_target(dice: random.Random) -> str:
    segments = [
        dice.choice(["a", "b", "ab", "c.php", "%C3%A9", "%61", "..", ".", "", "x"])
        if dice.random() < 0.4
        else dice.choice(["a", "b", "ab", "c.php"])
        for _ in range(dice.randint(1, 4))
    ]
    return "/" + "/".join(segments) + dice.choice(["", "", "/", "?q=1"])


@pytest.mark.parametrize("seed", range(6))
def test_explain_agrees_with_what_is_served(serve: Serve, slow_set: bool, seed: int) -> None:
    dice = random.Random(seed)
    server = serve('[site.x]\nlisten = ["http://127.0.0.1:${P0}"]\nroute = [{ path = "/*", respond = 204 }]')
    for _ in range(200):
        server.write(random_sites(dice))
        if server.check().code == 0:
            break
    else:
        raise AssertionError("no table without ties")
    assert server.reload().code == 0
    kinds = set()
    for _ in range(1000 if slow_set else 100):
        host = dice.choice(["one.example", "x.one.example", "X.TWO.example", "two.example", "nobody"])
        method = dice.choice(["GET", "HEAD", "POST", "DELETE"])
        fields = dice.choice([{}, {"X-A": "1"}, {"X-A": "2", "X-B": "2"}, {"x-a": "1", "X-B": "3"}])
        target = random_target(dice)
        answer = server.ask(target, host, method=method, fields=fields)
        more = ["--method", method]
        for name, value in fields.items():
            more += ["--header", f"{name}: {value}"]
        url = f"http://{host}:{server.ports[0]}{target}"
        site, said = explained(server, url, *more)
        status = re.search(r"status (\d+)", said)
        if said == "405":  # see the next test
            assert answer.status in (404, 405)
            continue
        assert str(answer.status) == (status[1] if status else said), (method, url, fields, site, said)
        kinds.add("route" if status else said)
    assert "route" in kinds


def test_explain_says_404_where_no_route_has_these_fields(serve: Serve) -> None:
    server = serve(routes([('path = "/x", methods = ["GET"], headers = { X-A = "1" }', "x")]))
    assert server.ask("/x", method="POST").status == 404
    assert explained(server, f"http://127.0.0.1:{server.ports[0]}/x", "--method", "POST")[1] == "404"


def test_explain_knows_an_odd_spelling_that_is_one_route_s(routed: SiteServer) -> None:
    assert routed.ask("/x%2fy").text == "all"
    assert explained(routed, f"http://127.0.0.1:{routed.ports[0]}/x%2fy")[1] != "400"


def test_explain_names_the_winner_and_why(serve: Serve) -> None:
    server = serve(
        textwrap.dedent("""
        [app.a]
        wsgi = "site_app"
        folder = "${APPS}"
        venv = "${VENV}"
        [site.main]
        listen = ["http://127.0.0.1:${P0}"]
        hosts = ["a.example"]
        health = "/health"
        route = [
          { path = "/*", app = "a" },
          { path = "/api/*", app = "a", mount = true },
          { path = "/old", redirect = "/new", status = 301 },
        ]
        """)
    )
    base = f"http://a.example:{server.ports[0]}"
    said = server.check("--explain", f"{base}/api/x").out
    assert "route `/api/*`: the app `a`, mounted at `/api`" in said
    assert "matches too: `/*`" in said
    assert "redirect to `/new` (301)" in server.check("--explain", f"{base}/old").out
    assert "health" in server.check("--explain", f"{base}/health").out
    assert "no site: `b.example`" in server.check("--explain", f"http://b.example:{server.ports[0]}/").out


def test_explain_knows_a_host_with_a_dot_at_its_end(hosts: SiteServer) -> None:
    assert hosts.ask("/", "a.example.").text == "exact"
    site, _ = explained(hosts, f"http://a.example.:{hosts.ports[0]}/")
    assert site == "exact"
