//! Converters: what a parameter of a template accepts, and when two spellings are one value.

use std::sync::Arc;

use regex::{Regex, RegexBuilder};

/// Longest source of an expression, in bytes.
const RE_BYTES_MAX: usize = 1000;
/// Largest compiled expression, in bytes.
const RE_COMPILED_BYTES_MAX: usize = 4 << 20;

/// What the text of a parameter must be. No converter accepts nothing at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Converter {
    /// Any text within one segment.
    Str,
    /// `-?(0|[1-9][0-9]*)` but not `-0`: one value has one spelling. Of 64 bits, as databases keep them: a larger
    /// one names nothing, and would be a stranger's way to an exception.
    Int,
    /// `-?[0-9]+\.[0-9]+`, finite.
    Float,
    /// 8-4-4-4-12 hexadecimal digits in any case.
    Uuid,
    /// `YYYY-MM-DD` of the Gregorian calendar, from 0001-01-01.
    Date,
    /// The rest of the path: one segment or more, none of which holds an escaped slash.
    Path,
    /// What an expression matches as a whole.
    Re(Re),
}

/// An expression that must match the whole value, in time linear in it.
#[derive(Clone, Debug)]
pub struct Re {
    source: Arc<str>,
    regex: Regex,
    name: Arc<str>,
    id: Option<u32>,
}

impl PartialEq for Re {
    fn eq(&self, other: &Re) -> bool {
        self.source == other.source && self.id == other.id
    }
}

impl Eq for Re {}

/// Why an expression cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the expression `{source_text}` {problem}\nhint: {hint}")]
pub struct BadRegex {
    source_text: String,
    problem: String,
    hint: &'static str,
}

impl Re {
    /// The expression of `{name:re(source)}`; its value is the text.
    pub fn new(source: &str) -> Result<Re, BadRegex> {
        Self::compile("re", source, None)
    }

    /// A converter of somebody's own, called `name`: the router asks `source`, the owner of `id` makes the value.
    pub fn custom(name: &str, source: &str, id: u32) -> Result<Re, BadRegex> {
        Self::compile(name, source, Some(id))
    }

    fn compile(name: &str, source: &str, id: Option<u32>) -> Result<Re, BadRegex> {
        let bad = |problem: String, hint| BadRegex { source_text: source.to_owned(), problem, hint };
        if source.len() > RE_BYTES_MAX {
            return Err(bad(
                format!("is longer than {RE_BYTES_MAX} bytes"),
                "accept more in the template and check the value in the handler",
            ));
        }
        let build = |text: &str| RegexBuilder::new(text).size_limit(RE_COMPILED_BYTES_MAX).build();
        let explained = |error: regex::Error| match error {
            regex::Error::CompiledTooBig(_) => bad(
                "becomes too large a program".to_owned(),
                "write smaller repetitions, or `[0-9A-Za-z_]` for `\\w`, which is all of Unicode",
            ),
            error => {
                let text = error.to_string();
                let reason = text.rsplit("error: ").next().unwrap_or_default().trim();
                bad(
                    format!("cannot be used: {reason}"),
                    "expressions match in linear time: no look-around, no backreferences, `\\z` for `\\Z`",
                )
            }
        };
        // By itself first: `a)|(b` is no expression, but would be one between the anchors.
        build(source).map_err(explained)?;
        let regex = build(&format!(r"\A(?:{source})\z")).map_err(|_| {
            bad("cannot be anchored".to_owned(), "write it without `(?x)` comments at its end")
        })?;
        Ok(Re { source: source.into(), regex, name: name.into(), id })
    }

    /// The expression as it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// What `Re::custom` was given.
    pub fn id(&self) -> Option<u32> {
        self.id
    }

    fn is_match(&self, value: &[u8]) -> bool {
        std::str::from_utf8(value).is_ok_and(|text| self.regex.is_match(text))
    }
}

impl Converter {
    /// The names of the converters that are always there, `re(…)` aside.
    pub const NAMES: [&str; 6] = ["str", "int", "float", "uuid", "date", "path"];

