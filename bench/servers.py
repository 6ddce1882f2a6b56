"""The peers. Each Server says how to check that it is installed and what to run.

`start(c)` gets a Ctx and returns the list of commands (argv lists) to run, front-most last.
Configuration files go to c.dir (a fresh temporary folder). To add a server, add one entry.
"""
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

HERE = Path(__file__).resolve().parent
APPS = HERE / "apps"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "trivet-bench"
CACHE.mkdir(parents=True, exist_ok=True)
VENV = Path(os.environ.get("BENCH_VENV", CACHE / "venv"))
FILES = Path("/var/tmp/trivet-bench")       # static files and certificates, made by prepare(); servers drop root
HANDSHAKES = CACHE / "handshakes"            # made from handshakes.c by build()
PY = str(VENV / "bin/python")
SITE = next(VENV.glob("lib/python3*/site-packages"), VENV / "lib")
TRIVET = os.environ.get("TRIVET_BIN", str(HERE.parent / "target/release/trivet"))


def v(name):
    return str(VENV / "bin" / name)


@dataclass
class Ctx:
    app: str            # "module:callable"
    port: int
    workers: int
    dir: Path
    backend: int = 0    # port of the backend for proxy scenarios
    tls: bool = False
    key_type: str = "p256"    # which of CERTIFICATES
    h2: bool = False    # HTTP/2: without TLS, by prior knowledge
    round: int = 0      # which round of the run this is: the seed of what is random
    conns: int = 4096   # connections that the server must be able to hold
    roots: list = field(default_factory=list)      # process ids of what was started
    before: dict = field(default_factory=dict)     # what the case's own first load gave

    @property
    def bind(self):
        return f"127.0.0.1:{self.port}"

    @property
    def sock(self):
        return f"{self.dir}/app.sock"

    @property
    def log(self):
        return self.dir / "access.log"

    @property
    def cert(self):
        return CERTIFICATES[self.key_type][0]

    @property
    def key(self):
        return CERTIFICATES[self.key_type][1]

    def write(self, name, text):
        path = self.dir / name
        path.write_text(text)
        return str(path)


@dataclass
class Server:
    name: str
    start: Callable
    needs: list = field(default_factory=list)      # paths or command names that must be there
    max_workers: int = 99                          # 1: the server has one process by design
    env: dict = field(default_factory=dict)
    raises_files: bool = False                     # raises its own limit of open files, so it gets the default one

    drops_root: bool = False                       # runs as another account, which must be able to read the venv

    def missing(self):
        """Why this server cannot run here, or None."""
        if self.drops_root and not all(f.stat().st_mode & 0o001 for f in (SITE, *SITE.parents)):
            return f"its account cannot read {SITE}; set BENCH_VENV to a folder that everybody can"
        for need in self.needs:
            if not need or not (os.path.exists(need) or shutil.which(need)):
                return f"not found: {need}"
        return None


