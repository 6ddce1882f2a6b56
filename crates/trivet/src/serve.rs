//! `trivet serve`: what a configuration says goes to the supervisor, at the start and at each reload.

use std::path::Path;
use std::process::ExitCode;

use trivet_supervise::identity::{AuthorityFile, IdentityFiles};
use trivet_supervise::listen::{self, Bind, ListenError, Listener, Shape};
use trivet_supervise::log::{Level, Log};
use trivet_supervise::machine::Policy;
use trivet_supervise::plain;
use trivet_supervise::process::account::{self, Account};
use trivet_supervise::process::inherit;
use trivet_supervise::service::{
    self, AppSettings, Checked, EdgeSettings, Next, Reread, Settings, WorkerSettings,
};
use trivet_wire::control::WorkerStart;

use crate::check;
use crate::config::{self, AppPart, Decided, FILE_DEFAULT, Problem, ServerPart};
use crate::failure::{CONFIG, Failure, SOFTWARE};
use crate::python::{self, Home};
use crate::run::{self, VERSION};

/// Serves until told to stop.
pub(crate) fn serve(file: Option<&Path>) -> Result<ExitCode, Failure> {
    inherit::seal()
        .map_err(|e| Failure::new(SOFTWARE, format!("cannot look at the open descriptors: {e}"), ""))?;
    let path = file.unwrap_or(Path::new(FILE_DEFAULT));
    let decided = check::load(Some(path))?;
    let home = python::home()?;
    let log = open_log(&decided.server)?;
    let backlog = decided.server.backlog;
    let mut listeners = activated(&decided.binds, &log)?;
    let known: Vec<&Listener> = listeners.iter().collect();
    let more = bind(&decided.binds, &known, backlog).map_err(not_bound)?;
    listeners.extend(more);
    listeners.sort_by_key(|l| decided.binds.iter().position(|b| *b == l.bind));
    let settings = settings(decided, listeners, &home, log, path)?;
    run::serve(settings)
}

fn settings(
    decided: Decided,
    mut listeners: Vec<Listener>,
    home: &Home,
    log: Log,
    path: &Path,
) -> Result<Settings, Failure> {
    let names: Vec<&Listener> = listeners.iter().collect();
    let (edge, names) = edge_settings(&decided, &names);
    for (listener, name) in listeners.iter_mut().zip(names) {
        listener.name = name;
    }
    let mut warnings = Vec::new();
    let apps = decided
        .apps
        .iter()
        .map(|app| app_settings(app, home, &mut warnings))
        .collect::<Result<Vec<_>, _>>()?;
    for line in &warnings {
        log.write(Level::Warn, line, &[]);
    }
    let title = path.file_name().map_or_else(|| path.display().to_string(), |n| n.display().to_string());
    Ok(Settings {
        version: VERSION,
        title,
        listeners,
        edge,
        apps,
        log,
        capture_output: decided.server.capture_output,
        pid_file: decided.server.pid_file.clone(),
        reread: Some(Reread(Box::new(rereader(path, decided.server, home.clone())))),
    })
}

/// Reads the file anew, as often as it is asked to.
fn rereader(
    path: &Path,
    begun_with: ServerPart,
    home: Home,
) -> impl FnMut(&[Listener]) -> Result<Next, String> + use<> {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    move |there| {
        let decided = config::load(&path, &|name| std::env::var(name).ok())
            .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n\n"))?;
        let mut warnings: Vec<String> = decided.warnings.iter().map(Problem::line).collect();
        if decided.server != begun_with {
            warnings.push(
                "user, group, log and pid file of `[server]` are those of the start until the next start"
                    .to_owned(),
            );
        }
        let apps = decided
            .apps
            .iter()
            .map(|app| app_settings(app, &home, &mut warnings))
            .collect::<Result<_, _>>()
            .map_err(|failure| failure.to_string())?;
        let known: Vec<&Listener> = there.iter().collect();
        let new =
            bind(&decided.binds, &known, begun_with.backlog).map_err(|error| not_bound(error).to_string())?;
        let in_order: Vec<&Listener> = decided
            .binds
            .iter()
            .filter_map(|bind| there.iter().chain(&new).find(|l| l.bind == *bind))
            .collect();
        let (edge, names) = edge_settings(&decided, &in_order);
        let listeners = decided.binds.iter().cloned().zip(names).collect();
        Ok(Next { listeners, new, edge, apps, warnings })
    }
}

