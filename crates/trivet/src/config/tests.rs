//! What whole files come to: the example, every error there is, and files that were cut or garbled.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::section::Found;
use super::*;

mod cases;

/// Lines of the source that have found something.
static FOUND_BY: Mutex<BTreeSet<(String, u32)>> = Mutex::new(BTreeSet::new());

pub(crate) fn note(found: &[Found]) {
    let mut all = FOUND_BY.lock().unwrap();
    all.extend(
        found.iter().map(|f| (f.by.file().rsplit('/').next().unwrap_or_default().to_owned(), f.by.line())),
    );
}

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn env(name: &str) -> Option<String> {
    (name == "SET").then(|| "value".to_owned())
}

/// A folder with what the cases name.
fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("trivet-config-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    for inner in ["public", "other", "venv/bin", "django"] {
        std::fs::create_dir_all(folder.join(inner)).unwrap();
    }
    let python = crate::python::find(None).unwrap();
    std::os::unix::fs::symlink(python, folder.join("venv/bin/python")).unwrap();
    let write = |name: &str, bytes: &[u8]| {
        std::fs::write(folder.join(name), bytes).unwrap();
        let mode = std::fs::Permissions::from_mode(if name == "open" { 0o644 } else { 0o600 });
        std::fs::set_permissions(folder.join(name), mode).unwrap();
    };
    write("public/index.html", b"<p>start</p>");
    write("page.html", b"<p>page</p>");
    write("large.html", &vec![b'x'; 70_000]);
    write("latin.html", b"caf\xe9");
    write("secret", b"s3cret\n");
    write("open", b"s3cret");
    write("nul", b"a\0b");
    // Names that look like Django's are enough for the script that asks for the folder.
    std::fs::create_dir_all(folder.join("django/django")).unwrap();
    write("django/django/__init__.py", b"");
    write(
        "django/django/conf.py",
        b"import importlib, os\nsettings = importlib.import_module(os.environ['DJANGO_SETTINGS_MODULE'])\n",
    );
    write("django/gone.py", b"STATIC_ROOT = '/no/such/folder'\n");
    write(
        "django/there.py",
        b"import os\nSTATIC_ROOT = os.path.join(os.path.dirname(__file__), '..', 'public')\n",
    );
    write("django/none.py", b"STATIC_ROOT = None\n");
    write("django/wsgi.py", b"os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'there')\n");
    write("django/wsgi2.py", b"os.environ['DJANGO_SETTINGS_MODULE'] = 'gone'\n");
    certificate(&folder, "cert", &["shop.example", "*.shop.example", "127.0.0.1"], (2020, 2999));
    certificate(&folder, "old", &["shop.example"], (2020, 2021));
    certificate(&folder, "early", &["shop.example"], (2998, 2999));
    folder
}

