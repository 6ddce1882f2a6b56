"""What is measured. scenario(name) returns (reference label, [Case, ...]); later cases of a round are compared
with the reference case of the same round and group."""
from dataclasses import dataclass, field
from typing import Callable

import loads
import servers as S


@dataclass
class Case:
    group: str                 # cases of one group are compared with each other
    server: S.Server
    load: Callable             # load(ctx, seconds) -> dict
    app: str = "hello:app"
    workers: int = 1
    probe: str = "/"
    tls: bool = False
    key_type: str = "p256"     # of the certificate
    h2: bool = False           # the server must speak HTTP/2 on this port; not all speak HTTP/1.1 there then
    trial: Callable = None     # trial(ctx) -> dict with `errors`: what --smoke runs of the load
    warm: bool = True
    label: str = ""
    backend: bool = False
    database: bool = False     # the app finds its MariaDB server in TRIVET_DB
    secs: float = 0            # 0: the run's default
    before: Callable = None    # before(ctx, secs) -> dict: a load before the measured one, kept in ctx.before
    around: bool = False       # `before` runs again afterwards; `kept` is throughput relative to the mean of the two
    conns: int = 4096          # connections that the server must be able to hold

    def __post_init__(self):
        self.label = self.label or self.server.name


def url(c, path):
    return f"http{'s' if c.tls else ''}://127.0.0.1:{c.port}{path}"


def get(path, conns=64, lua="", **kw):
    return lambda c, secs: loads.wrk(url(c, path), secs, conns, lua, **kw)


def pick(*names):
    by = {s.name: s for s in S.WSGI + S.ASGI}
    return [by[n] for n in names]


PEERS = [s for s in S.WSGI if not s.name.startswith("trivet")]
FEW = [S.TRIVET_SHIPPED] + [s for s in PEERS if s.name != "gunicorn-gthread-fast"]     # for the long scenarios
HELLO = [S.TRIVET_SHIPPED, S.TRIVET_LOG] + PEERS
FAST = pick("trivet", "trivet-log", "nginx+gunicorn-gthread", "nginx+uwsgi", "uwsgi-http", "bjoern", "fastwsgi", "granian",
            "granian-bt1")
# four requests at a time, the same as Trivet with four workers: these make up the queue's competition
FOUR = pick("trivet", "nginx+gunicorn-sync", "nginx+uwsgi", "gunicorn-sync", "uwsgi-http", "bjoern", "fastwsgi",
            "granian-bt1", "waitress")
MORE = pick("granian")                     # has more threads than four slots; for the record


def workers(n):
    return f"{n} worker{'s' * (n > 1)}"


def hello():
    return "bjoern", [Case(workers(w), s, get("/"), workers=w)
                      for w in (1, 2) for s in HELLO if w <= s.max_workers]


# what a browser sends with a navigation; Host is the twelfth
BROWSER = """
for name, value in pairs({
  ["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
  ["Accept"] = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
  ["Accept-Language"] = "en-US,en;q=0.5",
  ["Accept-Encoding"] = "gzip, deflate, br, zstd",
  ["Referer"] = "http://127.0.0.1/list?page=2",
  ["Connection"] = "keep-alive",
  ["Cookie"] = "session=8f14e45fceea167a5a36dedd4bea2543; theme=dark; _ga=GA1.1.1234567890.1700000000",
  ["Upgrade-Insecure-Requests"] = "1",
  ["Sec-Fetch-Dest"] = "document",
  ["Sec-Fetch-Mode"] = "navigate",
  ["Sec-Fetch-Site"] = "same-origin",
}) do wrk.headers[name] = value end
"""


def hello12():
    """hello with twelve browser headers"""
    return "bjoern", [Case(workers(w), s, get("/", lua=BROWSER), workers=w) for w in (1, 2) for s in FAST]


def hello1():
    """hello with one connection: what a request costs when nothing can be batched"""
    return "bjoern", [Case("1 worker", s, get("/", 1)) for s in FAST]


def flask():
    return "bjoern", [
        Case(f"{path}, {workers(w)}", s, get(path), "flask_app:app", w, "/json")
        for w, path in ((1, "/json"), (2, "/json"), (2, "/item/42?q=abc"))
        for s in (HELLO if path == "/json" else FAST) if w <= s.max_workers]


