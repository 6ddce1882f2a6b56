//! Who the client is: the peer, or what trusted proxies say of it. One answer for limits, logs and environ.

use std::net::{IpAddr, SocketAddr};

use trivet_http::field;
use trivet_http::h1::{Field, request::Name};

use crate::config::Network;

/// What forwarding fields of a trusted peer say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Forwarded<'a> {
    pub(crate) client: Option<IpAddr>,
    pub(crate) https: Option<bool>,
    pub(crate) host: Option<&'a [u8]>,
    pub(crate) port: Option<u16>,
}

/// Whether `ip` belongs to the trusted networks (`None`: everybody does).
pub(crate) fn trusted(ip: IpAddr, networks: Option<&[Network]>) -> bool {
    networks.is_none_or(|all| all.iter().any(|n| n.contains(ip)))
}

/// Whether the field tells who the client is, and must not be believed from a stranger (H9).
#[inline]
pub(crate) fn tells_client(name: Name) -> bool {
    matches!(
        name,
        Name::Forwarded
            | Name::XForwardedFor
            | Name::XForwardedProto
            | Name::XForwardedHost
            | Name::XForwardedPort
            | Name::XForwardedPrefix
            | Name::XForwardedOther
    )
}

/// Reads `Forwarded` (RFC 7239) or, without it, the `X-Forwarded-*` fields. Of a chain of addresses the last one
/// that is not itself a trusted proxy is the client; what is further left anybody could have written.
pub(crate) fn read<'a>(fields: &[Field], buf: &'a [u8], networks: Option<&[Network]>) -> Forwarded<'a> {
    let mut out = Forwarded::default();
    let standard = fields.iter().any(|f| f.known == Name::Forwarded);
    let mut hops: Vec<Option<IpAddr>> = Vec::new();
    for f in fields {
        let value = f.value.of(buf);
        match f.known {
            Name::Forwarded => {
                for element in field::list(value) {
                    let mut hop = None;
                    for pair in element.split(|b| *b == b';') {
                        let mut halves = pair.splitn(2, |b| *b == b'=');
                        let (name, value) = (
                            field::trim(halves.next().unwrap_or_default()),
                            unquoted(field::trim(halves.next().unwrap_or_default())),
                        );
                        if name.eq_ignore_ascii_case(b"for") {
                            hop = address(value);
                        } else if name.eq_ignore_ascii_case(b"proto") {
                            out.https = scheme(value).or(out.https);
                        } else if name.eq_ignore_ascii_case(b"host") {
                            out.host = Some(value);
                        }
                    }
                    hops.push(hop);
                }
            }
            Name::XForwardedFor if !standard => hops.extend(field::list(value).map(address)),
            Name::XForwardedProto if !standard => {
                out.https = field::list(value).last().and_then(scheme).or(out.https);
            }
            Name::XForwardedHost if !standard => out.host = field::list(value).last().or(out.host),
            Name::XForwardedPort if !standard => {
                out.port = field::list(value)
                    .last()
                    .and_then(|v| std::str::from_utf8(v).ok()?.parse().ok())
                    .or(out.port);
            }
            _ => {}
        }
    }
    for hop in hops.iter().rev() {
        // An unknown or obfuscated hop ends what can be believed.
        let Some(ip) = hop else { break };
        out.client = Some(*ip);
        if !trusted(*ip, networks) {
            break;
        }
    }
    out
}

fn unquoted(value: &[u8]) -> &[u8] {
    value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value)
}

fn scheme(value: &[u8]) -> Option<bool> {
    if value.eq_ignore_ascii_case(b"https") || value.eq_ignore_ascii_case(b"wss") {
        Some(true)
    } else if value.eq_ignore_ascii_case(b"http") || value.eq_ignore_ascii_case(b"ws") {
        Some(false)
    } else {
        None
    }
}

/// `1.2.3.4`, `1.2.3.4:567`, `::1`, `[::1]`, `[::1]:567`.
fn address(value: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(value).ok()?;
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    bare.parse()
        .ok()
        .or_else(|| text.parse::<SocketAddr>().ok().map(|a| a.ip()))
        .map(|ip: IpAddr| ip.to_canonical())
}

/// Host and port of an authority (`name`, `name:80`, `[::1]:80`).
pub(crate) fn host_and_port(authority: &[u8]) -> (&[u8], Option<u16>) {
    let split = match authority.iter().rposition(|b| *b == b':') {
        Some(at) if !authority[at..].contains(&b']') => at,
        _ => return (authority, None),
    };
    let port = std::str::from_utf8(&authority[split + 1..]).ok().and_then(|p| p.parse().ok());
    (&authority[..split], port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use trivet_http::h1::{Head, Limits};

    fn read_head(
        fields: &str,
        networks: Option<&[Network]>,
    ) -> (Option<IpAddr>, Option<bool>, Option<String>) {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let mut head = Head::default();
        head.parse(text.as_bytes(), &Limits::default(), &mut 0).unwrap();
        let f = read(&head.fields, text.as_bytes(), networks);
        (f.client, f.https, f.host.map(|h| String::from_utf8_lossy(h).into_owned()))
    }

    #[test]
    fn the_client_is_the_last_untrusted_hop() {
        let local = [Network { address: "127.0.0.0".parse().unwrap(), prefix_bits: 8 }];
        let ip = |t: &str| Some(t.parse::<IpAddr>().unwrap());
        let (client, https, _) = read_head(
            "X-Forwarded-For: 6.6.6.6, 9.9.9.9, 127.0.0.2\r\nX-Forwarded-Proto: https\r\n",
            Some(&local),
        );
        assert_eq!(
            (client, https),
            (ip("9.9.9.9"), Some(true)),
            "what a client wrote itself is further left"
        );
        assert_eq!(read_head("X-Forwarded-For: 6.6.6.6, 9.9.9.9\r\n", None).0, ip("6.6.6.6"), "all trusted");
        assert_eq!(read_head("X-Forwarded-For: 6.6.6.6, unknown\r\n", Some(&local)).0, None);
    }

    #[test]
    fn forwarded_goes_before_the_older_fields() {
        let local = [Network { address: "127.0.0.0".parse().unwrap(), prefix_bits: 8 }];
        let (client, https, host) = read_head(
            "X-Forwarded-For: 1.1.1.1\r\nForwarded: for=\"[2001:db8::7]:4711\";proto=https;host=shop.example\r\n",
            Some(&local),
        );
        assert_eq!(client, Some("2001:db8::7".parse().unwrap()));
        assert_eq!((https, host.as_deref()), (Some(true), Some("shop.example")));
    }

    #[test]
    fn authorities_split_at_the_port_only() {
        assert_eq!(host_and_port(b"a:80"), (&b"a"[..], Some(80)));
        assert_eq!(host_and_port(b"[::1]"), (&b"[::1]"[..], None));
        assert_eq!(host_and_port(b"[::1]:8"), (&b"[::1]"[..], Some(8)));
        assert_eq!(host_and_port(b"a"), (&b"a"[..], None));
    }
}
