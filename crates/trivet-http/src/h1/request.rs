//! Request heads: bytes to a reusable table of spans, or a reason to refuse (RFC 9112 §2–§3, §5–§6; H1–H5, H7).
//!
//! Two kinds of error have a fixed order, so that the verdict never depends on how the bytes were cut into reads:
//! what one line alone shows (syntax, sizes) is refused at the first byte that shows it; what needs the fields
//! together (framing, Host, method and target) is judged when the head is whole.
//!
//! RFC 9112 §6.1 would answer a transfer coding that a server does not know with 501, and §6.3 one that does not
//! end in `chunked` with 400. Both are 400 here: no client sends a request so coded without being told to, and
//! one answer gives a prober nothing to tell apart.

pub use super::Reject;
use super::tokenize::{Scan, Sink, Unrecorded, tokenize};
pub use crate::field::Name;
use crate::field::{is_token, list, trim};

/// Sizes beyond which a head is refused. [`Head::parse`] takes anything above [`Limits::LARGEST`] as that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the request line without its CRLF; more is 414 (501 when it is the method that is too long).
    pub request_line_bytes_max: u32,
    /// Bytes of the whole head, empty line included; more is 431.
    pub head_bytes_max: u32,
    /// Field lines; more is 431.
    pub fields_max: u32,
    /// Bytes of one field line without its CRLF; more is 431.
    pub field_bytes_max: u32,
}

impl Limits {
    /// The largest limits there are: what a user's `0` means.
    pub const LARGEST: Self = Self {
        request_line_bytes_max: 64 * 1024,
        head_bytes_max: 256 * 1024,
        fields_max: 1000,
        field_bytes_max: 256 * 1024,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_line_bytes_max: 8 * 1024,
            head_bytes_max: 32 * 1024,
            fields_max: 100,
            field_bytes_max: 32 * 1024,
        }
    }
}

/// A `Connection` field may list so many options over all its lines; more is 400, because each is looked for
/// among the fields.
const CONNECTION_OPTIONS_MAX: u32 = 32;

/// A range of the buffer that was given to [`Head::parse`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    pub start: u32,
    pub end: u32,
}

impl Span {
    #[inline]
    pub(super) const fn new(start: usize, end: usize) -> Self {
        Self { start: start as u32, end: end as u32 }
    }

    /// The bytes of this span. `buf` must begin with the bytes that were parsed.
    #[inline]
    pub fn of(self, buf: &[u8]) -> &[u8] {
        &buf[self.start as usize..self.end as usize]
    }

    /// How many bytes it spans.
    #[inline]
    pub const fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether it spans nothing.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.start == self.end
    }
}

/// One field line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// As sent, case kept.
    pub name: Span,
    /// Without the whitespace around it. For `Host` beside an absolute-form target it is the target's authority,
    /// which RFC 9112 §3.2.2 puts in its place.
    pub value: Span,
    pub known: Name,
    hop: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    Http10,
    #[default]
    Http11,
}

/// How the body is framed (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyLength {
    #[default]
    None,
    /// Content-Length, 0 included.
    Length(u64),
    Chunked,
}

/// The form of the request target (RFC 9112 §3.2); authority-form belongs to CONNECT, which is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    #[default]
    Origin,
    /// `http://…`
    AbsoluteHttp,
    /// `https://…`: to be refused over a connection that is neither secured nor from a trusted proxy
    /// (RFC 9110 §7.4), which only the caller knows.
    AbsoluteHttps,
    /// `*`, with OPTIONS only.
    Asterisk,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The head is not whole yet; nothing in the [`Head`] may be used.
    Partial,
    Complete,
}

