//! Whether a document has the shape that the list of keys says: known keys, fit values, nothing missing.

use super::document::{Entry, Node, Span, Value};
use super::keys::{self, Default, Key, Kind, Table};
use super::problem::similar;
use super::section::Reading;
use crate::values;

/// Makes numbers and truth values of texts that environment variables were filled in, where such are wanted.
pub(crate) fn settle(kind: &'static Kind, node: &mut Node) {
    match (kind, &mut node.value) {
        (Kind::Whole(..), Value::Text(text)) if node.filled => {
            if let Ok(number) = text.trim().parse() {
                node.value = Value::Whole(number);
            }
        }
        (Kind::Bool, Value::Text(text)) if node.filled => {
            if let Ok(is) = text.trim().parse() {
                node.value = Value::Bool(is);
            }
        }
        (Kind::List(inner), Value::List(list)) => list.iter_mut().for_each(|one| settle(inner, one)),
        (Kind::Map(_, inner), Value::Table(entries)) => {
            for entry in entries {
                settle(inner, &mut entry.node);
            }
        }
        (Kind::Table(table), Value::Table(entries)) => {
            for entry in entries {
                if let Some(key) = table.key(&entry.name) {
                    settle(&key.kind, &mut entry.node);
                }
            }
        }
        (Kind::Either(kinds), _) => kinds.iter().for_each(|kind| settle(kind, node)),
        _ => {}
    }
}

/// Checks a table and all beneath it. `span`: where it is told what is missing.
pub(crate) fn table(table: &'static Table, entries: &[Entry], span: &Span, reading: &mut Reading) {
    for entry in entries {
        match table.key(&entry.name) {
            Some(key) => value(&entry.name, &key.kind, entry, reading),
            None => unknown(table, entry, reading),
        }
    }
    for key in table.keys {
        let misspelt = |e: &Entry| table.key(&e.name).is_none() && meant(table, &e.name) == Some(key.name);
        if matches!(key.default, Default::Required)
            && entries.iter().all(|e| e.name != key.name && !misspelt(e))
        {
            let message = format!("`{}` is missing", key.name);
            reading.error(span, message, format!("write it as `{}`", example(key)));
        }
    }
}

/// What other servers and their users call it.
const ELSEWHERE: [(&str, &str); 12] = [
    ("bind", "listen"),
    ("address", "listen"),
    ("server-name", "hosts"),
    ("domain", "hosts"),
    ("domains", "hosts"),
    ("chdir", "folder"),
    ("root", "static"),
    ("alias", "static"),
    ("return", "respond"),
    ("location", "path"),
    ("module", "wsgi"),
    ("max-body-size", "request-body-max"),
];

/// The key of the table that somebody had in mind.
fn meant(table: &'static Table, name: &str) -> Option<&'static str> {
    let known = || table.keys.iter().filter(|key| !key.hidden).map(|key| key.name);
    let plain = name.to_lowercase().replace('_', "-");
    let other = ELSEWHERE.iter().find(|(theirs, _)| *theirs == plain).map(|(_, ours)| *ours);
    other.filter(|ours| known().any(|k| k == *ours)).or_else(|| similar(name, known()))
}

fn unknown(table: &'static Table, entry: &Entry, reading: &mut Reading) {
    let name = &entry.name;
    if let Some((_, why)) = table.later.iter().find(|(later, _)| later == name) {
        reading.error(&entry.name_span, format!("`{name}` is not there yet: {why}"), "leave it out");
        return;
    }
    let known = || table.keys.iter().filter(|key| !key.hidden).map(|key| key.name);
    let outer = [&keys::SERVER, &keys::APP, &keys::SITE, &keys::ROUTE];
    let is_outer = table.title == keys::FILE.title || outer.iter().any(|t| t.title == table.title);
    let home = outer.into_iter().find(|t| is_outer && t.key(name).is_some());
    let hint = match (home, meant(table, name)) {
        // Somebody has left the step out.
        (None, None) if table.key("set").is_some() && name.contains('-') => {
            format!("write it as `{} = {{ set = {{ {name} = … }} }}`", table.title)
        }
        (Some(home), _) if home.title.starts_with('[') => format!("`{name}` belongs to `{}`", home.title),
        (Some(home), _) => format!("`{name}` belongs to a `{}`", home.title),
        (None, Some(key)) => format!("did you mean `{key}`?"),
        (None, None) => {
            format!("known here: {}", known().map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", "))
        }
    };
    reading.error(&entry.name_span, format!("unknown key `{name}`"), hint);
}

fn value(name: &str, kind: &'static Kind, entry: &Entry, reading: &mut Reading) {
    node(name, kind, &entry.node, &entry.name_span, reading);
}

