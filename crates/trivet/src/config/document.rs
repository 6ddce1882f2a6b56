//! The text of a configuration as a tree in which each value knows where it stands.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

pub(crate) type Span = Range<usize>;

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) span: Span,
    pub(crate) value: Value,
    /// An environment variable is in it: what is a number there comes as text.
    pub(crate) filled: bool,
}

#[derive(Debug)]
pub(crate) enum Value {
    Text(String),
    Whole(i64),
    Float(f64),
    Bool(bool),
    Date(String),
    List(Vec<Node>),
    /// In the order of the file.
    Table(Vec<Entry>),
    /// It is no good, and that has been told.
    Told,
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) name_span: Span,
    pub(crate) node: Node,
}

/// What is wrong with a part of the text.
#[derive(Debug)]
pub(crate) struct Wrong {
    pub(crate) span: Span,
    pub(crate) message: String,
    pub(crate) hint: String,
}

/// As many syntax errors are told at once: each may be the cause of the next.
const SYNTAX_ERRORS_MAX: usize = 5;

/// Reads the text; `env` fills in `${NAME}`.
pub(crate) fn parse(
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<(Node, Vec<Wrong>), Vec<Wrong>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut told: Vec<Wrong> = Vec::new();
    let line =
        |at: usize| text.char_indices().take_while(|(i, _)| *i < at).filter(|(_, c)| *c == '\n').count();
    let mut in_second_table = false;
    for error in errors {
        let span = error.span().unwrap_or(text.len()..text.len());
        let twice = error.message().starts_with(DUPLICATE);
        // All that stands in a table's second piece is there twice, or is not.
        if (twice && in_second_table) || told.iter().any(|w| line(w.span.start) == line(span.start)) {
            continue;
        }
        in_second_table |= twice && line_of(text, span.start).trim_start().starts_with('[');
        if told.len() < SYNTAX_ERRORS_MAX {
            told.push(syntax(text, span, error.message()));
        }
    }
    if !told.is_empty() {
        return Err(told);
    }
    let mut wrong = Vec::new();
    let span = table.span();
    let value = Value::Table(entries(table.get_ref(), env, &mut wrong));
    Ok((Node { span, value, filled: false }, wrong))
}

const DUPLICATE: &str = "duplicate key";

fn line_of(text: &str, at: usize) -> &str {
    let start = text.get(..at).and_then(|t| t.rfind('\n')).map_or(0, |at| at + 1);
    text.get(start..).unwrap_or_default().lines().next().unwrap_or_default()
}

/// The parser's words, and what is most likely meant.
fn syntax(text: &str, span: Span, message: &str) -> Wrong {
    let line = line_of(text, span.start);
    let value = line.split_once('=').map(|(_, value)| value.trim()).unwrap_or_default();
    let bare = value.starts_with(|c: char| c.is_alphabetic() || matches!(c, '/' | '.' | '~' | '*' | '$'))
        || value.starts_with(|c: char| c.is_ascii_digit()) && value.contains(|c: char| c.is_alphabetic());
    let message = message.lines().next().unwrap_or_default();
    if message.starts_with(DUPLICATE) {
        let name = text.get(span.clone()).unwrap_or_default();
        return Wrong {
            message: format!("`{name}` stands twice"),
            span,
            hint: "each key stands once in its table, and each table once in the file".to_owned(),
        };
    }
    let (message, hint) = if message.starts_with("invalid basic string, expected `\"`") {
        ("a text without its closing quote", "close it with `\"`".to_owned())
    } else if message.starts_with("string values must be quoted")
        || bare && !value.contains(['"', '\'']) && !matches!(value, "true" | "false")
    {
        let from_here = text.get(span.start..).unwrap_or_default();
        let ends = |c: char| c.is_whitespace() || matches!(c, ',' | '}' | ']' | '#');
        let bare = from_here.split(ends).next().unwrap_or_default();
        ("a text without quotes", format!("text stands in quotes: \"{bare}\""))
    } else if message.starts_with("missing comma") {
        ("a comma is missing", "write one between this and what is before it".to_owned())
    } else if line.trim_start().starts_with('[') && !line.contains(']') {
        (message, "a table begins with its name in brackets: [app.shop]".to_owned())
    } else if !line.contains('=') && !line.trim().is_empty() {
        (message, "a line is `key = value`, or begins a table: [app.shop]".to_owned())
    } else {
        let hint =
            "the file is TOML: text in quotes, lists in brackets, tables in braces; see https://toml.io";
        (message, hint.to_owned())
    };
    Wrong { span, message: format!("this is not TOML: {message}"), hint }
}

fn entries(table: &DeTable<'_>, env: &dyn Fn(&str) -> Option<String>, wrong: &mut Vec<Wrong>) -> Vec<Entry> {
    let mut entries: Vec<Entry> = table
        .iter()
        .map(|(name, value)| Entry {
            name: name.get_ref().to_string(),
            name_span: name.span(),
            node: node(value, env, wrong),
        })
        .collect();
    entries.sort_by_key(|e| e.name_span.start);
    entries
}

