//! Interceptors: which patterns cover which routes, decided at start-up with the router's own converters.
//!
//! A pattern that is missed is an open door, so this errs to the other side: where it cannot be known beforehand
//! whether a pattern covers a route, that is decided on the request's own segments, and where those leave a doubt the
//! pattern applies.

mod bind;
#[cfg(test)]
mod tests;

pub use bind::{BindError, Bound, Capture, Plan, Rule, Source, bind};

use crate::router::{Converter, Part, Tail, Template, inner, is_name, is_uuid, misplaced};
use crate::segments::{SEGMENTS_MAX, Segments, Span};

/// Where an interceptor applies: `/admin/*`, `/projects/{project}/*`, `/a/*/b`, `/*`.
///
/// A segment is a literal in its decoded form, `*` for one whole segment or `{name}` for one whole segment that is
/// captured. A last `/*` is the subtree with its root. A slash at the end makes no difference.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    wants: Vec<Want>,
    subtree: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Want {
    Literal(Box<[u8]>),
    Any,
    Capture(String),
}

/// Whether a pattern covers the requests of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// All of them.
    Always,
    /// None.
    Never,
    /// Some: each request decides.
    Maybe,
}

/// Says whether a pattern's literal and a request's text are one value of the custom converter of that id.
pub type SameValue<'c> = dyn FnMut(u32, &[u8], &[u8]) -> bool + 'c;

/// Why a pattern cannot be used, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("pattern `{pattern}`: {problem}\nhint: {hint}")]
pub struct BadPattern {
    pattern: String,
    problem: String,
    hint: String,
}

/// What a request of a route must have for a pattern to cover it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Condition {
    checks: Vec<Check>,
    /// At least so many segments.
    least: usize,
    /// Not more segments than this.
    most: Option<usize>,
    /// What answers may see a slash where there is `%2F`: then the pattern applies in any case.
    mounted: bool,
}

/// One segment that must be the literal of the pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Check {
    at: usize,
    prefix: Box<[u8]>,
    suffix: Box<[u8]>,
    /// What decides whether two spellings are the same.
    converter: Converter,
    literal: Box<[u8]>,
}

impl Pattern {
    /// Reads a pattern.
    pub fn parse(text: &str) -> Result<Pattern, BadPattern> {
        let bad = |problem: &str, hint: &str| BadPattern {
            pattern: text.to_owned(),
            problem: problem.to_owned(),
            hint: hint.to_owned(),
        };
        let Some(rest) = text.strip_prefix('/') else {
            return Err(bad("it does not begin with a slash", &format!("write `/{text}`")));
        };
        let mut pattern = Pattern { text: text.to_owned(), wants: Vec::new(), subtree: false };
        let mut segments: Vec<&str> = rest.split('/').collect();
        if segments.last() == Some(&"") {
            segments.pop();
        } else if segments.last() == Some(&"*") {
            segments.pop();
            pattern.subtree = true;
        }
        for segment in segments {
            let want = Want::parse(segment).map_err(|(problem, hint)| bad(&problem, &hint))?;
            if let Want::Capture(name) = &want
                && pattern.wants.contains(&want)
            {
                return Err(bad(
                    &format!("two segments are called `{name}`"),
                    "give each captured segment a name of its own",
                ));
            }
            pattern.wants.push(want);
        }
        if pattern.wants.len() > SEGMENTS_MAX {
            return Err(bad(
                &format!("it has more than {SEGMENTS_MAX} segments"),
                "no path of that length matches any route",
            ));
        }
        Ok(pattern)
    }

    /// The text it was read from.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// How many segments it names, a last `/*` not counted: patterns with fewer are parents.
    pub fn depth(&self) -> usize {
        self.wants.len()
    }

    /// Whether it ends with `/*`.
    pub fn is_subtree(&self) -> bool {
        self.subtree
    }

    /// The captured segments: name and index.
    pub fn captures(&self) -> impl Iterator<Item = (&str, usize)> {
        self.wants.iter().enumerate().filter_map(|(at, want)| match want {
            Want::Capture(name) => Some((name.as_str(), at)),
            _ => None,
        })
    }

    /// Where the captured segments of a request lie that has no route.
    pub fn spans(&self, segments: &Segments) -> Vec<(&str, Span)> {
        self.captures().map(|(name, at)| (name, segments.span(at))).collect()
    }

    /// Whether it covers a path that has no route to say more. A uuid and a number with a point are compared by value,
    /// and a `%2F` may be a slash or not: either is enough.
    pub fn matches(&self, segments: &Segments) -> bool {
        if self.covers(segments.len(), |at| segments.get(at)) {
            return true;
        }
        if !segments.has_encoded_slash() {
            return false;
        }
        let pieces = segments.cut_again();
        self.covers(pieces.len(), |at| pieces[at])
    }

