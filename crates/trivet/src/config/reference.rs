//! The reference page of the configuration and its schema for editors, made from the list of keys: the tests fail when
//! they are stale.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::keys::{Default, FILE, Key, Kind, Table};
use super::shape::described;

const HEAD: &str = "# `trivet.toml`

The configuration of `trivet serve`: [TOML](https://toml.io) with the tables and keys below. [The guide](../guide/configuration.md)
builds one up.

<!-- made from crates/trivet/src/config/keys.rs: TRIVET_BLESS=1 cargo test -p trivet writes it anew -->

| command | |
|---|---|
| `trivet check [FILE]` | says all that is wrong with a file, or `ok` |
| `trivet check --explain URL` | says which site and which route a request is for, and why |
| `trivet serve [FILE]` | serves what it says |

FILE is `trivet.toml` in the current folder if it is left out.

## Values

- Times are written as `\"30s\"`, `\"500ms\"`, `\"2m\"`, `\"1h\"`, `\"7d\"`, `\"1y\"` or a number of seconds; sizes as `\"64MiB\"`, `\"512k\"`
  or a number of bytes.
- Relative paths begin in the folder of the file.
- `${NAME}` in any text is an environment variable, `${NAME:-default}` one with a default for where it is not set or
  empty; `$${` is `${` itself. Numbers may come so, too: `workers = \"${WORKERS:-2}\"`.
- In `env` and in the values of header fields `{ file = \"…\" }` is the content of a file, for secrets.

## Editors

Editors that know [Taplo](https://taplo.tamasfe.dev) (in VS Code: Even Better TOML) complete and check the file by
[its schema](../trivet.schema.json), if the file's first line names it:

```toml
#:schema https://raw.githubusercontent.com/trivet/trivet/main/docs/trivet.schema.json
```
";

/// Tables that can be reached from the file, outer ones first.
fn tables() -> Vec<&'static Table> {
    fn add(kind: &'static Kind, all: &mut Vec<&'static Table>) {
        match kind {
            Kind::Table(table) if all.iter().all(|t| t.title != table.title) => {
                all.push(table);
                for key in table.keys {
                    add(&key.kind, all);
                }
            }
            Kind::List(inner) | Kind::Map(_, inner) => add(inner, all),
            Kind::Either(kinds) => kinds.iter().for_each(|k| add(k, all)),
            _ => {}
        }
    }
    let mut all = Vec::new();
    FILE.keys.iter().for_each(|key| add(&key.kind, &mut all));
    all
}

/// A kind in words, with links to tables.
fn kind(kind: &Kind) -> String {
    match kind {
        Kind::Table(table) => {
            let anchor: String =
                table.title.to_lowercase().chars().filter(|c| c.is_alphanumeric() || *c == '-').collect();
            format!("a table: [{}](#{anchor})", table.title.trim_matches(['[', ']']))
        }
        Kind::List(inner @ (Kind::Table(_) | Kind::Choice(_))) => {
            format!("a list, each {}", self::kind(inner))
        }
        Kind::Map(what, inner) => format!("a table of {what} and {}", self::kind(inner)),
        Kind::Either(kinds) => {
            let all: Vec<String> = kinds
                .iter()
                .filter(|k| !matches!(k, Kind::LaterWord(..) | Kind::LaterTable(_)))
                .map(self::kind)
                .collect();
            all.join(", or ")
        }
        kind => described(kind),
    }
}

fn is_text(kind: &Kind) -> bool {
    match kind {
        Kind::Bool | Kind::Whole(..) => false,
        Kind::Either(kinds) => kinds.first().is_some_and(is_text),
        _ => true,
    }
}

fn page() -> String {
    let mut page = HEAD.to_owned();
    for table in tables() {
        let title =
            if table.title.starts_with('[') { format!("`{}`", table.title) } else { table.title.to_owned() };
        let _ = write!(page, "\n## {title}\n");
        if !table.doc.is_empty() {
            let _ = write!(page, "\n{}\n", table.doc);
        }
        for key in table.keys.iter().filter(|k| !k.hidden) {
            let _ = write!(page, "\n### `{}`\n\n{}\n[{}]\n", key.name, key.doc, kind(&key.kind));
            match key.default {
                Default::Required => page.push_str("[must be given]\n"),
                Default::Nothing => {}
                Default::Is(value) if is_text(&key.kind) => {
                    let _ = writeln!(page, "[default: `\"{value}\"`]");
                }
                Default::Is(value) => {
                    let _ = writeln!(page, "[default: `{value}`]");
                }
                Default::Told(text) => {
                    let _ = writeln!(page, "[default: {text}]");
                }
            }
        }
    }
    page
}

fn name(table: &Table) -> String {
    table.title.trim_matches(['[', ']']).trim_end_matches(".NAME").to_lowercase()
}

/// A text that an environment variable is filled in, whatever it is then.
fn variable() -> Value {
    json!({"type": "string", "pattern": "\\$\\{"})
}

fn schema_of(kind: &Kind) -> Value {
    match kind {
        Kind::Bool => json!({"anyOf": [{"type": "boolean"}, variable()]}),
        Kind::Text => json!({"type": "string"}),
        Kind::Path => json!({"type": "string", "minLength": 1}),
        Kind::Time => json!({"type": ["string", "number"]}),
        Kind::Size => json!({"type": ["string", "integer"]}),
        Kind::Whole(min, max) => {
            json!({"anyOf": [{"type": "integer", "minimum": min, "maximum": max}, variable()]})
        }
        Kind::Choice(all) => json!({"anyOf": [{"enum": all}, variable()]}),
        Kind::Any => json!({}),
        Kind::List(inner) => json!({"type": "array", "items": schema_of(inner)}),
        Kind::Map(_, inner) => json!({"type": "object", "additionalProperties": schema_of(inner)}),
        Kind::Table(table) => json!({"$ref": format!("#/definitions/{}", name(table))}),
        Kind::Either(kinds) => {
            let all: Vec<Value> = kinds
                .iter()
                .filter(|k| !matches!(k, Kind::LaterWord(..) | Kind::LaterTable(_)))
                .map(schema_of)
                .collect();
            if all.len() == 1 { all.into_iter().next().unwrap_or_default() } else { json!({"anyOf": all}) }
        }
        Kind::LaterWord(..) | Kind::LaterTable(_) => Value::Bool(false),
    }
}

fn schema_of_key(key: &Key) -> Value {
    let mut schema = schema_of(&key.kind);
    // Beside a reference nothing else counts.
    if schema.get("$ref").is_some() {
        schema = json!({"allOf": [schema]});
    }
    schema["description"] = key.doc.into();
    if let Default::Is(value) = key.default {
        schema["default"] =
            serde_json::from_str(value).ok().filter(|_| !is_text(&key.kind)).unwrap_or(value.into());
    }
    schema
}

fn schema_of_table(table: &Table) -> Value {
    let keys = || table.keys.iter().filter(|k| !k.hidden);
    let properties: Map<String, Value> = keys().map(|k| (k.name.to_owned(), schema_of_key(k))).collect();
    let required: Vec<&str> =
        keys().filter(|k| matches!(k.default, Default::Required)).map(|k| k.name).collect();
    let mut schema = json!({"type": "object", "properties": properties, "additionalProperties": false});
    if !required.is_empty() {
        schema["required"] = required.into();
    }
    if !table.doc.is_empty() {
        schema["description"] = table.doc.into();
    }
    schema
}

fn schema() -> Value {
    let mut schema = schema_of_table(&FILE);
    schema["$schema"] = "http://json-schema.org/draft-07/schema#".into();
    schema["title"] = "trivet.toml".into();
    schema["description"] = "The configuration of `trivet serve`.".into();
    schema["definitions"] =
        tables().into_iter().map(|t| (name(t), schema_of_table(t))).collect::<Map<_, _>>().into();
    schema
}

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}

