//! The command line. The doc comments here are what `--help` and the reference page say.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PathBufValueParser, TypedValueParser as _};
use clap::{Args, Parser, Subcommand, ValueEnum};
use trivet_edge::config::LogFormat;
use trivet_supervise::listen::Bind;
use trivet_supervise::log::Level;
use trivet_wire::control::Transport;

use crate::values::{self, Trust};

/// A web and application server for Python.
#[derive(Debug, Parser)]
#[command(name = "trivet", version, disable_help_subcommand = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(Box<Run>),
    Dev(Box<Dev>),
    Serve(ServeArgs),
    Check(CheckArgs),
    Reload(ReloadArgs),
    Status(StatusArgs),
    Routes(RoutesArgs),
    Openapi(OpenapiArgs),
    Db(DbArgs),
}

/// Which Python is asked, and where.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// The virtual environment whose Python is asked. [default: $VIRTUAL_ENV, else `python3` in PATH]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) venv: Option<PathBuf>,

    /// The folder to work in; it stands first in `sys.path`. [default: the current one]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) chdir: Option<PathBuf>,

    /// Further folders for `sys.path`, separated by commas.
    #[arg(long, value_name = "FOLDERS", value_delimiter = ',')]
    pub(crate) pythonpath: Vec<PathBuf>,

    /// Sets an environment variable: `NAME=VALUE`; may be given several times.
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = values::pair)]
    pub(crate) env: Vec<(String, String)>,
}

/// Shows the routes of a `trivet.App`: method, template, handler and interceptors.
#[derive(Debug, Args)]
pub(crate) struct RoutesArgs {
    /// The application, as with `trivet run`.
    #[arg(value_name = "MODULE:APP")]
    pub(crate) app: String,

    /// Only the routes that no guard stands before and that are not marked `public=True`; exit code 1 if there are any.
    #[arg(long)]
    pub(crate) unguarded: bool,

    /// Prints them as JSON.
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) place: Place,
}

/// Prints the OpenAPI document of a `trivet.App`, made from its handlers' signatures.
#[derive(Debug, Args)]
pub(crate) struct OpenapiArgs {
    /// The application, as with `trivet run`.
    #[arg(value_name = "MODULE:APP")]
    pub(crate) app: String,

    #[command(flatten)]
    pub(crate) place: Place,
}

/// Looks after an app's database.
#[derive(Debug, Args)]
pub(crate) struct DbArgs {
    #[command(subcommand)]
    pub(crate) command: DbCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DbCommand {
    Migrate(MigrateArgs),
}

/// Applies the migrations that are pending, each once and in order.
#[derive(Debug, Args)]
pub(crate) struct MigrateArgs {
    /// The database. [default: $TRIVET_DB, else the file app.sqlite3]
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,

    /// The folder of the files `0001_name.sql`. [default: migrations]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) dir: Option<PathBuf>,

    /// Only lists them; exit code 1 if one is pending.
    #[arg(long)]
    pub(crate) status: bool,

    #[command(flatten)]
    pub(crate) place: Place,
}

/// Serves the sites and apps of a configuration file.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// The configuration. [default: trivet.toml]
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

/// Checks a configuration file, or says which site and route an address leads to.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The configuration. [default: trivet.toml]
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,

    /// Says which site and which route a request for this address is for, and why.
    #[arg(long, value_name = "URL")]
    pub(crate) explain: Option<String>,

    /// With `--explain`: the method of the request.
    #[arg(long, value_name = "METHOD", default_value = "GET", requires = "explain")]
    pub(crate) method: String,

    /// With `--explain`: a header field of the request; may be given several times.
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = values::header, requires = "explain")]
    pub(crate) headers: Vec<(String, String)>,
}

/// Takes a changed configuration up, or loads the code of an app anew, without losing a request.
#[derive(Debug, Args)]
pub(crate) struct ReloadArgs {
    /// The app whose code is loaded anew. [default: the configuration is read anew]
    #[arg(value_name = "APP")]
    pub(crate) app: Option<String>,