# one third each: JSON, path parameter + query, form POST
MIX = """
local reqs, i = nil, 0
request = function()
  if not reqs then
    reqs = { wrk.format("GET", "/json"), wrk.format("GET", "/item/42?q=abc"),
      wrk.format("POST", "/form?q=abc&page=2", {["Content-Type"]="application/x-www-form-urlencoded"}, "name=Ada&age=36") }
  end
  i = i % 3 + 1
  return reqs[i]
end
"""


def framework():
    wsgi = pick("granian-bt1", "bjoern")
    cases = [Case(f"1 worker under {s.name}", s, get("/json", lua=MIX), f"{fw}_app:app", 1, "/json", label=fw)
             for s in wsgi for fw in ("flask", "bottle", "falcon", "django", "werkzeug")]
    cases += [Case("1 worker", s, get("/json", lua=MIX), f"{fw}_app:app", 1, "/json", label=f"{fw} ({s.name})")
              for s, fw in (*((s, "trivet") for s in pick("trivet")), *((s, fw) for s in pick("bjoern") for fw in ("falcon", "bottle")))]
    cases.append(Case("1 worker", S.ROBYN, get("/json", lua=MIX), "", 1, "/json"))
    cases += [Case("1 worker, ASGI or own server", s, get("/json", lua=MIX), f"{fw}_app:app", 1, "/json",
                   label=f"{fw} ({s.name})")
              for s in pick("uvicorn", "granian-asgi") for fw in ("starlette", "fastapi")]
    return "flask", cases


def techempower():
    """TechEmpower's six shapes; twenty rows where they ask for several. One worker, 16 connections: the database has
    the other core, and a slow peer answers before wrk gives up."""
    paths = ("/json", "/plaintext", "/db", "/queries?queries=20", "/fortunes", "/updates?queries=20")
    peers = (("trivet", "trivet", "trivet"), ("gunicorn-gthread", "flask", "flask, sqlalchemy, pymysql (gunicorn)"),
             ("bjoern", "falcon", "falcon, pymysql (bjoern)"))
    return "falcon, pymysql (bjoern)", [
        Case(path.partition("?")[0], *pick(server), get(path, 16), f"{fw}_database:app", 1, "/db", label=label, database=True)
        for path in paths for server, fw, label in peers]


def asgi():
    return "uvicorn", [Case(f"{w} worker{'s' * (w > 1)}", s, get("/"), "hello:asgi", w)
                       for w in (1, 2) for s in S.ASGI if w <= s.max_workers]


def static():
    cases = []
    for tls in (False, True):
        for f, conns in (("1k", 64), ("16k", 64), ("1m", 16)):
            if tls and f == "16k":
                continue
            for s in S.STATIC:
                cases.append(Case(f"{f}, {'https h1' if tls else 'http'}", s, get(f"/s/{f}.bin", conns), "hello:app", 2,
                                  "/s/1k.bin", tls))
    few = get("/s/1k.bin", 4)
    cases += [Case("1k, http, access log on", s, lambda c, secs: loads.logged(c, lambda: get("/s/1k.bin")(c, secs)),
                   workers=2, probe="/s/1k.bin", trial=lambda c: loads.logged(c, lambda: few(c, 1))) for s in S.STATIC_LOG]
    return "nginx", cases


def h2():
    """HTTP/2, static 1 KiB, 8 connections with 8 streams each"""
    def load(c, secs):
        return loads.h2load(url(c, "/s/1k.bin"), secs, 8, 8)
    clear = [s for s in S.STATIC if s.name != "granian"]
    return "nginx", [Case(f"1k, {'https' if tls else 'http'} h2", s, load, workers=2, probe="/s/1k.bin", tls=tls, h2=True,
                          trial=lambda c: load(c, 1))
                     for tls in (True, False) for s in (S.STATIC if tls else clear)]


def tls():
    """What a TLS connection costs: full and resumed handshakes, and 10,000 that are idle"""
    def load(resume, count=0):
        return lambda c, secs=10: loads.handshakes(c, secs, "/health", resume, count=count)

    cases = [Case(group, s, load(resume), workers=2, probe="/health", tls=True, key_type=key, trial=load(resume, 100))
             for group, key, resume in (("full handshakes, P-256", "p256", False),
                                        ("full handshakes, RSA-2048", "rsa2048", False),
                                        ("resumed handshakes, P-256", "p256", True)) for s in S.TLS]
    cases += [Case("10,000 idle TLS connections", s, lambda c, secs: loads.idle(c, 10_000, "/health"), workers=2,
                   probe="/health", tls=True, warm=False, conns=16_384, trial=lambda c: loads.idle(c, 50, "/health"))
              for s in S.TLS]
    return "nginx", cases


