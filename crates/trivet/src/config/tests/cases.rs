//! One short file for each error and warning. What they come to is in `errors.txt`.

pub(super) const CASES: &[(&str, &str)] = &[
    ("the file is empty", ""),
    (
        "text without quotes",
        r#"[app.shop]
wsgi = "shop:app"
folder = shop
"#,
    ),
    (
        "a time without quotes",
        r#"[app.shop]
wsgi = "shop:app"
timeout = 30s
"#,
    ),
    (
        "a line without a value",
        r#"[app.shop]
wsgi = "shop:app"
folder
"#,
    ),
    (
        "a table that is not closed",
        r#"[app.shop]
wsgi = "shop:app"
[site.main
"#,
    ),
    (
        "a table twice",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
[app.shop]
wsgi = "shop:app"
"#,
    ),
    (
        "a key twice",
        r#"[app.shop]
wsgi = "shop:app"
threads = 1
threads = 2
"#,
    ),
    (
        "a text that is not closed",
        r#"[app.shop]
wsgi = "shop:app"
folder = "shop
"#,
    ),
    (
        "a list that is not closed",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
hosts = ["a.example"
"#,
    ),
    (
        "a number that is too large",
        r#"[app.shop]
wsgi = "shop:app"
threads = 99999999999999999999
"#,
    ),
    (
        "a NUL",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
health = "/\u0000"
"#,
    ),
    (
        "a variable that is not set",
        r#"[app.shop]
wsgi = "shop:app"
folder = "${NO}"
[site.main]
"#,
    ),
    (
        "a variable without its end",
        r#"[app.shop]
wsgi = "shop:app"
folder = "${NO"
[site.main]
"#,
    ),
    (
        "a variable that is no name",
        r#"[app.shop]
wsgi = "shop:app"
folder = "${a-b}"
[site.main]
"#,
    ),
    (
        "an unknown table",
        r#"[sever]
[app.shop]
wsgi = "shop:app"
[site.main]
"#,
    ),
    (
        "an unknown key",
        r#"[app.shop]
wsgi = "shop:app"
worker = 2
[site.main]
"#,
    ),
    (
        "an unknown key like nothing",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
banana = 1
"#,
    ),
    (
        "a key that is missing",
        r"[app.shop]
[site.main]
",
    ),
    (
        "a table of a later version",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
[upstream.billing]
servers = []
"#,
    ),
    (
        "a program of a later version",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
[program.celery]
command = "x"
[cron.daily]
"#,
    ),
    (
        "a key of a later version",
        r#"[app.shop]
wsgi = "shop:app"
asgi = "shop:app"
[site.main]
"#,
    ),
    (
        "keys of later versions in a route",
        r#"[site.main]
route = [{ path = "/*", proxy = "billing", rate-limit = "100/s", cache = "1m" }]
"#,
    ),
    (
        "a value of a later version",
        r#"[site.main]
listen = ["https://0.0.0.0:443"]
tls = "auto"
route = [{ path = "/*", respond = 200 }]
"#,
    ),
    (
        "a table of workers",
        r#"[app.shop]
wsgi = "shop:app"
workers = { min = 1, max = 8 }
[site.main]
"#,
    ),
    (
        "a number in quotes",
        r#"[app.shop]
wsgi = "shop:app"
threads = "4"
[site.main]
"#,
    ),
    (
        "a number without quotes",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
health = 1
"#,
    ),
    (
        "a truth value in quotes",
        r#"[app.shop]
wsgi = "shop:app"
reload = "true"
[site.main]
"#,
    ),
    (
        "a number out of range",
        r#"[app.shop]
wsgi = "shop:app"
threads = 0
[site.main]
"#,
    ),
    (
        "neither number nor word",
        r#"[app.shop]
wsgi = "shop:app"
workers = "many"
[site.main]
"#,
    ),
    (
        "no time",
        r#"[app.shop]
wsgi = "shop:app"
timeout = "soon"
[site.main]
"#,
    ),
    (
        "no size",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
request-body-max = "large"
"#,
    ),
    (
        "no choice",
        r#"[server]
log-level = "infos"
[app.shop]
wsgi = "shop:app"
[site.main]
"#,
    ),
    (
        "no list",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
hosts = "a.example"
"#,
    ),
    (
        "no table",
        r#"[app.shop]
wsgi = "shop:app"
env = "A=1"
[site.main]
"#,
    ),
    (
        "a table where text stands",
        r#"[app.shop]
wsgi = "shop:app"
folder = { name = "x" }
[site.main]
"#,
    ),
    (
        "a list where text stands",
        r#"[app.shop]
wsgi = "shop:app"
folder = ["x"]
[site.main]
"#,
    ),
    (
        "a date",
        r#"[app.shop]
wsgi = "shop:app"
folder = 1979-05-27
[site.main]
"#,
    ),
    (
        "an environment value without quotes",
        r#"[app.shop]
wsgi = "shop:app"
env = { DEBUG = 1 }
[site.main]
"#,
    ),
    (
        "an empty path",
        r#"[app.shop]
wsgi = "shop:app"
folder = ""
[site.main]
"#,
    ),
    (
        "a site without a name",
        r#"[app.shop]
wsgi = "shop:app"
[site]
listen = ["http://127.0.0.1:8000"]
"#,
    ),
    (
        "a word instead of an app",
        r#"app = "shop:app"
[site.main]
"#,
    ),
    (
        "a key of another table",
        r#"listen = ["http://127.0.0.1:8000"]
[app.shop]
wsgi = "shop:app"
hosts = ["shop.example"]
[site.main]
static = "public"
"#,
    ),
    (
        "keys of other servers",
        r#"[app.shop]
wsgi = "shop:app"
chdir = "."
[site.main]
bind = ["0.0.0.0:80"]
server_name = ["shop.example"]
"#,
    ),
    (
        "a comma that is missing",
        r#"[site.main]
route = [
  { path = "/*", respond = 200 }
  { path = "/a", respond = 404 },
]
"#,
    ),
    (
        "a text without quotes in a table",
        r"[site.main]
route = [{ path = /a, respond = 404 }]
",
    ),
    (
        "a file that is switched on",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
access-log = true
"#,
    ),
    (
        "a wrong site",
        r#"[app.shop]
wsgi = "shop:app"
[site]
main = 1
"#,
    ),
    (
        "capture without a file",
        r#"[server]
capture-output = true
[app.shop]
wsgi = "shop:app"
[site.main]
"#,
    ),
    (
        "no network",
        r#"[server]
forwarded-allow-ips = ["10.0.0.0/33"]
[app.shop]
wsgi = "shop:app"
[site.main]
"#,
    ),
    (
        "an unknown user",
        r#"[app.shop]
wsgi = "shop:app"
user = "no-such-user"
[site.main]
"#,
    ),
    (
        "an unknown group",
        r#"[server]
group = "no-such-group"
[app.shop]
wsgi = "shop:app"
[site.main]
"#,
    ),
    (
        "a name that is none",
        r#"[app."a b"]
wsgi = "a"
[site.main]
"#,
    ),
    (
        "a site's name that is none",
        r#"[app.shop]
wsgi = "shop:app"
[site.""]
"#,
    ),
    (
        "a file instead of a module",
        r#"[app.shop]
wsgi = "shop/wsgi.py:application"
[site.main]
"#,
    ),
    (
        "no module",
        r#"[app.shop]
wsgi = "a-b"
[site.main]
"#,
    ),
    (
        "no mask",
        r#"[app.shop]
wsgi = "shop:app"
umask = "22"
[site.main]
"#,
    ),
    (
        "no environment variable",
        r#"[app.shop]
wsgi = "shop:app"
env = { "A=B" = "1" }
[site.main]
"#,
    ),
    (
        "no virtual environment",
        r#"[app.shop]
wsgi = "shop:app"
venv = "no-venv"
[site.main]
"#,
    ),
    (
        "no folder",
        r#"[app.shop]
wsgi = "shop:app"
folder = "no-folder"
[site.main]
"#,
    ),
    (
        "a file instead of a folder",
        r#"[app.shop]
wsgi = "shop:app"
folder = "page.html"
[site.main]
"#,
    ),
    (
        "a secret that is not there",
        r#"[app.shop]
wsgi = "shop:app"
env = { K = { file = "no-secret" } }
[site.main]
"#,
    ),
    (
        "a secret that all can read",
        r#"[app.shop]
wsgi = "shop:app"
env = { K = { file = "open" } }
[site.main]
"#,
    ),
    (
        "a secret with a NUL",
        r#"[app.shop]
wsgi = "shop:app"
env = { K = { file = "nul" } }
[site.main]
"#,
    ),
    (
        "a secret that is not text",
        r#"[app.shop]
wsgi = "shop:app"
env = { K = { file = "latin.html" } }
[site.main]
"#,
    ),
    (
        "a secret without its file",
        r#"[app.shop]
wsgi = "shop:app"
env = { K = { path = "secret" } }
[site.main]
"#,
    ),
    (
        "no scheme",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
listen = ["0.0.0.0:80"]
"#,
    ),
    (
        "another scheme",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
listen = ["tcp://0.0.0.0:80"]
"#,
    ),
    (
        "an address with a path",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
listen = ["http://0.0.0.0:80/"]
"#,
    ),
    (
        "a star as the address",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
listen = ["http://*:80"]
"#,
    ),
    (
        "no address",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
listen = ["http://"]
"#,
    ),
    (
        "no port",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
listen = ["http://0.0.0.0:http"]
"#,
    ),
    (
        "an address that is too high",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
listen = ["http://0.0.0.0:80000"]
"#,
    ),
    (
        "an address without brackets",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
listen = ["http://::1:80"]
"#,
    ),
    (
        "an address with wrong letters",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
listen = ["http://a b:80"]
"#,
    ),
    (
        "no socket",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
listen = ["unix:", "fd://x"]
"#,
    ),
    (
        "TLS where there is no TCP",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
listen = ["https+unix:shop.sock", "https://unix:shop.sock", "https+fd://3", "https:///run/shop.sock"]
tls = { cert = "cert.pem", key = "cert.key" }
"#,
    ),
    (
        "nowhere to listen",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
listen = []
"#,
    ),
    (
        "an address twice",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
listen = ["http://0.0.0.0:80", "http://:80"]
"#,
    ),
    (
        "http and https at one address",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
hosts = ["a.example"]
listen = ["http://:443"]
[site.b]
listen = ["https://0.0.0.0:443"]
hosts = ["shop.example"]
tls = { cert = "cert.pem", key = "cert.key" }
"#,
    ),
    (
        "https without a certificate",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
listen = ["https://0.0.0.0:443"]
"#,
    ),
    (
        "a certificate without https",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
tls = { cert = "cert.pem", key = "cert.key" }
"#,
    ),
    (
        "a rule on clients' certificates without authorities",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
listen = ["https://0.0.0.0:443"]
hosts = ["shop.example"]
tls = { cert = "cert.pem", key = "cert.key", client = "optional" }
"#,
    ),
    (
        "authorities of clients that are not there",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
listen = ["https://0.0.0.0:443"]
hosts = ["shop.example"]
tls = { cert = "cert.pem", key = "cert.key", client-ca = "no-ca.pem" }
"#,
    ),
    (
        "authorities of clients that are none",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
listen = ["https://0.0.0.0:443"]
hosts = ["shop.example"]
tls = { cert = "cert.pem", key = "cert.key", client-ca = "page.html" }
"#,
    ),
    (
        "a word for clients' certificates that there is not",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
listen = ["https://0.0.0.0:443"]
hosts = ["shop.example"]
tls = { cert = "cert.pem", key = "cert.key", client-ca = "cert.pem", client = "maybe" }
"#,
    ),
    (
        "certificates of clients where there is no TLS",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
listen = ["https://0.0.0.0:443", "http://0.0.0.0:80"]
to-https = false
hosts = ["shop.example"]
tls = { cert = "cert.pem", key = "cert.key", client-ca = "cert.pem" }
"#,
    ),
    (
        "certificates of clients behind a proxy",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
listen = ["https://0.0.0.0:443", "unix:shop.sock"]
hosts = ["shop.example"]
tls = { cert = "cert.pem", key = "cert.key", client-ca = "cert.pem" }
"#,
    ),
    (
        "a certificate that is not there",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
listen = ["https://0.0.0.0:443"]
tls = { cert = "no.pem", key = "no.key" }
"#,
    ),
    (
        "a certificate that is none",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
listen = ["https://0.0.0.0:443"]
tls = { cert = "page.html", key = "cert.key" }
"#,
    ),
    (
        "a key that is none",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
listen = ["https://0.0.0.0:443"]
tls = { cert = "cert.pem", key = "page.html" }
"#,
    ),
    (
        "a key of another certificate",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
listen = ["https://0.0.0.0:443"]
tls = { cert = "cert.pem", key = "old.key" }
"#,
    ),
    (
        "a certificate without its key",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
listen = ["https://0.0.0.0:443"]
tls = { cert = "cert.pem" }
"#,
    ),
    (
        "a certificate for other hosts",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
listen = ["https://0.0.0.0:443"]
hosts = ["shop.example", "other.example"]
tls = { cert = "cert.pem", key = "cert.key" }
"#,
    ),
    (
        "a certificate that is too old",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
listen = ["https://0.0.0.0:443"]
tls = { cert = "old.pem", key = "old.key" }
"#,
    ),
    (
        "a certificate of the future",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
listen = ["https://0.0.0.0:443"]
tls = { cert = "early.pem", key = "early.key" }
"#,
    ),
    (
        "to https without https",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
to-https = true
"#,
    ),
    (
        "hsts without https",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
hsts = "1y"
"#,
    ),
    (
        "preload without subdomains",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
listen = ["https://0.0.0.0:443"]
tls = { cert = "cert.pem", key = "cert.key" }
hsts = { preload = true }
"#,
    ),
    (
        "no hosts",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
hosts = []
"#,
    ),
    (
        "a host with a scheme",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
hosts = ["https://a.example"]
"#,
    ),
    (
        "a host that is not ASCII",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
hosts = ["münchen.example"]
"#,
    ),
    (
        "a star in the wrong place",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
hosts = ["shop.*"]
"#,
    ),
    (
        "all hosts",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
hosts = ["*"]
"#,
    ),
    (
        "a host with a port",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
hosts = ["a.example:80"]
"#,
    ),
    (
        "a host with a path",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
hosts = ["a.example/x"]
"#,
    ),
    (
        "a host twice",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
hosts = ["a.example", "A.example"]
"#,
    ),
    (
        "two sites with one host",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
hosts = ["a.example"]
[site.second]
hosts = ["b.example", "a.example"]
"#,
    ),
    (
        "two sites for all hosts",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
[site.second]
"#,
    ),
    (
        "no path for health",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
health = "health"
"#,
    ),
    (
        "two formats for one log",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
access-log = { file = "a.log", format = "json" }
hosts = ["a.example"]
[site.b]
access-log = "a.log"
"#,
    ),
    (
        "a syslog that is none",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
access-log = "syslog:tcp://logs.example"
"#,
    ),
    (
        "a syslog that is rotated",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
access-log = { file = "syslog:", rotate = { size = "1MiB" } }
"#,
    ),
    (
        "a facility that is none",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
access-log = { file = "syslog:", facility = "local8" }
"#,
    ),
    (
        "a facility of a file",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
access-log = { file = "a.log", facility = "local0" }
"#,
    ),
    (
        "the standard output is rotated",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
access-log = { file = "-", rotate = { age = "1d" } }
"#,
    ),
    (
        "a rotation without a limit",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
access-log = { file = "a.log", rotate = { keep = 3 } }
"#,
    ),
    (
        "a rotation at nothing",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
access-log = { file = "a.log", rotate = { size = 0 } }
"#,
    ),
    (
        "a rotation all the time",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
access-log = { file = "a.log", rotate = { age = "1ms" } }
"#,
    ),
    (
        "a rotation that keeps nothing",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
access-log = { file = "a.log", rotate = { age = "1d", keep = 0 } }
"#,
    ),
    (
        "one log is rotated in two ways",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
hosts = ["a.example"]
access-log = { file = "a.log", rotate = { size = "1MiB" } }
[site.b]
access-log = "a.log"
"#,
    ),
    (
        "no format",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
access-log = { file = "-", format = "nginx" }
"#,
    ),
    (
        "no folder for the server's log",
        r#"[server]
log-file = "no/server.log"
[app.shop]
wsgi = "shop:app"
[site.main]
"#,
    ),
    (
        "a number of the environment that is none",
        r#"[app.shop]
wsgi = "shop:app"
threads = "${SET}"
[site.main]
"#,
    ),
    (
        "letters that act on a terminal",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
route = [{ path = "/*", app = "\u001b[31mred\n" }]
"#,
    ),
    (
        "no folder for the log",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
access-log = "no/a.log"
"#,
    ),
    (
        "no status in a log",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
access-log = { file = "-", statuses = ["6xx"] }
"#,
    ),
    (
        "no status of an error",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
error-pages = { 200 = "page.html" }
"#,
    ),
    (
        "a page that is not there",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
error-pages = { 404 = "no.html" }
"#,
    ),
    (
        "a page that is a folder",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
error-pages = { 404 = "public" }
"#,
    ),
    (
        "a page that is too large",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
error-pages = { 404 = "large.html" }
"#,
    ),
    (
        "a page that is not text",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
error-pages = { 404 = "latin.html" }
"#,
    ),
    (
        "no routes and no app",
        r"[site.main]
",
    ),
    (
        "no routes and two apps",
        r#"[app.shop]
wsgi = "shop:app"
[app.blog]
wsgi = "blog"
[site.main]
"#,
    ),
    (
        "an empty list of routes",
        r"[site.main]
route = []
",
    ),
    (
        "an app without a route",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
route = [{ path = "/*", respond = 200 }]
"#,
    ),
    (
        "an unknown app",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
route = [{ path = "/*", app = "shpo" }]
"#,
    ),
    (
        "an unknown app like nothing",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
route = [{ path = "/*", app = "billing" }]
"#,
    ),
    (
        "an app where there is none",
        r#"[site.main]
route = [{ path = "/*", app = "shop" }]
"#,
    ),
    (
        "a path without a slash",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
route = [
  { path = "/*", app = "shop" },
  { path = "static/*", respond = 200 },
]
"#,
    ),
    (
        "a path with an escape",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
route = [
  { path = "/*", app = "shop" },
  { path = "/a%20b", respond = 200 },
]
"#,
    ),
    (
        "a path with stars",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
route = [
  { path = "/*", app = "shop" },
  { path = "/a**b/c", respond = 200 },
]
"#,
    ),
    (
        "a path that is too long",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
route = [
  { path = "/*", app = "shop" },
  { path = "/*/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", respond = 200 },
]
"#,
    ),
    (
        "a route without a path",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
route = [
  { path = "/*", app = "shop" },
  { respond = 200 },
]
"#,
    ),
    (
        "a route that does nothing",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
route = [
  { path = "/*", app = "shop" },
  { path = "/a" },
]
"#,
    ),
    (
        "a route with two actions",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
route = [
  { path = "/*", app = "shop" },
  { path = "/a", respond = 200, redirect = "/b" },
]
"#,
    ),
    (
        "two routes for one path",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
route = [
  { path = "/*", app = "shop" },
  { path = "/*", respond = 200 },
]
"#,
    ),
    (
        "two routes for one path and method",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
route = [
  { path = "/*", app = "shop" },
  { path = "/a", methods = ["GET"], respond = 200 },
  { path = "/a", methods = ["POST", "HEAD"], respond = 404 },
]
"#,
    ),
    (
        "patterns of which none is more specific",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
route = [
  { path = "/*", app = "shop" },
  { path = "/a*/x", respond = 200 },
  { path = "/*a/x", respond = 404 },
]
"#,
    ),
    (
        "a pattern that never wins",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
route = [
  { path = "/*", app = "shop" },
  { path = "/cgi/*", app = "shop" },
  { path = "/cgi/**/*.php", respond = 404 },
]
"#,
    ),
    (
        "health at a path of a route",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
health = "/up"
route = [{ path = "/up", app = "shop" }]
"#,
    ),
    (
        "plain without https",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
route = [
  { path = "/*", app = "shop" },
  { path = "/a", respond = 200, plain = true },
]
"#,
    ),
    (
        "a method in small letters",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
route = [
  { path = "/*", app = "shop" },
  { path = "/a", methods = ["get"], respond = 200 },
]
"#,
    ),
    (
        "no method",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
route = [
  { path = "/*", app = "shop" },
  { path = "/a", methods = ["GE T"], respond = 200 },
]
"#,
    ),
    (
        "no field in a condition",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
route = [
  { path = "/*", app = "shop" },
  { path = "/a", headers = { "X Beta" = "1" }, respond = 200 },
]
"#,
    ),
    (
        "mount without an app",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
route = [
  { path = "/*", app = "shop" },
  { path = "/a/*", mount = true, respond = 200 },
]
"#,
    ),
    (
        "status without a redirect",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
route = [
  { path = "/*", app = "shop" },
  { path = "/a", status = 301, respond = 200 },
]
"#,
    ),
    (
        "an app at a pattern",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
route = [{ path = "/*/shop/*", app = "shop", mount = true }]
"#,
    ),
    (
        "a mount and a rewrite",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
route = [{ path = "/shop/*", app = "shop", mount = true, rewrite = "/{rest}" }]
"#,
    ),
    (
        "a rewrite without a slash",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
route = [{ path = "/*", app = "shop", rewrite = "v2/{rest}" }]
"#,
    ),
    (
        "a place that is none",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
route = [
  { path = "/*", app = "shop" },
  { path = "/a/*", redirect = "https://{hots}{uri}" },
]
"#,
    ),
    (
        "a place where nothing stands",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
route = [
  { path = "/*", app = "shop" },
  { path = "/a", redirect = "/b/{rest}" },
]
"#,
    ),
    (
        "a redirect to nowhere",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
route = [
  { path = "/*", app = "shop" },
  { path = "/a", redirect = "shop.example" },
]
"#,
    ),
    (
        "a redirect whose host others choose",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
route = [
  { path = "/*", app = "shop" },
  { path = "/a/*", redirect = "https://shop.example{rest}" },
  { path = "/b/*", redirect = "//{rest}" },
]
"#,
    ),
    (
        "a redirect in a circle",
        r#"[site.main]
listen = ["https://0.0.0.0:443"]
tls = { cert = "cert.pem", key = "cert.key" }
route = [
  { path = "/*", redirect = "https://{host}{uri}" },
  { path = "/a", redirect = "{uri}" },
]
"#,
    ),
    (
        "a regular expression, an address and a query instead of a path",
        r#"[site.main]
route = [
  { path = "^/a$", respond = 200 },
  { path = "https://shop.example/b", respond = 200 },
  { path = "/c?d=1", respond = 200 },
]
"#,
    ),
    (
        "a field in the wrong place",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
response-headers = { X-Frame-Options = "DENY" }
"#,
    ),
    (
        "a coding without brackets",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
compress = "gzip"
"#,
    ),
    (
        "no status of a redirect",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
route = [
  { path = "/*", app = "shop" },
  { path = "/a", redirect = "/b", status = 304 },
]
"#,
    ),
    (
        "a status in words",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
route = [
  { path = "/*", app = "shop" },
  { path = "/a", redirect = "/b", status = "permanent" },
]
"#,
    ),
    (
        "a status out of range",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
route = [
  { path = "/*", app = "shop" },
  { path = "/a", respond = 99 },
]
"#,
    ),
    (
        "an answer with two bodies",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
route = [
  { path = "/*", app = "shop" },
  { path = "/a", respond = { text = "a", json = 1 } },
]
"#,
    ),
    (
        "no media type",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
route = [
  { path = "/*", app = "shop" },
  { path = "/a", respond = { text = "a", type = "html" } },
]
"#,
    ),
    (
        "a body where there is none",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
route = [
  { path = "/*", app = "shop" },
  { path = "/a", respond = { status = 204, text = "a" } },
]
"#,
    ),
    (
        "no folder of files",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
route = [
  { path = "/*", app = "shop" },
  { path = "/a/*", static = "no" },
]
"#,
    ),
    (
        "a file instead of a folder of files",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
route = [
  { path = "/*", app = "shop" },
  { path = "/a/*", static = { folder = "page.html" } },
]
"#,
    ),
    (
        "an index in another folder",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
route = [
  { path = "/*", app = "shop" },
  { path = "/a/*", static = { folder = "public", index = ["../index.html"] } },
]
"#,
    ),
    (
        "a fallback that is not there",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
route = [
  { path = "/*", app = "shop" },
  { path = "/a/*", static = { folder = "public", fallback = ["app.html"] } },
]
"#,
    ),
    (
        "a fallback and an app",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
route = [{ path = "/*", static = { folder = "public", fallback = ["index.html"] }, app = "shop" }]
"#,
    ),
    (
        "no time to keep files",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
route = [
  { path = "/*", app = "shop" },
  { path = "/a/*", static = { folder = "public", cache = "1hour" } },
]
"#,
    ),
    (
        "a wrong word about keeping files",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
route = [
  { path = "/*", app = "shop" },
  { path = "/a/*", static = { folder = "public", cache = "publik, max-age=1" } },
]
"#,
    ),
    (
        "files of an unclear app",
        r#"[app.shop]
wsgi = "shop:app"
[app.b]
wsgi = "b"
[site.main]
route = [{ path = "/*", static = "django" }, { path = "/a", app = "shop" }, { path = "/b", app = "b" }]
"#,
    ),
    (
        "files of an app that is not Django's",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
route = [{ path = "/*", static = "django", app = "shop" }]
"#,
    ),
    (
        "files that were not collected",
        r#"[app.shop]
wsgi = "wsgi2"
folder = "django"
[site.main]
route = [{ path = "/*", static = "django", app = "shop" }]
"#,
    ),
    (
        "no place for files",
        r#"[app.shop]
wsgi = "wsgi"
folder = "django"
env = { DJANGO_SETTINGS_MODULE = "none" }
[site.main]
route = [{ path = "/*", static = "django", app = "shop" }]
"#,
    ),
    (
        "no field",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
response-headers = { set = { "X Frame" = "1" } }
"#,
    ),
    (
        "a field of ours",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
response-headers = { remove = ["Content-Length"] }
"#,
    ),
    (
        "a field between neighbours",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
response-headers = { add = { Connection = "close" } }
"#,
    ),
    (
        "the host",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
request-headers = { set = { Host = "a" } }
"#,
    ),
    (
        "a field that no app sees",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
request-headers = { set = { X_A = "a" } }
"#,
    ),
    (
        "a field twice",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
response-headers = { set = { X-A = "1", x-a = "2" } }
"#,
    ),
    (
        "a field with two lines",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
response-headers = { set = { X-A = "1\r\nX-B: 2" } }
"#,
    ),
    (
        "a default for a request",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
request-headers = { default = { X-A = "1" } }
"#,
    ),
    (
        "no origin",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
cors = { origins = ["app.example"] }
"#,
    ),
    (
        "an origin with a path",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
cors = { origins = ["https://app.example/"] }
"#,
    ),
    (
        "an origin with wrong letters",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
cors = { origins = ["app example"] }
"#,
    ),
    (
        "credentials for all",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
cors = { origins = ["*"], credentials = true }
"#,
    ),
    (
        "no field of cors",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
cors = { origins = ["*"], headers = ["X A"] }
"#,
    ),
    (
        "no coding",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
compress = ["deflate"]
"#,
    ),
    (
        "no word about security",
        r#"[app.shop]
wsgi = "shop:app"
[site.main]
security-headers = { frame-options = "deny" }
"#,
    ),
    (
        "several errors",
        r#"[app.shop]
wsgi = "shop:app"
thread = 2
[site.main]
host = ["a"]
route = [
  { path = "/*", app = "shpo" },
  { path = "x", respond = 200 },
]
"#,
    ),
];