/// The edge's part, and what each listener is called from now on. `listeners`: in the order of the configuration.
fn edge_settings(decided: &Decided, listeners: &[&Listener]) -> (EdgeSettings, Vec<String>) {
    let mut config = decided.edge.clone();
    let mut names = Vec::new();
    for (wanted, listener) in config.listeners.iter_mut().zip(listeners) {
        // The real address: a port may have been chosen by the system.
        let address = listener.name.split("://").last().unwrap_or_default();
        wanted.name = match (&listener.bind, wanted.tls) {
            (Bind::Unix(path), _) => format!("unix:{}", path.display()),
            (_, true) => format!("https://{address}"),
            (_, false) => format!("http://{address}"),
        };
        names.push(wanted.name.clone());
    }
    let edge = EdgeSettings {
        account: rustix::process::geteuid().is_root().then(account::of_edge),
        logs: decided.logs.clone(),
        identities: decided
            .identities
            .iter()
            .map(|i| IdentityFiles { chain: i.chain.clone(), key: i.key.clone(), check: run::check_identity })
            .collect(),
        authorities: decided
            .authorities
            .iter()
            .map(|path| AuthorityFile { path: path.clone(), check: run::check_authorities })
            .collect(),
        ticket_key: decided.server.ticket_key.clone(),
        serves: config.sites.iter().map(|site| told(site, &names)).collect(),
        config: serde_json::to_value(config).expect("the edge's configuration is plain data"),
    };
    (edge, names)
}

/// A line for the start about a site.
fn told(site: &trivet_edge::config::Site, names: &[String]) -> String {
    let hosts = if site.hosts.is_empty() { "all other hosts".to_owned() } else { site.hosts.join(", ") };
    let at: Vec<&str> = site.listeners.iter().filter_map(|&l| names.get(l)).map(String::as_str).collect();
    format!("site `{}`: {hosts} at {}", site.name, at.join(", "))
}

/// What the supervisor needs to know of an app.
fn app_settings(part: &AppPart, home: &Home, warnings: &mut Vec<String>) -> Result<AppSettings, Failure> {
    let account = worker_account((part.user.as_deref(), part.group.as_deref()), ["user", "group"], warnings)?;
    settings_with(part, home, account)
}

/// The same, whose account has been looked up.
pub(crate) fn settings_with(
    part: &AppPart,
    home: &Home,
    account: Option<Account>,
) -> Result<AppSettings, Failure> {
    let mut env: Vec<_> = part.env.iter().map(|(n, v)| (n.into(), v.into())).collect();
    env.extend(home.native.clone().map(|path| ("TRIVET_NATIVE".into(), path)));
    Ok(AppSettings {
        name: part.name.clone(),
        policy: Policy { workers: part.workers, graceful_ms: part.graceful_ms, reload: part.reload },
        worker: WorkerSettings {
            python: part.python.clone(),
            boot: home.boot.clone(),
            env,
            account,
            umask: part.umask,
            start: WorkerStart {
                build: trivet_wire::BUILD.to_owned(),
                worker: 0,
                app: part.wsgi.clone(),
                chdir: text_of(&part.chdir)?,
                pythonpath: part.pythonpath.iter().map(|p| text_of(p)).collect::<Result<_, _>>()?,
                fallback_path: home.packages.clone(),
                threads: part.threads,
                multiprocess: part.workers > 1,
                reload: part.reload,
                check_only: false,
                known_failure: None,
                title: part.title.clone(),
            },
        },
    })
}

