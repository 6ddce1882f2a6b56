//! The supervisor's log: lines of the form that all processes share, to the standard error or a file.

use std::fs::File;
use std::io::{IsTerminal as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use trivet_wire::log::{now_ms, push_field, timestamp};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

impl Level {
    pub fn name(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// One line, with its end. `colour`: for a terminal.
pub fn line(
    since_epoch_ms: u64,
    level: Level,
    process: &str,
    pid: u32,
    message: &str,
    fields: &[(&str, String)],
    colour: bool,
) -> String {
    let time = timestamp(since_epoch_ms);
    let name = level.name();
    let mut line = if colour {
        let code = match level {
            Level::Debug => "2",
            Level::Info => "32",
            Level::Warn => "33",
            Level::Error => "31",
        };
        format!("\x1b[2m{time}\x1b[0m \x1b[{code}m{name}\x1b[0m {process}[{pid}] {message}")
    } else {
        format!("{time} {name} {process}[{pid}] {message}")
    };
    for (key, value) in fields {
        push_field(&mut line, key, value);
    }
    line.push('\n');
    line
}

/// The supervisor's log: the standard error or a file that can be opened anew.
#[derive(Debug)]
pub struct Log {
    level: Level,
    file: Option<(PathBuf, File)>,
    colour: bool,
}

impl Log {
    pub fn new(level: Level, path: Option<PathBuf>) -> std::io::Result<Self> {
        let colour =
            path.is_none() && std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let file = match path {
            Some(path) => Some((path.clone(), append(&path)?)),
            None => None,
        };
        Ok(Self { level, file, colour })
    }

    /// After the file was moved away: a new one of the same name.
    pub fn reopen(&mut self) {
        let Some((path, file)) = &mut self.file else { return };
        match append(path) {
            Ok(new) => *file = new,
            Err(error) => {
                let fields = [("path", path.display().to_string()), ("error", error.to_string())];
                self.write(Level::Error, "log not opened anew; going on with the old file", &fields);
            }
        }
    }

    pub fn write(&self, level: Level, message: &str, fields: &[(&str, String)]) {
        if level < self.level {
            return;
        }
        let line = line(now_ms(), level, "supervisor", std::process::id(), message, fields, self.colour);
        self.raw(line.as_bytes());
    }

    /// Lines of the children, as they are.
    pub fn raw(&self, bytes: &[u8]) {
        // There is no other place to tell that a log cannot be written.
        let _ = match &self.file {
            Some((_, file)) => (&*file).write_all(bytes),
            None => std::io::stderr().write_all(bytes),
        };
    }

    pub fn file(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(|(_, file)| file.as_fd())
    }
}

pub fn append(path: &std::path::Path) -> std::io::Result<File> {
    File::options().create(true).append(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_one_form_and_never_a_control_character_of_a_value() {
        let fields = [("worker", "3".to_owned()), ("why", "a b\n\x1b\"".to_owned()), ("none", String::new())];
        assert_eq!(
            line(1_795_268_165_042, Level::Warn, "supervisor", 7, "worker died", &fields, false),
            "2026-11-21T13:36:05.042Z warn supervisor[7] worker died worker=3 \
             why=\"a b\\n\\u{1b}\\\"\" none=\"\"\n"
        );
    }
}
