//! TLS between a socket and everything else: bytes of the wire in, plain bytes out, and back. No sockets here.

use std::collections::HashMap;
use std::io::{IoSlice, Read as _, Write as _};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, ServerConnection};

use crate::tickets::Tickets;

/// What a client gets that speaks plain HTTP to this port: the head up to the fields of every answer, and the rest.
pub(crate) const PLAIN_HTTP: (&[u8], &[u8]) = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 59\r\n\
    Connection: close\r\n",
    b"\r\n400 Bad Request\nthis port speaks TLS: write https:// first\n",
);

/// The name of HTTP/2 in ALPN (RFC 9113 §3.1).
const HTTP_2: &[u8] = b"h2";

/// Why a certificate or key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadIdentity {
    #[error("no certificate in the certificate file")]
    NoCertificate,
    #[error("the certificate file is not PEM: {0}")]
    Certificate(String),
    #[error("no usable private key in the key file: {0}")]
    Key(String),
    #[error("the key does not belong to the first certificate of the file")]
    Mismatch,
    #[error("the certificate or key cannot be used: {0}")]
    Unfit(String),
}

/// A certificate chain with its key.
#[derive(Debug)]
pub struct Identity(Arc<CertifiedKey>);

impl Identity {
    /// From the text of a certificate chain, the server's own first, and of its key (PKCS #8, PKCS #1 or SEC 1).
    pub fn new(chain: &[u8], key: &[u8]) -> Result<Self, BadIdentity> {
        let chain = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| BadIdentity::Certificate(e.to_string()))?;
        if chain.is_empty() {
            return Err(BadIdentity::NoCertificate);
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| BadIdentity::Key(e.to_string()))?;
        let unfit = |e: rustls::Error| match e {
            rustls::Error::InconsistentKeys(_) => BadIdentity::Mismatch,
            e => BadIdentity::Unfit(e.to_string()),
        };
        let certified = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).map_err(unfit)?;
        certified.end_entity_cert().map_err(unfit)?;
        Ok(Self(Arc::new(certified)))
    }
}

/// Chooses the certificate by the name that the client asks for.
#[derive(Debug)]
struct ByName {
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// `.example.org` for `*.example.org`; the longest first.
    wild: Vec<(String, Arc<CertifiedKey>)>,
    default: Option<Arc<CertifiedKey>>,
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // It is in lower case already.
        let named = hello.server_name().and_then(|name| {
            let wild = || self.wild.iter().find(|(suffix, _)| name.ends_with(suffix)).map(|(_, key)| key);
            self.exact.get(name).or_else(wild)
        });
        named.or(self.default.as_ref()).cloned()
    }
}

/// Makes connections secure.
#[derive(Clone, Debug)]
pub(crate) struct Acceptor(Arc<ServerConfig>);

impl Acceptor {
    /// Each certificate with the hosts that it is for; the one for no host is for all others, else the first.
    pub(crate) fn new(
        named: &[(&[String], Arc<Identity>)],
        tickets: &Arc<Tickets>,
    ) -> Result<Self, rustls::Error> {
        let all_others = named.iter().find(|(hosts, _)| hosts.is_empty()).or(named.first());
        let mut by_name = ByName {
            exact: HashMap::new(),
            wild: Vec::new(),
            default: all_others.map(|(_, identity)| identity.0.clone()),
        };
        for (host, identity) in named.iter().flat_map(|(hosts, i)| hosts.iter().map(move |h| (h, i))) {
            match host.strip_prefix('*') {
                Some(suffix) => by_name.wild.push((suffix.to_owned(), identity.0.clone())),
                None => drop(by_name.exact.insert(host.clone(), identity.0.clone())),
            }
        }
        by_name.wild.sort_by_key(|(suffix, _)| std::cmp::Reverse(suffix.len()));
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(by_name));
        config.alpn_protocols = vec![HTTP_2.to_vec(), b"http/1.1".to_vec()];
        config.ticketer = tickets.clone();
        // One ticket is what one returning client needs.
        config.send_tls13_tickets = 1;
        Ok(Self(Arc::new(config)))
    }

    /// For a new connection. `None`: the machine is out of memory or randomness.
    pub(crate) fn accept(&self) -> Option<Box<Tls>> {
        let mut connection = ServerConnection::new(self.0.clone()).ok()?;
        // What is written waits in the connection's output, which has bounds of its own.
        connection.set_buffer_limit(None);
        Some(Box::new(Tls { connection, begun: false }))
    }
}

/// One connection's state.
#[derive(Debug)]
pub(crate) struct Tls {
    connection: ServerConnection,
    begun: bool,
}

impl Tls {
    /// Takes bytes from the socket in and appends what they say to `plain`. `true`: the peer has said that nothing
    /// follows. On an error [`flush`](Self::flush) has the alert to send.
    pub(crate) fn take_in(&mut self, mut wire: &[u8], plain: &mut Vec<u8>) -> Result<bool, rustls::Error> {
        self.begun = true;
        let mut closed = false;
        while !wire.is_empty() && !closed {
            // It takes what its buffer holds; an error here means that this was full of unread plain bytes.
            let took = self.connection.read_tls(&mut wire);
            let state = self.connection.process_new_packets()?;
            let at = plain.len();
            plain.resize(at + state.plaintext_bytes_to_read(), 0);
            let got = self.connection.reader().read(&mut plain[at..]).unwrap_or(0);
            plain.truncate(at + got);
            closed = state.peer_has_closed();
            if matches!(took, Ok(0)) || (took.is_err() && got == 0) {
                break;
            }
        }
        Ok(closed)
    }

    /// Encrypts `parts` as if they were one and appends the records to `wire`.
    pub(crate) fn put(&mut self, parts: &[&[u8]], wire: &mut Vec<u8>) {
        let mut slices = [IoSlice::new(&[]); 6];
        for (slice, part) in slices.iter_mut().zip(parts) {
            *slice = IoSlice::new(part);
        }
        // Without a limit it takes everything.
        let _ = self.connection.writer().write_vectored(&slices[..parts.len()]);
        self.flush(wire);
    }

    /// Appends what is to be sent by itself: handshake, alerts, tickets.
    pub(crate) fn flush(&mut self, wire: &mut Vec<u8>) {
        while self.connection.wants_write() {
            if self.connection.write_tls(wire).is_err() {
                break;
            }
        }
    }

    /// Appends the word that nothing follows.
    pub(crate) fn close(&mut self, wire: &mut Vec<u8>) {
        self.connection.send_close_notify();
        self.flush(wire);
    }

    /// Whether anything has come yet.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun
    }

    /// What the handshake has agreed on.
    pub(crate) fn speaks_http_2(&self) -> bool {
        self.connection.alpn_protocol() == Some(HTTP_2)
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }
}
