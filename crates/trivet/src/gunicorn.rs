//! Flags of Gunicorn's that come later or never, and its environment variable.

use clap::{Arg, ArgAction, ArgMatches};

use crate::failure::{Failure, USAGE};

/// What happens to a command line that has such a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// One line of warning, and on.
    Ignored,
    /// Going on would be something else than what the user wants.
    Refused,
    /// Fine with one of these values, refused with another.
    Unless(&'static [&'static str]),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes {
    Nothing,
    Value,
    Perhaps,
}

struct Foreign {
    long: &'static str,
    short: Option<char>,
    takes: Takes,
    verdict: Verdict,
    /// What follows on "`--flag` ".
    text: &'static str,
}

const fn flag(long: &'static str, verdict: Verdict, text: &'static str) -> Foreign {
    Foreign { long, short: None, takes: Takes::Nothing, verdict, text }
}

const fn value(long: &'static str, verdict: Verdict, text: &'static str) -> Foreign {
    Foreign { long, short: None, takes: Takes::Value, verdict, text }
}

const CLIENT_CERTIFICATES: &str =
    "is for `trivet serve`: `client-ca` in the `tls` of a site asks for certificates of clients";
const TLS: &str = "has no effect: TLS 1.2 and 1.3 with the safe ciphers, nothing else";
const PROTOCOLS: &str = "HTTP/1.1 and HTTP/2 are both spoken; HTTP/3 comes later";
const HTTP2: &str = "has no effect: HTTP/2 is spoken within limits that need no choosing";
const METRICS: &str = "has no effect yet: metrics come later";
const ASGI: &str = "comes later with ASGI";
const STRICT: &str = "never comes: such requests are refused";
const LOGGING: &str =
    "never comes: the app sets up its own logging, the server writes lines to the standard error";
const SYSLOG: &str = "never comes: let the service manager take the standard error; the access log goes there by `--access-logfile syslog:`";
const DIRTY: &str = "never comes: a task queue does this better";
const CONTROL: &str = "has no effect: `trivet status` finds the server by itself";
const PASTE: &str = "never comes: write a module that makes the app";
const RECYCLING: &str = "has no effect yet: recycling of workers comes later";

use Verdict::{Ignored, Refused, Unless};

