//! `[app.NAME]`: an application and its workers.

use std::path::PathBuf;
use std::sync::OnceLock;

use super::document::{Entry, Span, Value};
use super::edge;
use super::keys;
use super::secret;
use super::section::{Reading, Section};
use super::server::{self, ServerPart};
use crate::failure::Failure;
use crate::{python, run, values};

/// What concerns an app's workers. Where two are equal, the workers may stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AppPart {
    pub(crate) name: String,
    /// `MODULE:APP`.
    pub(crate) wsgi: String,
    pub(crate) python: PathBuf,
    pub(crate) chdir: PathBuf,
    pub(crate) pythonpath: Vec<PathBuf>,
    pub(crate) workers: u32,
    pub(crate) threads: u16,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) user: Option<String>,
    pub(crate) group: Option<String>,
    pub(crate) umask: Option<u32>,
    pub(crate) reload: bool,
    pub(crate) graceful_ms: u64,
    pub(crate) title: String,
}

/// An app while the file is read.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) part: AppPart,
    pub(crate) edge: edge::App,
    pub(crate) name_span: Span,
}

pub(crate) fn read_all(entries: &[Entry], server: &ServerPart, reading: &mut Reading) -> Vec<App> {
    entries
        .iter()
        .filter_map(|entry| {
            name_is_fit(entry, "an app", reading);
            let section = Section::new(&keys::APP, &entry.node, &entry.name_span)?;
            Some(read(&entry.name, section, server, reading))
        })
        .collect()
}

/// Names stand in logs and on the command line.
pub(crate) fn name_is_fit(entry: &Entry, what: &str, reading: &mut Reading) {
    let fit = !entry.name.is_empty()
        && entry.name.len() <= 64
        && entry.name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if !fit {
        let message = format!("`{}` cannot be the name of {what}", entry.name);
        reading.error(&entry.name_span, message, "use up to 64 letters, digits, `-`, `_` and `.`");
    }
}

fn read(name: &str, section: Section<'_>, server: &ServerPart, reading: &mut Reading) -> App {
    let wsgi = section.text("wsgi").map(|(text, span)| {
        if let Err(failure) = run::check_app_syntax(text) {
            let hint = match failure.hint.as_str() {
                hint if hint.starts_with("write") => failure.hint.clone(),
                _ => "write it as `shop.wsgi:application`".to_owned(),
            };
            reading.error(span, failure.message, hint);
        }
        text.to_owned()
    });
    let chdir = match section.text("folder") {
        Some((text, span)) => reading.folder(span, text),
        None => Some(reading.folder.clone()),
    };
    let pythonpath =
        section.texts("pythonpath").into_iter().map(|(text, _)| reading.absolute(text)).collect();
    let umask = section.text("umask").and_then(|(text, span)| match values::umask(text) {
        Ok(mask) => Some(mask),
        Err(hint) => {
            reading.error(span, format!("`{text}` is no mask"), hint);
            None
        }
    });
    let (user, group) = server::account_of(section, reading);
    // A group of the server's belongs to the server's user.
    let (user, group) = if user.is_none() && group.is_none() {
        (server.user.clone(), server.group.clone())
    } else {
        (user.or_else(|| server.user.clone()), group)
    };
    let part = AppPart {
        name: name.to_owned(),
        wsgi: wsgi.unwrap_or_default(),
        python: python_of(section, reading).unwrap_or_default(),
        chdir: chdir.unwrap_or_default(),
        pythonpath,
        workers: match section.get("workers").map(|n| &n.value) {
            Some(Value::Text(text)) => values::workers(text).unwrap_or(1),
            _ => section.whole("workers") as u32,
        },
        threads: section.whole("threads") as u16,
        env: env(section, reading),
        user,
        group,
        umask,
        reload: section.flag("reload"),
        graceful_ms: section.time_ms("graceful-timeout"),
        title: section.text("title").map_or(name, |(text, _)| text).to_owned(),
    };
    let edge = edge::App {
        name: name.to_owned(),
        id: 0,
        request_buffering: !section.flag("stream-requests"),
        timeout_ms: section.time_ms("timeout"),
        queue_length_max: section.whole("queue-length") as u32,
        queue_ms: section.time_ms("queue-timeout"),
    };
    App { part, edge, name_span: section.span.clone() }
}

fn python_of(section: Section<'_>, reading: &mut Reading) -> Option<PathBuf> {
    let (found, span) = match section.text("venv") {
        Some((text, span)) => (python::of_venv(&reading.absolute(text), "from `venv`"), span),
        None if section.has("venv") => return None,
        None => (default_python(), section.span),
    };
    match found {
        Ok(python) => Some(python),
        Err(failure) => {
            let hint = failure.hint.replace("with `--venv`", "with `venv`");
            reading.error(span, failure.message, hint);
            None
        }
    }
}

/// The environment of a process stays as it is, and to ask a version manager takes long.
fn default_python() -> Result<PathBuf, Failure> {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    if let Some(found) = FOUND.get() {
        return Ok(found.clone());
    }
    python::find(None).map(|found| FOUND.get_or_init(|| found).clone())
}

fn env(section: Section<'_>, reading: &mut Reading) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for entry in section.map("env") {
        if entry.name.is_empty() || entry.name.contains(['=', '\0']) {
            let message = format!("`{}` cannot be the name of an environment variable", entry.name);
            reading.error(&entry.name_span, message, "use letters, digits and `_`");
        } else if let Some(value) = secret::text(entry, reading) {
            all.push((entry.name.clone(), value));
        }
    }
    all
}
