//! The binary: command line, wiring of the processes.

mod check;
mod config;
mod dev;
mod failure;
mod flags;
mod gunicorn;
mod python;
#[cfg(test)]
mod reference;
mod run;
mod serve;
mod show;
mod tools;
mod values;

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, FromArgMatches as _};

use crate::failure::{Failure, SOFTWARE, USAGE};
use crate::flags::{Cli, Command, Run};

fn main() -> ExitCode {
    // A panic ends the process, whichever thread it is in: its supervisor starts another.
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panicked| {
        tell(panicked);
        std::process::abort();
    }));
    let args: Vec<OsString> = std::env::args_os().collect();
    // The second life of this binary: the supervisor starts it so.
    if args.len() == 2 && args[1] == "edge" {
        return edge();
    }
    match dispatch(args) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::from(failure.code)
        }
    }
}

fn edge() -> ExitCode {
    if let Ok(channel) = trivet_supervise::process::inherit::channel() {
        // It was executed by way of /proc, and would be called `exe`.
        let _ = rustix::thread::set_name(c"trivet-edge");
        return trivet_edge::run(channel);
    }
    let failure = Failure::new(USAGE, "`trivet edge` is for the supervisor to start", "use `trivet run`");
    eprintln!("{failure}");
    ExitCode::from(USAGE)
}

/// The whole command line, foreign flags included.
fn command() -> clap::Command {
    // A stream of the old code is cut soon after the new one serves, so that the page's script connects to the new one.
    let soon =
        |command: clap::Command| command.mut_arg("graceful_timeout", |arg| arg.default_value(dev::GRACEFUL));
    Cli::command()
        .mut_subcommand("run", gunicorn::recognise)
        .mut_subcommand("dev", |command| soon(gunicorn::recognise(command)))
}

