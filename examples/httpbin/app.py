"""A server to test HTTP clients against: what httpbin.org answers, as plain functions.

trivet run --chdir examples/httpbin app:app
"""

from __future__ import annotations

import base64
import gzip as gzip_
import importlib
import json
import random
import re
import time
import uuid as uuid_
import zlib
from collections.abc import Generator, Iterator
from email.utils import formatdate
from typing import Annotated, Any
from urllib.parse import urlsplit

import digest
import images
from trivet import App, HTTPError, Query, Request, Response, redirect, stream

BYTES_MAX = 100 * 1024
DRIP_BYTES_MAX = 10 * 1024 * 1024
DELAY_SECONDS_MAX = 10.0
ANY = ("GET", "POST", "PUT", "DELETE", "PATCH", "TRACE")
ALGORITHM = "MD5"

# What proxies add. It is shown only to those who ask for it with `?show_env`.
PROXY_FIELDS = {
    *("Connect-Time", "Total-Route-Time", "Via", "X-Forwarded-For", "X-Forwarded-Port", "X-Forwarded-Proto"),
    *("X-Forwarded-Protocol", "X-Forwarded-Ssl", "X-Heroku-Dynos-In-Use", "X-Heroku-Queue-Depth"),
    *("X-Heroku-Queue-Wait-Time", "X-Real-Ip", "X-Request-Id", "X-Request-Start", "X-Varnish"),
}


Around = Generator[None, Response, None]

app = App()
anyone = app.group("", csrf=False)  # pages of all sites may send here: that is what they are for


# Around every answer


@app.intercept("/*")
def let_every_page_read_this(req: Request) -> Around:
    """Any site may use this server from a browser (the CORS protocol of the Fetch standard)."""
    response = yield
    response.headers["Access-Control-Allow-Origin"] = req.headers.get("Origin") or "*"
    response.headers["Access-Control-Allow-Credentials"] = "true"
    if req.method == "OPTIONS":
        response.headers["Access-Control-Allow-Methods"] = "GET, POST, PUT, DELETE, PATCH, OPTIONS"
        response.headers["Access-Control-Max-Age"] = "3600"
        if wanted := req.headers.get("Access-Control-Request-Headers"):
            response.headers["Access-Control-Allow-Headers"] = wanted


@app.intercept("/*")
def json_is_for_people() -> Around:
    """One field a line, and a line's end at the end."""
    response = yield
    fields, body = response.headers, response.body
    is_json = fields.get("Content-Type") == "application/json" and "Content-Encoding" not in fields
    if is_json and isinstance(body, bytes):
        response.body = to_json(json.loads(body))


@app.intercept("/*")
def a_body_has_a_length(req: Request) -> Response | None:
    """Chunked bodies are refused, as httpbin does under servers that leave the coding to the application."""
    if req.headers.get("Transfer-Encoding", "").lower() == "chunked":
        return Response("chunked bodies are not supported\n", status=501)
    return None


# What was sent


def to_json(value: Any) -> bytes:
    return json.dumps(value, indent=2, sort_keys=True).encode() + b"\n"


def one_or_all(pairs: Any) -> dict[str, Any]:
    """`{"a": "1", "b": ["2", "3"]}`: a list only where a name came more than once."""
    return {name: pairs.all(name)[0] if len(pairs.all(name)) == 1 else pairs.all(name) for name in pairs}