const FOREIGN: &[Foreign] = &[
    Foreign {
        short: Some('c'),
        ..value("config", Refused, "comes later: until then, use flags or GUNICORN_CMD_ARGS")
    },
    Foreign {
        short: Some('k'),
        ..value(
            "worker-class",
            Unless(&["sync", "gthread"]),
            "has only `sync` and `gthread` yet: others come later",
        )
    },
    value(
        "worker-connections",
        Ignored,
        "has no effect: connections take no worker, the queue has `--queue-length`",
    ),
    value("max-requests", Ignored, RECYCLING),
    value("max-requests-jitter", Ignored, RECYCLING),
    value("reload-engine", Ignored, "has no effect: there is one way to watch files"),
    value("reload-extra-file", Ignored, "has no effect yet: `--reload` watches the loaded modules only"),
    flag("spew", Refused, "never comes: use a profiler"),
    flag("print-config", Refused, "comes later: `--check-config` checks it"),
    flag("preload", Ignored, "has no effect yet: each worker imports the app by itself"),
    flag("preload-app", Ignored, "has no effect yet: each worker imports the app by itself"),
    flag("no-sendfile", Ignored, "has no effect: files are sent by the system, which does no harm"),
    flag("reuse-port", Ignored, "has no effect: one process accepts all connections"),
    Foreign {
        short: Some('D'),
        ..flag("daemon", Refused, "never comes: let a service manager start it, see docs/trivet.service")
    },
    value("worker-tmp-dir", Ignored, "has no effect: workers need no heartbeat file"),
    flag("initgroups", Ignored, "has no effect: workers always get the groups of `--user`"),
    flag(
        "disable-redirect-access-to-syslog",
        Ignored,
        "has no effect: only what `--access-logfile` says goes to syslog",
    ),
    value("logger-class", Refused, LOGGING),
    value("log-config", Refused, LOGGING),
    value("log-config-json", Refused, LOGGING),
    value("log-syslog-to", Refused, SYSLOG),
    flag("log-syslog", Refused, SYSLOG),
    value("log-syslog-prefix", Ignored, SYSLOG),
    value("log-syslog-facility", Ignored, SYSLOG),
    Foreign {
        short: Some('R'),
        ..flag("enable-stdio-inheritance", Ignored, "has no effect: it is always so")
    },
    value("statsd-host", Ignored, METRICS),
    value("dogstatsd-tags", Ignored, METRICS),
    value("statsd-prefix", Ignored, METRICS),
    flag("enable-backlog-metric", Ignored, METRICS),
    value("paste", Refused, PASTE),
    value("paster", Refused, PASTE),
    value("paste-global", Refused, PASTE),
    Foreign {
        takes: Takes::Perhaps,
        ..value("proxy-protocol", Unless(&["off"]), "comes later with the web server")
    },
    value("proxy-allow-from", Ignored, "has no effect yet: the PROXY protocol comes later"),
    value("protocol", Unless(&["http"]), "has only `http` yet: the uwsgi protocol comes later"),
    value("uwsgi-allow-from", Ignored, "has no effect yet: the uwsgi protocol comes later"),
    value("ssl-version", Ignored, TLS),
    value("cert-reqs", Unless(&["0"]), CLIENT_CERTIFICATES),
    value("ca-certs", Refused, CLIENT_CERTIFICATES),
    flag("suppress-ragged-eofs", Ignored, TLS),
    flag("do-handshake-on-connect", Ignored, TLS),
    value("ciphers", Ignored, TLS),
    value("http-protocols", Unless(&["h1", "h2", "h1,h2", "h2,h1"]), PROTOCOLS),
    value("http2-cleartext", Ignored, HTTP2),
    value("http2-max-concurrent-streams", Ignored, HTTP2),
    value("http2-initial-window-size", Ignored, HTTP2),
    value("http2-max-frame-size", Ignored, HTTP2),
    value("http2-max-header-list-size", Ignored, HTTP2),
    flag("permit-obsolete-folding", Refused, STRICT),
    flag("strip-header-spaces", Refused, STRICT),
    flag(
        "permit-unconventional-http-method",
        Ignored,
        "has no effect: the app gets every method that is a token",
    ),
    flag("permit-unconventional-http-version", Refused, STRICT),
    flag("casefold-http-method", Refused, "never comes: methods are case-sensitive"),
    value("forwarder-headers", Refused, "comes later with the web server"),
    value(
        "header-map",
        Unless(&["drop"]),
        "never comes: field names with `_` are dropped, they collide with `-`",
    ),
    value("asgi-loop", Refused, ASGI),
    value("asgi-lifespan", Refused, ASGI),
    value("asgi-disconnect-grace-period", Refused, ASGI),
    value("websocket-max-message-size", Refused, ASGI),
    value("http-parser", Ignored, "has no effect: there is one parser"),
    value("root-path", Refused, ASGI),
    value("dirty-app", Refused, DIRTY),
    value("dirty-workers", Refused, DIRTY),
    value("dirty-timeout", Refused, DIRTY),
    value("dirty-threads", Refused, DIRTY),
    value("dirty-graceful-timeout", Refused, DIRTY),
    value("control-socket", Ignored, CONTROL),
    value("control-socket-mode", Ignored, CONTROL),
    flag("no-control-socket", Ignored, CONTROL),
];

/// Adds them, hidden, so that they are recognised.
pub(crate) fn recognise(mut command: clap::Command) -> clap::Command {
    for foreign in FOREIGN {
        let mut arg = Arg::new(foreign.long).long(foreign.long).hide(true).help(foreign.text);
        if let Some(short) = foreign.short {
            arg = arg.short(short);
        }
        command = command.arg(match foreign.takes {
            Takes::Nothing => arg.action(ArgAction::SetTrue),
            Takes::Value => arg.action(ArgAction::Append).value_name("VALUE"),
            Takes::Perhaps => arg.action(ArgAction::Append).num_args(0..=1).default_missing_value("on"),
        });
    }
    command
}

/// The lines to warn with; an error for the first flag that cannot be passed over.
pub(crate) fn judge(matches: &ArgMatches) -> Result<Vec<String>, Failure> {
    let mut warnings = Vec::new();
    for foreign in FOREIGN {
        let given = match foreign.takes {
            Takes::Nothing => matches.get_flag(foreign.long).then(Vec::new),
            _ => matches.get_many::<String>(foreign.long).map(|v| v.map(String::as_str).collect()),
        };
        let Some(values): Option<Vec<&str>> = given else { continue };
        let line = format!("`--{}` {}", foreign.long, foreign.text);
        match foreign.verdict {
            Ignored => warnings.push(line),
            Unless(fit) if values.iter().all(|v| fit.contains(v)) => {}
            Unless(_) | Refused => {
                return Err(Failure::new(
                    USAGE,
                    line,
                    format!("leave `--{}` out to start without it", foreign.long),
                ));
            }
        }
    }
    Ok(warnings)
}

