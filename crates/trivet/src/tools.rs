//! `trivet routes`, `trivet openapi`, `trivet db`: what only the app's own Python can say.
//!
//! This process becomes that Python, found as `trivet run` finds it, with `trivet.cli` in it. Our package's folder stands
//! last in its path, so that nothing need be installed there.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use crate::failure::{CONFIG, Failure};
use crate::flags::{DbArgs, DbCommand, OpenapiArgs, Place, RoutesArgs};
use crate::{python, run};

/// Takes the path's first and last entries from its arguments, which `sys.argv` then does not have.
const BEGIN: &str = "import os, sys
from runpy import run_module
first, last = sys.argv[1:3]
del sys.argv[1:3]
here = os.getcwd()
sys.path[:] = [here, *filter(None, first.split(os.pathsep)), *(p for p in sys.path if p not in ('', here))]
if last:
    sys.path.append(last)
run_module('trivet.cli', run_name='__main__', alter_sys=True)
";

pub(crate) fn routes(args: &RoutesArgs) -> Result<ExitCode, Failure> {
    run::check_app_syntax(&args.app)?;
    let mut given: Vec<OsString> = vec!["routes".into(), args.app.clone().into()];
    given.extend(args.unguarded.then(|| "--unguarded".into()));
    given.extend(args.json.then(|| "--json".into()));
    become_python(&args.place, &given)
}

pub(crate) fn openapi(args: &OpenapiArgs) -> Result<ExitCode, Failure> {
    run::check_app_syntax(&args.app)?;
    become_python(&args.place, &["openapi".into(), args.app.clone().into()])
}

pub(crate) fn db(args: &DbArgs) -> Result<ExitCode, Failure> {
    let DbCommand::Migrate(migrate) = &args.command;
    let mut given: Vec<OsString> = vec!["db".into(), "migrate".into()];
    if let Some(url) = &migrate.url {
        given.extend(["--url".into(), url.into()]);
    }
    if let Some(folder) = &migrate.dir {
        given.extend(["--dir".into(), folder.into()]);
    }
    given.extend(migrate.status.then(|| "--status".into()));
    become_python(&migrate.place, &given)
}

/// Returns only if it cannot be done.
fn become_python(place: &Place, args: &[OsString]) -> Result<ExitCode, Failure> {
    // What the user typed relative to where it was typed.
    let python = python::find(place.venv.as_deref())?;
    let home = python::home()?;
    let absolute = place.pythonpath.iter().map(|p| std::path::absolute(p).unwrap_or_else(|_| p.clone()));
    let first = std::env::join_paths(absolute).map_err(|_| {
        Failure::new(CONFIG, "a folder of `--pythonpath` has a colon in its name", "rename it")
    })?;
    run::enter(place.chdir.as_deref())?;
    let mut command = Command::new(&python);
    command.arg("-c").arg(BEGIN).arg(first).arg(home.packages.unwrap_or_default()).args(args);
    command.envs(place.env.iter().map(|(name, value)| (name, value)));
    if let Some(native) = home.native.filter(|_| std::env::var_os("TRIVET_WEB_NATIVE").is_none()) {
        command.env("TRIVET_WEB_NATIVE", native);
    }
    let error = command.exec();
    Err(Failure::new(
        CONFIG,
        format!("cannot start `{}`: {}", python.display(), trivet_supervise::plain(&error)),
        "name another Python's environment with `--venv`",
    ))
}
