//! Texts with places to fill in, for redirects and rewrites: `https://{host}{uri}`.

use std::fmt;

/// What may be filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The host that the client named, without its port.
    Host,
    /// `http` or `https`.
    Scheme,
    /// The path. At the beginning of a text it is the canonical one, encoded anew, so that no path can name a host;
    /// elsewhere it may be as it came.
    Path,
    /// What the star at the end of the route's path stands for, without a slash before it.
    Rest,
    /// The query as it came, without the `?`.
    Query,
    /// `Path`, and the query with its `?` if there is one.
    Uri,
}

const PLACES: [(&str, Place); 6] = [
    ("host", Place::Host),
    ("scheme", Place::Scheme),
    ("path", Place::Path),
    ("rest", Place::Rest),
    ("query", Place::Query),
    ("uri", Place::Uri),
];

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Place(Place),
}

/// A parsed template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Box<[Part]>);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTemplate {
    #[error(
        "`{{{0}}}` is not one of `{{host}}`, `{{scheme}}`, `{{path}}`, `{{rest}}`, `{{query}}` and `{{uri}}`"
    )]
    Unknown(String),
    #[error("a brace without its partner; a brace of its own is written twice")]
    Brace,
    #[error("only visible ASCII letters may stand here")]
    Letter,
}

/// What the request has to fill in.
#[derive(Clone, Copy, Debug)]
pub struct Values<'a> {
    pub host: &'a [u8],
    pub https: bool,
    /// Canonical.
    pub path: &'a str,
    /// Stands for the canonical path where it need not be canonical.
    pub raw_path: Option<&'a [u8]>,
    /// Where in the path what the star stands for begins.
    pub rest_at: usize,
    pub query: Option<&'a [u8]>,
}

impl Template {
    pub fn parse(text: &str) -> Result<Self, BadTemplate> {
        if !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(BadTemplate::Letter);
        }
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            plain.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix(brace) {
                plain.push_str(brace);
                rest = after;
                continue;
            }
            let (name, after) = rest.split_once('}').filter(|_| brace == "{").ok_or(BadTemplate::Brace)?;
            let (_, place) = PLACES
                .iter()
                .find(|(known, _)| *known == name)
                .ok_or_else(|| BadTemplate::Unknown(name.to_owned()))?;
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain).into()));
            }
            parts.push(Part::Place(*place));
            rest = after;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain.into()));
        }
        Ok(Self(parts.into()))
    }

    /// Whether it fills in this place.
    pub fn has(&self, place: Place) -> bool {
        self.0.contains(&Part::Place(place))
    }

    /// Whether the path must be canonical: it stands at the beginning, where it could name a host, or a part of it is
    /// asked for.
    pub fn needs_canonical(&self) -> bool {
        matches!(self.0.first(), Some(Part::Place(Place::Path | Place::Uri))) || self.has(Place::Rest)
    }

    /// Appends the text with everything filled in. Nothing of it can end a header line: each value is visible ASCII or
    /// encoded.
    pub fn fill(&self, values: &Values<'_>, out: &mut Vec<u8>) {
        let start = out.len();
        for part in &self.0 {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Place(Place::Host) => visible(values.host, out),
                Part::Place(Place::Scheme) => {
                    out.extend_from_slice(if values.https { b"https" } else { b"http" });
                }
                Part::Place(Place::Path) => values.put_path(out),
                Part::Place(Place::Rest) => {
                    let rest = values.path.get(values.rest_at..).unwrap_or_default();
                    crate::path::encode(rest.trim_start_matches('/'), out);
                }
                Part::Place(Place::Query) => visible(values.query.unwrap_or_default(), out),
                Part::Place(Place::Uri) => {
                    values.put_path(out);
                    if let Some(query) = values.query {
                        out.push(b'?');
                        visible(query, out);
                    }
                }
            }
        }
        // What a request fills in behind a first slash must not make a host of it.
        let meant = matches!(self.0.first(), Some(Part::Text(text)) if text.starts_with("//"));
        if out.get(start) == Some(&b'/') && !meant {
            let slashes = out[start..].iter().take_while(|b| matches!(b, b'/' | b'\\')).count();
            out.drain(start + 1..start + slashes);
        }
    }
}

impl Values<'_> {
    fn put_path(&self, out: &mut Vec<u8>) {
        match self.raw_path {
            Some(raw) => {
                if !raw.starts_with(b"/") {
                    out.push(b'/');
                }
                visible(raw, out);
            }
            None => crate::path::encode(self.path, out),
        }
    }
}

fn visible(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend(bytes.iter().filter(|b| b.is_ascii_graphic()));
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.0 {
            match part {
                Part::Text(text) => f.write_str(&text.replace('{', "{{").replace('}', "}}"))?,
                Part::Place(place) => {
                    let name = PLACES.iter().find(|(_, p)| p == place).map_or("", |(name, _)| name);
                    write!(f, "{{{name}}}")?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str) -> String {
        let values = Values {
            host: b"shop.example",
            https: true,
            path: "/api/caf\u{e9} x",
            raw_path: None,
            rest_at: 4,
            query: Some(b"a=1&b=%20"),
        };
        let mut out = Vec::new();
        Template::parse(text).unwrap().fill(&values, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn places_are_filled_in() {
        for (text, result) in [
            ("https://{host}{uri}", "https://shop.example/api/caf%C3%A9%20x?a=1&b=%20"),
            ("{scheme}://www.{host}/{rest}", "https://www.shop.example/caf%C3%A9%20x"),
            ("/x?{query}", "/x?a=1&b=%20"),
            ("/{{not}}/{path}", "/{not}//api/caf%C3%A9%20x"),
            ("/{path}", "/api/caf%C3%A9%20x"),
            ("/plain", "/plain"),
        ] {
            assert_eq!(filled(text), result);
            let template = Template::parse(text).unwrap();
            assert_eq!(Template::parse(&template.to_string()), Ok(template));
        }
    }

    #[test]
    fn a_path_that_could_name_a_host_is_canonical() {
        let values = Values {
            host: b"h",
            https: false,
            path: "/evil.example/x",
            raw_path: Some(b"//evil.example/a%2Fb"),
            rest_at: 0,
            query: None,
        };
        let filled = |text: &str| {
            let template = Template::parse(text).unwrap();
            let mut out = Vec::new();
            let raw_path = values.raw_path.filter(|_| !template.needs_canonical());
            template.fill(&Values { raw_path, ..values }, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(filled("https://{host}{uri}"), "https://h//evil.example/a%2Fb");
        assert_eq!(filled("{uri}"), "/evil.example/x");
        assert_eq!(filled("{path}"), "/evil.example/x");
        assert_eq!(filled("/{rest}"), "/evil.example/x");
    }

    #[test]
    fn what_is_no_template_says_why() {
        for (text, why) in [
            ("{hots}", BadTemplate::Unknown("hots".into())),
            ("{host", BadTemplate::Brace),
            ("host}", BadTemplate::Brace),
            ("a b", BadTemplate::Letter),
            ("a\r\nb", BadTemplate::Letter),
        ] {
            assert_eq!(Template::parse(text), Err(why), "{text}");
        }
    }
}
