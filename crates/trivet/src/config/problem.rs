//! What is wrong with a configuration, shown with its line.

use std::fmt;
use std::ops::Range;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Severity {
    Error,
    Warning,
}

/// One thing that is wrong or strange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) severity: Severity,
    pub(crate) message: String,
    pub(crate) hint: String,
    /// As the user named it.
    pub(crate) file: String,
    /// `site.main.route.2.app`; empty where there is none.
    pub(crate) key: String,
    /// `None`: it is about the file as a whole.
    pub(crate) place: Option<Place>,
}

/// Part of one line. Line and column count from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) line: usize,
    pub(crate) column: usize,
    /// What is shown of the line, and where in it the part lies, in letters.
    shown: String,
    marked: Range<usize>,
}

/// Lines are shown up to so many letters around what is marked.
const SHOWN_MAX: usize = 100;
const BEFORE_MAX: usize = 60;

impl Place {
    /// Of bytes of a text; what goes beyond the end of a line is left out.
    pub(crate) fn of(text: &str, span: &Range<usize>) -> Self {
        let floor = |mut at: usize| {
            at = at.min(text.len());
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            at
        };
        let start = floor(span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line = text[line_start..].split('\n').next().unwrap_or_default().trim_end_matches('\r');
        let end = floor(span.end).clamp(start, (line_start + line.len()).max(start));
        let before = text[line_start..start].chars().count();
        let marked = text[start..end].chars().count().max(1);
        let skip = if before + marked > SHOWN_MAX { before.saturating_sub(BEFORE_MAX) } else { 0 };
        let plain = |c: char| if c.is_control() { ' ' } else { c };
        let mut shown: String = line.chars().skip(skip).take(SHOWN_MAX).map(plain).collect();
        let mut at = before - skip;
        if skip > 0 {
            shown.insert(0, '…');
            at += 1;
        }
        if line.chars().count() > skip + SHOWN_MAX {
            shown.push('…');
        }
        let marked_end = (at + marked).min(shown.chars().count().max(at + 1));
        Self {
            line: text[..start].matches('\n').count() + 1,
            column: before + 1,
            shown: shown.trim_end().to_owned(),
            marked: at..marked_end,
        }
    }
}

impl Problem {
    /// In one line, for a log.
    pub(crate) fn line(&self) -> String {
        match &self.place {
            Some(place) => format!("{}:{}:{}: {}", self.file, place.line, place.column, self.message),
            None => format!("{}: {}", self.file, self.message),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        // What a file says must not act on the terminal.
        let plain = |text: &str| text.replace(char::is_control, " ");
        write!(f, "{severity}: {}", plain(&self.message))?;
        match &self.place {
            None => write!(f, "\n --> {}", self.file)?,
            Some(place) => {
                let number = place.line.to_string();
                let margin = " ".repeat(number.len());
                let (before, marks) = (" ".repeat(place.marked.start), "^".repeat(place.marked.len().max(1)));
                write!(
                    f,
                    "\n{margin}--> {}:{number}:{}\n{margin} |\n{number} | {}\n{margin} | {before}{marks}",
                    self.file, place.column, place.shown
                )?;
            }
        }
        if !self.hint.is_empty() {
            write!(f, "\nhint: {}", plain(&self.hint))?;
        }
        Ok(())
    }
}

/// The word of a list that is most like this one, if any is.
pub(crate) fn similar<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase().replace('_', "-");
    let best = known.into_iter().map(|k| (distance(&word, &k.to_lowercase()), k)).min()?;
    let limit = (word.chars().count().max(best.1.chars().count()) / 3).max(1);
    (best.0 <= limit).then_some(best.1)
}

/// Letters to put in, take out, change or swap with their neighbour (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    const LETTERS_MAX: usize = 64;
    let (a, b): (Vec<char>, Vec<char>) =
        (a.chars().take(LETTERS_MAX).collect(), b.chars().take(LETTERS_MAX).collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let changed = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let mut best = changed.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    best = best.min(rows[i - 2][j - 2] + 1);
                }
                best
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, span: Range<usize>) -> String {
        Problem {
            severity: Severity::Error,
            message: "m".into(),
            hint: String::new(),
            file: "f".into(),
            key: String::new(),
            place: Some(Place::of(text, &span)),
        }
        .to_string()
    }

    #[test]
    fn a_part_of_a_line_is_marked() {
        assert_eq!(shown("a = 1\nbé = 2\n", 6..9), "error: m\n --> f:2:1\n  |\n2 | bé = 2\n  | ^^");
        assert_eq!(shown("\ta = [\n1]", 5..9), "error: m\n --> f:1:6\n  |\n1 |  a = [\n  |      ^");
        assert_eq!(shown("a", 1..1), "error: m\n --> f:1:2\n  |\n1 | a\n  |  ^");
        assert_eq!(shown("", 9..12), "error: m\n --> f:1:1\n  |\n1 | \n  | ^");
        let long = format!("{}x{}", "a".repeat(300), "b".repeat(300));
        let text = shown(&long, 300..301);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[3].find('x').map(|at| lines[3][..at].chars().count()), lines[4].find('^'));
        assert!(lines[3].chars().count() < 120);
    }

    #[test]
    fn a_similar_word_is_found() {
        assert_eq!(similar("wrokers", ["threads", "workers"]), Some("workers"));
        assert_eq!(similar("log_file", ["log-file", "log-level"]), Some("log-file"));
        assert_eq!(similar("shpo", ["shop"]), Some("shop"));
        assert_eq!(similar("nonsense", ["threads", "workers"]), None);
        assert_eq!(similar("a", []), None);
    }
}