fn is_stored(path: &Path, text: &str) {
    if std::env::var_os("TRIVET_BLESS").is_some() {
        std::fs::write(path, text).expect("it can be written");
    }
    let stored = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        stored == text,
        "{} is stale: TRIVET_BLESS=1 cargo test -p trivet writes it anew",
        path.display()
    );
}

#[test]
fn the_reference_page_is_up_to_date() {
    is_stored(&docs().join("reference/configuration.md"), &page());
}

#[test]
fn the_schema_is_up_to_date() {
    let text = serde_json::to_string_pretty(&schema()).expect("it is plain data") + "\n";
    is_stored(&docs().join("trivet.schema.json"), &text);
}

/// As much of JSON schema as ours uses.
fn accepts(root: &Value, schema: &Value, value: &Value) -> bool {
    let is = |kind: &str| match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64(),
        "number" => value.is_number(),
        other => panic!("`{other}` is not used"),
    };
    let type_fits = match &schema["type"] {
        Value::String(kind) => is(kind),
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).any(is),
        _ => true,
    };
    let listed = |key: &str| schema[key].as_array().map(Vec::as_slice).unwrap_or_default();
    let reference_fits = schema["$ref"]
        .as_str()
        .is_none_or(|to| accepts(root, &root["definitions"][to.trim_start_matches("#/definitions/")], value));
    type_fits
        && reference_fits
        && (schema["enum"].is_null() || listed("enum").contains(value))
        && (schema["anyOf"].is_null() || listed("anyOf").iter().any(|s| accepts(root, s, value)))
        && listed("allOf").iter().all(|s| accepts(root, s, value))
        && (schema["pattern"].is_null() || value.as_str().is_some_and(|text| text.contains("${")))
        && schema["minimum"].as_i64().is_none_or(|min| value.as_i64().is_none_or(|v| v >= min))
        && schema["maximum"].as_i64().is_none_or(|max| value.as_i64().is_none_or(|v| v <= max))
        && value.as_array().is_none_or(|all| {
            schema["items"].is_null() || all.iter().all(|v| accepts(root, &schema["items"], v))
        })
        && value.as_object().is_none_or(|all| {
            listed("required").iter().filter_map(Value::as_str).all(|name| all.contains_key(name))
                && all.iter().all(|(name, v)| {
                    match (&schema["properties"][name], &schema["additionalProperties"]) {
                        (Value::Null, Value::Bool(false)) => false,
                        (Value::Null, Value::Null) => true,
                        (Value::Null, more) => accepts(root, more, v),
                        (known, _) => accepts(root, known, v),
                    }
                })
        })
}