    /// The converter of that name among those that are always there.
    pub fn named(name: &str) -> Option<Converter> {
        Some(match name {
            "str" => Converter::Str,
            "int" => Converter::Int,
            "float" => Converter::Float,
            "uuid" => Converter::Uuid,
            "date" => Converter::Date,
            "path" => Converter::Path,
            _ => return None,
        })
    }

    /// What it is called in a template.
    pub fn name(&self) -> &str {
        match self {
            Converter::Str => "str",
            Converter::Int => "int",
            Converter::Float => "float",
            Converter::Uuid => "uuid",
            Converter::Date => "date",
            Converter::Path => "path",
            Converter::Re(re) => &re.name,
        }
    }

    /// Whether `value`, decoded bytes, is one of its values. Of `Path` this judges the joined rest, without a
    /// trailing slash.
    #[inline]
    pub fn accepts(&self, value: &[u8]) -> bool {
        if value.is_empty() {
            return false;
        }
        match self {
            Converter::Str => true,
            Converter::Int => int(value).is_some(),
            Converter::Float => is_float(value),
            Converter::Uuid => is_uuid(value),
            Converter::Date => is_date(value),
            Converter::Path => {
                value.split(|b| *b == b'/').all(|segment| !matches!(segment, b"" | b"." | b".."))
            }
            Converter::Re(re) => re.is_match(value),
        }
    }

    /// Whether two accepted texts are one value: only uuid and float have several spellings of one.
    #[expect(clippy::float_cmp, reason = "this asks whether two texts are the very same number")]
    pub fn same(&self, one: &[u8], other: &[u8]) -> bool {
        one == other
            || match self {
                Converter::Uuid => one.eq_ignore_ascii_case(other),
                Converter::Float => match (float(one), float(other)) {
                    (Some(one), Some(other)) => one == other,
                    _ => false,
                },
                _ => false,
            }
    }

    /// What it accepts, for a message.
    pub(crate) fn described(&self) -> &'static str {
        match self {
            Converter::Str => "any text but an empty one",
            Converter::Int => "a whole number of 64 bits without leading zeros, as `-12`",
            Converter::Float => "a number with a point between digits, as `1.5`",
            Converter::Uuid => "hexadecimal digits as 8-4-4-4-12",
            Converter::Date => "a day as `2026-01-31`",
            Converter::Path => "segments joined by `/`, none of them empty, `.` or `..`",
            Converter::Re(_) => "what its expression matches as a whole",
        }
    }
}

/// The value of an accepted int.
#[inline]
pub fn int(value: &[u8]) -> Option<i64> {
    let (negative, digits) = match value {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        // 18 digits are below 2^63
        [b'1'..=b'9', ..] if digits.len() <= 18 => {}
        [b'1'..=b'9', ..] if digits.len() == 19 => return std::str::from_utf8(value).ok()?.parse().ok(),
        _ => return None,
    }
    let number = digits
        .iter()
        .try_fold(0, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + i64::from(digit - b'0')))?;
    Some(if negative { -number } else { number })
}

fn is_float(value: &[u8]) -> bool {
    let digits = value.strip_prefix(b"-").unwrap_or(value);
    let Some(point) = digits.iter().position(|b| *b == b'.') else { return false };
    let (whole, part) = (&digits[..point], &digits[point + 1..]);
    !whole.is_empty()
        && !part.is_empty()
        && whole.iter().chain(part).all(u8::is_ascii_digit)
        // 308 digits are below the largest double
        && (whole.len() <= 308 || float(value).is_some_and(f64::is_finite))
}

fn float(value: &[u8]) -> Option<f64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

