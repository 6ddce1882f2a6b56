//! Addresses to listen on, which sites may share.

use trivet_supervise::listen::Bind;

use super::document::Span;
use super::edge;
use super::section::Reading;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaks {
    Http,
    Https,
    /// Plain HTTP of a proxy or of whatever a service manager passes.
    Inherited,
}

/// A listener while the file is read.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) bind: Bind,
    pub(crate) edge: edge::Listener,
    first_span: Span,
}

/// Reads one entry of `listen`.
pub(crate) fn parse(text: &str, reading: &Reading) -> Result<(Bind, Speaks), (String, String)> {
    const HTTP_PORT: u16 = 80;
    const HTTPS_PORT: u16 = 443;
    const TLS_NEEDS_TCP: &str = "TLS is spoken at TCP addresses: write `https://0.0.0.0:443`, for which a service manager may pass the socket";
    let no = |hint: &str| Err((format!("`{text}` is not an address to listen on"), hint.to_owned()));
    let secured = text.strip_prefix("https+").or_else(|| text.strip_prefix("https://"));
    if secured
        .is_some_and(|rest| rest.starts_with("unix:") || rest.starts_with("fd:") || rest.starts_with('/'))
    {
        return no(TLS_NEEDS_TCP);
    }
    let (rest, speaks, port) = if let Some(rest) = text.strip_prefix("http://") {
        (rest, Speaks::Http, HTTP_PORT)
    } else if let Some(rest) = text.strip_prefix("https://") {
        (rest, Speaks::Https, HTTPS_PORT)
    } else if let Some(path) = text.strip_prefix("unix:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.is_empty() {
            return no("write it as `unix:/run/shop.sock`");
        }
        return Ok((Bind::Unix(reading.absolute(path)), Speaks::Inherited));
    } else if text.starts_with("fd://") {
        return match text.parse() {
            Ok(bind) => Ok((bind, Speaks::Inherited)),
            Err(_) => no("write it as `fd://3`"),
        };
    } else {
        let example = if text.contains("://") { "http://0.0.0.0:80" } else { &format!("http://{text}") };
        return no(&format!("write it as `{example}`, `https://…`, `unix:PATH` or `fd://N`"));
    };
    if rest.contains('/') {
        return no("an address ends with its port: paths are the routes' matter");
    }
    if rest.starts_with('*') {
        return no(&format!("all addresses: `{}`", text.replacen('*', "0.0.0.0", 1)));
    }
    if rest.is_empty() {
        return no(&format!("all addresses: `{text}0.0.0.0:{port}`"));
    }
    if !rest.starts_with('[') && rest.matches(':').count() > 1 {
        return no("an IPv6 address stands in brackets: `http://[::1]:8000`");
    }
    let has_port = if rest.starts_with('[') { rest.contains("]:") } else { rest.contains(':') };
    let whole = if has_port { rest.to_owned() } else { format!("{rest}:{port}") };
    match whole.parse::<Bind>() {
        Ok(bind @ Bind::Tcp { .. }) => Ok((bind, speaks)),
        Ok(_) => no("write it as `http://127.0.0.1:8000`"),
        Err(error) => {
            let (message, hint) = (error.to_string(), "write it as `http://127.0.0.1:8000`");
            if message.ends_with("is not a port") { Err((message, hint.to_owned())) } else { no(hint) }
        }
    }
}

/// The place of a listener among all; a new one is added.
pub(crate) fn place(
    all: &mut Vec<Listener>,
    bind: &Bind,
    speaks: Speaks,
    span: &Span,
    reading: &mut Reading,
) -> Option<usize> {
    let tls = speaks == Speaks::Https;
    if let Some(at) = all.iter().position(|l| l.bind == *bind) {
        let other = &all[at];
        if other.edge.tls != tls {
            let message = format!("{bind} cannot speak both http and https");
            let hint = format!(
                "it is `{}` {}: choose another port",
                other.edge.name,
                reading.line_of(&other.first_span)
            );
            reading.error(span, message, hint);
            return None;
        }
        return Some(at);
    }
    let unix = matches!(bind, Bind::Unix(_));
    let name = match speaks {
        Speaks::Http => format!("http://{bind}"),
        Speaks::Https => format!("https://{bind}"),
        Speaks::Inherited => bind.to_string(),
    };
    all.push(Listener {
        bind: bind.clone(),
        edge: edge::Listener { name, unix, tls },
        first_span: span.clone(),
    });
    Some(all.len() - 1)
}