    fn covers<'s>(&self, len: usize, segment: impl Fn(usize) -> &'s [u8]) -> bool {
        if len < self.wants.len() || len > self.wants.len() && !self.subtree {
            return false;
        }
        self.wants.iter().enumerate().all(|(at, want)| match want {
            Want::Literal(literal) => same_somehow(literal, segment(at)),
            Want::Any | Want::Capture(_) => true,
        })
    }

    /// Whether it covers the requests that a template's route gets.
    pub fn reach(&self, template: &Template) -> Reach {
        match self.condition(template) {
            None => Reach::Never,
            Some(condition) => condition.reach(),
        }
    }

    /// What a request of the template's route must have; nothing if none can have it.
    fn condition(&self, template: &Template) -> Option<Condition> {
        let (wanted, depth) = (self.wants.len(), template.parts.len());
        let open = template.tail != Tail::None;
        let least = depth + usize::from(matches!(template.tail, Tail::Path(_)));
        if !open && wanted > depth || !self.subtree && wanted < least {
            return None;
        }
        let mut condition = Condition {
            checks: Vec::new(),
            least: if wanted > least { wanted } else { 0 },
            most: (open && !self.subtree).then_some(wanted),
            mounted: template.is_mount(),
        };
        for (at, want) in self.wants.iter().enumerate() {
            let Want::Literal(literal) = want else { continue };
            let plain = |converter| Check {
                at,
                prefix: Box::default(),
                suffix: Box::default(),
                converter,
                literal: literal.clone(),
            };
            match template.parts.get(at) {
                Some(Part::Literal(text)) if text == literal => {}
                Some(Part::Literal(_)) => return None,
                Some(Part::Parameter { prefix, suffix, index }) => {
                    let converter = &template.parameters()[*index].converter;
                    let value = inner(prefix, suffix, literal).filter(|value| converter.accepts(value))?;
                    condition.checks.push(Check {
                        at,
                        prefix: prefix.clone(),
                        suffix: suffix.clone(),
                        converter: converter.clone(),
                        literal: value.into(),
                    });
                }
                None => condition.checks.push(plain(Converter::Str)),
            }
        }
        Some(condition)
    }

    /// Whether it would have to know what an opaque mount makes of a path.
    fn reaches_inside(&self, template: &Template) -> bool {
        template.tail == Tail::Mount { opaque: true }
            && self.condition(template).is_some_and(|condition| {
                condition.least > 0
                    || condition.most.is_some()
                    || condition.checks.iter().any(|check| check.at >= template.parts.len())
            })
    }
}

impl Want {
    fn parse(segment: &str) -> Result<Want, (String, String)> {
        let not = |problem: &str, hint: &str| Err((problem.to_owned(), hint.to_owned()));
        match segment {
            "" => return not("it has an empty segment", "write one slash between two segments"),
            "*" => return Ok(Want::Any),
            "." | ".." => {
                return not(
                    &format!("it has the segment `{segment}`"),
                    "no path with `.` or `..` matches any route: write the path they lead to",
                );
            }
            "**" => return not("`**` has no meaning", "a last `/*` is all below already"),
            _ => {}
        }
        if let Some(inside) = segment.strip_prefix('{')
            && !inside.starts_with('{')
        {
            let Some(name) = inside.strip_suffix('}') else {
                return not(
                    "a captured segment is not whole",
                    "write `/{name}/`, and `{{` for the brace itself",
                );
            };
            if let Some((name, _)) = name.split_once(':') {
                return not(
                    &format!("`{name}` has a converter"),
                    &format!("write `{{{name}}}`: the route's parameter of that name says what it is"),
                );
            }
            is_name(name)?;
            return Ok(Want::Capture(name.to_owned()));
        }
        let mut literal = String::with_capacity(segment.len());
        let mut chars = segment.chars();
        while let Some(c) = chars.next() {
            match c {
                '{' | '}' if chars.as_str().starts_with(c) => {
                    chars.next();
                }
                '{' => {
                    return not(
                        "a captured segment is not whole",
                        "write `/{name}/`, and `{{` for the brace itself",
                    );
                }
                '}' => return not("a `}` closes nothing", "write `}}` for the brace itself"),
                '*' => return not("a `*` shares its segment with other text", "`*` is one whole segment"),
                c => {
                    if let Some((problem, hint)) = misplaced(c, chars.as_str()) {
                        return Err((problem, hint.to_owned()));
                    }
                }
            }
            literal.push(c);
        }
        Ok(Want::Literal(literal.into_bytes().into()))
    }
}

impl Condition {
    fn reach(&self) -> Reach {
        if self.checks.is_empty() && self.least == 0 && self.most.is_none() {
            Reach::Always
        } else {
            Reach::Maybe
        }
    }

    fn holds(&self, segments: &Segments, custom: &mut SameValue<'_>) -> bool {
        if self.mounted && segments.has_encoded_slash() {
            return true;
        }
        segments.len() >= self.least
            && self.most.is_none_or(|most| segments.len() <= most)
            && self.checks.iter().all(|check| check.holds(segments.get(check.at), custom))
    }
}

impl Check {
    fn holds(&self, segment: &[u8], custom: &mut SameValue<'_>) -> bool {
        let Some(value) = inner(&self.prefix, &self.suffix, segment) else { return false };
        self.converter.same(&self.literal, value)
            || match &self.converter {
                Converter::Re(re) => re.id().is_some_and(|id| custom(id, &self.literal, value)),
                _ => false,
            }
    }
}

/// Whether a literal is a segment, by bytes or by the value both may stand for.
fn same_somehow(literal: &[u8], segment: &[u8]) -> bool {
    literal == segment
        || is_uuid(literal) && Converter::Uuid.same(literal, segment)
        || Converter::Float.accepts(literal)
            && Converter::Float.accepts(segment)
            && Converter::Float.same(literal, segment)
}
