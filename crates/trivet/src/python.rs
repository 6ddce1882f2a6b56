//! Finds the app's Python, and our own private folder with what a worker starts from.

use std::ffi::OsString;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::failure::{CONFIG, Failure, SOFTWARE};

fn is_program(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

/// `from`: what named the folder, for messages.
pub(crate) fn of_venv(folder: &Path, from: &str) -> Result<PathBuf, Failure> {
    // The path as it is: a venv's Python is a link, and finds its packages by the link's name.
    for name in ["python", "python3"] {
        let path = folder.join("bin").join(name);
        if is_program(&path) {
            return std::path::absolute(&path)
                .map_err(|e| Failure::new(CONFIG, format!("cannot use `{}`: {e}", path.display()), ""));
        }
    }
    let message = format!("no Python in the virtual environment `{}` ({from})", folder.display());
    Err(Failure::new(CONFIG, message, format!("make it with `python3 -m venv {}`", folder.display())))
}

/// From `--venv`, `VIRTUAL_ENV` or `python3` in PATH, in this order.
pub(crate) fn find(venv: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(folder) = venv {
        return of_venv(folder, "from `--venv`");
    }
    if let Some(folder) = std::env::var_os("VIRTUAL_ENV").filter(|v| !v.is_empty()) {
        return of_venv(Path::new(&folder), "from VIRTUAL_ENV");
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = ["python3", "python"]
        .iter()
        .flat_map(|name| std::env::split_paths(&path).map(move |folder| folder.join(name)))
        .find(|candidate| is_program(candidate));
    let Some(found) = found else {
        return Err(Failure::new(
            CONFIG,
            "no `python3` in PATH",
            "install Python 3.10 or newer, or name a virtual environment with `--venv`",
        ));
    };
    Ok(behind_script(&found).unwrap_or(found))
}

/// Version managers put a script in PATH that looks up the real Python each time; once is enough.
fn behind_script(path: &Path) -> Option<PathBuf> {
    let mut start = [0; 2];
    std::fs::File::open(path).ok()?.read_exact(&mut start).ok()?;
    if &start != b"#!" {
        return None;
    }
    let output = Command::new(path)
        .args(["-c", "import sys; sys.stdout.write(sys.executable)"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let real = PathBuf::from(String::from_utf8(output.stdout).ok()?);
    (real.is_absolute() && is_program(&real)).then_some(real)
}

/// What a worker is started from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Home {
    pub(crate) boot: PathBuf,
    /// The extension, where it does not lie beside `boot`.
    pub(crate) native: Option<OsString>,
    /// The folder that the public `trivet` package is in.
    pub(crate) packages: Option<String>,
}

/// From TRIVET_HOME (the folder that holds `worker/boot.py`), or relative to the executable: as installed by pip, or
/// in a checkout.
pub(crate) fn home() -> Result<Home, Failure> {
    if let Some(folder) = std::env::var_os("TRIVET_HOME").filter(|v| !v.is_empty()) {
        let folder = PathBuf::from(folder);
        return at(&folder, None).ok_or_else(|| {
            let message = format!("no `worker/boot.py` in `{}` (from TRIVET_HOME)", folder.display());
            Failure::new(SOFTWARE, message, "set TRIVET_HOME to the folder of the installed `trivet` package")
        });
    }
    let executable = std::env::current_exe().unwrap_or_default();
    beside(&executable).ok_or_else(|| {
        let message = format!("the files of the worker are not found from `{}`", executable.display());
        Failure::new(
            SOFTWARE,
            message,
            "install with `pip install trivet`, or set TRIVET_HOME to the `trivet` package",
        )
    })
}

fn at(folder: &Path, native: Option<PathBuf>) -> Option<Home> {
    let folder = std::path::absolute(folder).ok()?;
    let boot = folder.join("worker/boot.py");
    boot.is_file().then(|| Home {
        boot,
        native: native.map(PathBuf::into_os_string),
        packages: folder.parent().and_then(Path::to_str).map(str::to_owned),
    })
}

fn beside(executable: &Path) -> Option<Home> {
    let bin = executable.parent()?;
    let prefix = bin.parent()?;
    if bin.file_name()? == "bin" {
        for lib in ["lib", "lib64"] {
            let mut versions: Vec<PathBuf> = std::fs::read_dir(prefix.join(lib))
                .into_iter()
                .flatten()
                .flatten()
                .map(|e| e.path())
                .filter(|p| p.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b"python3")))
                .collect();
            versions.sort();
            for version in versions.iter().rev() {
                for packages in ["site-packages", "dist-packages"] {
                    if let Some(home) = at(&version.join(packages).join("trivet"), None) {
                        return Some(home);
                    }
                }
            }
        }
    }
    // target/release/trivet, or target/release/deps/trivet-… under test.
    let build = if bin.file_name()? == "deps" { prefix } else { bin };
    let checkout = build.parent()?.parent()?;
    at(&checkout.join("python/trivet"), Some(build.join("libtrivet_native.so")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("trivet-python-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn touch(path: &Path) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "").unwrap();
    }

    #[test]
    fn the_files_of_the_worker_are_found_as_installed_and_in_a_checkout() {
        let root = folder("home");
        let packages = root.join("prefix/lib/python3.11/site-packages");
        touch(&packages.join("trivet/worker/boot.py"));
        let installed = beside(&root.join("prefix/bin/trivet")).unwrap();
        assert_eq!(installed.boot, packages.join("trivet/worker/boot.py"));
        assert_eq!((installed.native, installed.packages), (None, packages.to_str().map(str::to_owned)));

        touch(&root.join("repo/python/trivet/worker/boot.py"));
        let checkout = beside(&root.join("repo/target/release/trivet")).unwrap();
        assert_eq!(checkout.boot, root.join("repo/python/trivet/worker/boot.py"));
        assert_eq!(checkout.native, Some(root.join("repo/target/release/libtrivet_native.so").into()));

        assert_eq!(beside(&root.join("elsewhere/bin/trivet")), None);
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_virtual_environment_without_python_is_told() {
        let failure = find(Some(Path::new("/no/such/venv"))).unwrap_err();
        assert_eq!(
            failure.to_string(),
            "error: no Python in the virtual environment `/no/such/venv` (from `--venv`)\n\
             hint: make it with `python3 -m venv /no/such/venv`"
        );
        assert_eq!(failure.code, CONFIG);
    }
}
