//! `trivet run`: flags and environment become decided values, and the supervisor gets them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use crate::config::{self, AppPart};
use crate::failure::{CONFIG, Failure, SOFTWARE, USAGE};
use crate::flags::{LogLevel, Run};
use crate::python;
use crate::serve::{self, text_of};
use crate::values::{self, Trust};
use trivet_edge::config::{
    AccessLog, Action, App, Changes, Config, Listener as EdgeListener, Route, Server, Site, SiteLog, Static,
    ToApp,
};
use trivet_edge::tls::{Authorities, Identity};
use trivet_http::h1::Limits;
use trivet_supervise::access_logs::{LogTarget, SyslogAddress};
use trivet_supervise::identity::IdentityFiles;
use trivet_supervise::listen::{self, Bind, Listener, Shape};
use trivet_supervise::log::{Level, Log};
use trivet_supervise::plain;
use trivet_supervise::process::account;
use trivet_supervise::process::inherit;
use trivet_supervise::service::{self, Checked, EdgeSettings, Settings};

pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// A request head must be whole within this time (H13).
const HEAD_MS: u64 = 10_000;
pub(crate) const TRUSTED_DEFAULT: &str = "127.0.0.1,::1";

/// Does what the flags say. `warnings`: lines about flags that have no effect.
pub(crate) fn run(flags: Run, warnings: Vec<String>) -> Result<ExitCode, Failure> {
    inherit::seal()
        .map_err(|e| Failure::new(SOFTWARE, format!("cannot look at the open descriptors: {e}"), ""))?;
    let Some(app) = flags.app.clone() else { return Err(no_app()) };
    check_app_syntax(&app)?;
    // What the user typed relative to where it was typed.
    let python = python::find(flags.venv.as_deref())?;
    let home = python::home()?;
    let mut static_folders = static_folders(&flags)?;
    let identity = identity(&flags);
    let chdir = enter(flags.chdir.as_deref())?;
    let log = open_log(&flags)?;
    let mut warnings = warnings;
    if Path::new("gunicorn.conf.py").exists() {
        warnings.push("`gunicorn.conf.py` is not read: use flags or GUNICORN_CMD_ARGS".to_owned());
    }
    let account = (flags.user.as_deref(), flags.group.as_deref());
    let worker_account = serve::worker_account(account, ["--user", "--group"], &mut warnings)?;
    let workers = match flags.workers {
        Some(workers) => workers,
        None => from_env("WEB_CONCURRENCY", values::workers)?.unwrap_or(1),
    };
    let trust = match flags.forwarded_allow_ips.clone() {
        Some(trust) => trust,
        None => match from_env("FORWARDED_ALLOW_IPS", values::trust)? {
            Some(trust) => trust,
            None => values::trust(TRUSTED_DEFAULT).expect("the default is a list of addresses"),
        },
    };
    let title = app.clone();
    let part = AppPart {
        name: app.clone(),
        python,
        chdir,
        pythonpath: flags
            .pythonpath
            .iter()
            .map(|p| std::path::absolute(p).unwrap_or_else(|_| p.clone()))
            .collect(),
        workers,
        threads: flags.threads,
        env: flags.env.clone(),
        user: flags.user.clone(),
        group: flags.group.clone(),
        umask: flags.umask,
        reload: flags.reload,
        graceful_ms: ms(flags.graceful_timeout),
        title: flags.name.clone().unwrap_or_else(|| app.clone()),
        wsgi: app,
    };
    ask_django(&mut static_folders, &part)?;
    let binds = binds(&flags, &mut warnings)?;
    let shape =
        Shape { backlog: flags.backlog, umask: flags.umask.unwrap_or(0), owner: worker_account.as_ref() };
    let mut listeners =
        listen::bind_all(&binds, shape).map_err(|e| Failure::new(CONFIG, e.to_string(), e.hint()))?;
    let mut secure_port = None;
    if identity.is_some() {
        for listener in listeners.iter_mut().filter(|l| !l.unix) {
            listener.name = listener.name.replacen("http://", "https://", 1);
            secure_port = secure_port.or(listener.name.rsplit(':').next().and_then(|port| port.parse().ok()));
        }
    }
    let main_listeners = listeners.len();
    match listen::bind_all(&flags.redirect_http, shape) {
        Ok(mut more) => {
            for l in &mut more {
                l.name.push_str(" (to https)");
            }
            listeners.append(&mut more);
        }
        Err(e) => {
            listeners.into_iter().for_each(Listener::close);
            return Err(Failure::new(CONFIG, e.to_string(), e.hint()));
        }
    }
    // Nothing is in the way any more: what comes now is worth reading.
    for warning in &warnings {
        log.write(Level::Warn, warning, &[]);
    }
    let settings = Settings {
        version: VERSION,
        edge: EdgeSettings {
            config: serde_json::to_value(edge_config(
                &flags,
                &title,
                listeners.split_at(main_listeners),
                secure_port,
                &trust,
                &static_folders,
            ))
            .expect("the edge's configuration is plain data"),
            account: rustix::process::geteuid().is_root().then(account::of_edge),
            logs: flags.access_logfile.as_deref().map(log_target).into_iter().collect(),
            identities: identity.into_iter().collect(),
            authorities: Vec::new(),
            ticket_key: None,
            serves: flags
                .static_folders
                .iter()
                .zip(&static_folders)
                .map(|((path, written), (_, found))| match written.to_str() {
                    Some(config::DJANGO) => format!("files of `{found}` at {path}"),
                    _ => format!("files of `{}` at {path}", written.display()),
                })
                .collect(),
        },
        listeners,
        apps: vec![serve::settings_with(&part, &home, worker_account)?],
        title,
        log,
        capture_output: flags.capture_output,
        pid_file: flags.pid.clone(),
        reread: None,
    };
    if flags.check_config { check(settings) } else { serve(settings) }
}

