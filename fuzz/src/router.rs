//! Routes, patterns and paths of any text: start-up explains or accepts, requests find their route within bounds, and
//! no pattern that covers a path is missing where the path is answered.

use trivet_web::intercept::{Pattern, Rule, bind};
use trivet_web::router::{Found, Method, MethodSet, Router, Template};
use trivet_web::segments::{SEGMENTS_MAX, Segments};

use crate::outcome;

/// Starting points: templates, patterns and paths, one a line, with an empty line between the three.
pub const SEEDS: &[&[u8]] = &[
    b"/a/{x:int}\n/a/{x}/b\n/{p:path}\n\n/a/*\n/a/1\n/*/1/*\n\n/a/1\n/a/%31/b\n/a%2Fb\n/A//",
    b"/d/{i:uuid}.txt\n/{f:float}/\n/{r:re([a-c]{2})}\n\n/*\n/1.0/*\n\n/01.0/\n/ab\n/a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
    b"/\n/{d:date}\n\n/{d}/*\n\n/\n/2024-02-29\n/2023-02-29",
];

/// Pieces of syntax for the mutating driver.
pub const WORDS: &[&[u8]] = &[
    b"/",
    b"//",
    b"\n",
    b"\n\n",
    b".",
    b"..",
    b"%2e",
    b"%2F",
    b"%5c",
    b"%00",
    b"%C3%A9",
    b"%",
    b"\xff",
    b"*",
    b"/*",
    b"{",
    b"}",
    b"{{",
    b"{x}",
    b"{y}",
    b"{x:int}",
    b"{x:float}",
    b"{x:uuid}",
    b"{x:date}",
    b"{x:path}",
    b"{x:re([a-z]+)}",
    b"{x:re((a|b)*)}",
    b"a",
    b"b",
    b"A",
    b"-1",
    b"0",
    b"1.0",
    b"01.00",
    b"2024-02-29",
    b";",
    b"?",
    b" ",
    b"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
    b"A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
];

/// Routes and patterns of one input; more only cost time.
const LINES_MAX: usize = 32;

pub fn run(data: &[u8]) -> u64 {
    let mut lines = data.split(|b| *b == b'\n');
    let mut texts = || -> Vec<&str> {
        lines
            .by_ref()
            .take_while(|line| !line.is_empty())
            .filter_map(|line| std::str::from_utf8(line).ok())
            .collect()
    };
    let (templates, patterns) = (texts(), texts());

    let mut router = Router::new();
    let methods = MethodSet::of(["GET"]).expect("a method");
    for text in templates.into_iter().take(LINES_MAX) {
        match Template::parse(text, &|_| None) {
            Ok(template) => {
                let id = router.routes().len() as u32;
                let _ = router.insert(template, methods.clone(), id);
            }
            Err(error) => assert!(error.to_string().contains("\nhint: ")),
        }
    }
    router.freeze();
    let templates: Vec<&Template> = router.routes().iter().map(|route| &route.template).collect();
    let mut rules = Vec::new();
    for text in patterns.into_iter().take(LINES_MAX) {
        if let Ok(pattern) = Pattern::parse(text) {
            let rule = Rule { pattern, except: Vec::new() };
            if bind(std::slice::from_ref(&rule), &templates).is_ok() {
                rules.push(rule);
            }
        }
    }
    let plan = bind(&rules, &templates).expect("each was bound by itself");

    let mut kinds = Vec::new();
    // `?` ends the path of a target, which is not judged here
    for raw in lines.filter(|raw| !raw.contains(&b'?')).take(LINES_MAX) {
        let path = decoded(raw);
        let segments = Segments::split(&path, b"", Some(raw));
        let found = router.find(Method::Get, &segments);
        let runs: Vec<u32> = match &found {
            Found::Route { id, params } => {
                let template = templates[*id as usize];
                assert!(!segments.is_odd() && params.len() == template.parameters().len());
                let mut values = Vec::new();
                for (parameter, span) in template.parameters().iter().zip(params.iter()) {
                    let value = segments.bytes(span);
                    assert!(!value.is_empty());
                    if let Ok(value) = std::str::from_utf8(value) {
                        values.push((parameter.name.as_str(), value));
                    }
                }
                if values.len() == params.len() {
                    let built = template.build(&values).expect("these values were found in a path");
                    let again = decoded(built.as_bytes());
                    assert_eq!(again, path, "the path of its values");
                }
                plan.chain(*id).iter().filter(|bound| bound.holds(&segments)).map(|b| b.interceptor).collect()
            }
            Found::Slash { id } => plan.applicable_to(&[*id], &segments).collect(),
            Found::Method { ids, .. } => plan.applicable_to(ids, &segments).collect(),
            Found::None => plan.applicable(&segments).collect(),
        };
        for (number, rule) in rules.iter().enumerate() {
            let missed = covers(rule.pattern.text(), raw) && !runs.contains(&(number as u32));
            assert!(
                !missed,
                "{} on {:?} with {found:?}",
                rule.pattern.text(),
                raw.escape_ascii().to_string()
            );
        }
        kinds.push(match found {
            Found::Route { id, params } => (1, id, params.len(), runs.len()),
            Found::Slash { id } => (2, id, 0, runs.len()),
            Found::Method { ids, .. } => (3, 0, ids.len(), runs.len()),
            Found::None => (4, 0, segments.len().min(4), runs.len()),
        });
    }
    outcome((router.routes().len(), rules.len(), kinds))
}

/// The plainest matcher there is: text against text, segment by segment.
fn covers(pattern: &str, raw: &[u8]) -> bool {
    let mut wants: Vec<&str> = pattern.split('/').skip(1).collect();
    let subtree = wants.last() == Some(&"*");
    if subtree || wants.last() == Some(&"") {
        wants.pop();
    }
    let mut segments: Vec<Vec<u8>> = raw.split(|b| *b == b'/').skip(1).map(decoded).collect();
    if segments.last().is_some_and(Vec::is_empty) {
        segments.pop();
    }
    if !raw.starts_with(b"/") || segments.len() > SEGMENTS_MAX {
        return false;
    }
    let same = |want: &str, segment: &[u8]| {
        let captures = want.starts_with('{') && !want.starts_with("{{");
        want == "*" || captures || want.replace("{{", "{").replace("}}", "}").as_bytes() == segment
    };
    (segments.len() == wants.len() || subtree && segments.len() > wants.len())
        && wants.iter().zip(&segments).all(|(want, segment)| same(want, segment))
}

fn decoded(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        let hex =
            text.get(at + 1..at + 3).filter(|hex| *byte == b'%' && hex.iter().all(u8::is_ascii_hexdigit));
        let value = hex.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(value.unwrap_or(*byte));
        at += if value.is_some() { 3 } else { 1 };
    }
    bytes
}
