//! `static = "django"`: where the app's settings say that `collectstatic` puts its files.

use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use trivet_supervise::process::account;

use super::app::{App, AppPart};
use super::document::Span;
use super::section::Reading;

/// What stands for the folder.
pub(crate) const DJANGO: &str = "django";
/// Settings are imported within seconds, or something hangs.
const TIMEOUT: Duration = Duration::from_secs(20);
const TICK: Duration = Duration::from_millis(10);

/// Prints the folder, or exits with a line of why there is none. The settings module is the one of the environment,
/// else the one that the module of the WSGI application names, which is read, not run.
const SCRIPT: &str = r#"
import importlib.util, os, re, sys
module, folders = sys.argv[1], sys.argv[2:]
sys.path[:0] = folders
if not os.environ.get("DJANGO_SETTINGS_MODULE"):
    try:
        spec = importlib.util.find_spec(module)
    except ImportError as error:
        sys.exit(f"{error}")
    if spec is None or not spec.origin:
        sys.exit(f"No module named '{module}'")
    with open(spec.origin, encoding="utf-8") as file:
        found = re.search(r"DJANGO_SETTINGS_MODULE['\"]\s*(?:,|\]\s*=)\s*['\"]([\w.]+)['\"]", file.read())
    if not found:
        sys.exit("DJANGO_SETTINGS_MODULE is not set")
    os.environ["DJANGO_SETTINGS_MODULE"] = found[1]
try:
    from django.conf import settings
    root = settings.STATIC_ROOT
except Exception as error:
    sys.exit(f"{type(error).__name__}: {error}")
if not root:
    sys.exit("STATIC_ROOT is not set")
sys.stdout.write("\n" + os.path.abspath(root))
"#;

/// The folder, which must be there. `named`: the route's app.
pub(crate) fn static_root(
    named: Option<&str>,
    apps: &[App],
    span: &Span,
    reading: &mut Reading,
) -> Option<PathBuf> {
    let app = if let Some(name) = named {
        &apps.iter().find(|a| a.part.name == name)?.part
    } else if let [app] = apps {
        &app.part
    } else {
        let hint = "name the folder, or add `app = \"…\"`, which then gets what is no file";
        reading.error(span, "`\"django\"` needs an app, and it is not clear which", hint);
        return None;
    };
    // What is wrong with the app has been told.
    if app.python.as_os_str().is_empty() || app.chdir.as_os_str().is_empty() {
        return None;
    }
    static_root_of(app).map_err(|(message, hint)| reading.error(span, message, hint)).ok()
}

/// The folder of this app, which must be there; else what is wrong and what can be done about it.
pub(crate) fn static_root_of(app: &AppPart) -> Result<PathBuf, (String, &'static str)> {
    match ask(app) {
        Ok(folder) if folder.is_dir() => Ok(folder),
        Ok(folder) => Err((
            format!("the STATIC_ROOT of `{}` is not there: `{}`", app.name, folder.display()),
            "run `python manage.py collectstatic` first",
        )),
        Err(why) => Err((
            format!("cannot find the STATIC_ROOT of `{}`: {why}", app.name),
            "set STATIC_ROOT in the settings that DJANGO_SETTINGS_MODULE names, or name the folder",
        )),
    }
}

fn ask(app: &AppPart) -> Result<PathBuf, String> {
    let module = app.wsgi.split(':').next().unwrap_or_default();
    let mut command = Command::new(&app.python);
    command.args(["-c", SCRIPT, module]).arg(&app.chdir).args(&app.pythonpath);
    command.envs(app.env.iter().map(|(name, value)| (name, value))).current_dir(&app.chdir);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // The settings are the app's code: it runs as the app does.
    if rustix::process::geteuid().is_root()
        && let Ok(Some(account)) = account::resolve(app.user.as_deref(), app.group.as_deref())
    {
        command.uid(account.uid).gid(account.gid);
    }
    let mut child = command.spawn().map_err(|e| trivet_supervise::plain(&e))?;
    let until = Instant::now() + TIMEOUT;
    // What it prints is short enough for the pipes; if it is not, it ends at the limit of time.
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < until => std::thread::sleep(TICK),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("the settings were not imported within {} seconds", TIMEOUT.as_secs()));
            }
        }
    };
    let text = |pipe: Option<&mut dyn std::io::Read>| {
        let mut text = Vec::new();
        let _ = pipe.map(|p| p.take(64 << 10).read_to_end(&mut text));
        String::from_utf8_lossy(&text).into_owned()
    };
    if status.success() {
        let out = text(child.stdout.as_mut().map(|p| p as &mut dyn std::io::Read));
        out.rsplit('\n')
            .next()
            .filter(|l| l.starts_with('/'))
            .map(PathBuf::from)
            .ok_or_else(|| "it printed none".to_owned())
    } else {
        let out = text(child.stderr.as_mut().map(|p| p as &mut dyn std::io::Read));
        Err(out.trim().lines().last().unwrap_or("no reason was given").to_owned())
    }
}