def made(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """JSON as a response, for those who have to add something to it."""
    return Response(to_json(value), status, headers, content_type="application/json")


def as_text(data: bytes, media: str = "application/octet-stream") -> str:
    """Bytes for JSON: themselves where they are text, a `data:` URL (RFC 2397) where not."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return f"data:{media};base64,{base64.b64encode(data).decode()}"


def url_of(req: Request) -> str:
    """The URL as the client knows it, if there is a proxy that says so."""
    proto = req.headers.get("X-Forwarded-Proto") or req.headers.get("X-Forwarded-Protocol")
    if proto is None and req.headers.get("X-Forwarded-Ssl") == "on":
        proto = "https"
    return urlsplit(req.url)._replace(scheme=proto).geturl() if proto else req.url


def headers_of(req: Request) -> dict[str, str]:
    fields = {name.title(): value for name, value in req.headers.items()}
    return fields if "show_env" in req.query else {k: v for k, v in fields.items() if k not in PROXY_FIELDS}


def origin_of(req: Request) -> str | None:
    return req.headers.get("X-Forwarded-For") or req.client


def head_of(req: Request) -> dict[str, Any]:
    return {
        "args": one_or_all(req.query),
        "headers": headers_of(req),
        "origin": origin_of(req),
        "url": url_of(req),
    }


def body_of(req: Request) -> dict[str, Any]:
    """The body, in as many ways as it can be read. One that is not what its type says is shown as it came."""
    raw = req.body
    try:
        form, files = one_or_all(req.form), {}
        for name in req.files:
            shown = [
                as_text(f.read(), f.content_type or "application/octet-stream") for f in req.files.all(name)
            ]
            files[name] = shown[0] if len(shown) == 1 else shown
    except HTTPError:
        form, files = {}, {}
    try:
        parsed = json.loads(raw)
    except ValueError:
        parsed = None
    return {"data": "" if form or files else as_text(raw), "files": files, "form": form, "json": parsed}


@app.get("/get")
def get(req: Request) -> dict[str, Any]:
    """What a GET request said."""
    return head_of(req)


def everything(req: Request) -> dict[str, Any]:
    """What a request said, body included."""
    return head_of(req) | body_of(req)


for method in "POST", "PUT", "PATCH", "DELETE":
    anyone.route(f"/{method.lower()}", methods=[method])(everything)


@anyone.route("/anything", methods=ANY)
@anyone.route("/anything/{rest:path}", methods=ANY)
def anything(req: Request) -> dict[str, Any]:
    """What a request said, by any method and to any path below."""
    return everything(req) | {"method": req.method}


@app.get("/ip")
def ip(req: Request) -> dict[str, Any]:
    """The client's address."""
    return {"origin": origin_of(req)}


@app.get("/headers")
def headers(req: Request) -> dict[str, Any]:
    """The request's fields."""
    return {"headers": headers_of(req)}


@app.get("/user-agent")
def user_agent(req: Request) -> dict[str, Any]:
    """What the client calls itself."""
    return {"user-agent": req.headers.get("User-Agent")}


# Status


TEAPOT = r"""
        ___
     __(   )__      _
    /  `---'  \    / )
   |           |__/ /
   |   short   |___/
    \ & stout /
     `-------'
"""
STATUS: dict[int, dict[str, Any]] = {
    **{code: {"headers": {"Location": "/redirect/1"}} for code in (301, 302, 303, 305, 307, 308)},
    401: {"headers": {"WWW-Authenticate": 'Basic realm="httpbin"'}},
    407: {"headers": {"Proxy-Authenticate": 'Basic realm="httpbin"'}},
    418: {"body": TEAPOT, "headers": {"X-More-Info": "https://www.rfc-editor.org/rfc/rfc2324"}},
}


def answer(code: int) -> Response:
    """An answer with this status, and with what such an answer must have."""
    return Response(status=code, **STATUS.get(code, {}))


@anyone.route("/status/{codes}", methods=ANY)
def status(codes: str) -> Response:
    """This status; or one of `200,500`; or one of `200:0.9,500:0.1`, by weight."""
    try:
        choices = [choice.partition(":") for choice in codes.split(",")]
        weights = {int(code): float(weight or 1) for code, _, weight in choices}
        [code] = random.choices(list(weights), list(weights.values()))
    except ValueError:
        raise HTTPError(400, "invalid status code") from None
    if not 200 <= code <= 999:
        raise HTTPError(400, "invalid status code")
    return answer(code)


# Redirects


@app.get("/redirect/{n:int}")
def redirect_n(req: Request, n: int, absolute: bool = False) -> Response:
    """Redirects `n` times."""
    return absolute_redirect(req, n) if absolute else relative_redirect(n)


@app.get("/relative-redirect/{n:int}")
def relative_redirect(n: int) -> Response:
    """Redirects `n` times, by path."""
    if n < 1:
        raise HTTPError(400, "the number of redirects must be positive")
    return redirect("/get" if n == 1 else f"/relative-redirect/{n - 1}")


@app.get("/absolute-redirect/{n:int}")
def absolute_redirect(req: Request, n: int) -> Response:
    """Redirects `n` times, by whole URL."""
    if n < 1:
        raise HTTPError(400, "the number of redirects must be positive")
    here = urlsplit(req.url)
    target = "/get" if n == 1 else f"/absolute-redirect/{n - 1}"
    return redirect(f"{here.scheme}://{here.netloc}{target}")


@anyone.route("/redirect-to", methods=ANY)
def redirect_to(url: str, status_code: int = 302) -> Response:
    """Redirects to `?url=`, whatever it is: that is what this route is for."""
    return Response(status=status_code if 300 <= status_code < 400 else 302, headers={"Location": url})


# Cookies


def set_all(req: Request, cookies: dict[str, str]) -> Response:
    response = redirect("/cookies")
    for name, value in cookies.items():
        response.set_cookie(name, value, secure=req.url.startswith("https:"), http_only=False)
    return response


@app.get("/cookies")
def cookies(req: Request) -> dict[str, Any]:
    """The cookies that the client sends."""
    return {"cookies": dict(req.cookies.items())}


@app.get("/cookies/set")
def set_cookies(req: Request) -> Response:
    """Sets each parameter as a cookie."""
    return set_all(req, dict(req.query.items()))


@app.get("/cookies/set/{name}/{value}")
def set_cookie(req: Request, name: str, value: str) -> Response:
    """Sets one cookie."""
    return set_all(req, {name: value})


@app.get("/cookies/delete")
def delete_cookies(req: Request) -> Response:
    """Deletes the cookies that the parameters name."""
    response = redirect("/cookies")
    for name in req.query:
        response.delete_cookie(name)
    return response


# Who is there


def knows(req: Request, user: str, password: str) -> bool:
    """Whether the request has these credentials (Basic, RFC 7617)."""
    scheme, _, token = (req.headers.get("Authorization") or "").partition(" ")
    try:
        return scheme.lower() == "basic" and base64.b64decode(token).decode() == f"{user}:{password}"
    except ValueError:
        return False


@app.get("/basic-auth/{user}/{password}")
def basic_auth(req: Request, user: str, password: str) -> Response | dict[str, Any]:
    """Asks for this user and password."""
    return {"authenticated": True, "user": user} if knows(req, user, password) else answer(401)


@app.get("/hidden-basic-auth/{user}/{password}")
def hidden_basic_auth(req: Request, user: str, password: str) -> Response | dict[str, Any]:
    """The same, but does not say that it asks."""
    return {"authenticated": True, "user": user} if knows(req, user, password) else answer(404)


@app.get("/bearer")
def bearer(req: Request) -> Response | dict[str, Any]:
    """Asks for any bearer token (RFC 6750)."""
    authorization = req.headers.get("Authorization") or ""
    if not authorization.startswith("Bearer "):
        return Response(status=401, headers={"WWW-Authenticate": "Bearer"})
    return {"authenticated": True, "token": authorization.removeprefix("Bearer ")}


@app.get("/digest-auth/{qop}/{user}/{password}")
@app.get("/digest-auth/{qop}/{user}/{password}/{algorithm}")
@app.get("/digest-auth/{qop}/{user}/{password}/{algorithm}/{stale_after}")
def digest_auth(
    req: Request,
    qop: str,
    user: str,
    password: str,
    algorithm: str = ALGORITHM,
    stale_after: str = "never",
    require_cookie: Annotated[str, Query("require-cookie")] = "",
) -> Response:
    """Asks for this user and password; a nonce goes stale after so many uses, or when it was used wrongly.

    The client keeps the account, in cookies: this server remembers nobody.
    """
    algorithm = algorithm if algorithm in digest.ALGORITHMS else ALGORITHM
    offered = qop if qop in ("auth", "auth-int") else None
    must_keep_cookies = require_cookie.lower() in ("1", "t", "true")
    given = digest.credentials(req.headers.get("Authorization"))
    nonce = given.get("nonce")

    def ask_again(*, stale: bool = False) -> Response:
        challenge = digest.challenge(offered, algorithm, stale=stale)
        response = Response(status=401, headers={"WWW-Authenticate": challenge})
        response.set_cookie("stale_after", stale_after)
        response.set_cookie("fake", "fake_value")
        if nonce is not None:
            response.set_cookie("last_nonce", nonce)
        return response

    if not given or (must_keep_cookies and not req.cookies):
        return ask_again()
    if must_keep_cookies and req.cookies.get("fake") != "fake_value":
        return made({"errors": ["the cookie of the challenge is missing"]}, status=403)
    left = req.cookies.get("stale_after")
    if left == "0" or nonce == req.cookies.get("last_nonce"):
        return ask_again(stale=True)
    target = urlsplit(req.url)._replace(scheme="", netloc="").geturl()
    if not digest.is_right(given, user, password, req.method, target, req.body):
        return ask_again()
    response = made({"authenticated": True, "user": user})
    response.set_cookie("fake", "fake_value")
    if left:
        response.set_cookie("stale_after", str(int(left) - 1) if left.isdigit() else "never")
    return response


# Slowly


@anyone.route("/delay/{seconds}", methods=ANY)
def delay(req: Request, seconds: str) -> dict[str, Any]:
    """Answers after so many seconds, ten at most."""
    try:
        time.sleep(max(0.0, min(float(seconds), DELAY_SECONDS_MAX)))
    except ValueError:
        raise HTTPError(400, "the delay is a number of seconds") from None
    return everything(req)


@app.get("/drip")
def drip(numbytes: int = 10, duration: float = 2, delay: float = 0, code: int = 200) -> Response:
    """Sends bytes one by one."""
    if numbytes <= 0:
        raise HTTPError(400, "the number of bytes must be positive")
    count = min(numbytes, DRIP_BYTES_MAX)
    time.sleep(min(max(0.0, delay), DELAY_SECONDS_MAX))

    def drops() -> Iterator[bytes]:
        for _ in range(count):
            yield b"*"
            time.sleep(max(0.0, duration) / count)

    return stream(
        drops(), status=code, content_type="application/octet-stream", headers={"Content-Length": str(count)}
    )


@app.get("/stream/{n:int}")
def stream_lines(req: Request, n: int) -> Response:
    """So many lines of JSON, a hundred at most."""
    shown = head_of(req)
    lines = (json.dumps(shown | {"id": i}) + "\n" for i in range(min(n, 100)))
    return stream(lines, content_type="application/json")


# Bytes


def random_bytes(n: int, seed: int | None) -> bytes:
    chance = random.Random(seed)
    return bytes(chance.randint(0, 255) for _ in range(min(n, BYTES_MAX)))


def pieces(data: bytes, size: int, pause_seconds: float = 0.0) -> Iterator[bytes]:
    for at in range(0, len(data), size):
        time.sleep(pause_seconds)
        yield data[at : at + size]


@app.get("/bytes/{n:int}")
def some_bytes(n: int, seed: int | None = None) -> bytes:
    """Random bytes; the same ones for the same `?seed=`."""
    return random_bytes(n, seed)


@app.get("/stream-bytes/{n:int}")
def stream_bytes(n: int, seed: int | None = None, chunk_size: int = 10 * 1024) -> Response:
    """The same, piece by piece."""
    return stream(pieces(random_bytes(n, seed), max(1, chunk_size)), content_type="application/octet-stream")


def range_of(field: str | None, length: int) -> tuple[int, int]:
    """First and last byte that a `Range` asks for; all of them where it cannot be read."""
    match = re.fullmatch(r"\s*bytes=(\d*)-(\d*)\s*", field or "")
    if match is None or match[0].strip() == "bytes=-":
        return 0, length - 1
    first, last = match.groups()
    if not first:
        return max(0, length - int(last)), length - 1
    return int(first), int(last) if last else length - 1


@app.get("/range/{n:int}")
def range_(req: Request, n: int, chunk_size: int = 10 * 1024, duration: float = 0) -> Response:
    """The alphabet over and over, whole or the range that was asked for."""
    fields = {"ETag": f"range{n}", "Accept-Ranges": "bytes"}
    if not 0 < n <= BYTES_MAX:
        return Response(f"the number of bytes is between 1 and {BYTES_MAX}\n", status=404, headers=fields)
    first, last = range_of(req.headers.get("Range"), n)
    if not first <= last < n:
        return Response(status=416, headers=fields | {"Content-Range": f"bytes */{n}"})
    data = bytes(ord("a") + i % 26 for i in range(first, last + 1))
    size = max(1, chunk_size)
    return stream(
        pieces(data, size, max(0.0, duration) / n * size),
        status=200 if len(data) == n else 206,
        content_type="application/octet-stream",
        headers=fields | {"Content-Range": f"bytes {first}-{last}/{n}", "Content-Length": str(len(data))},
    )


# Conditions and caches


def tags(field: str | None) -> list[str]:
    """The entity tags of `If-Match` or `If-None-Match`, quoted or not."""
    return [re.sub(r'^\s*(?:W/)?"?([^"]*?)"?\s*$', r"\1", tag) for tag in field.split(",")] if field else []


@app.get("/etag/{etag}")
def etag(req: Request, etag: str) -> Response:
    """Behaves as a resource with this entity tag does."""
    none_of, one_of = tags(req.headers.get("If-None-Match")), tags(req.headers.get("If-Match"))
    if none_of and {etag, "*"} & {*none_of}:
        return Response(status=304, headers={"ETag": etag})
    if not none_of and one_of and not {etag, "*"} & {*one_of}:
        return Response(status=412)
    return made(head_of(req), headers={"ETag": etag})


@app.get("/cache")
def cache(req: Request) -> Response:
    """304 to every conditional request."""
    if "If-Modified-Since" in req.headers or "If-None-Match" in req.headers:
        return Response(status=304)
    fields = {"Last-Modified": formatdate(usegmt=True), "ETag": f'"{uuid_.uuid4().hex}"'}
    return made(head_of(req), headers=fields)


@app.get("/cache/{seconds:int}")
def cache_for(req: Request, seconds: int) -> Response:
    """May be kept for so long."""
    return made(head_of(req), headers={"Cache-Control": f"public, max-age={seconds}"})


@anyone.route("/response-headers", methods=["GET", "POST"])
def response_headers(req: Request) -> Response:
    """Each parameter as a field of the answer; the body shows all fields, its own length among them."""
    response = made({})
    for name, value in req.query.pairs():
        response.headers.add(name, value)
    while True:
        shown = to_json(one_or_all(response.headers) | {"Content-Length": str(len(response.body))})
        if shown == response.body:
            return response
        response.body = shown


# Coded


def coded(req: Request, coding: str, fact: str, compress: Any) -> Response:
    data = to_json({"headers": headers_of(req), "method": req.method, "origin": origin_of(req), fact: True})
    fields = {"Content-Encoding": coding, "Content-Type": "application/json"}
    return Response(compress(data), headers=fields)


@app.get("/gzip")
def gzip(req: Request) -> Response:
    """Coded with gzip, asked or not."""
    return coded(req, "gzip", "gzipped", gzip_.compress)


@app.get("/deflate")
def deflate(req: Request) -> Response:
    """Coded with deflate."""
    return coded(req, "deflate", "deflated", zlib.compress)


@app.get("/brotli")
def brotli(req: Request) -> Response:
    """Coded with Brotli."""
    try:
        package: Any = importlib.import_module("brotlicffi")
    except ImportError:
        raise HTTPError(501, "the package `brotlicffi` is not installed") from None
    return coded(req, "br", "brotli", package.compress)


@app.get("/base64/{value}")
def decode_base64(value: str) -> str:
    """The decoded text."""
    try:
        return base64.urlsafe_b64decode(value).decode()
    except ValueError:
        return "this is not Base64: try dHJpdmV0"


@app.get("/uuid")
def uuid() -> dict[str, str]:
    """A new UUID."""
    return {"uuid": str(uuid_.uuid4())}


# Media types


def picture(data: bytes, media: str) -> Response:
    return Response(data, headers={"Content-Type": media})


@app.get("/image/png")
def png() -> Response:
    """A PNG picture."""
    return picture(images.png(), "image/png")


@app.get("/image/jpeg")
def jpeg() -> Response:
    """A JPEG picture."""
    return picture(images.jpeg(), "image/jpeg")


@app.get("/image/webp")
def webp() -> Response:
    """A WebP picture."""
    return picture(images.webp(), "image/webp")


@app.get("/image/svg")
def svg() -> Response:
    """An SVG picture."""
    return picture(images.svg(), "image/svg+xml")


@app.get("/image")
def image(req: Request) -> Response:
    """The picture that `Accept` prefers."""
    accept = (req.headers.get("Accept") or "image/png").lower()
    for media, make in {
        "image/webp": webp,
        "image/svg+xml": svg,
        "image/jpeg": jpeg,
        "image/png": png,
    }.items():
        if media in accept:
            return make()
    if "image/*" in accept or "*/*" in accept:
        return png()
    return made({"message": "no picture of that type is here"}, status=406)


@app.get("/json")
def sample_json() -> dict[str, Any]:
    """A JSON document."""
    return {"stand": {"name": "trivet", "legs": 3, "holds": ["a flask", "a bottle", "a pot of tea"]}}


@app.get("/xml")
def sample_xml() -> Response:
    """An XML document."""
    legs = "".join(f'  <leg number="{i}"/>\n' for i in (1, 2, 3))
    text = f'<?xml version="1.0" encoding="utf-8"?>\n<stand name="trivet">\n{legs}</stand>\n'
    return Response(text, headers={"Content-Type": "application/xml"})


def page(title: str, body: str) -> str:
    head = f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{title}</title>'
    return f"{head}\n<h1>{title}</h1>\n{body}\n"


@app.get("/html")
def sample_html() -> str:
    """An HTML document."""
    return page("A trivet", "<p>A stand with three legs never wobbles, however crooked the floor.</p>")


@app.get("/forms/post")
def form() -> str:
    """A form to send."""
    fields = "".join(
        f"<p><label>{label} <input name={name} type={kind}></label></p>\n"
        for label, name, kind in (
            ("Name", "custname", "text"),
            ("Telephone", "custtel", "tel"),
            ("At", "delivery", "time"),
        )
    )
    return page("Order", f"<form method=post action=/post>\n{fields}<p><button>Send</button></p></form>")


@app.get("/encoding/utf8")
def utf8() -> Response:
    """Text in many scripts."""
    words = "tripod τρίπους тренога τριποδικός तिपाई 三脚 삼각대 ثلاثي القوائم חצובה ∮ E⋅da = Q  ⟨ψ|φ⟩  ☕ 🫖"
    return Response(page("UTF-8", f"<p>{words}</p>"), headers={"Content-Type": "text/html; charset=utf-8"})


@app.get("/robots.txt")
def robots() -> Response:
    """Rules for robots."""
    return Response("User-agent: *\nDisallow: /deny\n", headers={"Content-Type": "text/plain"})


@app.get("/deny")
def deny() -> Response:
    """What robots are asked to leave alone."""
    return Response("\n   (x_x)\n\n   not for you\n", headers={"Content-Type": "text/plain"})


@app.get("/links/{n:int}")
def links(n: int) -> Response:
    """Leads to the first page of links."""
    return redirect(f"/links/{n}/0")


@app.get("/links/{n:int}/{offset:int}")
def link_page(n: int, offset: int) -> str:
    """A page of so many links to pages like it."""
    count = min(max(1, n), 200)
    items = (str(i) if i == offset else f"<a href='/links/{count}/{i}'>{i}</a>" for i in range(count))
    return page("Links", " ".join(items))


@app.get("/")
def index() -> str:
    """This list."""
    items = "\n".join(
        f"<li><code>{' '.join(r.methods)} {r.template}</code> {r.handler.__doc__}" for r in app.routes()
    )
    return page("httpbin, on Trivet", f"<ul>{items}</ul>")
