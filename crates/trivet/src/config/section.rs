//! Values of one table, by the list of its keys; and what is found on the way.

use std::path::{Path, PathBuf};

use super::document::{Entry, Node, Span, Value, Wrong};
use super::keys::{Default, Kind, Table};
use super::problem::Severity;
use crate::values;

#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) severity: Severity,
    pub(crate) span: Span,
    pub(crate) message: String,
    pub(crate) hint: String,
    /// Which line of ours found it.
    #[cfg(test)]
    pub(crate) by: &'static std::panic::Location<'static>,
}

/// What holds while one file is read.
#[derive(Debug)]
pub(crate) struct Reading {
    /// Relative paths are relative to it.
    pub(crate) folder: PathBuf,
    pub(crate) found: Vec<Found>,
    /// Where lines end.
    line_ends: Vec<usize>,
}

impl Reading {
    pub(crate) fn new(folder: PathBuf, text: &str) -> Self {
        let line_ends = text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at).collect();
        Self { folder, found: Vec::new(), line_ends }
    }

    pub(crate) fn take(&mut self, all: Vec<Wrong>) {
        for wrong in all {
            self.error(&wrong.span, wrong.message, wrong.hint);
        }
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.found.iter().any(|f| f.severity == Severity::Error)
    }

    pub(crate) fn line_of(&self, span: &Span) -> String {
        format!("at line {}", self.line_ends.partition_point(|end| *end < span.start) + 1)
    }

    #[cfg_attr(test, track_caller)]
    pub(crate) fn error(&mut self, span: &Span, message: impl Into<String>, hint: impl Into<String>) {
        self.found.push(Found {
            severity: Severity::Error,
            span: span.clone(),
            message: message.into(),
            hint: hint.into(),
            #[cfg(test)]
            by: std::panic::Location::caller(),
        });
    }

    #[cfg_attr(test, track_caller)]
    pub(crate) fn warn(&mut self, span: &Span, message: impl Into<String>, hint: impl Into<String>) {
        self.found.push(Found {
            severity: Severity::Warning,
            span: span.clone(),
            message: message.into(),
            hint: hint.into(),
            #[cfg(test)]
            by: std::panic::Location::caller(),
        });
    }

    pub(crate) fn absolute(&self, path: &str) -> PathBuf {
        let path = self.folder.join(path);
        std::path::absolute(&path).unwrap_or(path)
    }

    /// The content of a small file. `what`: as in "the page".
    pub(crate) fn read(&mut self, span: &Span, what: &str, path: &Path, bytes_max: u64) -> Option<Vec<u8>> {
        let shown = path.display();
        let read = std::fs::metadata(path).and_then(|m| {
            if m.is_dir() {
                return Err(std::io::ErrorKind::IsADirectory.into());
            }
            // Nothing is read of a pipe or device, which may never end.
            if m.len() > bytes_max || !m.is_file() {
                return Ok(None);
            }
            std::fs::read(path).map(Some)
        });
        match read {
            Ok(Some(bytes)) if bytes.len() as u64 <= bytes_max => Some(bytes),
            Ok(_) => {
                let hint = "name an ordinary, small file";
                self.error(span, format!("{what} `{shown}` is larger than {} KiB", bytes_max >> 10), hint);
                None
            }
            Err(error) => {
                let hint = match error.kind() {
                    std::io::ErrorKind::NotFound => "a relative path begins in the folder of this file",
                    std::io::ErrorKind::PermissionDenied => {
                        "the user that starts the server must be able to read it"
                    }
                    _ => "name a file that can be read",
                };
                let why = trivet_supervise::plain(&error);
                self.error(span, format!("cannot read {what} `{shown}`: {why}"), hint);
                None
            }
        }
    }

    /// A folder that must be there.
    pub(crate) fn folder(&mut self, span: &Span, text: &str) -> Option<PathBuf> {
        let path = self.absolute(text);
        match std::fs::metadata(&path) {
            Ok(m) if m.is_dir() => Some(path),
            Ok(_) => {
                let message = format!("`{}` is a file, not a folder", path.display());
                self.error(span, message, "name the folder that it is in");
                None
            }
            Err(error) => {
                let why = trivet_supervise::plain(&error);
                let message = format!("cannot find the folder `{}`: {why}", path.display());
                self.error(span, message, "a relative path begins in the folder of this file");
                None
            }
        }
    }
}