/// A request head as spans into the caller's buffer. One value serves many requests: parsing clears and fills it.
#[derive(Clone, Debug, Default)]
pub struct Head {
    pub fields: Vec<Field>,
    /// Any token but TRACE and CONNECT, case kept.
    pub method: Span,
    /// The request target as sent.
    pub target: Span,
    /// The origin-form part of the target: the target itself, what follows the authority of an absolute-form
    /// target, or `*`.
    pub path_and_query: Span,
    /// The absolute-form target has no path: `/` is meant to stand before what [`Head::path_and_query`] spans,
    /// which is empty or begins with `?`.
    pub empty_path: bool,
    pub form: Form,
    /// The authority of an absolute-form target, else the value of `Host`; empty on HTTP/1.0 without either.
    pub authority: Span,
    pub version: Version,
    pub body: BodyLength,
    /// Whether the client lets the connection go on after this request.
    pub keep_alive: bool,
    /// The client waits for `100 Continue` before it sends a body; never on HTTP/1.0, never without a body.
    pub expect_continue: bool,
    pub is_head: bool,
    /// An `Upgrade` field with its connection option, on HTTP/1.1.
    pub upgrade: bool,
    /// `Connection` names fields other than those that are hop-by-hop anyway; see [`Head::hop`].
    pub connection_options: bool,
    /// Length of the whole head: a tolerated leading CRLF and the closing empty line included.
    pub bytes: u32,
}

impl Head {
    /// Parses the head at the beginning of `buf`, which may hold less than the head or more.
    ///
    /// `resume` belongs to the connection: 0 before the first byte of a request, then left alone while more bytes
    /// are appended to the same `buf`; so a head that dribbles in is scanned once, not once for each read. The
    /// `Head` itself may be shared between connections. `resume` is 0 again after `Complete` and after an error.
    pub fn parse(&mut self, buf: &[u8], limits: &Limits, resume: &mut usize) -> Result<Parsed, Reject> {
        let mut scan = Scan::unpack(std::mem::take(resume));
        if !scan.is_start() {
            if tokenize(buf, limits, &mut scan, &mut Unrecorded)?.is_none() {
                *resume = scan.pack();
                return Ok(Parsed::Partial);
            }
            scan = Scan::default();
        }
        self.clear();
        let Some(bytes) = tokenize(buf, limits, &mut scan, &mut Recorder { head: self, buf })? else {
            *resume = scan.pack();
            return Ok(Parsed::Partial);
        };
        self.bytes = bytes as u32;
        self.judge(buf)?;
        Ok(Parsed::Complete)
    }

    /// Whether field `index` is hop-by-hop: by its name, or named in `Connection` (RFC 9110 §7.6.1; H12).
    #[inline]
    pub fn hop(&self, index: usize) -> bool {
        let field = &self.fields[index];
        field.known.is_hop_by_hop() || field.hop
    }

    fn clear(&mut self) {
        let mut fields = std::mem::take(&mut self.fields);
        fields.clear();
        *self = Self { fields, ..Self::default() };
    }

    /// Judges what the whole head says: method, target, framing, Host, connection.
    fn judge(&mut self, buf: &[u8]) -> Result<(), Reject> {
        let method = self.method.of(buf);
        match method {
            b"HEAD" => self.is_head = true,
            // 501 and not 405: they exist for no resource here, and 405 would owe an Allow field
            b"TRACE" => return Err(Reject::new(501, "method.trace")),
            b"CONNECT" => return Err(Reject::new(501, "method.connect")),
            _ => {}
        }
        self.judge_target(buf)?;

        let modern = self.version == Version::Http11;
        let absolute = self.authority;
        let (mut hosts, mut lengths, mut codings) = (0u32, 0u32, 0u32);
        let (mut expects, mut upgrade_named) = (false, false);
        let mut connection = Connection::default();
        for field in &mut self.fields {
            match field.known {
                Name::Host => {
                    hosts += 1;
                    if !valid_host(field.value.of(buf)) {
                        return Err(Reject::bad("host.invalid"));
                    }
                    if absolute.is_empty() {
                        self.authority = field.value;
                    } else {
                        field.value = absolute;
                    }
                }
                Name::ContentLength => {
                    lengths += 1;
                    self.body = BodyLength::Length(content_length(field.value.of(buf))?);
                }
                Name::TransferEncoding => {
                    codings += 1;
                    if !field.value.of(buf).eq_ignore_ascii_case(b"chunked") {
                        return Err(Reject::bad("smuggling.encoding"));
                    }
                }
                Name::Connection => connection.add(field.value.of(buf))?,
                Name::Upgrade => upgrade_named = true,
                Name::Expect => {
                    if !field.value.of(buf).eq_ignore_ascii_case(b"100-continue") {
                        return Err(Reject::new(417, "expect.unknown"));
                    }
                    expects = true;
                }
                _ => {}
            }
        }
        if hosts != 1 {
            if hosts > 1 {
                return Err(Reject::bad("host.repeated"));
            }
            if modern {
                return Err(Reject::bad("host.missing"));
            }
        }
        if lengths > 1 {
            return Err(Reject::bad("smuggling.lengths"));
        }
        if codings > 0 {
            if !modern {
                return Err(Reject::bad("smuggling.encoding_on_1.0"));
            }
            if codings > 1 {
                return Err(Reject::bad("smuggling.encodings"));
            }
            if lengths > 0 {
                return Err(Reject::bad("smuggling.length_and_encoding"));
            }
            self.body = BodyLength::Chunked;
        }
        self.keep_alive = !connection.close && (modern || connection.keep_alive);
        self.upgrade = upgrade_named && connection.upgrade && modern;
        self.expect_continue =
            expects && modern && !matches!(self.body, BodyLength::None | BodyLength::Length(0));
        if connection.others {
            self.mark_named_fields(buf)?;
        }
        Ok(())
    }