pub(crate) fn is_uuid(value: &[u8]) -> bool {
    value.len() == 36
        && value.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

fn is_date(value: &[u8]) -> bool {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = value else { return false };
    let number = |digits: &[&u8]| {
        digits.iter().try_fold(0u32, |sum, d| d.is_ascii_digit().then(|| sum * 10 + u32::from(**d - b'0')))
    };
    let (Some(year), Some(month), Some(day)) =
        (number(&[y1, y2, y3, y4]), number(&[m1, m2]), number(&[d1, d2]))
    else {
        return false;
    };
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        4 | 6 | 9 | 11 => 30,
        2 => 28 + u32::from(leap),
        1..=12 => 31,
        _ => return false,
    };
    year > 0 && (1..=days).contains(&day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(converter: &Converter, yes: &[&str], no: &[&str]) {
        for text in yes {
            assert!(converter.accepts(text.as_bytes()), "{} {text}", converter.name());
        }
        for text in no {
            assert!(!converter.accepts(text.as_bytes()), "{} {text}", converter.name());
        }
    }

    #[test]
    fn an_int_has_one_spelling() {
        check(
            &Converter::Int,
            &["0", "-1", "42", "1000000000000000000"],
            &[
                "",
                "-",
                "-0",
                "00",
                "007",
                "+1",
                "1_0",
                "１",
                " 1",
                "1.0",
                "0x1",
                "1a",
                "--1",
                "+100000000000000000",
            ],
        );
        assert_eq!(int(b"-42"), Some(-42));
    }

    #[test]
    fn an_int_has_64_bits() {
        let (least, most) = (i64::MIN.to_string(), i64::MAX.to_string());
        check(
            &Converter::Int,
            &["999999999999999999", "-999999999999999999", &least, &most],
            &[
                "9223372036854775808",
                "-9223372036854775809",
                "9999999999999999999",
                "+999999999999999999",
                "999999999999999999a",
                "99999999999999999999",
                "0000000000000000001",
                &"9".repeat(5000),
            ],
        );
        assert_eq!((int(least.as_bytes()), int(most.as_bytes())), (Some(i64::MIN), Some(i64::MAX)));
    }

    #[test]
    fn a_float_has_digits_on_both_sides() {
        let large = format!("{}.0", "9".repeat(309));
        check(
            &Converter::Float,
            &["0.0", "-1.50", "007.25", &format!("{}.0", "9".repeat(308))],
            &["", "1", ".5", "5.", "-.5", "1e5", "1.0e5", "nan", "inf", "1.2.3", "--1.0", "+1.0", &large],
        );
    }

    #[test]
    fn a_uuid_is_in_any_case() {
        check(
            &Converter::Uuid,
            &["A0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"],
            &[
                "A0eebc999c0b4ef8bb6d6bb9bd380a11",
                "{A0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1}",
                "A0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1g",
                "A0eebc9-99c0b-4ef8-bb6d-6bb9bd380a11",
            ],
        );
    }

    #[test]
    fn a_date_is_a_day_that_was() {
        check(
            &Converter::Date,
            &["2024-02-29", "2000-02-29", "0001-01-01", "9999-12-31"],
            &[
                "2023-02-29",
                "1900-02-29",
                "0000-01-01",
                "2024-13-01",
                "2024-00-01",
                "2024-04-31",
                "2024-1-01",
                "2024-01-00",
                "20240101",
                "2024-01-1a",
                "2024/01/01",
            ],
        );
    }

    #[test]
    fn an_expression_matches_the_whole_value() {
        let re = |source: &str| Converter::Re(Re::new(source).unwrap());
        check(&re("[a-z]+|x1"), &["abc", "x1"], &["", "x12", "ABC", "a\n", "1x1"]);
        check(&re("a*"), &["a"], &["", "b"]);
        assert!(!re(".+").accepts(b"\xff"), "a value is text");
    }

    #[test]
    fn an_expression_that_cannot_be_used_is_explained() {
        for (source, said) in [
            ("a)|(b", "unopened group"),
            ("(?=a)b", "look-around"),
            (r"(a)\1", "backreferences"),
            (r"\w{900}", "too large"),
            ("(?x)a # b", "cannot be anchored"),
            (&"a".repeat(1001), "longer than 1000"),
        ] {
            let error = Re::new(source).unwrap_err().to_string();
            assert!(error.contains(said) && error.contains("\nhint: "), "{error}");
        }
    }

    #[test]
    fn spellings_of_one_value() {
        let uuid = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
        assert!(Converter::Uuid.same(uuid.as_bytes(), uuid.to_uppercase().as_bytes()));
        assert!(Converter::Float.same(b"01.50", b"1.5"));
        assert!(Converter::Float.same(b"-0.0", b"0.0"));
        assert!(!Converter::Float.same(b"1.5", b"1.6"));
        assert!(!Converter::Str.same(b"A", b"a"));
    }
}
