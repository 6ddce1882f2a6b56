//! The segments of a request's path: the one reading that router and interceptors share.
//!
//! Two readings of one path are how a guard is passed by: so there is one. A path is cut at the slashes the client
//! sent as slashes; `%2F` is a byte within a segment wherever the server hands over the path as it was sent. Segments
//! that have no one meaning (empty, `.`, `..`) make a path odd, and no route matches an odd path.

use std::borrow::Cow;

use memchr::{memchr, memchr_iter};

/// Most segments a path may have; a longer path is odd, and only its first `SEGMENTS_MAX` segments are kept.
pub const SEGMENTS_MAX: usize = 64;
/// Segments kept without an allocation.
const INLINE: usize = 16;
/// No path is longer than this, in bytes; spans are `u32`.
const PATH_BYTES_MAX: usize = 1 << 30;

/// Where a value lies in the path that was split: bytes `start..end`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

/// A path cut into decoded segments, all borrowed from `PATH_INFO`.
#[derive(Clone, Debug)]
pub struct Segments<'a> {
    path: &'a [u8],
    /// Where segment i begins; the entry after the last is one past the slash that would follow it.
    inline: [u32; INLINE + 1],
    /// All of `inline` and more, once there are more than `INLINE` segments.
    spill: Vec<u32>,
    len: usize,
    trailing_slash: bool,
    odd: bool,
    encoded_slash: bool,
}

impl<'a> Segments<'a> {
    /// Cuts `path_info`: decoded bytes that begin with `/`, or nothing at all.
    ///
    /// `raw` is the path as the client sent it (`RAW_URI` or `REQUEST_URI`). It says which slashes were sent as `%2F`,
    /// and is believed only if it decodes to `script_name` followed by `path_info`; else every slash separates.
    ///
    /// Linear in the length of the path, no allocation up to 16 segments without `%2F`.
    pub fn split(path_info: &'a [u8], script_name: &[u8], raw: Option<&[u8]>) -> Segments<'a> {
        // The decoded bytes are `path_info` in any case, so `raw` matters only where it hides a slash.
        if let Some(raw) = raw
            && has_encoded_slash(raw)
            && let Some(slashes) = sent_slashes(raw, script_name, path_info)
        {
            if path_info.is_empty() || slashes.first() == Some(&0) {
                let mut segments = Self::at(path_info, slashes.into_iter());
                segments.look_into_slashes();
                return segments;
            }
            // the slash between mount point and path is itself an escaped one: no reading of it is right
            let mut segments = Self::at(path_info, memchr_iter(b'/', path_info));
            segments.odd = true;
            return segments;
        }
        Self::at(path_info, memchr_iter(b'/', path_info))
    }

    fn at(path: &'a [u8], slashes: impl Iterator<Item = usize>) -> Segments<'a> {
        let rooted = path.first() == Some(&b'/');
        let mut segments = Segments {
            path,
            inline: [0; INLINE + 1],
            spill: Vec::new(),
            len: 0,
            trailing_slash: false,
            odd: !rooted && !path.is_empty(),
            encoded_slash: false,
        };
        if path.len() > PATH_BYTES_MAX {
            segments.path = &path[..PATH_BYTES_MAX];
            segments.odd = true;
            return segments;
        }
        let mut start = usize::from(rooted);
        for slash in slashes.skip(usize::from(rooted)) {
            if !segments.push(start, slash) {
                return segments;
            }
            start = slash + 1;
        }
        if start < path.len() {
            if segments.push(start, path.len()) {
                segments.mark(path.len() + 1);
            }
        } else {
            segments.trailing_slash = !path.is_empty();
            segments.mark(start);
        }
        segments
    }

    /// Adds the segment `start..end`; false if there are too many.
    #[inline]
    fn push(&mut self, start: usize, end: usize) -> bool {
        self.mark(start);
        if self.len == SEGMENTS_MAX {
            self.odd = true;
            return false;
        }
        self.len += 1;
        if end - start <= 2 && matches!(&self.path[start..end], b"" | b"." | b"..") {
            self.odd = true;
        }
        true
    }

    /// Writes the mark of segment `len`.
    #[inline]
    fn mark(&mut self, at: usize) {
        if let Some(mark) = self.inline.get_mut(self.len) {
            *mark = at as u32;
        } else {
            if self.spill.is_empty() {
                self.spill.extend_from_slice(&self.inline);
            }
            self.spill.push(at as u32);
        }
    }

    /// `..%2F..%2Fetc` is no better than `../../etc` to whoever joins it to a folder.
    fn look_into_slashes(&mut self) {
        for index in 0..self.len {
            let segment = self.get(index);
            if memchr(b'/', segment).is_some() {
                self.encoded_slash = true;
                if segment.split(|b| *b == b'/').any(|piece| matches!(piece, b"." | b"..")) {
                    self.odd = true;
                }
            }
        }
    }

    #[inline]
    fn marks(&self) -> &[u32] {
        if self.spill.is_empty() { &self.inline } else { &self.spill }
    }

    /// How many segments there are: 0 for `/` and for nothing.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether this is the root.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Segment `index`, decoded; nothing past the last.
    #[inline]
    pub fn get(&self, index: usize) -> &'a [u8] {
        self.bytes(self.span(index))
    }

    /// Where segment `index` lies; an empty span past the last.
    #[inline]
    pub fn span(&self, index: usize) -> Span {
        let marks = self.marks();
        if index < self.len {
            Span { start: marks[index], end: marks[index + 1] - 1 }
        } else {
            Span::default()
        }
    }

    /// The bytes of a span that came from these segments.
    #[inline]
    pub fn bytes(&self, span: Span) -> &'a [u8] {
        self.path.get(span.start as usize..span.end as usize).unwrap_or_default()
    }