    /// The pid file of the server. [default: the only server of this user]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) pid: Option<PathBuf>,
}

/// Serves a WSGI application.
#[derive(Debug, Args)]
#[command(args_override_self = true, allow_negative_numbers = true)]
pub(crate) struct Run {
    /// The application: `MODULE:APP`, where APP is a name, a dotted name or the call of a factory, as in
    /// `shop.wsgi:application` or `shop:create_app("test")`. Left out, APP is `app` or `application`.
    #[arg(value_name = "MODULE:APP")]
    pub(crate) app: Option<String>,

    /// Where to listen: `HOST:PORT`, `[V6]:PORT`, `:PORT`, `unix:PATH` or `fd://N`; may be given several times.
    /// Sockets that a service manager passes (systemd's `LISTEN_FDS`) are used instead.
    /// [default: 127.0.0.1:8000, or 0.0.0.0:$PORT where PORT is set]
    #[arg(short, long, value_name = "ADDRESS", help_heading = "Listening")]
    pub(crate) bind: Vec<Bind>,

    /// How many connections may wait to be accepted.
    #[arg(long, value_name = "N", default_value = "2048", value_parser = clap::value_parser!(u32).range(1..=65535), help_heading = "Listening")]
    pub(crate) backlog: u32,

    /// Speaks TLS on every TCP address, with this certificate: PEM, the server's own first, then those that lead to its
    /// issuer. A changed file is taken up within seconds, and at SIGHUP.
    #[arg(long, alias = "certfile", value_name = "FILE", requires = "tls_key", help_heading = "Listening")]
    pub(crate) tls_cert: Option<PathBuf>,

    /// The certificate's private key, PEM. Only the supervisor reads it.
    #[arg(long, alias = "keyfile", value_name = "FILE", requires = "tls_cert", help_heading = "Listening")]
    pub(crate) tls_key: Option<PathBuf>,

    /// Listens here for plain HTTP, and sends everybody to the TLS port: `:80`. Files of `--static` and the path of
    /// `--health` are answered here as well, so that a certificate can be renewed. May be given several times.
    #[arg(long, value_name = "ADDRESS", requires = "tls_cert", help_heading = "Listening")]
    pub(crate) redirect_http: Vec<Bind>,

    /// Worker processes: a number, or `auto` for one per CPU that this process may use (affinity and control
    /// group). [env: WEB_CONCURRENCY] [default: 1]
    #[arg(short, long, value_name = "N", value_parser = values::workers, help_heading = "Workers")]
    pub(crate) workers: Option<u32>,

    /// Threads in each worker.
    #[arg(long, value_name = "N", default_value = "1", value_parser = values::threads, help_heading = "Workers")]
    pub(crate) threads: u16,

    /// The virtual environment whose Python runs the app. [default: $VIRTUAL_ENV, else `python3` in PATH]
    #[arg(long, value_name = "FOLDER", help_heading = "Workers")]
    pub(crate) venv: Option<PathBuf>,

    /// The folder to work in; it stands first in the app's `sys.path`. [default: the current one]
    #[arg(long, value_name = "FOLDER", help_heading = "Workers")]
    pub(crate) chdir: Option<PathBuf>,

    /// Further folders for `sys.path`, separated by commas.
    #[arg(long, value_name = "FOLDERS", value_delimiter = ',', help_heading = "Workers")]
    pub(crate) pythonpath: Vec<PathBuf>,