fn certificate(folder: &Path, name: &str, hosts: &[&str], (from, until): (i32, i32)) {
    let names = hosts.iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut params = rcgen::CertificateParams::new(names).unwrap();
    params.not_before = rcgen::date_time_ymd(from, 1, 1);
    params.not_after = rcgen::date_time_ymd(until, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    std::fs::write(folder.join(format!("{name}.pem")), certificate.pem()).unwrap();
    std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
}

fn read(folder: &Path, text: &str) -> Result<Decided, Vec<Problem>> {
    read_text(text, "trivet.toml", folder.to_owned(), &env)
}

fn told(folder: &Path, text: &str) -> String {
    let problems = match read(folder, text) {
        Ok(decided) => decided.warnings,
        Err(problems) => problems,
    };
    let shown: Vec<String> = problems.iter().map(ToString::to_string).collect();
    shown.join("\n\n").replace(&*folder.to_string_lossy(), "/srv")
}

/// Each case is short enough to be read beside what it comes to.
#[test]
fn every_error_is_told_as_it_was() {
    let folder = folder("errors");
    let mut all = String::from(
        "Made by TRIVET_BLESS=1 cargo test -p trivet: each error and warning of the configuration.\n",
    );
    let text = "a".repeat(66_000);
    let large =
        format!("[site.s]\nroute = [\n  {{ path = \"/*\", respond = {{ text = \"{text}\" }} }},\n]\n");
    for (name, text) in cases::CASES.iter().copied().chain([("a text that is too large", &*large)]) {
        let told = told(&folder, text);
        assert!(!told.is_empty(), "{name} is told");
        let _ = write!(all, "\n=== {name}\n{told}\n");
    }
    let latin = folder.join(std::ffi::OsStr::from_bytes(b"caf\xe9"));
    std::fs::create_dir_all(latin.join("public")).unwrap();
    let told = told(&latin, "[site.s]\nroute = [{ path = \"/*\", static = \"public\" }]\n");
    let _ = write!(
        all,
        "\n=== a folder whose name is not text\n{}\n",
        told.replace(folder.to_str().unwrap(), "/srv")
    );
    std::fs::remove_dir_all(&folder).unwrap();
    let path = source("src/config/tests/errors.txt");
    if std::env::var_os("TRIVET_BLESS").is_some() {
        std::fs::write(&path, &all).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    for (now, before) in all.split("\n=== ").zip(stored.split("\n=== ")) {
        assert_eq!(now, before, "see src/config/tests/errors.txt");
    }
    assert_eq!(all.len(), stored.len(), "TRIVET_BLESS=1 cargo test -p trivet writes errors.txt anew");

    // No place in the source that finds something is without a case.
    let found_by = FOUND_BY.lock().unwrap();
    let mut missing = Vec::new();
    for entry in std::fs::read_dir(source("src/config")).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if ["tests", "tests.rs", "section.rs"].contains(&name.as_str()) {
            continue;
        }
        let text = std::fs::read_to_string(entry.path()).unwrap();
        for (line, number) in text.lines().zip(1..) {
            let finds = line.contains("reading.error(") || line.contains("reading.warn(");
            if finds && !found_by.contains(&(name.clone(), number)) {
                missing.push(format!("{name}:{number}: {}", line.trim()));
            }
        }
    }
    assert!(missing.is_empty(), "without a case:\n{}", missing.join("\n"));
}

fn example(name: &str) -> (PathBuf, String) {
    fn copy(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap().flatten() {
            let to = to.join(entry.file_name());
            match entry.file_type().unwrap() {
                kind if kind.is_dir() && entry.file_name() != ".venv" => copy(&entry.path(), &to),
                kind if kind.is_file() => drop(std::fs::copy(entry.path(), to).unwrap()),
                _ => {}
            }
        }
    }
    let folder = std::env::temp_dir().join(format!("trivet-example-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    copy(&source("../../examples/sites"), &folder);
    let python = crate::python::find(None).unwrap();
    for app in ["shop", "blog"] {
        std::fs::create_dir_all(folder.join(app).join(".venv/bin")).unwrap();
        std::os::unix::fs::symlink(&python, folder.join(app).join(".venv/bin/python")).unwrap();
    }
    std::fs::write(folder.join("shop/secret"), "s3cret\n").unwrap();
    std::fs::set_permissions(folder.join("shop/secret"), std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::create_dir_all(folder.join("certificates")).unwrap();
    for name in ["shop", "blog", "console"] {
        let hosts = [format!("{name}.example"), format!("*.{name}.example")];
        certificate(&folder.join("certificates"), name, &[&hosts[0], &hosts[1]], (2020, 2999));
    }
    let text = std::fs::read_to_string(folder.join("trivet.toml")).unwrap();
    (folder, text)
}

#[test]
fn the_example_is_read() {
    let (folder, _) = example("read");
    let decided = load(&folder.join("trivet.toml"), &|_| None).unwrap();
    assert_eq!(decided.warnings, []);
    let names: Vec<_> = decided.edge.listeners.iter().map(|l| (l.name.as_str(), l.tls)).collect();
    assert_eq!(names, [("http://0.0.0.0:80", false), ("https://0.0.0.0:443", true)]);
    assert_eq!((decided.binds.len(), decided.logs.len(), decided.identities.len()), (2, 1, 3));
    assert_eq!(decided.identities[0].hosts, ["shop.example", "*.shop.example"]);
    let sites: Vec<_> =
        decided.edge.sites.iter().map(|s| (s.name.as_str(), &s.listeners[..], s.identity)).collect();
    assert_eq!(sites[0], ("shop (to https)", &[0][..], None));
    assert_eq!(sites[1], ("shop", &[1][..], Some(0)));
    assert_eq!(sites.len(), 8);
    let shop = &decided.apps[0];
    assert_eq!(shop.env[1], ("SECRET_KEY".to_owned(), "s3cret".to_owned()));
    assert_eq!(shop.chdir, folder.join("shop"));
    assert!(shop.python.ends_with("shop/.venv/bin/python"));
    assert_eq!((shop.workers, shop.threads, shop.graceful_ms), (2, 4, 30_000));
    let edge::Action::Static(files) = &decided.edge.sites[1].routes[0].action else { panic!("files") };
    assert_eq!((files.at.as_str(), files.index.len()), ("/static", 1));
    assert_eq!(decided.edge.sites[1].routes[3].body_bytes_max, 500 << 20);
    let told = explain(
        &decided.edge,
        &Question { url: "https://shop.example/static/a.css", method: "GET", headers: &[] },
    );
    assert_eq!(
        told.unwrap().replace(folder.to_str().unwrap(), "/srv"),
        "GET https://shop.example/static/a.css\n\
         site `shop`: `shop.example` is one of its hosts\n\
         route `/static/*`: files of `/srv/shop/staticfiles`\n  it wins: it is the longest prefix\n  \
         matches too: `/*`, a shorter prefix: the app `shop`\n"
    );
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_file_that_is_cut_or_garbled_is_told_and_never_panics() {
    let (folder, text) = example("cut");
    let whole = read(&folder, &text);
    assert!(whole.is_ok());
    for (at, _) in text.char_indices() {
        let _ = read(&folder, &text[..at]);
    }
    let lines: Vec<&str> = text.lines().collect();
    for at in 0..lines.len() {
        for garbled in [
            "",
            "= 1",
            "x = [",
            "\"\"\"",
            "[a",
            "{",
            "é = 'é",
            "a.b.c = 1",
            "[[site]]",
            "[app.shop.env]",
            "\0",
        ] {
            let mut lines = lines.clone();
            lines[at] = garbled;
            let problems = read(&folder, &lines.join("\n"));
            for problem in problems.err().into_iter().flatten() {
                assert!(!problem.hint.is_empty() && problem.place.is_some(), "{problem}");
            }
        }
    }
    // Each value in turn is one of another kind.
    for (at, _) in text.match_indices('=').chain(text.match_indices(',')) {
        for garbled in [
            " 1",
            " -1",
            " 1.5",
            " true",
            " []",
            " {}",
            " \"\"",
            " \"\u{e9}\\u0000\"",
            " 1979-05-27",
            " [[1]]",
        ] {
            let rest = &text[at + 1..];
            let end = rest.find([',', '}', ']', '\n']).unwrap_or(rest.len());
            let _ = read(&folder, &format!("{}{garbled}{}", &text[..=at], &rest[end..]))
                .map_err(|all| all.iter().map(ToString::to_string).collect::<String>());
        }
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_file_that_cannot_be_read_is_told() {
    let folder = folder("unread");
    let told = |name: &str| {
        let problems = load(&folder.join(name), &env).unwrap_err();
        problems[0].to_string().replace(folder.to_str().unwrap(), "/srv")
    };
    assert_eq!(
        told("no.toml"),
        "error: cannot read the configuration: no such file or directory\n --> /srv/no.toml\n\
         hint: name the file, or run without one: `trivet run app:app` serves `app` of `app.py`"
    );
    assert_eq!(
        told("public"),
        "error: cannot read the configuration: is a directory\n --> /srv/public\n\
         hint: name the file in it, as `trivet.toml`"
    );
    assert_eq!(
        told("latin.html"),
        "error: the file is not UTF-8\n --> /srv/latin.html:1:4\n  |\n1 | caf\u{fffd}\n  |    ^\nhint: save it as UTF-8"
    );
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn what_is_left_out_has_its_default() {
    let folder = folder("defaults");
    let decided = read(&folder, "[app.a]\nwsgi = \"a\"\n[site.s]\n").unwrap();
    assert_eq!(decided.edge.listeners[0].name, "http://127.0.0.1:8000");
    let [site] = &decided.edge.sites[..] else { panic!("one site") };
    assert_eq!((site.hosts.len(), site.routes.len()), (0, 1));
    assert_eq!(site.routes[0].body_bytes_max, 64 << 20);
    let app = &decided.edge.apps[0];
    assert_eq!(
        (app.timeout_ms, app.queue_length_max, app.queue_ms, app.request_buffering),
        (30_000, 1024, 30_000, true)
    );
    let server = &decided.edge.server;
    assert_eq!(
        (server.keep_alive_ms, server.request_line_bytes_max, server.head_bytes_max),
        (75_000, 8192, 32_768)
    );
    assert_eq!(server.trusted_peers.as_ref().map(Vec::len), Some(2));
    assert_eq!(decided.apps[0].title, "a");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn numbers_may_come_from_the_environment() {
    let folder = folder("numbers");
    let text = "[app.a]\nwsgi = \"a\"\nworkers = \"${N:-3}\"\nthreads = \"${N:-4}\"\nreload = \"${R:-true}\"\n\
                env = { A = \"${N:-1}\" }\n[site.s]\n";
    let decided = read(&folder, text).unwrap();
    let app = &decided.apps[0];
    assert_eq!((app.workers, app.threads, app.reload, app.env[0].1.as_str()), (3, 4, true, "1"));
    assert!(read(&folder, &text.replace("${N:-4}", "${N:-x}")).is_err());
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn fields_of_a_route_come_on_top_of_the_sites() {
    let folder = folder("fields");
    let decided = read(
        &folder,
        "[site.s]\nlisten = [\"https://:443\"]\ntls = { cert = \"cert.pem\", key = \"cert.key\" }\n\
         hsts = { max-age = \"1y\", subdomains = true, preload = true }\nsecurity-headers = true\n\
         response-headers = { set = { X-A = \"site\", X-B = \"site\" }, remove = [\"Server\"] }\n\
         cors = { origins = [\"https://App.example\"] }\ncompress = [\"gzip\"]\n\
         route = [\n{ path = \"/*\", respond = 404 },\n\
         { path = \"/a/*\", respond = { json = { a = [1, true] } }, cors = \"off\", compress = false, \
         response-headers = { set = { x-a = \"route\", X-Frame-Options = \"DENY\" } } },\n]\n",
    )
    .unwrap();
    let [all, own] = &decided.edge.sites[0].routes[..] else { panic!("two routes") };
    assert_eq!(all.response_headers.default.len(), 4);
    assert_eq!(all.cors.as_ref().unwrap().origins, ["https://app.example"]);
    let set: Vec<_> = own.response_headers.set.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    assert_eq!(set, [("X-B", "site"), ("x-a", "route"), ("X-Frame-Options", "DENY")]);
    assert_eq!((own.response_headers.remove.len(), own.response_headers.default.len()), (1, 3));
    assert_eq!((&own.cors, &own.compress), (&None, &None));
    assert_eq!(own.secure_headers[0].1, "max-age=31536000; includeSubDomains; preload");
    let edge::Action::Respond { page, .. } = &own.action else { panic!("an answer") };
    assert_eq!(page.body, "{\"a\":[1,true]}");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn what_comes_without_tls_is_sent_to_https() {
    let folder = folder("https");
    let decided = read(
        &folder,
        "[app.a]\nwsgi = \"a\"\n[site.s]\nlisten = [\"http://:80\", \"https://:8443\", \"unix:run.sock\"]\n\
         hosts = [\"Shop.example\"]\ntls = { cert = \"cert.pem\", key = \"cert.key\" }\nhealth = \"/health\"\n\
         route = [\n{ path = \"/*\", app = \"a\" },\n\
         { path = \"/.well-known/acme-challenge/*\", static = \"public\", plain = true },\n]\n",
    )
    .unwrap();
    let [plain, main] = &decided.edge.sites[..] else { panic!("two sites") };
    let paths: Vec<_> = plain.routes.iter().map(|r| r.path.as_str()).collect();
    assert_eq!(paths, ["/.well-known/acme-challenge/*", "/health", "/*"]);
    assert_eq!(
        plain.routes[2].action,
        edge::Action::Redirect { to: "https://{host}:8443{uri}".into(), status: 308 }
    );
    assert_eq!((plain.identity, main.identity, main.routes.len()), (None, Some(0), 3));
    assert_eq!(main.listeners.len(), 2, "what a proxy sends is served");
    assert_eq!((plain.when_secured, main.when_secured), (Some(1), None));
    assert_eq!(decided.edge.sites[1].hosts, ["shop.example"]);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn djangos_static_root_is_asked_for() {
    let folder = folder("django");
    for app in ["wsgi = \"x\"\nenv = { DJANGO_SETTINGS_MODULE = \"there\" }", "wsgi = \"wsgi:application\""] {
        let decided = read(
            &folder,
            &format!(
                "[app.a]\n{app}\nfolder = \"django\"\n[site.s]\nroute = [\n\
             {{ path = \"/*\", app = \"a\" }}, {{ path = \"/static/*\", static = \"django\" }}]\n"
            ),
        )
        .unwrap();
        let edge::Action::Static(files) = &decided.edge.sites[0].routes[1].action else { panic!("files") };
        assert_eq!(files.folder, folder.join("public").to_str().unwrap());
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn the_more_specific_route_is_explained() {
    let folder = folder("explain");
    let decided = read(
        &folder,
        "[app.a]\nwsgi = \"a\"\n[site.s]\nhosts = [\"a.example\"]\nroute = [\n{ path = \"/*\", app = \"a\" },\n\
         { path = \"/x\", respond = 200 },\n{ path = \"/x\", methods = [\"POST\"], app = \"a\", rewrite = \"/y\" },\n\
         { path = \"/x\", headers = { X-Beta = \"1\" }, redirect = \"/beta\" },\n\
         { path = \"/x\", internal = true, static = \"public\" },\n]\n\
         [site.w]\nhosts = [\"*.a.example\"]\nroute = [{ path = \"/m/*\", app = \"a\", mount = true }]\n",
    )
    .unwrap();
    let told = |url: &str, method: &str, headers: &[(&str, &str)]| {
        let headers: Vec<_> = headers.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
        explain(&decided.edge, &Question { url, method, headers: &headers }).map(|t| {
            t.lines().skip(1).collect::<Vec<_>>().join("\n").replace(folder.to_str().unwrap(), "/srv")
        })
    };
    assert_eq!(
        told("http://a.example:8000//x?q", "GET", &[("x-beta", "1")]).unwrap(),
        "site `s`: `a.example` is one of its hosts\n\
         path `/x`: the canonical form, which routes are chosen by\n\
         route `/x` with `X-Beta: 1`: redirect to `/beta` (308)\n  it wins: it wants the most header fields\n  \
         matches too: `/x`, with fewer header fields: an answer with status 200\n  \
         matches too: `/*`, a prefix: the app `a`\n  \
         not this one: `/x` for POST, not for GET\n  \
         not this one: `/x`, only for internal redirects of the app"
    );
    let post = told("http://a.example:8000/x", "POST", &[]).unwrap();
    assert!(post.contains("the app `a`, which sees `/y`\n  it wins: it names the method\n"), "{post}");
    let wildcard = told("http://b.a.example:8000/n", "GET", &[]).unwrap();
    assert_eq!(
        wildcard,
        "site `w`: `*.a.example` is the longest of the wildcards that match `b.a.example`\nno route: it gets 404"
    );
    assert!(told("http://c.example:8000/", "GET", &[]).unwrap().starts_with("no site: "));
    assert!(told("http://a.example:8000/y/..%2fx", "GET", &[]).unwrap().contains("it gets 400"));
    assert!(told("http://a.example:8000/y%2fz", "GET", &[]).unwrap().contains("route `/*`: the app `a`"));
    assert!(
        told("http://a.example/", "GET", &[])
            .unwrap_err()
            .0
            .starts_with("no site listens for http at port 80")
    );
    assert!(told("/x", "GET", &[]).is_err());
    std::fs::remove_dir_all(folder).unwrap();
}

/// The TOML of a page, block by block.
fn blocks(page: &str) -> Vec<String> {
    let text = std::fs::read_to_string(source("../../docs/guide").join(page)).unwrap();
    text.split("```toml\n").skip(1).map(|b| b.split("```").next().unwrap().to_owned()).collect()
}

#[test]
fn the_guide_is_true() {
    let folder = folder("guide");
    for text in blocks("configuration.md") {
        let told = told(&folder, &text);
        for wrong in ["unknown key", "not TOML", "must be", "route does nothing", "neither is more specific"]
        {
            assert!(!told.contains(wrong), "{told}\n{text}");
        }
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn the_file_beside_nginxs_is_the_example() {
    let (folder, text) = example("nginx");
    let written = format!("[server]\nlog-level = \"info\"\n{}", blocks("from-nginx.md")[0]);
    let (of_page, of_example) = (read(&folder, &written).unwrap(), read(&folder, &text).unwrap());
    assert_eq!((of_page.edge, of_page.apps), (of_example.edge, of_example.apps));
    std::fs::remove_dir_all(folder).unwrap();
}