CERTIFICATES = {                               # certificate, key, what `openssl req` makes them with
    "p256": (FILES / "cert.pem", FILES / "key.pem", ["ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]),
    "rsa2048": (FILES / "rsa-cert.pem", FILES / "rsa-key.pem", ["rsa:2048"]),
}


def build():
    """The load generator for handshakes, where it is missing or older than its source."""
    source = HERE / "handshakes.c"
    if not HANDSHAKES.exists() or HANDSHAKES.stat().st_mtime < source.stat().st_mtime:
        fresh = HANDSHAKES.with_suffix(f".{os.getpid()}")
        subprocess.run(["cc", "-O2", "-Wall", "-D_GNU_SOURCE", "-o", str(fresh), str(source), "-lssl", "-lcrypto",
                        "-pthread"], check=True)
        fresh.rename(HANDSHAKES)


def no_handshakes():
    """Why there is no load generator for handshakes, or None."""
    try:
        build()
    except (OSError, subprocess.CalledProcessError) as e:
        return f"handshakes.c cannot be compiled ({e}); bench/install.sh installs what it needs"
    return None


def prepare():
    """Static files (random bytes, so that nothing compresses) and self-signed certificates."""
    www = FILES / "www/s"
    www.mkdir(parents=True, exist_ok=True)
    for name, size in (("1k.bin", 1 << 10), ("16k.bin", 16 << 10), ("1m.bin", 1 << 20)):
        if not (www / name).exists():
            (www / name).write_bytes(os.urandom(size))
    for cert, key, kind in CERTIFICATES.values():
        if not cert.exists():
            subprocess.run(["openssl", "req", "-x509", "-newkey", *kind, "-nodes", "-days", "3650", "-subj",
                            "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(key),
                            "-out", str(cert)], check=True, capture_output=True)


# ---------------------------------------------------------------- WSGI servers, bare
# Access logs are off, except where a server's name says otherwise. Pinning: none.

def gunicorn(*extra):
    def start(c):
        return [[v("gunicorn"), "-w", str(c.workers), "-b", c.bind, "--no-control-socket", "--log-level", "error",
                 *extra, c.app]]
    return start


def gunicorn_sock(c, *extra):
    return [v("gunicorn"), "-w", str(c.workers), "-b", f"unix:{c.sock}", "--no-control-socket",
            "--log-level", "error", *extra, c.app]


def uwsgi(c, *socket):
    return [v("uwsgi"), *socket, "--module", c.app, "--master", "--processes", str(c.workers),
            "--disable-logging", "--log-master", "--logto", f"{c.dir}/uwsgi.log", "--pythonpath", str(APPS),
            "--home", str(VENV), "--listen", "1024", "--need-app", "--die-on-term"]


def granian(c, *extra, interface="wsgi"):
    if c.conns > 4096:                         # its default lets 1,024 connections in and no more
        extra += ("--backlog", str(c.conns), "--backpressure", str(c.conns))
    return [v("granian"), "--interface", interface, "--host", "127.0.0.1", "--port", str(c.port),
            "--workers", str(c.workers), "--no-log", *extra, c.app]


def serve_py(kind):
    return lambda c: [[PY, str(APPS / "serve.py"), kind, c.app, str(c.port), str(c.workers)]]


def modwsgi(c):
    """Debian's mod_wsgi with Debian's Python (3.11, PGO build): httpd refuses to run as root, and a pyenv in
    root's home cannot be read by www-data. So its Python may be faster than that of the other peers."""
    mods = "/usr/lib/apache2/modules"
    mod, name = c.app.split(":")
    c.write("app.wsgi", f"from {mod} import {name} as application\n")
    conf = c.write("httpd.conf", f"""
ServerRoot {c.dir}
ServerName localhost
Listen {c.bind}
PidFile {c.dir}/httpd.pid
Mutex file:{c.dir} default
ErrorLog {c.dir}/error.log
User www-data
Group www-data
LoadModule mpm_event_module {mods}/mod_mpm_event.so
LoadModule authz_core_module {mods}/mod_authz_core.so
LoadModule wsgi_module {mods}/mod_wsgi.so
StartServers 2
ServerLimit 2
ThreadsPerChild 64
ThreadLimit 64
MaxRequestWorkers 128
KeepAlive On
MaxKeepAliveRequests 0
WSGISocketPrefix {c.dir}/wsgi
WSGIDaemonProcess app processes={c.workers} threads=4 python-path={APPS}:{SITE}
WSGIProcessGroup app
WSGIApplicationGroup %{{GLOBAL}}
WSGIScriptAlias / {c.dir}/app.wsgi
<Directory {c.dir}>
Require all granted
</Directory>
""")
    return [["apache2", "-DFOREGROUND", "-f", conf]]


# ---------------------------------------------------------------- nginx, caddy, haproxy

def nginx(c, body, http="", workers="auto", log="off"):
    conf = c.write("nginx.conf", f"""
user root;
worker_processes {workers};
daemon off;
pid {c.dir}/nginx.pid;
error_log {c.dir}/error.log;
worker_rlimit_nofile {2 * c.conns + 1024};
events {{ worker_connections {c.conns}; }}
http {{
  include /etc/nginx/mime.types;
  access_log {log};
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000;
  client_max_body_size 0;
  client_body_temp_path {c.dir}/body; proxy_temp_path {c.dir}/proxy; uwsgi_temp_path {c.dir}/uwsgi;
  fastcgi_temp_path {c.dir}/fcgi; scgi_temp_path {c.dir}/scgi;
  {http}
  server {{
    listen {c.bind}{' ssl http2' if c.tls else ' http2' if c.h2 else ''};
    {f'ssl_protocols TLSv1.2 TLSv1.3; ssl_certificate {c.cert}; ssl_certificate_key {c.key};' if c.tls else ''}
    {body}
  }}
}}
""")
    return ["nginx", "-p", str(c.dir), "-c", conf]


PROXY = """proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection "";
    proxy_set_header Host $host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;"""


def nginx_gunicorn(*extra):
    return lambda c: [gunicorn_sock(c, *extra),
                      nginx(c, "location / { %s }" % PROXY,
                            "upstream up { server unix:%s; keepalive 32; }" % c.sock)]


def nginx_uwsgi(c):
    return [uwsgi(c, "--socket", c.sock),
            nginx(c, "location / { include /etc/nginx/uwsgi_params; uwsgi_pass unix:%s; }" % c.sock)]


def caddy(c, body):
    site = f"https://127.0.0.1:{c.port}" if c.tls else f"http://127.0.0.1:{c.port}"
    tls = f"tls {c.cert} {c.key}" if c.tls else ""
    conf = c.write("Caddyfile", f"""{{
  admin off
  auto_https off
  servers {{
    protocols h1 h2{' h2c' if c.h2 and not c.tls else ''}
  }}
}}
{site} {{
  bind 127.0.0.1
  {tls}
  {body}
}}
""")
    return [["env", f"HOME={c.dir}", "caddy", "run", "--config", conf, "--adapter", "caddyfile"]]


def haproxy(c):
    pem = c.write("both.pem", c.cert.read_text() + c.key.read_text()) if c.tls else ""
    conf = c.write("haproxy.cfg", f"""
global
  maxconn 4096
defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
  http-reuse always
frontend f
  bind {c.bind}{f' ssl crt {pem} alpn h2,http/1.1' if c.tls else ''}
  option forwardfor
  default_backend b
backend b
  server s1 127.0.0.1:{c.backend}
""")
    return [["haproxy", "-db", "-q", "-f", conf]]


def trivet(*extra):
    return lambda c: [[TRIVET, "run", c.app, "--bind", c.bind, "--workers", str(c.workers),
                       *[a.format(dir=c.dir) for a in extra]]]


def trivet_server(name, *extra):
    """As shipped, with the peers' Python. The application's modules are found by PYTHONPATH, as for everybody."""
    return Server(name, trivet(*extra), [TRIVET], env={"VIRTUAL_ENV": str(VENV)}, raises_files=True)


def trivet_static(c, *extra):
    tls = ("--tls-cert", str(c.cert), "--tls-key", str(c.key)) if c.tls else ()
    return trivet("--static", f"/s={FILES}/www/s", *tls, *extra)(c)


TRIVET_SHIPPED = trivet_server("trivet")
TRIVET_LOG = trivet_server("trivet-log", "--access-logfile", "{dir}/access.log")
TRIVET_STREAM = trivet_server("trivet-stream", "--no-request-buffering")
GTHREAD = ("-k", "gthread", "--threads", "4")

WSGI = [
    TRIVET_SHIPPED, TRIVET_LOG, TRIVET_STREAM,
    Server("nginx+gunicorn-gthread", nginx_gunicorn(*GTHREAD), [v("gunicorn"), "nginx"]),
    Server("nginx+gunicorn-sync", nginx_gunicorn(), [v("gunicorn"), "nginx"]),
    Server("nginx+uwsgi", nginx_uwsgi, [v("uwsgi"), "nginx"]),
    Server("gunicorn-sync", gunicorn(), [v("gunicorn")]),
    Server("gunicorn-gthread", gunicorn(*GTHREAD), [v("gunicorn")]),
    Server("gunicorn-gthread-fast", lambda c: [[PY, "-m", "gunicorn",
                                                *gunicorn(*GTHREAD)(c)[0][1:]]], [str(VENV / "gunicorn-fast")],
           env={"PYTHONPATH": f"{VENV}/gunicorn-fast:{APPS}"}),
    Server("uwsgi-http", lambda c: [uwsgi(c, "--http-socket", c.bind)], [v("uwsgi")]),
    Server("bjoern", serve_py("bjoern"), [str(SITE / "bjoern.py")]),
    Server("fastwsgi", serve_py("fastwsgi"), [str(SITE / "fastwsgi.py")]),
    Server("granian", lambda c: [granian(c)], [v("granian")]),
    Server("granian-bt1", lambda c: [granian(c, "--blocking-threads", "1")], [v("granian")]),
    Server("waitress", lambda c: [[v("waitress-serve"), f"--listen={c.bind}", "--threads=4", c.app]],
           [v("waitress-serve")], max_workers=1),
    Server("cheroot", serve_py("cheroot"), [v("cheroot")]),
    Server("pyvoy", lambda c: [[v("pyvoy"), "--port", str(c.port), "--interface", "wsgi", "--log-level", "error",
                                c.app]], [v("pyvoy")], max_workers=1),
    Server("apache-mod_wsgi", modwsgi, ["/usr/lib/apache2/modules/mod_wsgi.so"],
           drops_root=True),
]

ASGI = [
    Server("uvicorn", lambda c: [[v("uvicorn"), "--host", "127.0.0.1", "--port", str(c.port), "--loop", "uvloop",
                                  "--http", "httptools", "--workers", str(c.workers), "--log-level", "error",
                                  "--no-access-log", c.app]], [v("uvicorn")]),
    Server("granian-asgi", lambda c: [granian(c, "--loop", "uvloop", interface="asgi")], [v("granian")]),
    Server("hypercorn", lambda c: [[v("hypercorn"), "-b", c.bind, "-w", str(c.workers), "-k", "uvloop", "--log-level",
                                    "error", c.app]], [v("hypercorn")]),
    Server("gunicorn-asgi", gunicorn("-k", "asgi"), [v("gunicorn")]),
    Server("pyvoy-asgi", lambda c: [[v("pyvoy"), "--port", str(c.port), "--interface", "asgi", "--log-level",
                                     "error", "--loop", "uvloop", c.app]], [v("pyvoy")], max_workers=1),
]

ROBYN = Server("robyn", lambda c: [["env", f"BENCH_PORT={c.port}", PY, str(APPS / "robyn_app.py"), "--processes",
                                    str(c.workers), "--workers", "1", "--log-level", "ERROR"]], [v("robyn")])

OPEN_FILES = "open_file_cache max=1000 inactive=60s; open_file_cache_valid 60s;"


def trivet_files(*extra):
    return Server("trivet", lambda c: trivet_static(c, *extra), [TRIVET], env={"VIRTUAL_ENV": str(VENV)}, raises_files=True)


STATIC = [
    trivet_files(),
    Server("nginx", lambda c: [nginx(c, f"root {FILES}/www;")], ["nginx"]),
    Server("nginx-filecache", lambda c: [nginx(c, f"root {FILES}/www;", OPEN_FILES)], ["nginx"]),
    Server("caddy", lambda c: caddy(c, f"root * {FILES}/www\n  file_server"), ["caddy"]),
    Server("granian", lambda c: [granian(c, "--static-path-route", "/s", "--static-path-mount", f"{FILES}/www/s",
                                         *(["--ssl-certificate", str(c.cert), "--ssl-keyfile", str(c.key)]
                                           if c.tls else []))], [v("granian")]),
]

# the same lines from all; nginx also as it is set up where the log's cost matters
STATIC_LOG = [
    trivet_files("--access-logfile", "{dir}/access.log"),
    Server("nginx", lambda c: [nginx(c, f"root {FILES}/www;", log=f"{c.log} combined")], ["nginx"]),
    Server("nginx-filecache", lambda c: [nginx(c, f"root {FILES}/www;", OPEN_FILES, log=f"{c.log} combined")], ["nginx"]),
    Server("nginx-filecache, buffered log", lambda c: [nginx(c, f"root {FILES}/www;", OPEN_FILES, log=
                                                             f"{c.log} combined buffer=64k flush=1s")], ["nginx"]),
]

# an answer of three bytes that costs either next to nothing, so that what is compared is the connection
TLS = [
    trivet_files("--health", "/health"),
    Server("nginx", lambda c: [nginx(c, f'root {FILES}/www; location = /health {{ return 200 "ok\\n"; }}')], ["nginx"]),
]

PROXIES = [
    Server("nginx", lambda c: [nginx(c, "location / { %s }" % PROXY,
                                     "upstream up { server 127.0.0.1:%d; keepalive 64; }" % c.backend)], ["nginx"]),
    Server("nginx-1proc", lambda c: [nginx(c, "location / { %s }" % PROXY, workers=1, http=
                                           "upstream up { server 127.0.0.1:%d; keepalive 64; }" % c.backend)],
           ["nginx"]),
    Server("haproxy", haproxy, ["haproxy"]),
    Server("caddy", lambda c: caddy(c, f"reverse_proxy 127.0.0.1:{c.backend}"), ["caddy"]),
]

# the fixed fast backend for the proxy scenario
BACKEND = Server("backend", lambda c: [nginx(c, 'location / { default_type text/plain; return 200 "Hello, World!"; }',
                                             workers=1)], ["nginx"])