fn node(name: &str, kind: &'static Kind, it: &Node, name_span: &Span, reading: &mut Reading) {
    match (kind, &it.value) {
        (_, Value::Told) | (Kind::Any, _) => {}
        (Kind::List(inner), Value::List(list)) => {
            for one in list {
                node(name, inner, one, &one.span, reading);
            }
        }
        (Kind::Map(_, Kind::Table(inner)), Value::Table(entries)) if is_nameless(inner, entries) => {
            let message = format!("`[{name}]` has no name");
            reading.error(name_span, message, format!("each one has a name of its own: `[{name}.main]`"));
        }
        (Kind::Map(_, inner), Value::Table(entries)) => {
            for entry in entries {
                value(&entry.name, inner, entry, reading);
            }
        }
        (Kind::Table(inner), Value::Table(entries)) => table(inner, entries, name_span, reading),
        (Kind::Either(kinds), _) => match kinds.iter().find(|k| is_alike(k, &it.value)) {
            // A word or number may be any of those that are alike.
            Some(alike) if is_plain(alike) => {
                let alikes: Vec<_> = kinds.iter().filter(|k| is_plain(k) && is_alike(k, &it.value)).collect();
                if let Some(why) = alikes.iter().find_map(|k| later(k, &it.value)) {
                    let message = format!("`{name} = {}` is not there yet: {why}", shown(&it.value));
                    reading.error(&it.span, message, "leave it out");
                } else if !alikes.iter().any(|k| fits(k, &it.value)) {
                    unfit(name, kind, it, reading);
                }
            }
            Some(alike) => node(name, alike, it, name_span, reading),
            None => unfit(name, kind, it, reading),
        },
        (Kind::LaterTable(why), Value::Table(_)) => {
            reading.error(&it.span, format!("`{name}` as a table is not there yet: {why}"), "leave it out");
        }
        (kind, value) if fits(kind, value) => {}
        _ => unfit(name, kind, it, reading),
    }
}

/// Whether keys of a table stand where its name would stand first.
fn is_nameless(inner: &'static Table, entries: &[Entry]) -> bool {
    entries.iter().any(|e| !matches!(e.node.value, Value::Table(_)) && inner.key(&e.name).is_some())
}

/// Of the tables in a table of tables.
fn title_of(kind: &Kind) -> Option<&'static str> {
    match kind {
        Kind::Map(_, Kind::Table(inner)) => Some(inner.title),
        _ => None,
    }
}

fn takes_text(kind: &Kind) -> bool {
    match kind {
        Kind::Text => true,
        Kind::Either(kinds) => kinds.iter().any(takes_text),
        _ => false,
    }
}

/// Whether a list of such values would be fit.
fn one_of_list(kind: &Kind, value: &Value) -> bool {
    match kind {
        Kind::List(inner) => fits(inner, value),
        Kind::Either(kinds) => kinds.iter().any(|k| one_of_list(k, value)),
        _ => false,
    }
}

fn unfit(name: &str, kind: &'static Kind, it: &Node, reading: &mut Reading) {
    let message = format!("`{name}` must be {}", described(kind));
    let choices = match (kind, &it.value) {
        (Kind::Choice(all), Value::Text(text)) => similar(text, all.iter().copied()),
        _ => None,
    };
    let hint = match &it.value {
        Value::Text(text) if text.parse::<i64>().is_ok() && takes_number(kind) => {
            format!("write it without quotes: `{text}`")
        }
        Value::Text(text) if matches!(text.as_str(), "true" | "false") && matches!(kind, Kind::Bool) => {
            format!("write it without quotes: `{text}`")
        }
        Value::Text(text) if one_of_list(kind, &it.value) => {
            format!("a list stands in brackets: `[\"{text}\"]`")
        }
        Value::Text(_) | Value::Table(_) if matches!(kind, Kind::List(_)) => {
            "a list stands in brackets".to_owned()
        }
        _ if title_of(kind).is_some() => format!("write it as `{}`", title_of(kind).unwrap_or_default()),
        value if matches!(kind, Kind::Table(_) | Kind::Map(..)) && !matches!(value, Value::Table(_)) => {
            "a table is written with braces, `{ key = … }`, or begins with its name in brackets".to_owned()
        }
        Value::Bool(_) if !takes_text(kind) => format!("`{}` is not fit here", shown(&it.value)),
        Value::Whole(_) | Value::Float(_) | Value::Bool(_) | Value::Date(_)
            if fits(kind, &as_text(&it.value)) =>
        {
            format!("write it in quotes: `\"{}\"`", shown(&it.value))
        }
        _ => match (choices, &it.value) {
            (Some(choice), _) => format!("did you mean `\"{choice}\"`?"),
            (None, Value::Text(text)) if text.is_empty() => "it is empty".to_owned(),
            (None, Value::Text(text)) => format!("`{text}` is not fit here"),
            (None, Value::List(_)) => "this is a list".to_owned(),
            (None, Value::Table(_)) => "this is a table".to_owned(),
            (None, value) => format!("`{}` is not fit here", shown(value)),
        },
    };
    reading.error(&it.span, message, hint);
}

fn as_text(value: &Value) -> Value {
    Value::Text(shown(value))
}