/// The account that workers change to. `named`: what a user calls the two.
pub(crate) fn worker_account(
    (user, group): (Option<&str>, Option<&str>),
    named: [&str; 2],
    warnings: &mut Vec<String>,
) -> Result<Option<Account>, Failure> {
    let [by_user, by_group] = named;
    let account = account::resolve(user, group)
        .map_err(|e| Failure::new(CONFIG, e.to_string(), format!("look at `{by_user}` and `{by_group}`")))?;
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    if uid.is_root() {
        if account.as_ref().is_none_or(|a| a.uid == 0) {
            let line = format!("the workers run as root; `{by_user}` names another account for them");
            if !warnings.contains(&line) {
                warnings.push(line);
            }
        }
        return Ok(account);
    }
    match account {
        Some(account) if (account.uid, account.gid) != (uid.as_raw(), gid.as_raw()) => {
            let message = format!(
                "cannot run workers as user `{}`, group {}: that needs root",
                account.name, account.gid
            );
            let hint = format!("start as root, or leave `{by_user}` and `{by_group}` out");
            Err(Failure::new(CONFIG, message, hint))
        }
        _ => Ok(None),
    }
}

pub(crate) fn text_of(path: &Path) -> Result<String, Failure> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        let message = format!("`{}` is not UTF-8", path.display());
        Failure::new(CONFIG, message, "use a folder whose name is text")
    })
}

fn open_log(server: &ServerPart) -> Result<Log, Failure> {
    Log::new(server.log_level.into(), server.log_file.clone()).map_err(|e| {
        let path = server.log_file.clone().unwrap_or_default();
        let message = format!("cannot open the log `{}`: {}", path.display(), plain(&e));
        Failure::new(CONFIG, message, "look at the folder given by `log-file` and its permissions")
    })
}

fn not_bound(error: ListenError) -> Failure {
    let hint =
        error.hint().replace("with `--bind`", "in `listen`").replace("given by `--bind`", "in `listen`");
    Failure::new(CONFIG, error.to_string(), hint)
}

/// Those that are not known yet and that no service manager has passed.
fn bind(binds: &[Bind], known: &[&Listener], backlog: u32) -> Result<Vec<Listener>, ListenError> {
    listen::bind_missing(binds, known, Shape { backlog, umask: 0, owner: None })
}

/// Sockets that a service manager passes stand for the entries of `listen` with their addresses.
fn activated(binds: &[Bind], log: &Log) -> Result<Vec<Listener>, Failure> {
    let passed: Vec<Bind> = listen::activated().into_iter().filter(|b| !binds.contains(b)).collect();
    let mut taken = Vec::new();
    for mut listener in bind(&passed, &[], 0).map_err(not_bound)? {
        let address = listener.name.split("://").last().unwrap_or_default();
        let Some(wanted) = binds.iter().find(|b| b.to_string() == address || b.to_string() == listener.name)
        else {
            let line = format!("no entry of `listen` is for {address}, which the service manager passes");
            log.write(Level::Warn, &line, &[]);
            continue;
        };
        listener.bind = wanted.clone();
        taken.push(listener);
    }
    Ok(taken)
}

/// What needs the machine: whether the addresses can be had and the apps can be imported. A line for each app.
pub(crate) fn try_out(decided: &Decided) -> Result<Vec<String>, Failure> {
    match bind(&decided.binds, &[], decided.server.backlog) {
        Ok(listeners) => listeners.into_iter().for_each(Listener::close),
        // The server that is to take this configuration up may well be running.
        Err(ListenError::InUse { .. }) => {}
        Err(error) => return Err(not_bound(error)),
    }
    let home = python::home()?;
    let mut good = Vec::new();
    for part in &decided.apps {
        let settings = app_settings(part, &home, &mut Vec::new())?;
        match service::check(&settings.worker) {
            Ok(Checked::Good { python, app }) => {
                good.push(format!("app `{}`: `{app}` with Python {python}", part.name));
            }
            Ok(Checked::Bad { why }) => {
                return Err(Failure::new(SOFTWARE, format!("app `{}`: {why}", part.name), ""));
            }
            Err(error) => return Err(Failure::new(CONFIG, error.to_string(), error.hint())),
        }
    }
    Ok(good)
}
