//! `[server]`: what holds for everything.

use std::path::PathBuf;

use trivet_supervise::process::account;
use trivet_wire::control::Transport;

use super::document::{Node, Span};
use super::edge;
use super::section::{Reading, Section};
use crate::flags::LogLevel;
use crate::run;
use crate::values::{self, Trust};

/// What concerns the supervisor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerPart {
    /// The account of workers whose app names none.
    pub(crate) user: Option<String>,
    pub(crate) group: Option<String>,
    pub(crate) pid_file: Option<PathBuf>,
    pub(crate) ticket_key: Option<PathBuf>,
    /// `None`: the standard error.
    pub(crate) log_file: Option<PathBuf>,
    pub(crate) log_level: LogLevel,
    pub(crate) capture_output: bool,
    pub(crate) backlog: u32,
}

pub(crate) fn read(section: Option<Section<'_>>, reading: &mut Reading) -> (ServerPart, edge::Server) {
    // Without the table every default holds.
    let empty = Node::empty();
    let nowhere: Span = 0..0;
    let section = section
        .or_else(|| Section::new(&super::keys::SERVER, &empty, &nowhere))
        .expect("an empty table is a table");
    let mut path = |name: &str| {
        let (text, span) = section.text(name)?;
        let path = (text != "-").then(|| reading.absolute(text))?;
        if let Some(folder) = path.parent().filter(|folder| !folder.is_dir()) {
            let message = format!("there is no folder `{}` for the `{name}`", folder.display());
            reading.error(span, message, "make it, or name another");
        }
        Some(path)
    };
    let (pid_file, log_file, ticket_key) = (path("pid-file"), path("log-file"), path("ticket-key"));
    let log_level = match section.word("log-level") {
        "debug" => LogLevel::Debug,
        "warning" => LogLevel::Warning,
        "error" => LogLevel::Error,
        _ => LogLevel::Info,
    };
    let trust = trust(section, reading);
    let (user, group) = account_of(section, reading);
    if section.flag("capture-output") && log_file.is_none() {
        let span = section.entry("capture-output").map_or(section.span, |e| &e.name_span);
        reading.warn(
            span,
            "`capture-output` has no effect without `log-file`",
            "name a log file, or leave it out",
        );
    }
    let part = ServerPart {
        user,
        group,
        pid_file,
        ticket_key,
        log_file,
        log_level,
        capture_output: section.flag("capture-output"),
        backlog: section.whole("backlog") as u32,
    };
    (part, edge_server(section, &trust, log_level == LogLevel::Debug))
}

fn edge_server(section: Section<'_>, trust: &Trust, log_debug: bool) -> edge::Server {
    let heads = run::Heads {
        line: section.size("request-line-max"),
        field: Some(section.size("header-size-max")),
        fields: section.whole("headers-max"),
    };
    edge::Server {
        transport: if section.word("transport") == "socket" { Transport::Socket } else { Transport::Ring },
        keep_alive_ms: section.time_ms("keep-alive"),
        strict_sni: section.flag("strict-sni"),
        log_debug,
        ..run::server_with(&heads, trust)
    }
}

fn trust(section: Section<'_>, reading: &mut Reading) -> Trust {
    let key = "forwarded-allow-ips";
    if section.text(key).is_some() {
        return Trust::All;
    }
    if !section.has(key) {
        return values::trust(run::TRUSTED_DEFAULT).expect("the default is a list of addresses");
    }
    let mut networks = Vec::new();
    for (text, span) in section.texts(key) {
        match values::trust(text) {
            Ok(Trust::These(more)) => networks.extend(more),
            Ok(Trust::All) => return Trust::All,
            _ => reading.error(
                span,
                format!("`{text}` is neither an address nor a network"),
                "write `\"10.0.0.1\"` or `\"10.1.0.0/16\"`",
            ),
        }
    }
    if networks.is_empty() { Trust::Nobody } else { Trust::These(networks) }
}

/// User and group of a table, which this machine must know.
pub(crate) fn account_of(section: Section<'_>, reading: &mut Reading) -> (Option<String>, Option<String>) {
    let mut known = |name: &str| {
        let (text, span) = section.text(name)?;
        let (user, group) = if name == "user" { (Some(text), None) } else { (None, Some(text)) };
        if let Err(error) = account::resolve(user, group) {
            reading.error(span, error.to_string(), "write the name or number of one that this machine has");
        }
        Some(text.to_owned())
    };
    (known("user"), known("group"))
}
