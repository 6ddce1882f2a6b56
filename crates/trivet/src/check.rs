//! `trivet check`: what can be said of a configuration without starting.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use crate::config::{self, Decided, FILE_DEFAULT, Problem, Question, Severity};
use crate::failure::{CONFIG, Failure, SOFTWARE, USAGE};
use crate::flags::CheckArgs;
use crate::serve;

/// Reads a configuration; what is wrong or strange is printed.
pub(crate) fn load(file: Option<&Path>) -> Result<Decided, Failure> {
    let path = file.unwrap_or(Path::new(FILE_DEFAULT));
    let loaded = config::load(path, &|name| std::env::var(name).ok());
    let problems = match &loaded {
        Ok(decided) => &decided.warnings,
        Err(problems) => problems,
    };
    for problem in problems {
        eprintln!("{problem}\n");
    }
    loaded.map_err(|problems| summary(path, &problems))
}

fn summary(path: &Path, problems: &[Problem]) -> Failure {
    let errors = problems.iter().filter(|p| p.severity == Severity::Error).count();
    let message = format!("{} in `{}`", counted(errors, "error"), path.display());
    Failure::new(CONFIG, message, "nothing was started or changed")
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

pub(crate) fn run(args: &CheckArgs) -> Result<ExitCode, Failure> {
    let decided = load(args.file.as_deref())?;
    let mut text = String::new();
    if let Some(url) = &args.explain {
        let question = Question { url, method: &args.method, headers: &args.headers };
        text = config::explain(&decided.edge, &question)
            .map_err(|(message, hint)| Failure::new(USAGE, message, hint))?;
    } else {
        for line in serve::try_out(&decided)? {
            let _ = writeln!(text, "{line}");
        }
        let _ = writeln!(text, "ok: {}", told(&decided));
    }
    std::io::stdout()
        .write_all(text.as_bytes())
        .map_err(|e| Failure::new(SOFTWARE, format!("cannot write: {e}"), ""))?;
    Ok(ExitCode::SUCCESS)
}

/// `2 sites, 1 app, 3 addresses, 1 warning`.
fn told(decided: &Decided) -> String {
    let names: std::collections::BTreeSet<&str> =
        decided.edge.sites.iter().map(|s| s.name.trim_end_matches(" (to https)")).collect();
    let mut parts = vec![counted(names.len(), "site"), counted(decided.apps.len(), "app")];
    let addresses = decided.binds.len();
    parts.push(if addresses == 1 { "1 address".to_owned() } else { format!("{addresses} addresses") });
    if !decided.warnings.is_empty() {
        parts.push(counted(decided.warnings.len(), "warning"));
    }
    parts.join(", ")
}