    /// All segments in order.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + '_ {
        (0..self.len).map(|index| self.get(index))
    }

    /// Whether the path ends with a slash: `/a/` is the segment `a` with one, `/` no segment with one.
    #[inline]
    pub fn trailing_slash(&self) -> bool {
        self.trailing_slash
    }

    /// Whether the path has an empty segment, `.`, `..` (also hidden behind `%2F`), too many segments, or no slash at
    /// its beginning. No route matches such a path.
    #[inline]
    pub fn is_odd(&self) -> bool {
        self.odd
    }

    /// Whether a segment holds a slash, sent as `%2F`.
    #[inline]
    pub fn has_encoded_slash(&self) -> bool {
        self.encoded_slash
    }

    /// Where the segments from `from` on lie, joined by `/`, with the trailing slash if there is one.
    pub fn rest_span(&self, from: usize) -> Span {
        if from < self.len {
            Span { start: self.marks()[from], end: self.path.len() as u32 }
        } else {
            Span { start: self.path.len() as u32, end: self.path.len() as u32 }
        }
    }

    /// The segments from `from` on, joined by `/`, with the trailing slash if there is one.
    pub fn rest(&self, from: usize) -> Cow<'a, [u8]> {
        Cow::Borrowed(self.bytes(self.rest_span(from)))
    }

    /// What lies below the first `depth` segments, with its slash: of `/old/a/`, below 1, `/a/`; of `/old` nothing.
    /// This is the `PATH_INFO` of what is mounted there.
    pub fn below(&self, depth: usize) -> &'a [u8] {
        let start = match depth {
            0 => 0,
            _ if depth <= self.len => self.marks()[depth] as usize - 1,
            _ => self.path.len(),
        };
        self.path.get(start..).unwrap_or_default()
    }

    /// The path in percent-encoding, with or without a slash at its end: what a redirect to the other form says
    /// after `SCRIPT_NAME`. Never begins with `//` unless the path is odd.
    pub fn encoded(&self, trailing_slash: bool) -> String {
        let mut text = String::with_capacity(self.path.len() + 8);
        for segment in self.iter() {
            text.push('/');
            encode(segment, &mut text);
        }
        if trailing_slash || text.is_empty() {
            text.push('/');
        }
        text
    }

    /// The segments if `%2F` had been a slash: what somebody sees who splits a value once more.
    pub(crate) fn cut_again(&self) -> Vec<&'a [u8]> {
        self.iter().flat_map(|segment| segment.split(|b| *b == b'/')).collect()
    }
}

/// Percent-encodes one segment: all but RFC 3986's `pchar` (unreserved, sub-delims, `:` and `@`).
pub(crate) fn encode(segment: &[u8], out: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in segment {
        if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte) {
            out.push(byte as char);
        } else {
            out.push('%');
            out.push(HEX[usize::from(byte >> 4)] as char);
            out.push(HEX[usize::from(byte & 15)] as char);
        }
    }
}

fn has_encoded_slash(raw: &[u8]) -> bool {
    memchr_iter(b'%', raw).any(|at| matches!(raw.get(at + 1..at + 3), Some([b'2', b'F' | b'f'])))
}

/// Where in `path_info` the slashes lie that the client sent as such, if `raw` decodes to `script_name + path_info`.
fn sent_slashes(raw: &[u8], script_name: &[u8], path_info: &[u8]) -> Option<Vec<usize>> {
    let raw = path_of(raw);
    let mut slashes = Vec::new();
    let (mut from, mut to) = (0, 0usize);
    while from < raw.len() {
        let (byte, width) = match raw[from..] {
            [b'%', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                (nibble(high) << 4 | nibble(low), 3)
            }
            [byte, ..] => (byte, 1),
            [] => break,
        };
        let in_path = to.checked_sub(script_name.len());
        let expected = in_path.map_or_else(|| script_name.get(to), |at| path_info.get(at));
        if expected != Some(&byte) {
            return None;
        }
        if let Some(at) = in_path
            && byte == b'/'
            && width == 1
        {
            slashes.push(at);
        }
        from += width;
        to += 1;
    }
    (to == script_name.len() + path_info.len()).then_some(slashes)
}