    fn judge_target(&mut self, buf: &[u8]) -> Result<(), Reject> {
        let target = self.target.of(buf);
        self.path_and_query = self.target;
        if target[0] == b'/' {
            return Ok(());
        }
        if target == b"*" {
            self.form = Form::Asterisk;
            return match self.method.of(buf) {
                b"OPTIONS" => Ok(()),
                _ => Err(Reject::bad("target.asterisk")),
            };
        }
        let starts_with =
            |scheme: &[u8]| target.get(..scheme.len()).is_some_and(|t| t.eq_ignore_ascii_case(scheme));
        let scheme = if starts_with(b"http://") {
            self.form = Form::AbsoluteHttp;
            7
        } else if starts_with(b"https://") {
            self.form = Form::AbsoluteHttps;
            8
        } else {
            return Err(Reject::bad("target.form"));
        };
        let rest = &target[scheme..];
        let length = memchr::memchr2(b'/', b'?', rest).unwrap_or(rest.len());
        if !valid_host(&rest[..length]) {
            return Err(Reject::bad("target.authority"));
        }
        let start = self.target.start as usize + scheme;
        self.authority = Span::new(start, start + length);
        self.path_and_query = Span { start: self.authority.end, end: self.target.end };
        self.empty_path = rest.get(length) != Some(&b'/');
        Ok(())
    }

    /// Marks the fields that `Connection` names.
    fn mark_named_fields(&mut self, buf: &[u8]) -> Result<(), Reject> {
        let mut options = 0;
        for index in 0..self.fields.len() {
            if self.fields[index].known != Name::Connection {
                continue;
            }
            for option in list(self.fields[index].value.of(buf)) {
                options += 1;
                if options > CONNECTION_OPTIONS_MAX {
                    return Err(Reject::bad("connection.options"));
                }
                let known = Name::of(option);
                if is_end_to_end(known) {
                    return Err(Reject::bad("connection.end_to_end"));
                }
                if known.is_hop_by_hop() || option.eq_ignore_ascii_case(b"close") {
                    continue;
                }
                self.connection_options = true;
                for field in &mut self.fields {
                    field.hop |= field.name.of(buf).eq_ignore_ascii_case(option);
                }
            }
        }
        Ok(())
    }
}

/// Fields that `Connection` may not name (RFC 9110 §7.6.1): a client that got one of them dropped would change
/// how the request is framed, routed or attributed.
const fn is_end_to_end(name: Name) -> bool {
    matches!(
        name,
        Name::Host
            | Name::ContentLength
            | Name::ContentType
            | Name::Cookie
            | Name::Authorization
            | Name::Forwarded
            | Name::XForwardedFor
            | Name::XForwardedProto
            | Name::XForwardedHost
            | Name::XForwardedPort
            | Name::XForwardedPrefix
            | Name::XForwardedOther
            | Name::XRequestId
    )
}

