//! `trivet.toml`: what is written becomes what is decided, or a list of all that is wrong with it.

mod app;
mod django;
mod document;
mod explain;
mod fields;
mod hosts;
pub(crate) mod keys;
mod listen;
mod problem;
#[cfg(test)]
mod reference;
mod route;
mod secret;
mod section;
mod server;
mod shape;
mod site;
#[cfg(test)]
mod tests;
mod ties;
mod tls;

use std::path::{Path, PathBuf};

use trivet_edge::config as edge;
use trivet_supervise::access_logs::LogTarget;
use trivet_supervise::listen::Bind;

pub(crate) use app::AppPart;
pub(crate) use django::{DJANGO, static_root_of};
pub(crate) use explain::{Question, explain};
pub(crate) use problem::{Place, Problem, Severity};
pub(crate) use server::ServerPart;

pub(crate) use tls::expiry_seconds;

use document::Span;
use section::{Reading, Section};

/// The configuration's name where none is given.
pub(crate) const FILE_DEFAULT: &str = "trivet.toml";
/// A larger file is no configuration.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// What a configuration says, with every default filled in and every path absolute.
#[derive(Debug)]
pub(crate) struct Decided {
    /// Ids and generation are 0.
    pub(crate) edge: edge::Config,
    /// In the order of the edge's listeners.
    pub(crate) binds: Vec<Bind>,
    /// In the order of the edge's logs.
    pub(crate) logs: Vec<LogTarget>,
    /// A site names one by its place.
    pub(crate) identities: Vec<Identity>,
    /// Files with the authorities of clients' certificates; a site names one by its place.
    pub(crate) authorities: Vec<PathBuf>,
    /// In the order of the edge's apps.
    pub(crate) apps: Vec<AppPart>,
    pub(crate) server: ServerPart,
    pub(crate) warnings: Vec<Problem>,
}

/// A certificate with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) chain: PathBuf,
    pub(crate) key: PathBuf,
    /// Those of the sites that use it; empty for one that has all other hosts.
    pub(crate) hosts: Vec<String>,
}

/// Reads a file and what it names. `env`: environment variables.
///
/// With an error in it, all errors and warnings are returned, in the order of the file.
pub(crate) fn load(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Decided, Vec<Problem>> {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let name = path.display().to_string();
    let about_file = |message: String, hint: &str| {
        vec![Problem {
            severity: Severity::Error,
            message,
            hint: hint.to_owned(),
            file: name.clone(),
            key: String::new(),
            place: None,
        }]
    };
    let read = std::fs::metadata(&absolute).and_then(|m| {
        if m.is_dir() {
            return Err(std::io::ErrorKind::IsADirectory.into());
        }
        if m.len() > FILE_BYTES_MAX {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        std::fs::read(&absolute)
    });
    let bytes = read.map_err(|error| {
        let hint = match error.kind() {
            std::io::ErrorKind::NotFound => {
                "name the file, or run without one: `trivet run app:app` serves `app` of `app.py`"
            }
            std::io::ErrorKind::IsADirectory => "name the file in it, as `trivet.toml`",
            _ => "the user that starts the server must be able to read it",
        };
        about_file(format!("cannot read the configuration: {}", trivet_supervise::plain(&error)), hint)
    })?;
    let folder = absolute.parent().unwrap_or(Path::new("/")).to_owned();
    match std::str::from_utf8(&bytes) {
        Ok(text) => read_text(text, &name, folder, env),
        Err(error) => {
            let text = String::from_utf8_lossy(&bytes);
            let at = error.valid_up_to();
            let problem = Problem {
                severity: Severity::Error,
                message: "the file is not UTF-8".to_owned(),
                hint: "save it as UTF-8".to_owned(),
                file: name,
                key: String::new(),
                place: Some(Place::of(&text, &(at..at))),
            };
            Err(vec![problem])
        }
    }
}

fn read_text(
    text: &str,
    name: &str,
    folder: PathBuf,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Decided, Vec<Problem>> {
    // Editors of another system put it there.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reading = Reading::new(folder, text);
    let tree = match document::parse(text, env) {
        Ok((mut tree, wrong)) => {
            shape::settle(&keys::WHOLE_FILE, &mut tree);
            reading.take(wrong);
            Some(tree)
        }
        Err(wrong) => {
            reading.take(wrong);
            None
        }
    };
    let decided = tree.as_ref().and_then(|tree| {
        // What is missing in the file as a whole is told at its end.
        let end: Span = text.trim_end().len()..text.trim_end().len();
        if let document::Value::Table(entries) = &tree.value {
            shape::table(&keys::FILE, entries, &end, &mut reading);
        }
        Section::new(&keys::FILE, tree, &end).map(|file| decide(file, &mut reading))
    });
    #[cfg(test)]
    tests::note(&reading.found);
    let mut found = reading.found;
    found.sort_by_key(|f| f.span.start);
    let problems: Vec<Problem> = found
        .into_iter()
        .map(|f| Problem {
            severity: f.severity,
            message: f.message,
            hint: f.hint,
            file: name.to_owned(),
            key: tree.as_ref().and_then(|tree| tree.key_at(f.span.start)).unwrap_or_default(),
            place: Some(Place::of(text, &f.span)),
        })
        .collect();
    match decided {
        Some(decided) if problems.iter().all(|p| p.severity == Severity::Warning) => {
            Ok(Decided { warnings: problems, ..decided })
        }
        _ => Err(problems),
    }
}

fn decide(file: Section<'_>, reading: &mut Reading) -> Decided {
    let (server, edge_server) = server::read(file.sub("server"), reading);
    let apps = app::read_all(file.map("app"), &server, reading);
    let sites = site::read_all(file.map("site"), &apps, reading);
    let (parts, edge_apps) = apps.into_iter().map(|a| (a.part, a.edge)).unzip();
    Decided {
        edge: edge::Config {
            server: edge_server,
            listeners: sites.listeners.iter().map(|l| l.edge.clone()).collect(),
            logs: sites.logs.iter().map(|l| l.edge.clone()).collect(),
            apps: edge_apps,
            sites: sites.all,
        },
        binds: sites.listeners.into_iter().map(|l| l.bind).collect(),
        logs: sites.logs.into_iter().map(|l| l.target).collect(),
        identities: sites.identities,
        authorities: sites.authorities,
        apps: parts,
        server,
        warnings: Vec::new(),
    }
}