    /// Sets an environment variable of the app: `NAME=VALUE`; may be given several times.
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = values::pair, help_heading = "Workers")]
    pub(crate) env: Vec<(String, String)>,

    /// Replaces the workers when a loaded file changes. For development.
    #[arg(long, help_heading = "Workers")]
    pub(crate) reload: bool,

    /// The user that the workers run as, by name or number. Needs root.
    #[arg(short, long, value_name = "USER", help_heading = "Workers")]
    pub(crate) user: Option<String>,

    /// The group that the workers run as, by name or number. Needs root.
    #[arg(short, long, value_name = "GROUP", help_heading = "Workers")]
    pub(crate) group: Option<String>,

    /// The mask for files that workers make and for unix sockets, in octal. [default: the workers' as it is, and 0
    /// for unix sockets]
    #[arg(short = 'm', long, value_name = "MASK", value_parser = values::umask, help_heading = "Workers")]
    pub(crate) umask: Option<u32>,

    /// The name of this service in the process list. [default: the application]
    #[arg(short, long, value_name = "NAME", help_heading = "Workers")]
    pub(crate) name: Option<String>,

    /// How long the app may take from its call to its response head, and for each further piece of the body. Then
    /// the client gets 504 or is cut off, the stacks of all threads go to the log, and the worker is replaced. Time
    /// in the queue and time spent waiting for the client do not count. 0: no limit.
    #[arg(short, long, value_name = "TIME", default_value = "30s", value_parser = values::time, help_heading = "Times")]
    pub(crate) timeout: Duration,

    /// How long requests may go on after SIGTERM, and those of a worker that is being replaced.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = values::time, help_heading = "Times")]
    pub(crate) graceful_timeout: Duration,

    /// How long an idle connection is kept open.
    #[arg(long, value_name = "TIME", default_value = "75s", value_parser = values::time, help_heading = "Times")]
    pub(crate) keep_alive: Duration,

    /// How many requests may wait for a free worker; the next one gets 503.
    #[arg(long, value_name = "N", default_value = "1024", value_parser = clap::value_parser!(u32).range(0..=1_000_000), help_heading = "Limits")]
    pub(crate) queue_length: u32,

    /// How long a request may wait for a free worker; then it gets 503.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = values::time, help_heading = "Limits")]
    pub(crate) queue_timeout: Duration,

    /// The longest request line; a longer one gets 414. 0: 64 KiB, the largest.
    #[arg(long, value_name = "SIZE", default_value = "8KiB", value_parser = values::size, help_heading = "Limits")]
    pub(crate) limit_request_line: u64,

    /// How many header fields a request may have; more get 431. 0: 1000, the largest.
    #[arg(long, value_name = "N", default_value = "100", value_parser = clap::value_parser!(u32).range(0..=1000), help_heading = "Limits")]
    pub(crate) limit_request_fields: u32,

    /// The longest single header field; a longer one gets 431. The whole head may have 32 KiB, or, where this or the
    /// limit of the request line is raised, twice this and the request line. 0: 256 KiB, the largest, of the whole
    /// head too. [default: 32KiB]
    #[arg(long = "limit-request-field_size", alias = "limit-request-field-size", value_name = "SIZE", value_parser = values::size, help_heading = "Limits")]
    pub(crate) limit_request_field_size: Option<u64>,

    /// The largest request body; a larger one gets 413. 0: no limit.
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = values::size, help_heading = "Limits")]
    pub(crate) limit_request_body: u64,

    /// Passes request bodies to the app as they arrive, instead of taking them whole first.
    #[arg(long, help_heading = "Limits")]
    pub(crate) no_request_buffering: bool,

    /// Peers whose forwarding headers (`X-Forwarded-For`, `Forwarded` and friends) are believed: addresses and
    /// networks separated by commas, `*` for all, empty for nobody. Peers on unix sockets are believed unless it is
    /// empty. [env: FORWARDED_ALLOW_IPS] [default: 127.0.0.1,::1]
    #[arg(long, value_name = "LIST", value_parser = values::trust, help_heading = "Limits")]
    pub(crate) forwarded_allow_ips: Option<Trust>,

    /// Serves the files of a folder under a path, without the app: `/static=public` or `/static=/srv/shop/static`;
    /// may be given several times. With `/` as the path the app gets what the folder does not have. `/static=django`
    /// is the STATIC_ROOT of the app's settings (a folder of that name is `./django`).
    #[arg(long = "static", value_name = "/PATH=FOLDER", value_parser = values::static_folder, help_heading = "Static files")]
    pub(crate) static_folders: Vec<(String, PathBuf)>,

    /// A path that the server answers by itself, without the app: 200 while it serves.
    #[arg(long, value_name = "PATH", value_parser = values::health_path, help_heading = "Limits")]
    pub(crate) health: Option<String>,

    /// Writes a line for each request to this file; `-`: to the standard output; `syslog:`, `syslog:/PATH` or
    /// `syslog:udp://HOST:PORT`: to a syslog. [default: no access log]
    #[arg(long, value_name = "FILE", value_parser = PathBufValueParser::new().try_map(values::access_log), help_heading = "Logs")]
    pub(crate) access_logfile: Option<PathBuf>,

    /// What such a line says: `common`, `combined`, `json`, or a format of Gunicorn's atoms.
    #[arg(long, value_name = "FORMAT", default_value = "combined", value_parser = values::log_format, help_heading = "Logs")]
    pub(crate) access_logformat: LogFormat,

    /// Writes the server's own log, and what the app writes to its standard error, to this file; `-`: to the standard
    /// error.
    #[arg(long, alias = "log-file", value_name = "FILE", default_value = "-", help_heading = "Logs")]
    pub(crate) error_logfile: PathBuf,

    /// With `--error-logfile FILE`: what the app writes to its standard output goes there too.
    #[arg(long, help_heading = "Logs")]
    pub(crate) capture_output: bool,

    /// The least important level that is logged.
    #[arg(long, value_name = "LEVEL", default_value = "info", ignore_case = true, help_heading = "Logs")]
    pub(crate) log_level: LogLevel,

    /// Writes the process id of the supervisor to this file.
    #[arg(short, long, value_name = "FILE", help_heading = "Running")]
    pub(crate) pid: Option<PathBuf>,

    /// Checks all flags, binds the sockets, imports the app, and ends: exit code 0 if all is well.
    #[arg(long, help_heading = "Running")]
    pub(crate) check_config: bool,

    /// How edge and workers exchange requests.
    #[arg(long, hide = true, default_value = "ring")]
    pub(crate) transport: TransportName,
}