/// The path of a request target: proxies send `http://host/path?query` (RFC 9112 §3.2.2).
fn path_of(raw: &[u8]) -> &[u8] {
    let raw = &raw[..memchr(b'?', raw).unwrap_or(raw.len())];
    if raw.first() == Some(&b'/') {
        return raw;
    }
    let Some(host) = memchr::memmem::find(raw, b"://").map(|at| at + 3) else { return raw };
    memchr(b'/', &raw[host..]).map_or(&[][..], |slash| &raw[host + slash..])
}

fn nibble(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(path: &str) -> (Vec<String>, bool, bool) {
        seen(&Segments::split(path.as_bytes(), b"", None))
    }

    fn seen(segments: &Segments) -> (Vec<String>, bool, bool) {
        let texts = segments.iter().map(|s| String::from_utf8_lossy(s).into_owned()).collect();
        (texts, segments.trailing_slash(), segments.is_odd())
    }

    fn sent(raw: &str, script: &str, path: &str) -> (Vec<String>, bool, bool) {
        seen(&Segments::split(path.as_bytes(), script.as_bytes(), Some(raw.as_bytes())))
    }

    fn are(texts: &[&str], slash: bool, odd: bool) -> (Vec<String>, bool, bool) {
        (texts.iter().map(ToString::to_string).collect(), slash, odd)
    }

    #[test]
    fn a_path_is_cut_at_its_slashes() {
        assert_eq!(of(""), are(&[], false, false));
        assert_eq!(of("/"), are(&[], true, false));
        assert_eq!(of("/a"), are(&["a"], false, false));
        assert_eq!(of("/a/"), are(&["a"], true, false));
        assert_eq!(of("/a/b;x=1/c d"), are(&["a", "b;x=1", "c d"], false, false));
        assert_eq!(of("/a\\b/é"), are(&["a\\b", "é"], false, false));
    }

    #[test]
    fn segments_without_one_meaning_make_a_path_odd() {
        assert_eq!(of("//"), are(&[""], true, true));
        assert_eq!(of("//a"), are(&["", "a"], false, true));
        assert_eq!(of("/a//b"), are(&["a", "", "b"], false, true));
        assert_eq!(of("/a//"), are(&["a", ""], true, true));
        assert_eq!(of("/a/."), are(&["a", "."], false, true));
        assert_eq!(of("/../a"), are(&["..", "a"], false, true));
        assert_eq!(of("/.../a"), are(&["...", "a"], false, false));
        assert_eq!(of("*"), are(&["*"], false, true));
        assert_eq!(of("a/b/"), are(&["a", "b"], true, true));
    }

    #[test]
    fn a_path_has_up_to_64_segments() {
        for count in [15, 16, 17, 18, 63, 64] {
            for slash in ["", "/"] {
                let texts: Vec<String> = (0..count).map(|n| n.to_string()).collect();
                let path = format!("/{}{slash}", texts.join("/"));
                assert_eq!(of(&path), (texts, !slash.is_empty(), false), "{path}");
            }
        }
        for more in ["/a".repeat(65), "/a".repeat(66) + "/", "/".repeat(10_000)] {
            let segments = Segments::split(more.as_bytes(), b"", None);
            assert!(segments.is_odd() && segments.len() == SEGMENTS_MAX);
            assert!(segments.iter().all(|s| s.len() <= 1));
        }
    }

    #[test]
    fn an_escaped_slash_is_part_of_its_segment() {
        assert_eq!(sent("/a%2Fb/c", "", "/a/b/c"), are(&["a/b", "c"], false, false));
        assert_eq!(sent("/a%2fb%2f", "", "/a/b/"), are(&["a/b/"], false, false));
        assert_eq!(sent("/%2F/", "", "///"), are(&["/"], true, false));
        assert_eq!(sent("/%61%2F%zz", "", "/a/%zz"), are(&["a/%zz"], false, false));
        assert_eq!(sent("/m%6f/a%2Fb", "/mo", "/a/b"), are(&["a/b"], false, false));
        assert_eq!(sent("/a%2Fb/c", "/a/b", "/c"), are(&["c"], false, false));
        assert_eq!(sent("/a%2Fb", "/a/b", ""), are(&[], false, false));
        assert_eq!(sent("http://host/a%2Fb?x=/", "", "/a/b"), are(&["a/b"], false, false));
    }

    #[test]
    fn a_raw_path_of_something_else_is_not_believed() {
        for raw in ["/a%2Fc", "/a%2Fb/c", "/x/a%2Fb", "a%2Fb", "", "/a%252Fb", "http://a%2Fb"] {
            assert_eq!(sent(raw, "", "/a/b"), are(&["a", "b"], false, false), "{raw}");
        }
        assert_eq!(sent("/a%2Fb", "/app", "/a/b"), are(&["a", "b"], false, false));
    }

    #[test]
    fn dots_behind_an_escaped_slash_are_odd() {
        assert_eq!(sent("/..%2Fa", "", "/../a"), are(&["../a"], false, true));
        assert_eq!(sent("/a%2F%2E", "", "/a/."), are(&["a/."], false, true));
        assert_eq!(sent("/http:%2F%2Fa", "", "/http://a"), are(&["http://a"], false, false));
    }

    #[test]
    fn an_escaped_slash_after_the_mount_point_is_odd() {
        assert_eq!(sent("/mo%2Fa", "/mo", "/a"), are(&["a"], false, true));
    }

    #[test]
    fn the_rest_is_joined_with_its_trailing_slash() {
        let rest = |path: &str, from| {
            String::from_utf8(Segments::split(path.as_bytes(), b"", None).rest(from).into_owned()).unwrap()
        };
        assert_eq!(rest("/a/b/c", 0), "a/b/c");
        assert_eq!(rest("/a/b/c/", 1), "b/c/");
        assert_eq!(rest("/a/b/c", 2), "c");
        assert_eq!(rest("/a/", 1), "");
        assert_eq!(rest("/", 0), "");
    }

    #[test]
    fn below_is_the_path_of_what_is_mounted() {
        let below = |path: &'static str, depth| {
            std::str::from_utf8(Segments::split(path.as_bytes(), b"", None).below(depth)).unwrap()
        };
        assert_eq!(below("/old/a/", 1), "/a/");
        assert_eq!(below("/old/", 1), "/");
        assert_eq!(below("/old", 1), "");
        assert_eq!(below("/old/a", 0), "/old/a");
        assert_eq!(below("/", 0), "/");
        assert_eq!(below("/a", 7), "");
    }

    #[test]
    fn a_path_is_written_back_in_one_spelling() {
        let segments = Segments::split(b"/a b/\\x/\xff/c:@", b"", None);
        assert_eq!(segments.encoded(true), "/a%20b/%5Cx/%FF/c:@/");
        assert_eq!(Segments::split(b"/", b"", None).encoded(false), "/");
        let slash = Segments::split(b"/a/b/", b"", Some(b"/a%2Fb/"));
        assert_eq!(slash.encoded(false), "/a%2Fb");
    }

    proptest! {
        #[test]
        fn cutting_agrees_with_the_plainest_way(path in "(/[a./é]{0,3}){0,20}") {
            let segments = Segments::split(path.as_bytes(), b"", None);
            let mut plain: Vec<&str> = path.split('/').skip(1).collect();
            let slash = plain.last() == Some(&"");
            if slash {
                plain.pop();
            }
            prop_assert_eq!(segments.is_odd(), plain.len() > SEGMENTS_MAX
                || plain.iter().any(|s| matches!(*s, "" | "." | "..")));
            if plain.len() <= SEGMENTS_MAX {
                prop_assert_eq!(segments.trailing_slash(), slash);
                let cut: Vec<&[u8]> = segments.iter().collect();
                prop_assert_eq!(cut, plain.iter().map(|s| s.as_bytes()).collect::<Vec<_>>());
            }
        }

        #[test]
        fn what_is_written_is_read_again(texts in proptest::collection::vec("[a/%é .]{1,4}", 0..5), slash: bool) {
            let decoded: String = texts.iter().flat_map(|t| ["/", t]).collect::<String>() + if slash || texts.is_empty() { "/" } else { "" };
            let mut raw = String::new();
            for text in &texts {
                raw.push('/');
                encode(text.as_bytes(), &mut raw);
            }
            if slash || texts.is_empty() {
                raw.push('/');
            }
            let segments = Segments::split(decoded.as_bytes(), b"", Some(raw.as_bytes()));
            let cut: Vec<&[u8]> = segments.iter().collect();
            prop_assert_eq!(cut, texts.iter().map(String::as_bytes).collect::<Vec<_>>());
            prop_assert_eq!(segments.encoded(slash), raw);
        }

        #[test]
        fn nothing_panics(path: Vec<u8>, script: Vec<u8>, raw: Option<Vec<u8>>) {
            let segments = Segments::split(&path, &script, raw.as_deref());
            for index in 0..=segments.len() {
                let _ = (segments.get(index), segments.rest(index), segments.below(index));
            }
            let _ = (segments.cut_again(), segments.encoded(true));
        }
    }
}
