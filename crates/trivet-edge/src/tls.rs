//! TLS between a socket and everything else: bytes of the wire in, plain bytes out, and back. No sockets here.

use std::collections::HashMap;
use std::fmt;
use std::io::{IoSlice, Read as _, Write as _};
use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::crypto::aws_lc_rs as provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig, ServerConnection};

use crate::client_certificate::{self, Shown};
use crate::config::ClientRule;
use crate::tickets::{Context, Tickets, TicketsOf};

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
        let certified = CertifiedKey::from_der(chain, key, &provider::default_provider()).map_err(unfit)?;
        certified.end_entity_cert().map_err(unfit)?;
        Ok(Self(Arc::new(certified)))
    }
}

/// Why certificates of clients cannot be judged.
#[derive(Debug, thiserror::Error)]
pub enum BadAuthorities {
    #[error("no certificate in the file of the clients' authorities")]
    None,
    #[error("the file of the clients' authorities is not PEM: {0}")]
    Pem(String),
    #[error("a certificate of the clients' authorities cannot be used: {0}")]
    Unfit(String),
}

/// Those whose word is believed about clients.
#[derive(Debug)]
pub struct Authorities {
    roots: Arc<RootCertStore>,
    /// Of the file.
    digest: [u8; 32],
}

impl Authorities {
    /// From the text of their certificates.
    pub fn new(pem: &[u8]) -> Result<Self, BadAuthorities> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|e| BadAuthorities::Pem(e.to_string()))?;
            roots.add(certificate).map_err(|e| BadAuthorities::Unfit(e.to_string()))?;
        }
        if roots.is_empty() {
            return Err(BadAuthorities::None);
        }
        let mut all = [0; 32];
        all.copy_from_slice(digest::digest(&digest::SHA256, pem).as_ref());
        Ok(Self { roots: Arc::new(roots), digest: all })
    }
}

/// Something for each name that a client may ask for.
#[derive(Debug)]
struct ByName<T> {
    exact: HashMap<String, T>,
    /// `.example.org` for `*.example.org`; the longest first.
    wild: Vec<(String, T)>,
    /// For all names, as one site is: nobody asks for a name that is not there.
    all_others: bool,
    default: Option<T>,
}

impl<T: Clone> ByName<T> {
    /// That which is for no host is for all others, else the first.
    fn new<'a>(named: impl Iterator<Item = (&'a [String], T)>) -> Self {
        let mut all = Self { exact: HashMap::new(), wild: Vec::new(), all_others: false, default: None };
        for (hosts, it) in named {
            if all.default.is_none() || hosts.is_empty() && !all.all_others {
                all.default = Some(it.clone());
            }
            all.all_others |= hosts.is_empty();
            for host in hosts {
                match host.strip_prefix('*') {
                    Some(suffix) => all.wild.push((suffix.to_owned(), it.clone())),
                    None => drop(all.exact.insert(host.clone(), it.clone())),
                }
            }
        }
        all.wild.sort_by_key(|(suffix, _)| std::cmp::Reverse(suffix.len()));
        all
    }

    /// `name`: in lower case.
    fn named(&self, name: &str) -> Option<&T> {
        let wild = || self.wild.iter().find(|(suffix, _)| name.ends_with(suffix)).map(|(_, it)| it);
        self.exact.get(name).or_else(wild)
    }

    fn find(&self, name: Option<&str>) -> Option<&T> {
        name.and_then(|name| self.named(name)).or(self.default.as_ref())
    }

    /// Whether a client that asks for this asks for nothing that is here.
    fn is_unknown(&self, name: Option<&str>) -> bool {
        !self.all_others && name.is_some_and(|name| self.named(name).is_none())
    }
}

/// Chooses the certificate by the name that the client asks for.
impl ResolvesServerCert for ByName<Arc<CertifiedKey>> {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.find(hello.server_name()).cloned()
    }
}

/// What TLS needs to know of a site.
#[derive(Debug)]
pub(crate) struct SiteTls<'a> {
    /// Empty: all hosts that no other site has.
    pub(crate) hosts: &'a [String],
    pub(crate) identity: Arc<Identity>,
    pub(crate) client: Option<(&'a ClientRule, Arc<Authorities>)>,
}

/// How connections go on whose site has this rule on certificates of clients.
#[derive(Debug)]
struct Way {
    config: Arc<ServerConfig>,
    rule: Option<ClientRule>,
}

/// All ways of a listener.
#[derive(Debug)]
struct Ways {
    by_name: ByName<Arc<Way>>,
    /// Handshakes for names that no site has are refused.
    strict: bool,
}

/// Makes connections secure.
#[derive(Clone, Debug)]
pub(crate) struct Acceptor(Kind);

