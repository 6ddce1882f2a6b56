//! For tests: routes as a plain model, matched in the plainest way, and generators of tables and paths.
//!
//! Nothing here uses the code that it judges: converters, splitting and matching are written a second time.

use std::cell::RefCell;
use std::collections::HashMap;

use proptest::prelude::*;
use regex::Regex;

use super::Template;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seg {
    Lit(&'static str),
    Par { prefix: &'static str, suffix: &'static str, converter: &'static str },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Here,
    Path,
    Mount,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Model {
    pub(crate) segs: Vec<Seg>,
    pub(crate) end: End,
    pub(crate) slash: bool,
    pub(crate) methods: Vec<&'static str>,
}

impl Model {
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for (at, seg) in self.segs.iter().enumerate() {
            let written = match seg {
                Seg::Lit(literal) => format!("/{literal}"),
                Seg::Par { prefix, suffix, converter } => format!("/{prefix}{{p{at}:{converter}}}{suffix}"),
            };
            text.push_str(&written);
        }
        if self.end == End::Path {
            text += "/{rest:path}";
        }
        if self.slash || text.is_empty() {
            text += "/";
        }
        text
    }

    pub(crate) fn template(&self) -> Template {
        let none = |_: &str| None;
        match self.end {
            End::Mount => Template::mount(&self.text(), false, &none).unwrap(),
            _ => Template::parse(&self.text(), &none).unwrap(),
        }
    }

    /// As the template is read: the root has its slash, a mount has none.
    pub(crate) fn slashed(&self) -> bool {
        self.end != End::Mount && (self.slash || self.segs.is_empty() && self.end == End::Here)
    }

    fn serves(&self, method: &str) -> bool {
        self.methods.contains(&method) || method == "HEAD" && self.methods.contains(&"GET")
    }

    /// The same paths and a method in common.
    pub(crate) fn clashes(&self, other: &Model) -> bool {
        self.segs == other.segs
            && self.end == other.end
            && self.slashed() == other.slashed()
            && self.methods.iter().any(|method| other.methods.contains(method))
    }

    /// The values, if the segments are this template's, whatever its slash.
    fn values(&self, segments: &[Vec<u8>], slash: bool) -> Option<Vec<Vec<u8>>> {
        fn walk(segs: &[Seg], segments: &[Vec<u8>], values: &mut Vec<Vec<u8>>) -> Option<usize> {
            let Some((seg, segs)) = segs.split_first() else { return Some(segments.len()) };
            let (segment, segments) = segments.split_first()?;
            match seg {
                Seg::Lit(literal) => (literal.as_bytes() == segment).then_some(())?,
                Seg::Par { prefix, suffix, converter } => {
                    let long = segment.len() > prefix.len() + suffix.len();
                    let fits = long
                        && segment.starts_with(prefix.as_bytes())
                        && segment.ends_with(suffix.as_bytes());
                    let value = fits.then(|| segment[prefix.len()..segment.len() - suffix.len()].to_vec())?;
                    accepts(converter, &value).then_some(())?;
                    values.push(value);
                }
            }
            walk(segs, segments, values)
        }
        let mut values = Vec::new();
        let left = walk(&self.segs, segments, &mut values)?;
        let rest = &segments[segments.len() - left..];
        match self.end {
            End::Here => (left == 0).then_some(())?,
            End::Mount => {}
            End::Path => {
                (left > 0 && rest.iter().all(|segment| !segment.contains(&b'/'))).then_some(())?;
                let mut value = rest.join(&b'/');
                if slash && !self.slash {
                    value.push(b'/');
                }
                values.push(value);
            }
        }
        Some(values)
    }
}

pub(crate) fn accepts(converter: &str, value: &[u8]) -> bool {
    thread_local! {
        static COMPILED: RefCell<HashMap<String, Regex>> = RefCell::default();
    }
    let is = |regex: &str| {
        let Ok(text) = std::str::from_utf8(value) else { return false };
        COMPILED.with_borrow_mut(|compiled| {
            let new = || Regex::new(&format!("^(?:{regex})$")).unwrap();
            compiled.entry(regex.to_owned()).or_insert_with(new).is_match(text)
        })
    };
    match converter {
        "str" => !value.is_empty(),
        "int" => {
            let inside = |text: &str| text.parse::<i128>().is_ok_and(|n| n == i128::from(n as i64));
            is("0|-?[1-9][0-9]*") && std::str::from_utf8(value).is_ok_and(inside)
        }
        "float" => is("-?[0-9]+[.][0-9]+"),
        "uuid" => is("(?i)[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
        "date" => is("(20(0[48]|24)-02-29|[12][0-9]{3}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8]))"),
        re => is(&re["re(".len()..re.len() - 1]),
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Route(usize, Vec<Vec<u8>>),
    Slash(usize),
    /// Routes, in the order of the table.
    Method(Vec<usize>),
    None,
}

/// The decoded segments of a path as sent, and whether it ends with a slash.
pub(crate) fn segments(raw: &str) -> (Vec<Vec<u8>>, bool) {
    let mut segments: Vec<Vec<u8>> = raw.split('/').skip(1).map(decoded).collect();
    let slash = raw.ends_with('/');
    if slash {
        segments.pop();
    }
    (segments, slash)
}

pub(crate) fn decoded(text: &str) -> Vec<u8> {
    match text.find('%') {
        Some(at) => match text.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => [&text.as_bytes()[..at], &[byte], &decoded(&text[at + 3..])].concat(),
            None => [&text.as_bytes()[..=at], &decoded(&text[at + 1..])].concat(),
        },
        None => text.as_bytes().to_vec(),
    }
}

/// What a router with this table has to answer.
pub(crate) fn find(table: &[Model], method: &str, raw: &str) -> Answer {
    let (segments, slash) = segments(raw);
    let odd = |piece: &[u8]| matches!(piece, b"." | b"..");
    let pieces = |segment: &Vec<u8>| segment.split(|b| *b == b'/').any(odd);
    if !raw.is_empty() && !raw.starts_with('/') || segments.iter().any(|s| s.is_empty() || pieces(s)) {
        return Answer::None;
    }
    let mut matching: Vec<_> = (0..table.len())
        .filter_map(|index| {
            Some((rank(table, index, method, slash), index, table[index].values(&segments, slash)?))
        })
        .collect();
    matching.sort();
    let fits = |model: &Model| match model.end {
        End::Here => model.slashed() == slash,
        End::Path => slash || !model.slash,
        End::Mount => true,
    };
    let mut other = None;
    let mut refused = Vec::new();
    for (_, index, values) in matching {
        match (fits(&table[index]), table[index].serves(method)) {
            (true, true) => return Answer::Route(index, values),
            (true, false) => refused.push(index),
            (false, true) => other = other.or(Some(index)),
            (false, false) => {}
        }
    }
    refused.sort_unstable();
    match other {
        Some(index) => Answer::Slash(index),
        None if refused.is_empty() => Answer::None,
        None => Answer::Method(refused),
    }
}

type Rank = (Vec<(u8, usize, usize, usize)>, bool, bool);

/// What is asked first is smaller: segment by segment, then the longer end, then the method's own route.
fn rank(table: &[Model], index: usize, method: &str, slash: bool) -> Rank {
    let model = &table[index];
    let mut ranks = Vec::new();
    for (at, seg) in model.segs.iter().enumerate() {
        let declared =
            table.iter().position(|m| m.segs.len() > at && m.segs[..=at] == model.segs[..=at]).unwrap();
        ranks.push(match seg {
            Seg::Lit(_) => (0, 0, 0, 0),
            Seg::Par { prefix, suffix, converter } => {
                let around = prefix.len() + suffix.len();
                let class = if around > 0 { 1 } else { 2 };
                let text = usize::from(*converter == "str");
                (class, 100 - around, (100 - prefix.len()) * 2 + text, declared)
            }
        });
    }
    match model.end {
        End::Here => ranks.push((3, 0, 0, 0)),
        End::Path => ranks.push((4, 0, 0, 0)),
        End::Mount => ranks.push((5, 0, 0, 0)),
    }
    (ranks, model.end == End::Path && slash && !model.slash, !model.methods.contains(&method))
}

pub(crate) const UUID: &str = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";

/// The largest int, and the next one.
pub(crate) const MOST: &str = "9223372036854775807";
pub(crate) const BEYOND: &str = "9223372036854775808";

/// Literals of templates and patterns.
pub(crate) fn literal() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "a", "b", "A", "1", "01", "1.0", "xa", "é", "a;x", UUID, MOST, BEYOND])
}