fn node(value: &Spanned<DeValue<'_>>, env: &dyn Fn(&str) -> Option<String>, wrong: &mut Vec<Wrong>) -> Node {
    let span = value.span();
    let value_text = value.get_ref().as_str();
    let mut no = |message: String, hint: &str| {
        wrong.push(Wrong { span: span.clone(), message, hint: hint.to_owned() });
        Value::Told
    };
    let value = match value.get_ref() {
        DeValue::String(text) => match filled(text, env) {
            Ok(text) if text.contains('\0') => {
                no("a text may not have a NUL in it".to_owned(), "leave it out")
            }
            Ok(text) => Value::Text(text),
            Err((message, hint)) => no(message, &hint),
        },
        DeValue::Integer(number) => {
            match i64::from_str_radix(&number.as_str().replace('_', ""), number.radix()) {
                Ok(number) => Value::Whole(number),
                Err(_) => no("this number is too large".to_owned(), "a whole number has at most 63 bits"),
            }
        }
        DeValue::Float(number) => Value::Float(number.as_str().replace('_', "").parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(is) => Value::Bool(*is),
        DeValue::Datetime(date) => Value::Date(date.to_string()),
        DeValue::Array(list) => Value::List(list.iter().map(|v| node(v, env, wrong)).collect()),
        DeValue::Table(table) => Value::Table(entries(table, env, wrong)),
    };
    let filled = match (value_text, &value) {
        (Some(raw), Value::Text(text)) => raw != text,
        _ => false,
    };
    Node { span, value, filled }
}

/// `${NAME}` is an environment variable, `${NAME:-else}` has a default, `$${` is `${`.
fn filled(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, (String, String)> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            out.push_str(&rest[..at]);
            out.push('{');
            rest = &rest[at + 2..];
            continue;
        }
        out.push_str(&rest[..at]);
        let Some((inside, after)) = rest[at + 2..].split_once('}') else {
            let hint = "an environment variable is written `${NAME}`; `$${` stands for `${` itself";
            return Err(("`${` without its `}`".to_owned(), hint.to_owned()));
        };
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || !name.chars().all(word) {
            let hint = "an environment variable is written `${NAME}`; `$${` stands for `${` itself";
            return Err((format!("`{name}` cannot be the name of an environment variable"), hint.to_owned()));
        }
        match (env(name), default) {
            // As in a shell: an empty one counts as not set where there is a default.
            (Some(value), None) => out.push_str(&value),
            (Some(value), Some(_)) if !value.is_empty() => out.push_str(&value),
            (_, Some(default)) => out.push_str(default),
            (None, None) => {
                let hint = format!("set it, or give a default: `${{{name}:-…}}`");
                return Err((format!("the environment variable `{name}` is not set"), hint));
            }
        }
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

impl Node {
    /// A table that says nothing, for its defaults.
    pub(crate) fn empty() -> Self {
        Self { span: 0..0, value: Value::Table(Vec::new()), filled: false }
    }

    /// The path of the key whose name or value a place of the text lies in.
    pub(crate) fn key_at(&self, at: usize) -> Option<String> {
        let inner = |name: &str, node: &Self, own: bool| match node.key_at(at) {
            Some(rest) if rest.is_empty() => Some(name.to_owned()),
            Some(rest) => Some(format!("{name}.{rest}")),
            None => own.then(|| name.to_owned()),
        };
        let found = match &self.value {
            Value::Table(entries) => {
                entries.iter().find_map(|e| inner(&e.name, &e.node, e.name_span.contains(&at)))
            }
            Value::List(list) => list.iter().zip(1..).find_map(|(n, i)| inner(&i32::to_string(&i), n, false)),
            _ => None,
        };
        found.or_else(|| self.span.contains(&at).then(String::new))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environment_variables_are_filled_in() {
        let env = |name: &str| match name {
            "HOME" => Some("/root".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        for (text, result) in [
            ("${HOME}/x", "/root/x"),
            ("a${HOME}b${HOME}", "a/rootb/root"),
            ("$${HOME} ${HOME}", "${HOME} /root"),
            ("${NO:-d}${EMPTY:-e}${EMPTY}", "de"),
            ("$HOME {x} $", "$HOME {x} $"),
        ] {
            assert_eq!(filled(text, &env).as_deref(), Ok(result), "{text}");
        }
        for text in ["${NO}", "${HOME", "${}", "${a b}"] {
            assert!(filled(text, &env).is_err(), "{text}");
        }
    }

    #[test]
    fn a_place_of_the_text_has_a_key() {
        let text = "[site.main]\nroute = [\n { path = \"/\" },\n { app = \"x\" },\n]\n";
        let (tree, wrong) = parse(text, &|_| None).unwrap();
        assert!(wrong.is_empty());
        let key = |what: &str| tree.key_at(text.find(what).unwrap());
        assert_eq!(key("x\"").as_deref(), Some("site.main.route.2.app"));
        assert_eq!(key("path").as_deref(), Some("site.main.route.1.path"));
        assert_eq!(key("main").as_deref(), Some("site.main"));
    }
}
