//! URL building: a template and values make the path that leads back to them.

use super::converter::Converter;
use super::template::{Part, Tail, Template};
use crate::segments::{self, SEGMENTS_MAX};

/// Why no path can be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// A parameter has no value.
    #[error("`{template}` needs a value for `{name}`")]
    Missing {
        /// The template.
        template: String,
        /// The parameter.
        name: String,
    },
    /// A value has no parameter.
    #[error("`{template}` has no parameter `{name}`")]
    Unknown {
        /// The template.
        template: String,
        /// What was given.
        name: String,
    },
    /// A value that the route would not take.
    #[error("`{value}` is no value for `{name}` of `{template}`\nhint: {hint}")]
    Refused {
        /// The template.
        template: String,
        /// The parameter.
        name: String,
        /// What was given.
        value: String,
        /// What it must be.
        hint: &'static str,
    },
}

impl Template {
    /// The path with these values, percent-encoded. The router reads the same values from it, if it is sent to a
    /// server that passes on the raw path where a value holds a slash.
    pub fn build(&self, values: &[(&str, &str)]) -> Result<String, BuildError> {
        if let Some((name, _)) =
            values.iter().find(|(name, _)| self.parameters().iter().all(|known| known.name != *name))
        {
            return Err(BuildError::Unknown { template: self.text().to_owned(), name: (*name).to_owned() });
        }
        let mut path = String::new();
        for part in &self.parts {
            path.push('/');
            match part {
                Part::Literal(text) => segments::encode(text, &mut path),
                Part::Parameter { prefix, suffix, index } => {
                    let value = self.value(*index, values)?;
                    let segment = [prefix, value.as_bytes(), suffix].concat();
                    if segment.split(|b| *b == b'/').any(|piece| matches!(piece, b"." | b"..")) {
                        return Err(self.refused(*index, value, "no segment of a path can be `.` or `..`"));
                    }
                    segments::encode(&segment, &mut path);
                }
            }
        }
        if let Tail::Path(index) = self.tail {
            let value = self.value(index, values)?;
            for segment in value.split('/') {
                path.push('/');
                segments::encode(segment.as_bytes(), &mut path);
            }
            // A slash at the end begins no segment.
            let whole = value.strip_suffix('/').unwrap_or(value);
            if self.depth() + whole.split('/').count() > SEGMENTS_MAX {
                return Err(self.refused(index, value, "a path has at most 64 segments"));
            }
        }
        if self.trailing_slash() || path.is_empty() {
            path.push('/');
        }
        Ok(path)
    }

    fn value<'v>(&self, index: usize, values: &[(&str, &'v str)]) -> Result<&'v str, BuildError> {
        let parameter = &self.parameters()[index];
        let Some((_, value)) = values.iter().find(|(name, _)| *name == parameter.name) else {
            return Err(BuildError::Missing {
                template: self.text().to_owned(),
                name: parameter.name.clone(),
            });
        };
        let judged = match parameter.converter {
            // without a slash of its own the template takes one as the value's
            Converter::Path if !self.trailing_slash() => value.strip_suffix('/').unwrap_or(value),
            _ => value,
        };
        if parameter.converter.accepts(judged.as_bytes()) {
            Ok(value)
        } else {
            Err(self.refused(index, value, parameter.converter.described()))
        }
    }

    fn refused(&self, index: usize, value: &str, hint: &'static str) -> BuildError {
        BuildError::Refused {
            template: self.text().to_owned(),
            name: self.parameters()[index].name.clone(),
            value: value.to_owned(),
            hint,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(template: &str, values: &[(&str, &str)]) -> Result<String, String> {
        Template::parse(template, &|_| None).unwrap().build(values).map_err(|error| error.to_string())
    }

    #[test]
    fn values_are_percent_encoded() {
        assert_eq!(build("/", &[]).unwrap(), "/");
        assert_eq!(build("/a b/{x}.txt/", &[("x", "é/ü ?")]).unwrap(), "/a%20b/%C3%A9%2F%C3%BC%20%3F.txt/");
        assert_eq!(
            build("/{a}/{b:int}", &[("b", "-7"), ("a", "~!$&'()*+,;=:@")]).unwrap(),
            "/~!$&'()*+,;=:@/-7"
        );
        assert_eq!(build("/f/{p:path}", &[("p", "a/b c/d")]).unwrap(), "/f/a/b%20c/d");
        assert_eq!(build("/f/{p:path}", &[("p", "a/")]).unwrap(), "/f/a/");
        assert_eq!(build("/f/{p:path}/", &[("p", "a")]).unwrap(), "/f/a/");
        assert_eq!(build("/{a}", &[("a", "\\evil.example")]).unwrap(), "/%5Cevil.example");
    }

    #[test]
    fn a_value_that_would_not_come_back_is_refused() {
        for (template, value) in [
            ("/{x}", ""),
            ("/{x}", "."),
            ("/{x}", ".."),
            ("/{x}", "../a"),
            ("/.{x}", "."),
            ("/{x:int}", "007"),
            ("/{x:int}", "1.0"),
            ("/{x:uuid}", "1"),
            ("/{x:date}", "2023-02-29"),
            ("/{x:re([a-z]+)}", "A"),
            ("/{x:path}", ""),
            ("/{x:path}", "/"),
            ("/{x:path}", "/a"),
            ("/{x:path}", "a//b"),
            ("/{x:path}", "a/../b"),
            ("/{x:path}", "a//"),
            ("/{x:path}/", "a/"),
        ] {
            let error = build(template, &[("x", value)]).unwrap_err();
            assert!(error.starts_with(&format!("`{value}` is no value for `x`")), "{error}");
        }
        assert!(build("/{x:path}", &[("x", &["a"; 65].join("/"))]).is_err());
    }

    #[test]
    fn a_path_has_as_many_segments_as_one_that_is_found() {
        let full = ["a"; SEGMENTS_MAX].join("/");
        assert_eq!(build("/{p:path}", &[("p", &full)]).unwrap(), format!("/{full}"));
        assert_eq!(build("/{p:path}", &[("p", &format!("{full}/"))]).unwrap(), format!("/{full}/"));
        assert!(build("/{p:path}", &[("p", &format!("{full}/a"))]).unwrap_err().contains("at most 64"));
        assert!(build("/b/{p:path}", &[("p", &full)]).unwrap_err().contains("at most 64"));
    }

    #[test]
    fn names_must_fit() {
        assert_eq!(build("/{x}", &[]).unwrap_err(), "`/{x}` needs a value for `x`");
        assert_eq!(build("/{x}", &[("x", "1"), ("y", "2")]).unwrap_err(), "`/{x}` has no parameter `y`");
    }
}