/// For the reference page: flag, whether it is refused, text.
#[cfg(test)]
pub(crate) fn table() -> impl Iterator<Item = (&'static str, bool, &'static str)> {
    FOREIGN.iter().map(|f| (f.long, f.verdict != Ignored, f.text))
}

/// Splits `GUNICORN_CMD_ARGS` as a shell would: blanks, quotes, backslashes.
pub(crate) fn split(text: &str) -> Result<Vec<String>, Failure> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    let unfinished = || {
        Failure::new(
            USAGE,
            "GUNICORN_CMD_ARGS has an unfinished quote",
            "close it, or put a backslash before it",
        )
    };
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\n' | '\r' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next().ok_or_else(unfinished)? {
                        '\'' => break,
                        c => word.push(c),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next().ok_or_else(unfinished)? {
                        '"' => break,
                        '\\' => match chars.next().ok_or_else(unfinished)? {
                            c @ ('"' | '\\') => word.push(c),
                            c => word.extend(['\\', c]),
                        },
                        c => word.push(c),
                    }
                }
            }
            '\\' => word.get_or_insert_default().push(chars.next().ok_or_else(unfinished)?),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command;

    /// What `gunicorn --help` of version 27.0.1 lists.
    const OF_GUNICORN: &str = "
        --version --config --bind --backlog --workers --worker-class --threads --worker-connections --max-requests
        --max-requests-jitter --timeout --graceful-timeout --keep-alive --limit-request-line --limit-request-fields
        --limit-request-field_size --reload --reload-engine --reload-extra-file --spew --check-config --print-config
        --preload --no-sendfile --reuse-port --chdir --daemon --env --pid --worker-tmp-dir --user --group --umask
        --initgroups --forwarded-allow-ips --access-logfile --disable-redirect-access-to-syslog --access-logformat
        --error-logfile --log-file --log-level --capture-output --logger-class --log-config --log-config-json
        --log-syslog-to --log-syslog --log-syslog-prefix --log-syslog-facility --enable-stdio-inheritance
        --statsd-host --dogstatsd-tags --statsd-prefix --enable-backlog-metric --name --pythonpath --paste --paster
        --proxy-protocol --proxy-allow-from --protocol --uwsgi-allow-from --keyfile --certfile --ssl-version
        --cert-reqs --ca-certs --suppress-ragged-eofs --do-handshake-on-connect --ciphers --http-protocols
        --http2-cleartext --http2-max-concurrent-streams --http2-initial-window-size --http2-max-frame-size
        --http2-max-header-list-size --paste-global --permit-obsolete-folding --strip-header-spaces
        --permit-unconventional-http-method --permit-unconventional-http-version --casefold-http-method
        --forwarder-headers --header-map --asgi-loop --asgi-lifespan --asgi-disconnect-grace-period
        --websocket-max-message-size --http-parser --root-path --dirty-app --dirty-workers --dirty-timeout
        --dirty-threads --dirty-graceful-timeout --control-socket --control-socket-mode --no-control-socket";

    const SHORTS_OF_GUNICORN: &str = "v c b w k t D e p u g m R n";

    #[test]
    fn every_flag_of_gunicorn_is_known() {
        let command = command();
        let run = command.find_subcommand("run").unwrap();
        let known = |name: &str| {
            name == "version"
                || run.get_arguments().any(|a| {
                    a.get_long_and_visible_aliases().is_some_and(|l| l.contains(&name))
                        || a.get_all_aliases().is_some_and(|l| l.contains(&name))
                })
        };
        for flag in OF_GUNICORN.split_whitespace() {
            assert!(known(flag.trim_start_matches('-')), "{flag}");
        }
        for short in SHORTS_OF_GUNICORN.split(' ').map(|s| s.chars().next().unwrap()) {
            assert!(short == 'v' || run.get_arguments().any(|a| a.get_short() == Some(short)), "-{short}");
        }
    }

    #[test]
    fn words_are_split_as_a_shell_does() {
        let words = split(r#"-w 4 --env 'A=b c' -e "D=\"x\" \y" --name=a\ b '' "#).unwrap();
        assert_eq!(words, ["-w", "4", "--env", "A=b c", "-e", "D=\"x\" \\y", "--name=a b", ""]);
        assert!(split("-e 'x").is_err());
        assert!(split("\\").is_err());
    }
}
