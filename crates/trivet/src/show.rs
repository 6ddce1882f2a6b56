//! `trivet status`: finds a running server and shows what it says.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use trivet_supervise::pidfile;
use trivet_supervise::status::{self, Status};

use crate::failure::{CONFIG, Failure, SOFTWARE, USAGE};
use crate::flags::{ReloadArgs, StatusArgs};

/// The text to print.
pub(crate) fn show(args: &StatusArgs) -> Result<String, Failure> {
    let (pid, path) = choose(args.pid.as_deref(), args.server)?;
    let status = status::ask(&path).map_err(|e| {
        Failure::new(
            SOFTWARE,
            format!("server {pid} does not answer: {e}"),
            "look whether it is still running",
        )
    })?;
    if args.json {
        return serde_json::to_string_pretty(&status)
            .map(|text| text + "\n")
            .map_err(|e| Failure::new(SOFTWARE, e.to_string(), ""));
    }
    Ok(table(&status))
}

/// Has a running server reload; waits until it has.
pub(crate) fn reload(args: &ReloadArgs) -> Result<ExitCode, Failure> {
    let (pid, path) = choose(args.pid.as_deref(), None)?;
    let outcome = status::reload(&path, args.app.as_deref()).map_err(|e| {
        let message = format!("server {pid} does not answer: {e}");
        Failure::new(SOFTWARE, message, "look whether it is still running, and at its log")
    })?;
    if outcome.done {
        eprintln!("{}", outcome.message);
        return Ok(ExitCode::SUCCESS);
    }
    // Where it is about the configuration, it has been told with its line.
    eprintln!(
        "{}",
        outcome
            .message
            .strip_prefix("error: ")
            .map_or_else(|| format!("error: {}", outcome.message), |_| outcome.message.clone())
    );
    eprintln!("hint: what runs goes on as it was");
    Ok(ExitCode::from(CONFIG))
}

fn choose(file: Option<&Path>, server: Option<u32>) -> Result<(u32, PathBuf), Failure> {
    let servers = status::servers();
    let wanted = match (file, server) {
        (Some(file), _) => Some(read_pid(file)?),
        (None, server) => server,
    };
    let hint = "it must run on this machine, as the same user";
    match (wanted, servers.as_slice()) {
        (Some(pid), _) => servers
            .into_iter()
            .find(|(p, _)| *p == pid)
            .ok_or_else(|| Failure::new(SOFTWARE, format!("no server with process id {pid}"), hint)),
        (None, []) => Err(Failure::new(SOFTWARE, "no server is running", hint)),
        (None, [one]) => Ok(one.clone()),
        (None, several) => {
            let pids: Vec<String> = several.iter().map(|(pid, _)| pid.to_string()).collect();
            Err(Failure::new(
                USAGE,
                "several servers are running",
                format!("name one of them: {}", pids.join(", ")),
            ))
        }
    }
}

fn read_pid(file: &Path) -> Result<u32, Failure> {
    pidfile::read(file).ok_or_else(|| {
        let message = format!("no process id in `{}`", file.display());
        Failure::new(SOFTWARE, message, "give the file that the server was started with by `--pid`")
    })
}

fn table(status: &Status) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(text, "trivet {} serves `{}`, pid {}", status.version, status.serves, status.pid);
    let _ = writeln!(text, "  at        {}", status.listeners.join(", "));
    let _ = writeln!(text, "  up        {}", span(status.uptime_seconds));
    let _ = writeln!(text, "  restarts  {}", status.restarts);
    let pid = status.edge.pid.map_or_else(|| "not running".to_owned(), |p| format!("pid {p}"));
    let _ = writeln!(text, "  edge      {pid}, generation {}", status.edge.generation);
    match &status.edge.report {
        serde_json::Value::Object(report) => {
            for (key, value) in report.iter().filter(|(_, v)| !v.is_array() && !v.is_object()) {
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                let _ = writeln!(text, "            {key} {value}");
            }
        }
        _ => text.push_str("            does not answer\n"),
    }
    for app in &status.apps {
        let _ = writeln!(text, "  app       `{}`", app.app);
        if app.name != app.app {
            let _ = writeln!(text, "            named `{}`", app.name);
        }
        if let Some(python) = &app.python {
            let _ = writeln!(text, "            python {python}");
        }
        let _ =
            writeln!(text, "            {} workers wanted, {} threads each", app.workers_wanted, app.threads);
        for w in status.workers.iter().filter(|w| w.app == app.name) {
            let up = span(w.uptime_seconds);
            let _ = writeln!(text, "            worker {} pid {} {} for {up}", w.worker, w.pid, w.state);
        }
    }
    for w in status.workers.iter().filter(|w| !status.apps.iter().any(|a| a.name == w.app)) {
        let _ = writeln!(text, "  removed   worker {} pid {} {}", w.worker, w.pid, w.state);
    }
    text
}

fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trivet_supervise::status::{AppStatus, EdgeStatus, WorkerStatus};

    #[test]
    fn the_table_shows_what_an_operator_asks_for() {
        let status = Status {
            version: "0.1.0".into(),
            serves: "shop:app".into(),
            pid: 7,
            uptime_seconds: 3_720,
            listeners: vec!["http://127.0.0.1:8000".into()],
            apps: vec![AppStatus {
                name: "shop:app".into(),
                app: "shop:app".into(),
                python: Some("3.11.2".into()),
                workers_wanted: 1,
                threads: 4,
            }],
            restarts: 2,
            edge: EdgeStatus { pid: Some(8), generation: 3, report: serde_json::json!({"queued": 5}) },
            workers: vec![WorkerStatus {
                app: "shop:app".into(),
                worker: 4,
                pid: 9,
                state: "ready".into(),
                epoch: 1,
                uptime_seconds: 61,
            }],
        };
        assert_eq!(
            table(&status),
            "trivet 0.1.0 serves `shop:app`, pid 7\n  \
             at        http://127.0.0.1:8000\n  \
             up        1 h 2 min\n  \
             restarts  2\n  \
             edge      pid 8, generation 3\n            \
             queued 5\n  \
             app       `shop:app`\n            \
             python 3.11.2\n            \
             1 workers wanted, 4 threads each\n            \
             worker 4 pid 9 ready for 1 min 1 s\n"
        );
    }
}