pub(crate) fn serve(settings: Settings) -> Result<ExitCode, Failure> {
    match service::run(settings) {
        Ok(code) => Ok(ExitCode::from(code)),
        Err(error) => Err(Failure::new(CONFIG, error.to_string(), error.hint())),
    }
}

fn check(settings: Settings) -> Result<ExitCode, Failure> {
    let failed = |error: service::ServiceError| Failure::new(CONFIG, error.to_string(), error.hint());
    let checked = service::check_identities(settings.edge.identities).and_then(|()| {
        settings.apps.iter().map(|app| Ok((app, service::check(&app.worker)?))).collect::<Result<Vec<_>, _>>()
    });
    settings.listeners.into_iter().for_each(Listener::close);
    for (app, checked) in checked.map_err(failed)? {
        match checked {
            Checked::Good { python, app: kind } => {
                eprintln!("ok: `{}` is {kind}, with Python {python}", app.worker.start.app);
            }
            Checked::Bad { why } => return Err(Failure::new(SOFTWARE, why, "")),
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn ms(time: Duration) -> u64 {
    time.as_millis() as u64
}

fn no_app() -> Failure {
    let hint = match ["wsgi", "app", "main", "application"]
        .iter()
        .find(|m| Path::new(&format!("{m}.py")).exists())
    {
        Some(module) => format!("`{module}.py` is here: try `trivet run {module}`"),
        None => "`trivet run app:app` serves `app` of `app.py`".to_owned(),
    };
    Failure::new(USAGE, "no application given", hint)
}

/// Finds what cannot be right before any process is started.
pub(crate) fn check_app_syntax(app: &str) -> Result<(), Failure> {
    let module = app.split(':').next().unwrap_or(app);
    let stem = module.strip_suffix(".py");
    if stem.is_some() || module.contains('/') {
        let name = stem.unwrap_or(module).trim_start_matches("./").replace('/', ".");
        let hint = format!("write the name of the module: `{}`", app.replacen(module, &name, 1));
        return Err(Failure::new(USAGE, format!("`{app}` names a file, not a module"), hint));
    }
    let word = |part: &str| {
        !part.is_empty()
            && part.chars().all(|c| c.is_alphanumeric() || c == '_')
            && !part.starts_with(|c: char| c.is_ascii_digit())
    };
    if !module.split('.').all(word) || app.ends_with(':') {
        return Err(Failure::new(
            USAGE,
            format!("`{app}` is not of the form MODULE:APP"),
            "`trivet run app:app` serves `app` of `app.py`",
        ));
    }
    Ok(())
}

pub(crate) fn enter(chdir: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(folder) = chdir {
        std::env::set_current_dir(folder).map_err(|e| {
            let message = format!("cannot change to `{}`: {}", folder.display(), plain(&e));
            Failure::new(CONFIG, message, "look at the folder given by `--chdir`")
        })?;
    }
    std::env::current_dir().map_err(|e| {
        Failure::new(CONFIG, format!("the current folder is gone: {}", plain(&e)), "use `--chdir`")
    })
}

fn syslog(path: &Path) -> Option<SyslogAddress> {
    values::syslog(path.to_str()?)?.ok()
}

fn log_target(path: &Path) -> LogTarget {
    match syslog(path) {
        Some(address) => LogTarget::Syslog(address),
        None if path.as_os_str() == "-" => LogTarget::Stdout,
        None => LogTarget::File(path.to_owned(), None),
    }
}

fn open_log(flags: &Run) -> Result<Log, Failure> {
    let path = (flags.error_logfile.as_os_str() != "-").then(|| flags.error_logfile.clone());
    Log::new(flags.log_level.into(), path).map_err(|e| {
        let message = format!("cannot open the log `{}`: {}", flags.error_logfile.display(), plain(&e));
        Failure::new(CONFIG, message, "look at the folder given by `--error-logfile` and its permissions")
    })
}

fn from_env<T>(name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Option<T>, Failure> {
    match std::env::var(name) {
        Ok(text) if !text.is_empty() => parse(&text)
            .map(Some)
            .map_err(|hint| Failure::new(USAGE, format!("`{text}` is not a fit value for {name}"), hint)),
        _ => Ok(None),
    }
}

fn binds(flags: &Run, warnings: &mut Vec<String>) -> Result<Vec<Bind>, Failure> {
    let activated = listen::activated();
    if !activated.is_empty() {
        let inherited = |b: &Bind| matches!(b, Bind::Descriptor(_));
        if flags.bind.iter().any(|b| !inherited(b)) {
            warnings.push("`--bind` has no effect: the service manager passes the sockets".to_owned());
        }
        return Ok(activated);
    }
    if !flags.bind.is_empty() {
        return Ok(flags.bind.clone());
    }
    let port = from_env("PORT", |text| {
        text.parse::<u16>().map_err(|_| "PORT holds the number of a port, as 8000".to_owned())
    })?;
    Ok(vec![match port {
        Some(port) => Bind::Tcp { host: "0.0.0.0".to_owned(), port },
        None => Bind::Tcp { host: "127.0.0.1".to_owned(), port: listen::PORT_DEFAULT },
    }])
}

fn spool_dir() -> String {
    // Not /tmp, which is memory on many systems.
    let named = std::env::var("TMPDIR").ok().filter(|d| Path::new(d).is_absolute());
    named.unwrap_or_else(|| if Path::new("/var/tmp").is_dir() { "/var/tmp".into() } else { "/tmp".into() })
}

/// Says what is wrong with a certificate or its key.
pub(crate) fn check_identity(chain: &[u8], key: &[u8]) -> Result<(), String> {
    Identity::new(chain, key).map(drop).map_err(|e| e.to_string())
}

/// Says what is wrong with certificates of those who issue clients' certificates.
pub(crate) fn check_authorities(pem: &[u8]) -> Result<(), String> {
    Authorities::new(pem).map(drop).map_err(|e| e.to_string())
}

/// The files as they are found from where the command was typed.
fn identity(flags: &Run) -> Option<IdentityFiles> {
    let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
    Some(IdentityFiles {
        chain: flags.tls_cert.as_ref().map(absolute)?,
        key: flags.tls_key.as_ref().map(absolute)?,
        check: check_identity,
    })
}

/// Paths and the folders as the edge finds them: absolute, and there. Django's is found later.
fn static_folders(flags: &Run) -> Result<Vec<(String, String)>, Failure> {
    let mut found: Vec<(String, String)> = Vec::new();
    for (prefix, folder) in &flags.static_folders {
        let flag = format!("--static {prefix}={}", folder.display());
        let wrong = |why: String, hint: &str| Failure::new(CONFIG, format!("{why} (`{flag}`)"), hint);
        if found.iter().any(|(known, _)| known == prefix) {
            return Err(wrong(format!("two folders for `{prefix}`"), "give each path once"));
        }
        if folder.as_os_str() == config::DJANGO {
            found.push((prefix.clone(), config::DJANGO.to_owned()));
            continue;
        }
        let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.clone());
        match std::fs::metadata(&absolute) {
            Ok(m) if m.is_dir() => {}
            Ok(_) => {
                return Err(wrong(
                    "this is a file, not a folder".to_owned(),
                    "name the folder that it is in",
                ));
            }
            Err(e) => {
                let hint = "the folder must be there when the server starts";
                return Err(wrong(format!("cannot find the folder: {e}"), hint));
            }
        }
        found.push((prefix.clone(), text_of(&absolute)?));
    }
    Ok(found)
}

/// Fills in the folder of the app's settings where it is asked for.
fn ask_django(folders: &mut [(String, String)], app: &AppPart) -> Result<(), Failure> {
    for (prefix, folder) in folders.iter_mut().filter(|(_, folder)| folder == config::DJANGO) {
        let found = config::static_root_of(app).map_err(|(why, hint)| {
            Failure::new(CONFIG, format!("{why} (`--static {prefix}={}`)", config::DJANGO), hint)
        })?;
        *folder = text_of(&found)?;
    }
    Ok(())
}

fn edge_config(
    flags: &Run,
    title: &str,
    (main, redirecting): (&[Listener], &[Listener]),
    secure_port: Option<u16>,
    trust: &Trust,
    static_folders: &[(String, String)],
) -> Config {
    let app = Action::App(ToApp { app: 0, mount: String::new(), rewrite: None });
    let port = secure_port.filter(|port| *port != 443).map_or_else(String::new, |port| format!(":{port}"));
    let to_https = Action::Redirect { to: format!("https://{{host}}{port}{{uri}}"), status: 308 };
    let log = flags.access_logfile.is_some().then(|| SiteLog { log: 0, statuses: Vec::new() });
    let site = |name: &str, listeners: std::ops::Range<usize>, last: Action| Site {
        name: name.to_owned(),
        listeners: listeners.collect(),
        hosts: Vec::new(),
        identity: flags.tls_cert.is_some().then_some(0),
        client: None,
        when_secured: None,
        routes: routes(flags, static_folders, last),
        error_pages: BTreeMap::new(),
        response_headers: Changes::default(),
        secure_headers: Vec::new(),
        log: log.clone(),
    };
    let all = main.len() + redirecting.len();
    let mut sites = vec![site("main", 0..main.len(), app)];
    if !redirecting.is_empty() {
        let to_https = site("to https", main.len()..all, to_https);
        sites.push(Site { when_secured: Some(0), ..to_https });
    }
    Config {
        server: server(flags, trust),
        listeners: main
            .iter()
            .map(|l| (l, flags.tls_cert.is_some() && !l.unix))
            .chain(redirecting.iter().map(|l| (l, false)))
            .map(|(l, tls)| EdgeListener { name: l.name.clone(), unix: l.unix, tls })
            .collect(),
        logs: flags
            .access_logfile
            .iter()
            .map(|file| {
                let format = flags.access_logformat.clone();
                match syslog(file) {
                    Some(address) => values::syslog_log(&address, values::SYSLOG_DEFAULT, format),
                    None => AccessLog { name: file.display().to_string(), format, syslog: None },
                }
            })
            .collect(),
        apps: vec![App {
            name: title.to_owned(),
            id: 0,
            request_buffering: !flags.no_request_buffering,
            timeout_ms: ms(flags.timeout),
            queue_length_max: flags.queue_length,
            queue_ms: ms(flags.queue_timeout),
        }],
        sites,
    }
}

/// The paths that the edge answers by itself, and what is done with all others.
fn routes(flags: &Run, static_folders: &[(String, String)], last: Action) -> Vec<Route> {
    let route =
        |path: String, action| Route { body_bytes_max: flags.limit_request_body, ..Route::new(path, action) };
    let mut last = last;
    let mut routes = Vec::new();
    for (prefix, folder) in static_folders {
        let at = prefix.trim_end_matches('/').to_owned();
        let files = |otherwise| Action::Static(Static::new(folder.clone(), at.clone(), otherwise));
        if at.is_empty() {
            last = files(Some(Box::new(last)));
        } else {
            routes.push(route(format!("{at}/*"), files(None)));
        }
    }
    if let Some(path) = &flags.health {
        routes.push(route(path.clone(), Action::Health));
    }
    routes.push(route("/*".to_owned(), last));
    routes
}

fn server(flags: &Run, trust: &Trust) -> Server {
    let heads = Heads {
        line: flags.limit_request_line,
        field: flags.limit_request_field_size,
        fields: flags.limit_request_fields.into(),
    };
    Server {
        transport: flags.transport.into(),
        keep_alive_ms: ms(flags.keep_alive),
        log_debug: flags.log_level == LogLevel::Debug,
        ..server_with(&heads, trust)
    }
}

/// Limits of request heads as a user gives them; 0: the largest.
pub(crate) struct Heads {
    pub(crate) line: u64,
    /// `None`: the usual one.
    pub(crate) field: Option<u64>,
    pub(crate) fields: u64,
}

/// What holds for all sites, the rest as usual.
pub(crate) fn server_with(heads: &Heads, trust: &Trust) -> Server {
    let largest = |given: u64, max: u32| if given == 0 { max } else { given.min(max.into()) as u32 };
    let default = Limits::default();
    let line = largest(heads.line, Limits::LARGEST.request_line_bytes_max);
    let field = heads.field.map_or(default.field_bytes_max, |f| largest(f, Limits::LARGEST.field_bytes_max));
    // Who asks for larger parts than we expect means the whole head too.
    let raised = line > default.request_line_bytes_max || field > default.field_bytes_max;
    let head =
        if raised { (line + 2 * field).min(Limits::LARGEST.head_bytes_max) } else { default.head_bytes_max };
    Server {
        request_line_bytes_max: line,
        head_bytes_max: head,
        field_bytes_max: field,
        fields_max: largest(heads.fields, Limits::LARGEST.fields_max),
        spool_dir: spool_dir(),
        head_ms: HEAD_MS,
        trusted_peers: match trust {
            Trust::All => None,
            Trust::These(networks) => Some(networks.clone()),
            Trust::Nobody => Some(Vec::new()),
        },
        trust_unix: *trust != Trust::Nobody,
        ..Server::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_cannot_be_a_module_is_told_with_the_right_one() {
        for good in ["app", "app:app", "a.b:c.d", "a:create_app()", "a:f('x/y')", "_m"] {
            assert_eq!(check_app_syntax(good), Ok(()), "{good}");
        }
        let told = |app: &str| check_app_syntax(app).unwrap_err().to_string();
        assert_eq!(
            told("./shop/wsgi.py:application"),
            "error: `./shop/wsgi.py:application` names a file, not a module\n\
             hint: write the name of the module: `shop.wsgi:application`"
        );
        assert!(told("a-b").starts_with("error: `a-b` is not of the form MODULE:APP\nhint: "));
        for bad in [":app", "app:", "a..b", "1a", ""] {
            assert_eq!(check_app_syntax(bad).unwrap_err().code, USAGE, "{bad}");
        }
    }
}