def proxy():
    cases = [Case("http", s, get("/"), backend=True) for s in S.PROXIES]
    cases += [Case("https h1", s, get("/"), backend=True, tls=True) for s in S.PROXIES]
    cases += [Case("h2 (8 conns x 8 streams)", s, lambda c, secs: loads.h2load(url(c, "/"), secs, 8, 8), backend=True,
                   tls=True) for s in S.PROXIES]
    return "nginx", cases


def slow():
    """500 clients that dribble heads, and 500 that dribble bodies besides, beside 32 normal connections. Throughput is
    compared with that of the same server just before and after the slow ones. The application reads bodies."""
    normal = get("/", 32)

    def beside(kinds):
        return lambda c, secs: normal(c, secs) if secs <= 1 else loads.beside_slow(c, kinds, lambda: normal(c, secs))
    return "nginx+gunicorn-gthread", [
        Case(group, s, beside(kinds), "misc:app", 2, before=normal, around=True, conns=8192)
        for group, kinds in (("500 slow heads", ["heads"]), ("500 slow heads, 500 slow bodies", ["heads", "bodies"]))
        for s in FEW]


def mixed():
    """4 slots, 10% of the requests sleep 20 ms, 400 Poisson arrivals/s on 32 connections; each round is another seed."""
    def idle_median(c, secs):
        return loads.openloop(c.port, 1.5, 50)
    return "nginx+uwsgi", [
        Case("400 req/s", s, lambda c, secs: loads.mixed(c, secs, 400, 0.1, 4), "misc:app",
             4 if s.max_workers > 1 else 1, secs=6, before=idle_median, warm=False)
        for s in FOUR + MORE]


def idle():
    """10,000 idle keep-alive connections: memory, before any and with all of them."""
    few = pick("trivet", "bjoern", "fastwsgi", "granian-bt1", "nginx+uwsgi", "nginx+gunicorn-gthread")
    return "nginx+uwsgi", [Case("10,000 idle connections", s, lambda c, secs: loads.idle(c, 10_000), warm=False,
                                conns=16_384, trial=lambda c: loads.idle(c, 50)) for s in few]


def fixed():
    """hello at a fixed 1000 req/s, 2 workers, 32 connections: tail latency when nothing is saturated."""
    return "nginx+gunicorn-gthread", [
        Case("1000 req/s", s, lambda c, secs: loads.openloop(c.port, secs, 1000, 32), workers=min(2, s.max_workers),
             secs=5) for s in FEW]


CLOSE = 'wrk.headers["Connection"] = "close"'


def churn():
    """a new connection for each request"""
    cases = [Case("http, WSGI hello, 2 workers", s, get("/", 64, CLOSE), workers=2) for s in FEW]
    cases += [Case("http, static 1k", s, get("/s/1k.bin", 64, CLOSE), workers=2, probe="/s/1k.bin") for s in S.STATIC]
    cases += [Case("https, static 1k, full handshakes (ab)", s, lambda c, secs: loads.ab(url(c, "/s/1k.bin"), secs, 16),
                   workers=2, probe="/s/1k.bin", tls=True) for s in S.STATIC if s.name != "trivet"]
    return {"http, WSGI hello, 2 workers": "bjoern"}, cases


def post(size):
    return f'wrk.method = "POST"; wrk.body = string.rep("x", {size})'


def body():
    cases = []
    for group, load in (("upload 100 KiB", get("/upload", 16, post(100 << 10))),
                        ("upload 10 MiB", get("/upload", 4, post(10 << 20), timeout=10)),
                        ("stream 10 MiB, no length", get("/stream", 4, timeout=10)),
                        ("stream 10 MiB, Content-Length", get("/stream-cl", 4, timeout=10))):
        streaming = [S.TRIVET_STREAM] if group.startswith("upload") else []
        cases += [Case(group, s, load, "misc:app", 2) for s in FEW + streaming]
    return "granian", cases


ALL = {f.__name__: f for f in (hello, hello12, hello1, flask, body, churn, mixed, slow, idle, fixed,
                                      static, tls, h2, proxy, framework, techempower, asgi)}