/// Serves a WSGI application at https://localhost:8443 while it is being written.
///
/// As `trivet run` with `--reload`, `--access-logfile -`, `--bind 127.0.0.1:8443`, `--graceful-timeout 2s`, `--env
/// TRIVET_DEV=1` (pages that show errors, to this machine alone) and a certificate for localhost, by an authority that is
/// made for this user at the first time.
#[derive(Debug, Args)]
#[command(args_override_self = true, allow_negative_numbers = true)]
pub(crate) struct Dev {
    /// Prints the path of the authority's certificate, which browsers can be told to trust, and ends.
    #[arg(long)]
    pub(crate) ca: bool,

    #[command(flatten)]
    pub(crate) run: Run,
}

/// Shows the workers, the queue and the restarts of a running server.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// The process id of its supervisor. [default: the only server of this user]
    #[arg(value_name = "PID")]
    pub(crate) server: Option<u32>,

    /// The pid file of the server.
    #[arg(short, long, value_name = "FILE", conflicts_with = "server")]
    pub(crate) pid: Option<PathBuf>,

    /// Prints the whole document as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogLevel {
    Debug,
    Info,
    #[value(alias = "warn")]
    Warning,
    Error,
    /// The same as `error`.
    Critical,
}

impl From<LogLevel> for Level {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Debug => Self::Debug,
            LogLevel::Info => Self::Info,
            LogLevel::Warning => Self::Warn,
            LogLevel::Error | LogLevel::Critical => Self::Error,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TransportName {
    Ring,
    Socket,
}

impl From<TransportName> for Transport {
    fn from(name: TransportName) -> Self {
        match name {
            TransportName::Ring => Self::Ring,
            TransportName::Socket => Self::Socket,
        }
    }
}
