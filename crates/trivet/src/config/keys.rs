//! Every key of the configuration file: name, kind, default and what it says. The reader checks by this list, and the
//! reference page and the schema for editors are made from it.

/// What may stand as a value.
#[cfg_attr(not(test), expect(dead_code, reason = "some of it is for the reference page only"))]
#[derive(Debug)]
pub(crate) enum Kind {
    Bool,
    Text,
    /// Of a file or folder, relative to the folder of the configuration.
    Path,
    Time,
    Size,
    Whole(u64, u64),
    Choice(&'static [&'static str]),
    /// Any value, as JSON has them.
    Any,
    List(&'static Kind),
    /// A table with keys that the user chooses; what these are.
    Map(&'static str, &'static Kind),
    Table(&'static Table),
    Either(&'static [Kind]),
    /// A word that will mean something in a later version: what.
    LaterWord(&'static str, &'static str),
    /// A table that will mean something in a later version: what.
    LaterTable(&'static str),
}

#[cfg_attr(not(test), expect(dead_code, reason = "some of it is for the reference page only"))]
#[derive(Debug)]
pub(crate) enum Default {
    Required,
    /// Nothing happens without it.
    Nothing,
    /// The value that counts, as it is written in the file but for the quotes.
    Is(&'static str),
    /// In words.
    Told(&'static str),
}

#[cfg_attr(not(test), expect(dead_code, reason = "some of it is for the reference page only"))]
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) default: Default,
    pub(crate) doc: &'static str,
    /// For our own tests.
    pub(crate) hidden: bool,
}

#[cfg_attr(not(test), expect(dead_code, reason = "some of it is for the reference page only"))]
#[derive(Debug)]
pub(crate) struct Table {
    /// As the reference calls it: `[app.NAME]`.
    pub(crate) title: &'static str,
    pub(crate) doc: &'static str,
    pub(crate) keys: &'static [Key],
    /// Keys of later versions, and what they will do.
    pub(crate) later: &'static [(&'static str, &'static str)],
}

impl Table {
    pub(crate) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

const fn key(name: &'static str, kind: Kind, default: Default, doc: &'static str) -> Key {
    Key { name, kind, default, doc, hidden: false }
}

use self::Default::{Is, Nothing, Required, Told};
use self::Kind::{
    Any, Bool, Choice, Either, LaterTable, LaterWord, List, Map, Path, Size, Table as Of, Text, Time, Whole,
};

const COUNT_MAX: u64 = 1_000_000;
const PORTS_BACKLOG_MAX: u64 = 65_535;
const KEEP_MAX: u64 = trivet_supervise::access_logs::KEEP_MAX as u64;
const TEXTS: Kind = List(&Text);
pub(crate) const CODINGS: &[&str] = &["br", "zstd", "gzip"];

pub(crate) static WHOLE_FILE: Kind = Of(&FILE);

pub(crate) static FILE: Table = Table {
    title: "The file",
    doc: "What the file consists of.",
    keys: &[
        key("server", Of(&SERVER), Nothing, "What holds for everything."),
        key(
            "app",
            Map("the name of an application", &Of(&APP)),
            Nothing,
            "The applications, each with a name of its own.",
        ),
        key(
            "site",
            Map("the name of a site", &Of(&SITE)),
            Required,
            "The sites, each with a name of its own.",
        ),
    ],
    later: &[
        ("upstream", "proxying to other servers comes with a later version"),
        ("program", "other programs beside the apps come with a later version"),
        ("cron", "programs that run at a time come with a later version"),
    ],
};

pub(crate) static SERVER: Table = Table {
    title: "[server]",
    doc: "What holds for all sites and apps. All of it may be left out.",
    keys: &[
        key(
            "user",
            Text,
            Nothing,
            "The user that the workers of apps run as, unless an app names its own: a name or a number. Needs root.",
        ),
        key("group", Text, Told("the user's own"), "The group that they run as."),
        key("pid-file", Path, Nothing, "Writes the process id of the supervisor to this file."),
        key(
            "ticket-key",
            Path,
            Nothing,
            "A file with at least 48 random bytes, from which TLS session tickets are made, so that clients need no whole handshake after a restart of the whole server, or at another server with the same file. Without it the keys are made at the start and change every 12 hours; with it they are the file's, which is looked at every 12 hours.",
        ),
        key(
            "strict-sni",
            Bool,
            Is("false"),
            "Refuses TLS handshakes that ask for a name that no site of the address has (`unrecognized_name`). Else they \
             get the certificate of the site without `hosts`, or of the first one. A client that asks for no name gets \
             that in any case.",
        ),
        key(
            "log-file",
            Path,
            Told("the standard error"),
            "Writes the server's own log, and what apps write to their standard error, to this file.",
        ),
        key(
            "log-level",
            Choice(&["debug", "info", "warning", "error"]),
            Is("info"),
            "The least important level that is logged.",
        ),
        key(
            "capture-output",
            Bool,
            Is("false"),
            "With `log-file`: what apps write to their standard output goes there too.",
        ),
        key(
            "forwarded-allow-ips",
            Either(&[Choice(&["*"]), TEXTS]),
            Told("`[\"127.0.0.1\", \"::1\"]`"),
            "Peers whose forwarding headers (`X-Forwarded-For`, `Forwarded` and friends) are believed: a list of \
             addresses and networks; `\"*\"` for all, `[]` for nobody. Peers on unix sockets are believed unless it \
             is empty.",
        ),
        key("keep-alive", Time, Is("75s"), "How long an idle connection is kept open."),
        key(
            "request-line-max",
            Size,
            Is("8KiB"),
            "The longest request line; a longer one gets 414. 0: 64 KiB, the largest.",
        ),
        key(
            "headers-max",
            Whole(0, 1_000),
            Is("100"),
            "How many header fields a request may have; more get 431. 0: 1000, the largest.",
        ),
        key(
            "header-size-max",
            Size,
            Is("32KiB"),
            "The longest single header field; a longer one gets 431. The whole head may have 32 KiB, or, where this \
             or `request-line-max` is raised, twice this and the request line. 0: 256 KiB, the largest, of the whole \
             head too.",
        ),
        key(
            "backlog",
            Whole(1, PORTS_BACKLOG_MAX),
            Is("2048"),
            "How many connections may wait to be accepted.",
        ),
        Key {
            name: "transport",
            kind: Choice(&["ring", "socket"]),
            default: Is("ring"),
            doc: "How edge and workers exchange requests.",
            hidden: true,
        },
    ],
    later: &[],
};

pub(crate) static APP: Table = Table {
    title: "[app.NAME]",
    doc: "A Python application, with workers and, if it has one, a virtual environment of its own.",
    keys: &[
        key(
            "wsgi",
            Text,
            Required,
            "The application: `MODULE:APP`, where APP is a name, a dotted name or the call of a factory, as in \
             `shop.wsgi:application` or `shop:create_app(\"test\")`. Left out, APP is `app` or `application`.",
        ),
        key(
            "venv",
            Path,
            Told("the environment variable VIRTUAL_ENV, else `python3` in PATH"),
            "The virtual environment whose Python runs the app.",
        ),
        key(
            "folder",
            Path,
            Told("the folder of this file"),
            "The folder to work in; it stands first in the app's `sys.path`.",
        ),
        key("pythonpath", List(&Path), Nothing, "Further folders for `sys.path`."),
        key(
            "workers",
            Either(&[
                Whole(1, trivet_supervise::machine::WORKERS_MAX as u64),
                Choice(&["auto"]),
                LaterTable("a number of workers that follows the load comes with a later version"),
            ]),
            Is("1"),
            "Worker processes; `\"auto\"`: one for each CPU that this process may use (affinity and control group).",
        ),
        key("threads", Whole(1, crate::values::THREADS_MAX as u64), Is("1"), "Threads in each worker."),
        key(
            "env",
            Map("the name of an environment variable", &SECRET_TEXT),
            Nothing,
            "Environment variables of the app. `{ file = \"…\" }` is the content of a file.",
        ),
        key(
            "timeout",
            Time,
            Is("30s"),
            "How long the app may take from its call to its response head, and for each further piece of the body. \
             Then the client gets 504 or is cut off, the stacks of all threads go to the log, and the worker is \
             replaced. Time in the queue and time spent waiting for the client do not count. 0: no limit.",
        ),
        key(
            "graceful-timeout",
            Time,
            Is("30s"),
            "How long requests may go on when the app is stopped, and those of a worker that is being replaced.",
        ),
        key(
            "queue-length",
            Whole(0, COUNT_MAX),
            Is("1024"),
            "How many requests may wait for a free worker; the next one gets 503.",
        ),
        key(
            "queue-timeout",
            Time,
            Is("30s"),
            "How long a request may wait for a free worker; then it gets 503.",
        ),
        key(
            "stream-requests",
            Bool,
            Is("false"),
            "Passes request bodies to the app as they arrive, instead of taking them whole first.",
        ),
        key("user", Text, Told("that of `[server]`"), "The user that the workers run as. Needs root."),
        key("group", Text, Told("that of `[server]`"), "The group that the workers run as. Needs root."),
        key(
            "umask",
            Text,
            Told("as it is"),
            "The mask for files that the workers make, in octal: `\"022\"`.",
        ),
        key("reload", Bool, Is("false"), "Replaces the workers when a loaded file changes. For development."),
        key("title", Text, Told("the app's name"), "The name of the workers in the process list."),
    ],
    later: &[
        ("asgi", "ASGI applications come with a later version"),
        ("max-requests", "recycling of workers comes with a later version"),
    ],
};

/// A text, or a file whose content it is.
const SECRET_TEXT: Kind = Either(&[Text, Of(&SECRET)]);

static SECRET: Table = Table {
    title: "Secrets",
    doc: "In `env` and in header values the content of a file may stand for a text, so that the configuration has no \
          secrets in it. A line end at the end of the file does not count.",
    keys: &[key("file", Path, Required, "The file. It should be readable for the server's user alone.")],
    later: &[],
};

pub(crate) static SITE: Table = Table {
    title: "[site.NAME]",
    doc: "Hosts that are served alike. What stands here about fields, bodies, CORS and compression holds for each \
          route that says nothing else.",
    keys: &[
        key(
            "listen",
            TEXTS,
            Told("`[\"http://127.0.0.1:8000\"]`"),
            "Where to listen: `http://ADDRESS:PORT`, `https://ADDRESS:PORT` (without a port: 80 and 443), \
             `unix:PATH`, or `fd://N` for a socket that a service manager passes. Sites may share an address: the \
             host that a client asks for decides.",
        ),
        key(
            "hosts",
            TEXTS,
            Told("all hosts that no other site of the address has"),
            "The names of the site; `*.shop.example` is every name beneath it. An exact name counts before a \
             wildcard, a longer wildcard before a shorter one.",
        ),
        key(
            "tls",
            Either(&[
                Of(&TLS),
                LaterWord(
                    "auto",
                    "certificates that are fetched and renewed by the server come with a later version",
                ),
            ]),
            Nothing,
            "Certificate and key for the `https://` addresses.",
        ),
        key(
            "to-https",
            Bool,
            Told("`true` where the site has `http://` and `https://` addresses"),
            "Sends what comes to an `http://` address to the `https://` one (308), but for `health`, routes with \
             `plain = true`, and requests of which a proxy among `forwarded-allow-ips` says that they came by https.",
        ),
        key(
            "hsts",
            Either(&[Time, Of(&HSTS)]),
            Nothing,
            "Tells browsers to use https only, for so long (Strict-Transport-Security): `\"1y\"`.",
        ),
        key(
            "health",
            Text,
            Nothing,
            "A path that the server answers by itself: 200 while the apps can be served.",
        ),
        key(
            "access-log",
            Either(&[Path, Of(&ACCESS_LOG)]),
            Nothing,
            "Writes a line for each request to this file; `\"-\"`: to the standard output; `\"syslog:\"`: to the syslog.",
        ),
        key(
            "error-pages",
            Map("a status as `404` or a class as `5xx`", &Path),
            Nothing,
            "Pages for errors that the server answers by itself, by status or class. At most 64 KiB each.",
        ),
        key(
            "route",
            List(&Of(&ROUTE)),
            Told("everything to the app, if there is exactly one"),
            "What is done with which requests.",
        ),
        key("request-body-max", Size, Is("64MiB"), BODY_DOC),
        key(
            "request-headers",
            Of(&REQUEST_HEADERS),
            Nothing,
            "Changes of the request's fields before an app sees them.",
        ),
        key("response-headers", Of(&RESPONSE_HEADERS), Nothing, "Changes of the response's fields."),
        key("security-headers", Either(&[Bool, Of(&SECURITY)]), Is("false"), SECURITY_DOC),
        key("cors", Of(&CORS), Nothing, CORS_DOC),
        key("compress", COMPRESS, Is("false"), COMPRESS_DOC),
    ],
    later: &[
        ("proxy", "proxying to other servers comes with a later version"),
        ("rate-limit", "limits on the rate of requests come with a later version"),
        ("cache", "a cache for the answers of apps comes with a later version"),
    ],
};

const COMPRESS: Kind = Either(&[Bool, List(&Choice(CODINGS))]);
const BODY_DOC: &str = "The largest request body; a larger one gets 413. 0: no limit.";
const SECURITY_DOC: &str = "Response fields that switch on protections of browsers, wherever the app does not say \
                            otherwise: `X-Content-Type-Options: nosniff`, `X-Frame-Options: SAMEORIGIN`, \
                            `Referrer-Policy: strict-origin-when-cross-origin` and `Cross-Origin-Opener-Policy: \
                            same-origin`. A table changes single ones.";
const CORS_DOC: &str = "Which other origins' scripts may read the answers (Fetch, \"CORS protocol\").";
const COMPRESS_DOC: &str = "Compresses answers on their way out: `true` for all codings, or a list in the order of \
                            preference. Not for pages that have secrets and what a client sent side by side \
                            (BREACH).";

pub(crate) static TLS: Table = Table {
    title: "tls",
    doc: "Changed files are taken up within seconds.",
    keys: &[
        key(
            "cert",
            Path,
            Required,
            "The certificate, PEM: the server's own first, then those that lead to its issuer.",
        ),
        key("key", Path, Required, "Its private key, PEM. Only the supervisor reads it."),
        key(
            "client-ca",
            Path,
            Nothing,
            "Asks clients for a certificate that was issued by one of these authorities (PEM), and tells apps about it \
             by `SSL_CLIENT_VERIFY` and further keys of `environ`. The site may then have no address without TLS.",
        ),
        key(
            "client",
            Choice(&["required", "optional"]),
            Is("required"),
            "With `client-ca`: whether there is a connection without a certificate. A wrong one is refused in any case.",
        ),
    ],
    later: &[],
};

pub(crate) static HSTS: Table = Table {
    title: "hsts",
    doc: "Strict-Transport-Security (RFC 6797).",
    keys: &[
        key("max-age", Time, Is("1y"), "For how long."),
        key("subdomains", Bool, Is("false"), "For all names beneath this one, too."),
        key("preload", Bool, Is("false"), "Asks to be built into browsers. Hard to undo."),
    ],
    later: &[],
};

pub(crate) static ACCESS_LOG: Table = Table {
    title: "access-log",
    doc: "",
    keys: &[
        key(
            "file",
            Path,
            Required,
            "The file; `\"-\"`: the standard output; `\"syslog:\"`: the syslog of this machine (`/dev/log`), \
             `\"syslog:/PATH\"` another socket, `\"syslog:udp://HOST:PORT\"` one on the network. Sites may share one.",
        ),
        key(
            "format",
            Text,
            Is("combined"),
            "What a line says: `common`, `combined`, `json`, or a format of Gunicorn's atoms.",
        ),
        key("statuses", TEXTS, Told("all"), "Only these statuses (`\"404\"`) and classes (`\"5xx\"`)."),
        key(
            "rotate",
            Of(&ROTATE),
            Nothing,
            "Begins a new file now and then, and keeps some of the old ones.",
        ),
        key("facility", Choice(FACILITIES), Is("local7"), "With `syslog:`, the messages' facility."),
        key("severity", Choice(SEVERITIES), Is("info"), "With `syslog:`, the messages' severity."),
    ],
    later: &[],
};

/// In the order of their numbers, from 0.
pub(crate) const SEVERITIES: &[&str] =
    &["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];
/// The same, from 1; the last eight from 16.
pub(crate) const FACILITIES: &[&str] = &[
    "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "local0",
    "local1", "local2", "local3", "local4", "local5", "local6", "local7",
];

pub(crate) static ROTATE: Table = Table {
    title: "rotate",
    doc: "`access.log` becomes `access.log.1`, that one `access.log.2`, and so on, when either limit is reached. No line \
          is lost or torn. For the files of one log that sites share, write it alike. Not together with logrotate.",
    keys: &[
        key("size", Size, Nothing, "When the file has so many bytes. Looked at once a second."),
        key(
            "age",
            Time,
            Nothing,
            "When so much time has passed since the file was begun. At least a second.",
        ),
        key("keep", Whole(1, KEEP_MAX), Is("7"), "Keeps so many old files and removes what is older."),
    ],
    later: &[],
};

pub(crate) static ROUTE: Table = Table {
    title: "route",
    doc: "The most specific route wins, whatever the order: an exact path, then the longest prefix, then the pattern \
          with the most letters, then `/*`; then one that names the method; then the one with the most `headers`. A route has \
          one action: `app`, `static` (`app` beside it gets what is no file), `redirect` or `respond`. \
          `trivet check --explain URL` says which route wins.",
    keys: &[
        key(
            "path",
            Text,
            Required,
            "`/about` is one path; `/api/*` is `/api` and everything beneath it; a `*` anywhere else stands for any \
             part of one segment, and a segment `**` for any number of segments, as in `/*/feed.xml` or `/**/*.php`.",
        ),
        key("methods", TEXTS, Told("all"), "Only these methods. `GET` is for HEAD, too."),
        key(
            "headers",
            Map("the name of a field", &Text),
            Nothing,
            "Only requests with these fields; the value `\"*\"` stands for any.",
        ),
        key("internal", Bool, Is("false"), "Only for internal redirects of the app (`X-Accel-Redirect`)."),
        key("plain", Bool, Is("false"), "With `to-https`: served without TLS, too."),
        key("log", Bool, Is("true"), "Whether requests of this route are in the access log."),
        key("app", Text, Nothing, "The app that answers, by its name."),
        key(
            "mount",
            Bool,
            Is("false"),
            "With `app`: it lives at this path: `SCRIPT_NAME` is the path, and `PATH_INFO` the rest.",
        ),
        key(
            "rewrite",
            Text,
            Nothing,
            "With `app`: the target that it sees instead: `\"/v2/{rest}\"`. Without a `?` in it, the query stays.",
        ),
        key(
            "static",
            Either(&[Path, Of(&STATIC)]),
            Nothing,
            "The folder whose files are served; `\"django\"`: the STATIC_ROOT of the app's settings.",
        ),
        key(
            "redirect",
            Text,
            Nothing,
            "Where to: a template with `{host}`, `{scheme}`, `{path}`, `{rest}` (what the star at the end of the path \
             stands for), `{query}` and `{uri}` (path and query): `\"https://www.{host}{uri}\"`.",
        ),
        key("status", Whole(301, 308), Is("308"), "With `redirect`: 301, 302, 303, 307 or 308."),
        key(
            "respond",
            Either(&[Whole(200, 599), Of(&RESPOND)]),
            Nothing,
            "An answer of its own: a status, or a table.",
        ),
        key("request-body-max", Size, Told("the site's"), BODY_DOC),
        key(
            "request-headers",
            Of(&REQUEST_HEADERS),
            Nothing,
            "Besides the site's; for one field, the route's counts.",
        ),
        key(
            "response-headers",
            Of(&RESPONSE_HEADERS),
            Nothing,
            "Besides the site's; for one field, the route's counts.",
        ),
        key("security-headers", Either(&[Bool, Of(&SECURITY)]), Told("the site's"), SECURITY_DOC),
        key("cors", Either(&[Of(&CORS), Choice(&["off"])]), Told("the site's"), CORS_DOC),
        key("compress", COMPRESS, Told("the site's"), COMPRESS_DOC),
    ],
    later: &[
        ("proxy", "proxying to other servers comes with a later version"),
        ("rate-limit", "limits on the rate of requests come with a later version"),
        ("cache", "a cache for the answers of apps comes with a later version"),
    ],
};

pub(crate) static STATIC: Table = Table {
    title: "static",
    doc: "Files of a folder. What the route's path has before its star is where the folder stands.",
    keys: &[
        key("folder", Path, Required, "The folder; `\"django\"`: the STATIC_ROOT of the app's settings."),
        key("index", TEXTS, Told("`[\"index.html\"]`"), "Files that stand for their folder, in this order."),
        key(
            "fallback",
            TEXTS,
            Nothing,
            "Files of the folder that are sent instead of one that is not there: `[\"index.html\"]` for a \
             single-page application.",
        ),
        key("listing", Bool, Is("false"), "Folders without an index show what is in them."),
        key(
            "links",
            Bool,
            Is("true"),
            "Symbolic links are followed if they stay beneath the folder; else not at all.",
        ),
        key(
            "cache",
            Either(&[Time, Text]),
            Nothing,
            "How long browsers may use a file without asking again (`\"1h\"`), or the text of `Cache-Control`. Files \
             whose name has a hash of the content are kept for a year in any case.",
        ),
    ],
    later: &[],
};

pub(crate) static RESPOND: Table = Table {
    title: "respond",
    doc: "An answer without an app. With one of `text`, `file` and `json`, or none.",
    keys: &[
        key("status", Whole(200, 599), Is("200"), "The status."),
        key("text", Text, Nothing, "The body."),
        key("file", Path, Nothing, "A file with the body, at most 64 KiB. It is read at the start."),
        key("json", Any, Nothing, "The body as a value, sent as JSON."),
        key("type", Text, Told("by the body"), "The media type."),
        key("retry-after", Time, Nothing, "When the client may ask again: `\"2m\"`."),
    ],
    later: &[],
};

const FIELDS: Kind = Map("the name of a field", &SECRET_TEXT);
const REMOVE_DOC: &str = "Takes them away; this comes first.";
const SET_DOC: &str = "Sets them, in place of what is there.";
const ADD_DOC: &str = "Adds them to what is there.";

pub(crate) static REQUEST_HEADERS: Table = Table {
    title: "request-headers",
    doc: "",
    keys: &[
        key("remove", TEXTS, Nothing, REMOVE_DOC),
        key("set", FIELDS, Nothing, SET_DOC),
        key("add", FIELDS, Nothing, ADD_DOC),
    ],
    later: &[],
};

pub(crate) static RESPONSE_HEADERS: Table = Table {
    title: "response-headers",
    doc: "",
    keys: &[
        key("remove", TEXTS, Nothing, REMOVE_DOC),
        key("set", FIELDS, Nothing, SET_DOC),
        key("add", FIELDS, Nothing, ADD_DOC),
        key("default", FIELDS, Nothing, "Sets them where the app has said nothing."),
    ],
    later: &[],
};

pub(crate) static SECURITY: Table = Table {
    title: "security-headers",
    doc: "What is not named is as with `true`; `\"off\"` leaves a field out.",
    keys: &[
        key(
            "frame-options",
            Choice(&["SAMEORIGIN", "DENY", "off"]),
            Is("SAMEORIGIN"),
            "Who may show the site in a frame.",
        ),
        key(
            "referrer-policy",
            Choice(&[
                "strict-origin-when-cross-origin",
                "same-origin",
                "no-referrer",
                "strict-origin",
                "origin",
                "origin-when-cross-origin",
                "no-referrer-when-downgrade",
                "unsafe-url",
                "off",
            ]),
            Is("strict-origin-when-cross-origin"),
            "What other sites learn of where a visitor comes from.",
        ),
        key(
            "opener-policy",
            Choice(&[
                "same-origin",
                "same-origin-allow-popups",
                "noopener-allow-popups",
                "unsafe-none",
                "off",
            ]),
            Is("same-origin"),
            "Whether windows of other origins keep a hold on each other.",
        ),
        key(
            "content-type-options",
            Choice(&["nosniff", "off"]),
            Is("nosniff"),
            "Browsers believe `Content-Type`.",
        ),
        key("content-security-policy", Text, Nothing, "What pages may load and run."),
        key("permissions-policy", Text, Nothing, "Which features of the browser pages may use."),
    ],
    later: &[],
};

pub(crate) static CORS: Table = Table {
    title: "cors",
    doc: "",
    keys: &[
        key("origins", TEXTS, Required, "`\"https://app.example\"`; `\"*\"`: all."),
        key("methods", TEXTS, Told("`[\"GET\", \"HEAD\", \"POST\"]`"), "Methods that scripts may use."),
        key(
            "headers",
            TEXTS,
            Nothing,
            "Request fields that scripts may set; `\"*\"`: those that are asked for.",
        ),
        key("expose", TEXTS, Nothing, "Response fields that scripts may read."),
        key("credentials", Bool, Is("false"), "With cookies. Not with `\"*\"` as the origin."),
        key("max-age", Time, Is("10m"), "How long browsers may keep the permission."),
    ],
    later: &[],
};