fn shown(value: &Value) -> String {
    match value {
        Value::Text(text) => format!("\"{text}\""),
        Value::Whole(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Bool(is) => is.to_string(),
        Value::Date(date) => date.clone(),
        Value::List(_) => "[…]".to_owned(),
        Value::Table(_) => "{…}".to_owned(),
        Value::Told => String::new(),
    }
}

fn takes_number(kind: &Kind) -> bool {
    match kind {
        Kind::Whole(..) => true,
        Kind::Either(kinds) => kinds.iter().any(takes_number),
        _ => false,
    }
}

/// Neither a list nor a table.
fn is_plain(kind: &Kind) -> bool {
    !matches!(kind, Kind::List(_) | Kind::Map(..) | Kind::Table(_) | Kind::LaterTable(_) | Kind::Either(_))
}

/// Whether a value is of the kind of TOML values that this kind is written with.
fn is_alike(kind: &Kind, value: &Value) -> bool {
    match value {
        Value::Text(_) => matches!(
            kind,
            Kind::Text
                | Kind::Path
                | Kind::Time
                | Kind::Size
                | Kind::Choice(_)
                | Kind::Any
                | Kind::LaterWord(..)
        ),
        Value::Whole(_) => matches!(kind, Kind::Whole(..) | Kind::Time | Kind::Size | Kind::Any),
        Value::Float(_) => matches!(kind, Kind::Time | Kind::Any),
        Value::Bool(_) => matches!(kind, Kind::Bool | Kind::Any),
        Value::Date(_) => matches!(kind, Kind::Any),
        Value::List(_) => matches!(kind, Kind::List(_) | Kind::Any),
        Value::Table(_) => matches!(kind, Kind::Map(..) | Kind::Table(_) | Kind::Any | Kind::LaterTable(_)),
        Value::Told => true,
    }
}

fn fits(kind: &Kind, value: &Value) -> bool {
    match (kind, value) {
        (Kind::Bool, Value::Bool(_)) | (Kind::Text, Value::Text(_)) | (Kind::Any, _) => true,
        (Kind::Path, Value::Text(text)) => !text.is_empty(),
        (Kind::Time, Value::Text(text)) => values::time(text).is_ok(),
        (Kind::Time, Value::Whole(n)) => values::time(&n.to_string()).is_ok(),
        (Kind::Time, Value::Float(n)) => values::time(&n.to_string()).is_ok(),
        (Kind::Size, Value::Text(text)) => values::size(text).is_ok(),
        (Kind::Size, Value::Whole(n)) => values::size(&n.to_string()).is_ok(),
        (Kind::Whole(min, max), Value::Whole(n)) => {
            u64::try_from(*n).is_ok_and(|n| (*min..=*max).contains(&n))
        }
        (Kind::Choice(all), Value::Text(text)) => all.contains(&text.as_str()),
        (Kind::Either(kinds), value) => kinds.iter().any(|k| fits(k, value)),
        _ => false,
    }
}

fn later(kind: &Kind, value: &Value) -> Option<&'static str> {
    match (kind, value) {
        (Kind::LaterWord(word, why), Value::Text(text)) if text == word => Some(why),
        _ => None,
    }
}

/// A kind in words.
pub(crate) fn described(kind: &Kind) -> String {
    match kind {
        Kind::Bool => "`true` or `false`".to_owned(),
        Kind::Text => "text".to_owned(),
        Kind::Path => "a path".to_owned(),
        Kind::Time => "a time as `\"30s\"`, `\"500ms\"`, `\"2m\"`, `\"1h\"` or `\"7d\"`".to_owned(),
        Kind::Size => "a size as `\"64MiB\"` or `\"512k\"`".to_owned(),
        Kind::Whole(min, max) => format!("a whole number from {min} to {max}"),
        Kind::Choice(all) => any_of(all.iter().map(|c| format!("`\"{c}\"`")).collect()),
        Kind::Any => "any value".to_owned(),
        Kind::List(inner) => match inner {
            Kind::Text => "a list of texts".to_owned(),
            Kind::Path => "a list of paths".to_owned(),
            Kind::Table(_) => "a list of tables".to_owned(),
            inner => format!("a list, each {}", described(inner)),
        },
        Kind::Map(..) | Kind::Table(_) => "a table".to_owned(),
        Kind::Either(kinds) => any_of(
            kinds
                .iter()
                .filter(|k| !matches!(k, Kind::LaterWord(..) | Kind::LaterTable(_)))
                .map(described)
                .collect(),
        ),
        Kind::LaterWord(..) | Kind::LaterTable(_) => String::new(),
    }
}

fn any_of(mut all: Vec<String>) -> String {
    all.dedup();
    match all.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}

fn example(key: &Key) -> String {
    let value = match (key.name, &key.kind) {
        ("wsgi", _) => "\"shop.wsgi:application\"",
        ("path", _) => "\"/*\"",
        ("cert", _) => "\"fullchain.pem\"",
        ("key", _) => "\"key.pem\"",
        ("origins", _) => "[\"https://app.example\"]",
        ("site", _) => return "[site.main]".to_owned(),
        _ => "\"…\"",
    };
    format!("{} = {value}", key.name)
}