#[derive(Clone, Debug)]
enum Kind {
    /// One way for all: nothing has to be known of a client beforehand.
    Alike(Arc<ServerConfig>),
    /// It depends on the name that the client asks for.
    ByName(Arc<Ways>),
}

impl Acceptor {
    pub(crate) fn new(
        sites: &[SiteTls<'_>],
        tickets: &Arc<Tickets>,
        strict: bool,
    ) -> Result<Self, rustls::Error> {
        let keys = sites.iter().map(|s| (s.hosts, s.identity.0.clone()));
        let keys: Arc<dyn ResolvesServerCert> = Arc::new(ByName::new(keys));
        if !strict && sites.iter().all(|s| s.client.is_none()) {
            return Ok(Self(Kind::Alike(config(keys, None, tickets)?)));
        }
        let mut ways: Vec<Arc<Way>> = Vec::new();
        let mut named = Vec::new();
        for site in sites {
            let rule = site.client.as_ref().map(|(rule, _)| (*rule).clone());
            let way = if let Some(way) = ways.iter().find(|way| way.rule == rule) {
                way.clone()
            } else {
                let asked = site.client.as_ref().map(|(rule, authorities)| (&**authorities, rule.required));
                let way = Arc::new(Way { config: config(keys.clone(), asked, tickets)?, rule });
                ways.push(way.clone());
                way
            };
            named.push((site.hosts, way));
        }
        Ok(Self(Kind::ByName(Arc::new(Ways { by_name: ByName::new(named.into_iter()), strict }))))
    }

    /// For a new connection. `None`: the machine is out of memory or randomness.
    pub(crate) fn accept(&self) -> Option<Box<Tls>> {
        let state = match &self.0 {
            Kind::Alike(config) => State::Open(connection(config)?),
            Kind::ByName(ways) => {
                State::Hello(Box::new(Hello { reader: <_>::default(), ways: ways.clone() }))
            }
        };
        Some(Box::new(Tls { state, rule: None, begun: false }))
    }
}

/// `asked`: whose certificates clients show, and whether they have to.
fn config(
    keys: Arc<dyn ResolvesServerCert>,
    asked: Option<(&Authorities, bool)>,
    tickets: &Arc<Tickets>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(provider::default_provider());
    let builder =
        ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let builder = match asked {
        None => builder.with_no_client_auth(),
        Some((authorities, required)) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(authorities.roots.clone(), provider);
            let verifier = if required { verifier } else { verifier.allow_unauthenticated() };
            builder.with_client_cert_verifier(
                verifier.build().map_err(|e| rustls::Error::General(e.to_string()))?,
            )
        }
    };
    let mut config = builder.with_cert_resolver(keys);
    config.alpn_protocols = vec![HTTP_2.to_vec(), b"http/1.1".to_vec()];
    // A session takes what was verified along: it is good for the same rule only.
    let context = asked.map(|(authorities, required)| Context { digest: authorities.digest, required });
    config.ticketer = match context {
        None => tickets.clone(),
        Some(context) => Arc::new(TicketsOf { tickets: tickets.clone(), context }),
    };
    // One ticket is what one returning client needs.
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config))
}

fn connection(config: &Arc<ServerConfig>) -> Option<ServerConnection> {
    let mut connection = ServerConnection::new(config.clone()).ok()?;
    // What is written waits in the connection's output, which has bounds of its own.
    connection.set_buffer_limit(None);
    Some(connection)
}

/// One connection's state.
#[derive(Debug)]
pub(crate) struct Tls {
    state: State,
    /// Of the site that the client asked for.
    rule: Option<ClientRule>,
    begun: bool,
}

#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "it is behind a pointer already, and open for nearly all of its life"
)]
enum State {
    /// What the client asks for is not known yet.
    Hello(Box<Hello>),
    Open(ServerConnection),
    /// There is nothing more to do but to say so.
    Refused(Vec<u8>),
}

struct Hello {
    reader: rustls::server::Acceptor,
    ways: Arc<Ways>,
}

impl fmt::Debug for Hello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hello").field("ways", &self.ways).finish_non_exhaustive()
    }
}

impl Tls {
    /// Takes bytes from the socket in and appends what they say to `plain`. `true`: the peer has said that nothing
    /// follows. On an error [`flush`](Self::flush) has the alert to send.
    pub(crate) fn take_in(&mut self, mut wire: &[u8], plain: &mut Vec<u8>) -> Result<bool, rustls::Error> {
        self.begun = true;
        if matches!(self.state, State::Hello(_)) {
            self.take_hello(&mut wire)?;
        }
        let State::Open(connection) = &mut self.state else { return Ok(false) };
        let was_handshaking = self.rule.is_some() && connection.is_handshaking();
        let mut closed = false;
        while !wire.is_empty() && !closed {
            // It takes what its buffer holds; an error here means that this was full of unread plain bytes.
            let took = connection.read_tls(&mut wire);
            let state = connection.process_new_packets()?;
            let at = plain.len();
            plain.resize(at + state.plaintext_bytes_to_read(), 0);
            let got = connection.reader().read(&mut plain[at..]).unwrap_or(0);
            plain.truncate(at + got);
            closed = state.peer_has_closed();
            if matches!(took, Ok(0)) || (took.is_err() && got == 0) {
                break;
            }
        }
        let shown = connection.peer_certificates().and_then(<[_]>::first);
        if was_handshaking && shown.is_some_and(|c| c.len() > client_certificate::BYTES_MAX) {
            return Err(rustls::Error::General("the client's certificate is larger than 8 KiB".to_owned()));
        }
        Ok(closed)
    }