fn dispatch(args: Vec<OsString>) -> Result<ExitCode, Failure> {
    let Some((cli, warnings)) = parse(args, std::env::var("GUNICORN_CMD_ARGS").ok().as_deref())? else {
        return Ok(ExitCode::SUCCESS);
    };
    match cli.command {
        Command::Run(flags) => run::run(*flags, warnings),
        Command::Dev(args) => dev::dev(*args, warnings),
        Command::Serve(args) => serve::serve(args.file.as_deref()),
        Command::Check(args) => check::run(&args),
        Command::Reload(args) => show::reload(&args),
        Command::Routes(args) => tools::routes(&args),
        Command::Openapi(args) => tools::openapi(&args),
        Command::Db(args) => tools::db(&args),
        Command::Status(args) => {
            let text = show::show(&args)?;
            std::io::stdout()
                .write_all(text.as_bytes())
                .map_err(|e| Failure::new(SOFTWARE, format!("cannot write: {e}"), ""))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The decided command line and lines of warning; `None`: help or version was asked for and is printed.
/// `earlier`: flags from the environment, which stand before those of the command line.
fn parse(args: Vec<OsString>, earlier: Option<&str>) -> Result<Option<(Cli, Vec<String>)>, Failure> {
    let typed = match command().try_get_matches_from(&args) {
        Ok(matches) => matches,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            // Nobody is left to tell if the reader has gone.
            let _ = error.print();
            return Ok(None);
        }
        Err(error) => return Err(explain(&error)),
    };
    let mut cli = decided(&typed)?;
    let mut matches = typed;
    if let (Command::Run(typed), Some(earlier)) = (&mut cli.command, earlier) {
        let mut all = args[..2].to_vec();
        all.extend(gunicorn::split(earlier)?.into_iter().map(OsString::from));
        all.extend_from_slice(&args[2..]);
        matches = command().try_get_matches_from(&all).map_err(|e| {
            let failure = explain(&e);
            Failure { message: format!("{} (with GUNICORN_CMD_ARGS)", failure.message), ..failure }
        })?;
        let mut both = decided(&matches)?;
        if let Command::Run(both) = &mut both.command {
            prefer_typed(both, typed);
        }
        cli = both;
    }
    let warnings = match matches.subcommand() {
        Some(("run" | "dev", run)) => gunicorn::judge(run)?,
        _ => Vec::new(),
    };
    Ok(Some((cli, warnings)))
}

/// Lists of the command line replace those of the environment, as with Gunicorn.
fn prefer_typed(both: &mut Run, typed: &mut Run) {
    if !typed.bind.is_empty() {
        both.bind = std::mem::take(&mut typed.bind);
    }
    if !typed.env.is_empty() {
        both.env = std::mem::take(&mut typed.env);
    }
    if !typed.pythonpath.is_empty() {
        both.pythonpath = std::mem::take(&mut typed.pythonpath);
    }
}

fn decided(matches: &clap::ArgMatches) -> Result<Cli, Failure> {
    Cli::from_arg_matches(matches).map_err(|e| explain(&e))
}

/// A wrong command line in our own words.
fn explain(error: &clap::Error) -> Failure {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => texts.first().cloned(),
        _ => None,
    };
    let arg = context(ContextKind::InvalidArg);
    let see = "`trivet run --help` lists all flags".to_owned();
    let (message, hint) = match (error.kind(), arg) {
        (ErrorKind::UnknownArgument, Some(arg)) if !arg.starts_with('-') => (
            format!("`{arg}` is one argument too many"),
            "an application is named once, as MODULE:APP".to_owned(),
        ),
        (ErrorKind::UnknownArgument, Some(arg)) => {
            let similar = context(ContextKind::SuggestedArg).map(|flag| format!("did you mean `{flag}`?"));
            (format!("unknown flag `{arg}`"), similar.unwrap_or(see))
        }
        (ErrorKind::MissingRequiredArgument, Some(arg)) if arg.starts_with("<MODULE") => (
            "no application given".to_owned(),
            "name one as MODULE:APP: `app:app` is `app` of `app.py`".to_owned(),
        ),
        (ErrorKind::MissingRequiredArgument, Some(arg)) => (
            format!("`{}` is missing", arg.split(' ').next().unwrap_or(&arg)),
            format!("write it as `{arg}`"),
        ),
        (ErrorKind::ValueValidation | ErrorKind::InvalidValue, Some(arg)) => {
            let value = context(ContextKind::InvalidValue).unwrap_or_default();
            let flag = arg.split(' ').next().unwrap_or(&arg).to_owned();
            if value.is_empty() {
                (format!("`{flag}` needs a value"), format!("write it as `{arg}`"))
            } else {
                let choices = match error.get(ContextKind::ValidValue) {
                    Some(ContextValue::Strings(all)) if !all.is_empty() => {
                        format!("one of {}", all.join(", "))
                    }
                    _ => std::error::Error::source(error).map_or(see, ToString::to_string),
                };
                (format!("`{value}` is not a fit value for `{flag}`"), choices)
            }
        }
        (ErrorKind::ArgumentConflict, Some(arg)) => {
            (format!("`{arg}` cannot stand beside another of these flags"), "leave one out".to_owned())
        }
        (ErrorKind::InvalidSubcommand, _) => {
            let name = context(ContextKind::InvalidSubcommand).unwrap_or_default();
            (format!("unknown command `{name}`"), format!("to serve an application: `trivet run {name}`"))
        }
        (ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand, _) => (
            "no command given".to_owned(),
            "`trivet run app:app` serves `app` of `app.py`; see `trivet --help`".to_owned(),
        ),
        _ => {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
            (line, see)
        }
    };
    Failure::new(USAGE, message, hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str, earlier: Option<&str>) -> Result<(Run, Vec<String>), Failure> {
        let args = ["trivet"].into_iter().chain(line.split_whitespace()).map(OsString::from).collect();
        let (cli, warnings) = parse(args, earlier)?.expect("no help asked for");
        match cli.command {
            Command::Run(run) => Ok((*run, warnings)),
            _ => panic!("no `run`"),
        }
    }

    fn told(line: &str) -> String {
        parsed(line, None).unwrap_err().to_string()
    }

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn a_later_flag_wins_and_the_command_line_wins_over_the_environment() {
        let (run, _) = parsed("run a:b -w 2 -w 3 -b :1", Some("-w 9 --threads 4 -b :2 -e A=1")).unwrap();
        assert_eq!((run.workers, run.threads), (Some(3), 4));
        assert_eq!(run.bind, [":1".parse().unwrap()]);
        assert_eq!(run.env, [("A".to_owned(), "1".to_owned())]);
        let (run, _) = parsed("run a:b -b :1 -b :2", None).unwrap();
        assert_eq!(run.bind.len(), 2);
    }

    #[test]
    fn a_wrong_command_line_is_told_in_one_message_with_a_hint() {
        for (line, text) in [
            (
                "run a:b --workers -1",
                "error: `-1` is not a fit value for `--workers`\nhint: write a number from 1 to 1000, or `auto`",
            ),
            ("run a:b --tls-cert x", "error: `--tls-key` is missing\nhint: write it as `--tls-key <FILE>`"),
            ("run a:b --wokers 2", "error: unknown flag `--wokers`\nhint: did you mean `--workers`?"),
            (
                "run a:b -w x",
                "error: `x` is not a fit value for `--workers`\nhint: write a number from 1 to 1000, or `auto`",
            ),
            (
                "run a:b --timeout soon",
                "error: `soon` is not a fit value for `--timeout`\nhint: write it as `30s`, `500ms`, `2m` or a number of seconds",
            ),
            ("run a:b -b a:b", "error: `a:b` is not a fit value for `--bind`\nhint: `b` is not a port"),
            (
                "run a:b --log-level loud",
                "error: `loud` is not a fit value for `--log-level`\nhint: one of debug, info, warning, error, critical",
            ),
            (
                "run a:b c:d",
                "error: `c:d` is one argument too many\nhint: an application is named once, as MODULE:APP",
            ),
            (
                "app:app",
                "error: unknown command `app:app`\nhint: to serve an application: `trivet run app:app`",
            ),
            (
                "run a:b -k gevent",
                "error: `--worker-class` has only `sync` and `gthread` yet: others come later\n\
                 hint: leave `--worker-class` out to start without it",
            ),
            (
                "run a:b -D",
                "error: `--daemon` never comes: let a service manager start it, see docs/trivet.service\n\
                 hint: leave `--daemon` out to start without it",
            ),
        ] {
            assert_eq!(told(line), text, "{line}");
            assert_eq!(parsed(line, None).unwrap_err().code, USAGE);
        }
        let told = parsed("run a:b", Some("--nonsense")).unwrap_err().to_string();
        assert!(
            told.starts_with("error: unknown flag `--nonsense` (with GUNICORN_CMD_ARGS)\nhint: "),
            "{told}"
        );
    }

    #[test]
    fn a_flag_without_effect_is_one_line_of_warning() {
        let (_, warnings) = parsed("run a:b --preload -k gthread --max-requests 9", None).unwrap();
        assert_eq!(
            warnings,
            [
                "`--max-requests` has no effect yet: recycling of workers comes later",
                "`--preload` has no effect yet: each worker imports the app by itself",
            ]
        );
    }
}
