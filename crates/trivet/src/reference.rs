//! The reference page of `trivet run`, made from the flags themselves: the test fails when it is stale.

use std::fmt::Write as _;
use std::path::Path;

use crate::{command, gunicorn};

const HEAD: &str = "# `trivet run`

Serves a WSGI application.

<!-- made from the doc comments in crates/trivet/src/flags.rs: TRIVET_BLESS=1 cargo test -p trivet writes it anew -->

    trivet run MODULE:APP [flags]

Times are written as `30s`, `500ms`, `2m` or a number of seconds; sizes as `64MiB`, `512k` or a number of bytes.
A flag given twice counts as the last one says; `--bind` and `--env` add up. Flags in `GUNICORN_CMD_ARGS` stand before
those of the command line, whose lists replace theirs.
";

const TAIL: &str = "
## Signals

| to the supervisor | what it does |
|---|---|
| SIGTERM, SIGINT | stops: requests may finish within `--graceful-timeout`, then the rest is killed; a second one stops at once |
| SIGQUIT | stops at once |
| SIGHUP | replaces the workers one by one, without losing a request; if the app cannot be loaded, the running ones stay |
| SIGTTIN, SIGTTOU | one worker more, one fewer |
| SIGUSR1 | opens the log files anew, after they were moved away |

Signals are for the supervisor: the process whose id `--pid` writes. Whichever other process dies is replaced.

## Exit codes

| code | meaning |
|---|---|
| 0 | it was stopped, or `--check-config` found nothing wrong |
| 64 | the command line is wrong |
| 70 | the application cannot be loaded |
| 78 | what the flags name cannot be used: an address, a file, a user, a Python |

## Environment

| variable | meaning |
|---|---|
| `PORT` | the default of `--bind` becomes `0.0.0.0:$PORT` |
| `WEB_CONCURRENCY` | the default of `--workers` |
| `FORWARDED_ALLOW_IPS` | the default of `--forwarded-allow-ips` |
| `VIRTUAL_ENV` | the default of `--venv` |
| `GUNICORN_CMD_ARGS` | further flags |
| `LISTEN_FDS`, `LISTEN_PID` | sockets of a service manager, used instead of `--bind` |
| `NOTIFY_SOCKET` | where a service manager (systemd's `Type=notify`) is told of start, reload and stop |
| `NO_COLOR` | no colour on a terminal |
| `TRIVET_HOME` | the folder of the `trivet` package, where it is not found beside the binary |
| `TMPDIR` | where large request bodies are kept while they arrive; `/var/tmp` if it is not set |

## Flags of Gunicorn's that are not here

They are recognised. Those that change nothing are passed over with one line of warning; with the others it does not
start.

| flag | |
|---|---|
";

fn page() -> String {
    let command = command();
    let run = command.find_subcommand("run").expect("there is such a command");
    let mut page = HEAD.to_owned();
    let mut heading = "Application".to_owned();
    let _ = write!(page, "\n## {heading}\n");
    for arg in run.get_arguments().filter(|a| !a.is_hide_set() && a.get_id() != "help") {
        let of_arg = arg.get_help_heading().unwrap_or(&heading).to_owned();
        if of_arg != heading {
            heading = of_arg;
            let _ = write!(page, "\n## {heading}\n");
        }
        let mut names = Vec::new();
        names.extend(arg.get_short().map(|s| format!("-{s}")));
        names.extend(arg.get_long().map(|l| format!("--{l}")));
        let value =
            arg.get_action().takes_values().then(|| arg.get_value_names()?.first().map(ToString::to_string));
        let title = match (names.is_empty(), value.flatten()) {
            (true, value) => value.unwrap_or_default(),
            (false, None) => names.join(", "),
            (false, Some(value)) => format!("{} {value}", names.join(", ")),
        };
        let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
        // A single paragraph has lost its full stop.
        let stop = if help.ends_with(['.', ']']) { "" } else { "." };
        let _ = write!(page, "\n### `{title}`\n\n{}{stop}\n", help.replace(" [", "\n["));
        if arg.get_action().takes_values() && !arg.get_default_values().is_empty() {
            let defaults: Vec<_> = arg.get_default_values().iter().map(|v| v.to_string_lossy()).collect();
            let _ = writeln!(page, "[default: {}]", defaults.join(", "));
        }
        let choices = arg.get_possible_values();
        if arg.get_action().takes_values() && !choices.is_empty() {
            let names: Vec<_> = choices.iter().map(|c| c.get_name().to_owned()).collect();
            let _ = writeln!(page, "[one of: {}]", names.join(", "));
        }
    }
    page.push_str(TAIL);
    for (flag, refused, text) in gunicorn::table() {
        let verdict = if refused { "refused: " } else { "" };
        let _ = writeln!(page, "| `--{flag}` | {verdict}{text} |");
    }
    page
}

#[test]
fn the_reference_page_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/run.md");
    let page = page();
    if std::env::var_os("TRIVET_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().expect("it lies in a folder")).expect("the folder can be made");
        std::fs::write(&path, &page).expect("the page can be written");
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        stored == page,
        "docs/reference/run.md is stale: TRIVET_BLESS=1 cargo test -p trivet writes it anew"
    );
}
