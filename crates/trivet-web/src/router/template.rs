//! Route templates: `/users/{id:int}/files/{name}.txt`, read once at start-up.

use std::fmt;

use super::converter::{Converter, Re};
use crate::segments::SEGMENTS_MAX;

/// A template as it was read: fixed segments, then perhaps a path parameter or all that lies below.
///
/// - A segment is a literal, in its decoded form, or holds one parameter: `{name}`, `{name:converter}`,
///   `{name:re(expression)}`, with literal text before and after it if wanted. `{{` and `}}` are braces.
/// - `{name:path}` is a last segment of its own and takes the rest of the path.
/// - A slash at the end is part of the template.
#[derive(Clone, Debug)]
pub struct Template {
    text: String,
    pub(crate) parts: Vec<Part>,
    pub(crate) tail: Tail,
    parameters: Vec<Parameter>,
    trailing_slash: bool,
}

/// A parameter of a template.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Its name: an ASCII identifier, used once in a template.
    pub name: String,
    /// What its text must be.
    pub converter: Converter,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Literal(Box<[u8]>),
    /// The parameter of that index with what is before and after it.
    Parameter {
        prefix: Box<[u8]>,
        suffix: Box<[u8]>,
        index: usize,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tail {
    None,
    /// One segment or more, the parameter of that index.
    Path(usize),
    /// The prefix itself and all below it.
    Mount {
        opaque: bool,
    },
}

/// Why a template cannot be used, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("template `{template}`: {problem}\nhint: {hint}")]
pub struct BadTemplate {
    template: String,
    problem: String,
    hint: String,
}

/// One segment while it is read.
#[derive(Default)]
struct Open {
    prefix: String,
    suffix: String,
    parameter: Option<usize>,
}

impl Template {
    /// Reads a template; `custom` knows the converters that are not `Converter::NAMES` or `re(…)`.
    pub fn parse(text: &str, custom: &dyn Fn(&str) -> Option<Converter>) -> Result<Template, BadTemplate> {
        let bad = |problem: &str, hint: &str| BadTemplate {
            template: text.to_owned(),
            problem: problem.to_owned(),
            hint: hint.to_owned(),
        };
        let Some(mut rest) = text.strip_prefix('/') else {
            return Err(bad("it does not begin with a slash", &format!("write `/{text}`")));
        };
        let mut template = Template {
            text: text.to_owned(),
            parts: Vec::new(),
            tail: Tail::None,
            parameters: Vec::new(),
            trailing_slash: false,
        };
        let mut open = Open::default();
        loop {
            let mut chars = rest.chars();
            let (c, after) = (chars.next(), chars.as_str());
            rest = match c {
                None | Some('/') => {
                    let last = c.is_none();
                    if open.parameter.is_none() && open.prefix.is_empty() {
                        if !last {
                            return Err(bad(
                                "it has an empty segment",
                                "write one slash between two segments",
                            ));
                        }
                        template.trailing_slash = true;
                    } else {
                        template.close(std::mem::take(&mut open)).map_err(|(p, h)| bad(&p, &h))?;
                    }
                    if last {
                        break;
                    }
                    after
                }
                Some('{') if !after.starts_with('{') => {
                    if open.parameter.is_some() {
                        return Err(bad(
                            "a segment has two parameters",
                            "one parameter a segment; take it apart in the handler, or use `re(…)`",
                        ));
                    }
                    let (inside, after) = inside(after).ok_or_else(|| {
                        bad("a `{` is not closed", "write `{name}`, and `{{` for the brace itself")
                    })?;
                    open.parameter = Some(template.parameters.len());
                    let parameter = template.parameter(inside, custom).map_err(|(p, h)| bad(&p, &h))?;
                    template.parameters.push(parameter);
                    after
                }
                Some('}') if !after.starts_with('}') => {
                    return Err(bad("a `}` closes nothing", "write `}}` for the brace itself"));
                }
                Some(c) => {
                    if let Some((problem, hint)) = misplaced(c, after) {
                        return Err(bad(&problem, hint));
                    }
                    let literal = if open.parameter.is_some() { &mut open.suffix } else { &mut open.prefix };
                    literal.push(c);
                    if matches!(c, '{' | '}') { &after[1..] } else { after }
                }
            };
        }
        if template.parts.len() + usize::from(template.tail != Tail::None) > SEGMENTS_MAX {
            return Err(bad(
                &format!("it has more than {SEGMENTS_MAX} segments"),
                "no path of that length matches any route",
            ));
        }
        Ok(template)
    }

    /// Reads the prefix of something mounted, as `/blog`: the template matches it and all below it, and is asked
    /// last of all. `opaque`: what answers there reads the path by itself, so that no pattern can reach into it.
    pub fn mount(
        text: &str,
        opaque: bool,
        custom: &dyn Fn(&str) -> Option<Converter>,
    ) -> Result<Template, BadTemplate> {
        let mut template = Self::parse(text, custom)?;
        if template.tail != Tail::None {
            return Err(BadTemplate {
                template: text.to_owned(),
                problem: "a mount takes the rest of the path anyway".to_owned(),
                hint: "leave the path parameter out".to_owned(),
            });
        }
        template.tail = Tail::Mount { opaque };
        template.trailing_slash = false;
        Ok(template)
    }

    /// The text it was read from.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Its parameters, from left to right; `Params` has their spans in the same order.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Whether it was declared with a slash at its end.
    pub fn trailing_slash(&self) -> bool {
        self.trailing_slash
    }

    /// Whether it is the prefix of something mounted.
    pub fn is_mount(&self) -> bool {
        matches!(self.tail, Tail::Mount { .. })
    }

    /// How many segments it has before a path parameter or what is mounted.
    pub fn depth(&self) -> usize {
        self.parts.len()
    }

    fn close(&mut self, open: Open) -> Result<(), (String, String)> {
        if let Tail::Path(index) = self.tail {
            return Err((
                format!("something follows the path parameter `{}`", self.parameters[index].name),
                "a path parameter takes the rest of the path: write it last".to_owned(),
            ));
        }
        let part = match open.parameter {
            None => {
                if matches!(open.prefix.as_str(), "." | "..") {
                    return Err((
                        format!("it has the segment `{}`", open.prefix),
                        "no path with `.` or `..` matches any route: write the path they lead to".to_owned(),
                    ));
                }
                Part::Literal(open.prefix.into_bytes().into())
            }
            Some(index) if self.parameters[index].converter == Converter::Path => {
                if !open.prefix.is_empty() || !open.suffix.is_empty() {
                    return Err((
                        "a path parameter shares its segment with other text".to_owned(),
                        format!("write `/{{{}:path}}` as the last segment", self.parameters[index].name),
                    ));
                }
                self.tail = Tail::Path(index);
                return Ok(());
            }
            Some(index) => Part::Parameter {
                prefix: open.prefix.into_bytes().into(),
                suffix: open.suffix.into_bytes().into(),
                index,
            },
        };
        self.parts.push(part);
        Ok(())
    }

    fn parameter(
        &self,
        inside: &str,
        custom: &dyn Fn(&str) -> Option<Converter>,
    ) -> Result<Parameter, (String, String)> {
        let (name, converter) = match inside.split_once(':') {
            Some((name, converter)) => (name, Some(converter)),
            None => (inside, None),
        };
        is_name(name)?;
        if self.parameters.iter().any(|known| known.name == name) {
            return Err((
                format!("two parameters are called `{name}`"),
                "give each parameter of a template a name of its own".to_owned(),
            ));
        }
        let converter = match converter {
            None => Converter::Str,
            Some(text) => match text.strip_prefix("re(").and_then(|text| text.strip_suffix(')')) {
                Some(source) => Converter::Re(Re::new(source).map_err(|error| {
                    let text = error.to_string();
                    let (problem, hint) = text.split_once("\nhint: ").unwrap_or((&text, ""));
                    (problem.to_owned(), hint.to_owned())
                })?),
                None => Converter::named(text).or_else(|| custom(text)).ok_or_else(|| {
                    (
                        format!("there is no converter `{text}`"),
                        format!("there are {}, re(…), and those registered", Converter::NAMES.join(", ")),
                    )
                })?,
            },
        };
        Ok(Parameter { name: name.to_owned(), converter })
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Whether this names a parameter.
pub(crate) fn is_name(name: &str) -> Result<(), (String, String)> {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    if first && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Ok(());
    }
    let hint = "a parameter is called like an argument: ASCII letters, digits and `_`, no digit first";
    Err((format!("`{name}` is no name for a parameter"), hint.to_owned()))
}

/// What a literal of a template or pattern may not hold: problem and hint.
pub(crate) fn misplaced(c: char, after: &str) -> Option<(String, &'static str)> {
    let hint = match c {
        '?' | '#' => "a template is a path only; query parameters are arguments of the handler",
        '*' => "write `{name:path}` for the rest of the path, `{name}` for one segment",
        '<' | '>' => "write `{name}` or `{name:int}`",
        '%' if after.len() >= 2 && after.bytes().take(2).all(|b| b.is_ascii_hexdigit()) => {
            "literal text is written decoded: `/a b`, and not `/a%20b`"
        }
        '\\' => "segments are divided by `/`",
        c if c.is_control() => "control characters belong in no path",
        _ => return None,
    };
    let shown = c.escape_default();
    Some((format!("`{shown}` has no meaning there"), hint))
}

/// What is between a brace and the one that closes it, and what follows. An expression in `re(…)` may hold both
/// braces and slashes: it ends at its own parenthesis.
fn inside(text: &str) -> Option<(&str, &str)> {
    let brace = text.find(['{', '}', '/', '(']);
    let at = match brace {
        Some(at) if text[at..].starts_with('(') => at + expression(&text[at..])?,
        Some(at) => at,
        None => return None,
    };
    text[at..].strip_prefix('}').map(|after| (&text[..at], after))
}

/// The length of `(…)` at the beginning: parentheses nest, but not in classes and not when escaped.
fn expression(text: &str) -> Option<usize> {
    let (mut depth, mut class, mut escaped) = (0usize, 0usize, false);
    let mut class_start = 0;
    for (at, c) in text.char_indices() {
        if escaped {
            escaped = false;
            continue;
        }
        match c {
            '\\' => escaped = true,
            '[' => {
                class += 1;
                class_start = at + 1;
            }
            // `[]a]` and `[^]a]` have the bracket as a member
            ']' if class > 0 && !matches!(&text[class_start..at], "" | "^") => class -= 1,
            '(' if class == 0 => depth += 1,
            ')' if class == 0 => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Template, BadTemplate> {
        Template::parse(text, &|name| {
            (name == "slug").then(|| Converter::Re(Re::custom("slug", "[a-z-]+", 7).unwrap()))
        })
    }

    fn literal(text: &str) -> Part {
        Part::Literal(text.as_bytes().into())
    }

    fn parameter(prefix: &str, suffix: &str, index: usize) -> Part {
        Part::Parameter { prefix: prefix.as_bytes().into(), suffix: suffix.as_bytes().into(), index }
    }

    #[test]
    fn a_template_is_read() {
        let template = parse("/users/{id:int}/files/v-{name}.txt").unwrap();
        let parts = [literal("users"), parameter("", "", 0), literal("files"), parameter("v-", ".txt", 1)];
        assert_eq!(template.parts, parts);
        let names: Vec<_> =
            template.parameters().iter().map(|p| (p.name.as_str(), p.converter.name())).collect();
        assert_eq!(names, [("id", "int"), ("name", "str")]);
        assert!(!template.trailing_slash());
        assert_eq!(template.depth(), 4);

        let root = parse("/").unwrap();
        assert!(root.parts.is_empty() && root.trailing_slash());
        assert!(parse("/a/").unwrap().trailing_slash());
        assert_eq!(parse("/a{{b}}c/é").unwrap().parts, [literal("a{b}c"), literal("é")]);
        assert_eq!(parse("/{a}}}").unwrap().parts, [parameter("", "}", 0)]);
        let path = parse("/f/{p:path}/").unwrap();
        assert_eq!((path.tail, path.trailing_slash(), path.depth()), (Tail::Path(0), true, 1));
        let custom = parse("/{team:slug}").unwrap();
        assert!(matches!(&custom.parameters()[0].converter, Converter::Re(re) if re.id() == Some(7)));
    }

    #[test]
    fn an_expression_may_hold_braces_and_slashes() {
        for source in ["[a-z]{2,3}", "[^/]+", r"\)\}", "[)}]+", "(a|b){1}", "[]})]x", r"[\])]"] {
            let template = parse(&format!("/x/{{a:re({source})}}.y/z")).unwrap();
            assert_eq!(template.parts.len(), 3, "{source}");
            match &template.parameters()[0].converter {
                Converter::Re(re) => assert_eq!(re.source(), source),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn what_cannot_be_meant_is_explained() {
        for (text, problem, hint) in [
            ("a", "does not begin with a slash", "write `/a`"),
            ("", "does not begin with a slash", "write `/`"),
            ("/a//b", "empty segment", "one slash"),
            ("//", "empty segment", "one slash"),
            ("/a/../b", "the segment `..`", "write the path they lead to"),
            ("/./", "the segment `.`", "lead to"),
            ("/{a}-{b}", "two parameters", "one parameter a segment"),
            ("/{a}/{a:int}", "two parameters are called `a`", "a name of its own"),
            ("/{a", "not closed", "`{{`"),
            ("/{a/b}", "not closed", "`{name}`"),
            ("/a}", "closes nothing", "`}}`"),
            ("/{}", "`` is no name", "called like an argument"),
            ("/{1a}", "`1a` is no name", "no digit first"),
            ("/{é}", "`é` is no name", "ASCII"),
            ("/{a:integer}", "no converter `integer`", "int, float"),
            ("/{a:}", "no converter ``", "int, float"),
            ("/{a:re([)}", "not closed", "`{name}`"),
            ("/{a:re(+)}", "cannot be used", "linear time"),
            ("/{p:path}/b", "follows the path parameter `p`", "write it last"),
            ("/a-{p:path}", "shares its segment", "`/{p:path}`"),
            ("/a/*", "`*` has no meaning", "{name:path}"),
            ("/a?b", "`?` has no meaning", "arguments"),
            ("/users/<int:id>", "`<` has no meaning", "`{name:int}`"),
            ("/a%20b", "`%` has no meaning", "decoded"),
            ("/a\\b", "has no meaning", "divided by `/`"),
            ("/a\nb", "`\\n` has no meaning", "control"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            let (said, hinted) = error.split_once("\nhint: ").unwrap();
            assert!(said.contains(problem) && said.contains(&format!("`{text}`")), "{error}");
            assert!(hinted.contains(hint), "{error}");
        }
        assert!(parse(&"/a".repeat(64)).is_ok());
        assert!(parse(&"/a".repeat(65)).unwrap_err().to_string().contains("more than 64"));
        assert!(parse(&("/a".repeat(64) + "/{p:path}")).is_err());
        assert!(parse("/100%").is_ok());
    }

    #[test]
    fn a_mount_has_neither_slash_nor_path() {
        let mount = Template::mount("/old/", true, &|_| None).unwrap();
        assert!(mount.is_mount() && !mount.trailing_slash() && mount.depth() == 1);
        assert_eq!(Template::mount("/", false, &|_| None).unwrap().depth(), 0);
        assert!(Template::mount("/{p:path}", false, &|_| None).is_err());
    }
}