/// A table of the file whose shape has been checked. What is missing or of the wrong kind counts as not there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Section<'a> {
    table: &'static Table,
    entries: &'a [Entry],
    /// Where the table is named.
    pub(crate) span: &'a Span,
}

impl<'a> Section<'a> {
    pub(crate) fn new(table: &'static Table, node: &'a Node, span: &'a Span) -> Option<Self> {
        match &node.value {
            Value::Table(entries) => Some(Self { table, entries, span }),
            _ => None,
        }
    }

    pub(crate) fn entry(&self, name: &str) -> Option<&'a Entry> {
        debug_assert!(self.table.key(name).is_some(), "{} has no key {name}", self.table.title);
        self.entries.iter().find(|e| e.name == name)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&'a Node> {
        self.entry(name).map(|e| &e.node)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.entry(name).is_some()
    }

    pub(crate) fn text(&self, name: &str) -> Option<(&'a str, &'a Span)> {
        let node = self.get(name)?;
        text_of(node).map(|text| (text, &node.span))
    }

    /// The word that is written, or the default.
    pub(crate) fn word(&self, name: &str) -> &'a str {
        self.text(name).map_or_else(|| self.default(name), |(text, _)| text)
    }

    pub(crate) fn flag(&self, name: &str) -> bool {
        match self.get(name).map(|n| &n.value) {
            Some(Value::Bool(is)) => *is,
            _ => self.default(name) == "true",
        }
    }

    pub(crate) fn whole(&self, name: &str) -> u64 {
        match self.get(name).map(|n| &n.value) {
            Some(Value::Whole(n)) => u64::try_from(*n).unwrap_or(0),
            _ => self.default(name).parse().unwrap_or(0),
        }
    }

    pub(crate) fn time_ms(&self, name: &str) -> u64 {
        let written = self.get(name).and_then(time_ms);
        written.or_else(|| Some(values::time(self.default(name)).ok()?.as_millis() as u64)).unwrap_or(0)
    }

    pub(crate) fn size(&self, name: &str) -> u64 {
        let written = match self.get(name).map(|n| &n.value) {
            Some(Value::Text(text)) => values::size(text).ok(),
            Some(Value::Whole(n)) => u64::try_from(*n).ok(),
            _ => None,
        };
        written.or_else(|| values::size(self.default(name)).ok()).unwrap_or(0)
    }

    pub(crate) fn texts(&self, name: &str) -> Vec<(&'a str, &'a Span)> {
        match self.get(name).map(|n| &n.value) {
            Some(Value::List(list)) => list.iter().filter_map(|n| Some((text_of(n)?, &n.span))).collect(),
            _ => Vec::new(),
        }
    }

    pub(crate) fn list(&self, name: &str) -> &'a [Node] {
        match self.get(name).map(|n| &n.value) {
            Some(Value::List(list)) => list,
            _ => &[],
        }
    }

    /// Whether there is a key of a later version.
    pub(crate) fn has_later(&self) -> bool {
        self.entries.iter().any(|e| self.table.later.iter().any(|(name, _)| *name == e.name))
    }

    /// The entries of a table with keys of the user's.
    pub(crate) fn map(&self, name: &str) -> &'a [Entry] {
        match self.get(name).map(|n| &n.value) {
            Some(Value::Table(entries)) => entries,
            _ => &[],
        }
    }

    /// A table within, if a table stands there.
    pub(crate) fn sub(&self, name: &str) -> Option<Section<'a>> {
        let entry = self.entry(name)?;
        let table = table_of(&self.table.key(name)?.kind)?;
        Section::new(table, &entry.node, &entry.name_span)
    }

    fn default(&self, name: &str) -> &'static str {
        match self.table.key(name).map(|key| &key.default) {
            Some(Default::Is(text)) => text,
            _ => "",
        }
    }
}

fn table_of(kind: &'static Kind) -> Option<&'static Table> {
    match kind {
        Kind::Table(table) => Some(table),
        Kind::Either(kinds) => kinds.iter().find_map(table_of),
        _ => None,
    }
}

pub(crate) fn text_of(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

pub(crate) fn time_ms(node: &Node) -> Option<u64> {
    let text = match &node.value {
        Value::Text(text) => text.clone(),
        Value::Whole(n) => n.to_string(),
        Value::Float(n) => n.to_string(),
        _ => return None,
    };
    Some(values::time(&text).ok()?.as_millis() as u64)
}