    /// Reads what the client asks for, and goes the way that is for it.
    fn take_hello(&mut self, wire: &mut &[u8]) -> Result<(), rustls::Error> {
        /// A fatal `unrecognized_name` (RFC 6066 §3) in a record of its own (RFC 8446 §5.1): nothing is encrypted yet.
        const UNRECOGNIZED_NAME: &[u8] = &[21, 3, 3, 0, 2, 2, 112];
        let State::Hello(hello) = &mut self.state else { return Ok(()) };
        let accepted = loop {
            if wire.is_empty() {
                return Ok(());
            }
            let took = hello.reader.read_tls(wire);
            match hello.reader.accept() {
                Ok(Some(accepted)) => break accepted,
                Ok(None) if matches!(took, Ok(1..)) => {}
                Ok(None) => return Err(rustls::Error::General("the client's hello is too long".to_owned())),
                Err((error, mut alert)) => return Err(self.refuse(error, &mut alert)),
            }
        };
        let name = accepted.client_hello();
        let name = name.server_name();
        let Ways { by_name, strict } = &*hello.ways;
        let way = by_name.find(name).filter(|_| !strict || !by_name.is_unknown(name));
        let Some(way) = way.cloned() else {
            let error = rustls::Error::General(format!("no site has the name {}", name.unwrap_or_default()));
            self.state = State::Refused(UNRECOGNIZED_NAME.to_vec());
            return Err(error);
        };
        match accepted.into_connection(way.config.clone()) {
            Ok(mut connection) => {
                connection.set_buffer_limit(None);
                let processed = connection.process_new_packets().map(drop);
                self.rule.clone_from(&way.rule);
                self.state = State::Open(connection);
                processed
            }
            Err((error, mut alert)) => Err(self.refuse(error, &mut alert)),
        }
    }

    fn refuse(&mut self, error: rustls::Error, alert: &mut rustls::server::AcceptedAlert) -> rustls::Error {
        let mut bytes = Vec::new();
        let _ = alert.write_all(&mut bytes);
        self.state = State::Refused(bytes);
        error
    }

    /// Encrypts `parts` as if they were one and appends the records to `wire`.
    pub(crate) fn put(&mut self, parts: &[&[u8]], wire: &mut Vec<u8>) {
        let State::Open(connection) = &mut self.state else { return };
        let mut slices = [IoSlice::new(&[]); 6];
        for (slice, part) in slices.iter_mut().zip(parts) {
            *slice = IoSlice::new(part);
        }
        // Without a limit it takes everything.
        let _ = connection.writer().write_vectored(&slices[..parts.len()]);
        self.flush(wire);
    }

    /// Appends what is to be sent by itself: handshake, alerts, tickets.
    pub(crate) fn flush(&mut self, wire: &mut Vec<u8>) {
        match &mut self.state {
            State::Open(connection) => {
                while connection.wants_write() {
                    if connection.write_tls(wire).is_err() {
                        break;
                    }
                }
            }
            State::Refused(alert) => wire.append(alert),
            State::Hello(_) => {}
        }
    }

    /// Appends the word that nothing follows.
    pub(crate) fn close(&mut self, wire: &mut Vec<u8>) {
        if let State::Open(connection) = &mut self.state {
            connection.send_close_notify();
        }
        self.flush(wire);
    }

    /// Whether anything has come yet.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun
    }

    /// What the handshake has agreed on.
    pub(crate) fn speaks_http_2(&self) -> bool {
        matches!(&self.state, State::Open(connection) if connection.alpn_protocol() == Some(HTTP_2))
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        match &self.state {
            State::Open(connection) => connection.is_handshaking(),
            State::Hello(_) | State::Refused(_) => true,
        }
    }

    /// What the client has answered to the rule of its site, if that has one.
    pub(crate) fn shown(&self) -> Option<Shown> {
        let State::Open(connection) = &self.state else { return None };
        let certificate = connection.peer_certificates().and_then(<[_]>::first);
        Some(Shown::new(self.rule.clone()?, certificate.map(|c| &**c)))
    }
}