/// What the `Connection` fields say, without the fields that they name.
#[derive(Default)]
struct Connection {
    close: bool,
    keep_alive: bool,
    upgrade: bool,
    others: bool,
}

impl Connection {
    fn add(&mut self, value: &[u8]) -> Result<(), Reject> {
        if value.eq_ignore_ascii_case(b"keep-alive") {
            self.keep_alive = true;
            return Ok(());
        }
        for option in list(value) {
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade = true;
            } else if is_token(option) {
                self.others = true;
            } else {
                return Err(Reject::bad("connection.syntax"));
            }
        }
        Ok(())
    }
}

/// H1: digits alone, without leading zeros, that fit 64 bits.
fn content_length(value: &[u8]) -> Result<u64, Reject> {
    let refused = Reject::bad("smuggling.length");
    if value.is_empty() || (value[0] == b'0' && value.len() > 1) {
        return Err(refused);
    }
    let mut length = 0u64;
    for byte in value {
        if !byte.is_ascii_digit() {
            return Err(refused);
        }
        let digit = u64::from(byte - b'0');
        length = length.checked_mul(10).and_then(|l| l.checked_add(digit)).ok_or(refused)?;
    }
    Ok(length)
}

/// Whether `value` names a host, with or without a port (RFC 9110 §7.2, RFC 3986 §3.2): a name of letters,
/// digits and `-._~`, or an IPv6 address in brackets.
///
/// Narrower than the grammar, which takes `!$&'()*+,;=` and percent escapes in names too: no resolver knows such a
/// name, and a comma hides a second host.
pub fn valid_host(value: &[u8]) -> bool {
    let host_end = if value.first() == Some(&b'[') {
        let Some(end) = value.iter().position(|&b| b == b']') else { return false };
        let address = std::str::from_utf8(&value[1..end]).unwrap_or_default();
        if address.parse::<std::net::Ipv6Addr>().is_err() {
            return false;
        }
        end + 1
    } else {
        let mut end = 0;
        while end < value.len() && HOST_BYTE[value[end] as usize] {
            end += 1;
        }
        end
    };
    match value.get(host_end) {
        _ if host_end == 0 => false,
        None => true,
        Some(b':') => valid_port(&value[host_end + 1..]),
        Some(_) => false,
    }
}

static HOST_BYTE: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        table[byte] = b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
        byte += 1;
    }
    table
};

/// The grammar allows an empty port; it stands for the default one.
fn valid_port(port: &[u8]) -> bool {
    if port.len() > 5 {
        return false;
    }
    let mut number = 0;
    for byte in port {
        let digit = u32::from(byte.wrapping_sub(b'0'));
        if digit > 9 {
            return false;
        }
        number = number * 10 + digit;
    }
    number <= 0xffff
}

/// Fills the head while the tokenizer goes over it.
struct Recorder<'a> {
    head: &'a mut Head,
    buf: &'a [u8],
}

impl Sink for Recorder<'_> {
    #[inline]
    fn request_line(&mut self, method: Span, target: Span, version: Version) {
        self.head.method = method;
        self.head.target = target;
        self.head.version = version;
    }

    #[inline]
    fn field(&mut self, name: Span, value: Span, underscore: bool) {
        let known = if underscore { Name::Underscore } else { Name::of_plain(name.of(self.buf)) };
        self.head.fields.push(Field { name, value: trimmed(value, self.buf), known, hop: false });
    }
}

#[inline]
fn trimmed(value: Span, buf: &[u8]) -> Span {
    let bytes = value.of(buf);
    // one space before and none after is how everybody writes it
    if let [b' ', rest @ ..] = bytes
        && let [first, ..] = rest
        && let [.., last] = rest
        && *first > b' '
        && *last > b' '
    {
        return Span { start: value.start + 1, end: value.end };
    }
    let kept = trim(bytes);
    let start = value.start as usize + (kept.as_ptr() as usize - bytes.as_ptr() as usize);
    Span::new(start, start + kept.len())
}