fn seg() -> impl Strategy<Value = Seg> {
    let around = || prop::sample::select(vec!["", "", "", "x", "a"]);
    let converter = prop::sample::select(vec![
        "str",
        "str",
        "int",
        "float",
        "uuid",
        "date",
        "re([ab]+)",
        "re([^/]{2,3})",
    ]);
    prop_oneof![
        literal().prop_map(Seg::Lit),
        (around(), around(), converter).prop_map(|(prefix, suffix, converter)| Seg::Par {
            prefix,
            suffix,
            converter
        }),
    ]
}

pub(crate) fn model() -> impl Strategy<Value = Model> {
    let end = prop::sample::select(vec![End::Here, End::Here, End::Here, End::Path, End::Mount]);
    let methods = prop::sample::select(vec![
        vec!["GET"],
        vec!["GET", "POST"],
        vec!["POST"],
        vec!["HEAD"],
        vec!["PUT", "LOCK"],
    ]);
    (prop::collection::vec(seg(), 0..4), end, prop::bool::weighted(0.3), methods).prop_map(
        |(segs, end, slash, methods)| Model { segs, end, slash: slash && end != End::Mount, methods },
    )
}

/// A table without routes that clash.
pub(crate) fn table() -> impl Strategy<Value = Vec<Model>> {
    prop::collection::vec(model(), 1..24).prop_map(|models| {
        let mut table: Vec<Model> = Vec::new();
        for model in models {
            if !table.iter().any(|known| known.clashes(&model)) {
                table.push(model);
            }
        }
        table
    })
}

/// A path as a stranger may spell it.
pub(crate) fn path() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        12 => prop::sample::select(vec![
            "a", "b", "A", "%61", "1", "01", "-1", "0", "1.0", "01.0", "1.00", "xa", "ax", "xax", "aa", "x1", "xaa", "é",
            "%C3%A9", "a;x", "a%3Bx", UUID, "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "2024-02-29", "2024-02-30",
            MOST, BEYOND, "-9223372036854775808", "-9223372036854775809", "00000000000000000001", "99999999999999999999999",
        ]),
        1 => prop::sample::select(vec![
            "", ".", "..", "%2e", "%2E%2e", "a%2Fb", "a%2fa", "%2F", "..%2Fa", "a%5Cb", "a\\b", "%FF", "%C3", "%", "%zz", "%00",
            "a%252Fb", "...",
        ]),
    ];
    (prop::collection::vec(piece, 0..5), prop::bool::weighted(0.3)).prop_map(|(pieces, slash)| {
        let mut path: String = pieces.iter().flat_map(|piece| ["/", piece]).collect();
        if slash || path.is_empty() {
            path.push('/');
        }
        path
    })
}