fn as_json(node: &super::document::Node) -> Value {
    use super::document::Value as Written;
    match &node.value {
        Written::Text(text) | Written::Date(text) => text.clone().into(),
        Written::Whole(n) => (*n).into(),
        Written::Float(n) => (*n).into(),
        Written::Bool(is) => (*is).into(),
        Written::List(list) => list.iter().map(as_json).collect(),
        Written::Table(all) => all.iter().map(|e| (e.name.clone(), as_json(&e.node))).collect(),
        Written::Told => Value::Null,
    }
}

#[test]
fn the_schema_accepts_the_example_and_no_unknown_key() {
    let schema = schema();
    let text = std::fs::read_to_string(docs().join("../examples/sites/trivet.toml")).expect("it is there");
    let read = |text: &str| as_json(&super::document::parse(text, &|_| None).expect("it is TOML").0);
    assert!(accepts(&schema, &schema, &read(&text)));
    for (right, wrong) in [
        ("threads = 4", "thread = 4"),
        ("threads = 4", "threads = \"4\""),
        ("threads = 4", "threads = 0"),
        ("[app.blog]", "[apps.blog]"),
        ("wsgi = \"blog:app\"\n", ""),
        ("respond = 404", "respond = 42"),
        ("static = \"shop/staticfiles\"", "static = { folders = \"x\" }"),
    ] {
        assert!(text.contains(right), "{right}");
        assert!(!accepts(&schema, &schema, &read(&text.replacen(right, wrong, 1))), "{wrong}");
    }
}

#[test]
fn every_default_is_a_value_of_its_kind() {
    for table in tables() {
        for key in table.keys {
            let Default::Is(value) = key.default else { continue };
            let written =
                if is_text(&key.kind) { format!("k = \"{value}\"") } else { format!("k = {value}") };
            let value = read_one(&written);
            assert!(accepts(&schema(), &schema_of(&key.kind), &value), "{} {}", table.title, key.name);
        }
    }
}

fn read_one(text: &str) -> Value {
    as_json(&super::document::parse(text, &|_| None).expect("it is TOML").0)["k"].clone()
}
