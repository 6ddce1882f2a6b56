//! Which canonical paths a route is for: one path, everything beneath a path, or a pattern.

use std::fmt;

/// A rule for paths, as parsed from its text.
///
/// `/about` is one path; `/api/*` is `/api` and everything beneath it; a `*` anywhere else stands for any part of one
/// segment and a segment `**` for any number of segments, as in `/*/feed.xml` or `/**/*.php`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathRule {
    Exact(Box<str>),
    /// Without the slash and star at its end: `""` is everything.
    Prefix(Box<str>),
    Pattern(Pattern),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRule {
    #[error("a path begins with `/`")]
    NoSlash,
    #[error("a path is written plainly: without `%`, `?`, `#`, `.` and `..` segments and empty segments")]
    NotPlain,
    #[error("`**` stands alone between two slashes")]
    Stars,
    #[error("a pattern has at most 200 letters")]
    Long,
}

/// More specific rules sort first: exact, then the longer prefix, then the pattern with more letters, then `/*`.
pub type Rank = (u8, std::cmp::Reverse<usize>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Byte(u8),
    /// Any number of bytes other than `/`.
    Star,
    /// Nothing, or `/` with anything behind it; takes two places: itself, and what is behind the slash.
    Beneath,
    Inside,
}

/// A path with stars in it.
#[derive(Clone, PartialEq, Eq)]
pub struct Pattern {
    text: Box<str>,
    tokens: Box<[Token]>,
}

const TOKENS_MAX: usize = 255;
/// A set of places in a pattern.
type Places = [u64; 4];

impl PathRule {
    pub fn parse(text: &str) -> Result<Self, BadRule> {
        if !text.starts_with('/') {
            return Err(BadRule::NoSlash);
        }
        let plain = text.bytes().all(|b| !b.is_ascii_control() && !b"%?#\\".contains(&b))
            && !text.contains("//")
            && text.split('/').all(|s| s != "." && s != "..");
        if !plain {
            return Err(BadRule::NotPlain);
        }
        if !text.contains('*') {
            return Ok(Self::Exact(text.into()));
        }
        if let Some(prefix) = text.strip_suffix("/*").or_else(|| text.strip_suffix("/**"))
            && !prefix.contains('*')
        {
            return Ok(Self::Prefix(prefix.into()));
        }
        Ok(Self::Pattern(Pattern::parse(text)?))
    }

    /// Whether the rule is for this canonical path; where what the last `*` stands for begins (for an exact rule: the
    /// end).
    pub fn matches(&self, path: &str) -> Option<usize> {
        match self {
            Self::Exact(exact) => (**exact == *path).then_some(path.len()),
            Self::Prefix(prefix) => match path.strip_prefix(&**prefix)?.as_bytes() {
                [] | [b'/', ..] => Some(prefix.len()),
                _ => None,
            },
            Self::Pattern(pattern) => pattern.matches(path).then(|| pattern.rest_at(path)),
        }
    }

    /// Everything.
    pub fn is_all(&self) -> bool {
        matches!(self, Self::Prefix(prefix) if prefix.is_empty())
    }

    pub fn rank(&self) -> Rank {
        match self {
            // Else no pattern could stand beside the route for all the rest, which nearly every site has.
            all if all.is_all() => (3, std::cmp::Reverse(0)),
            Self::Exact(_) => (0, std::cmp::Reverse(0)),
            Self::Prefix(prefix) => (1, std::cmp::Reverse(prefix.len())),
            Self::Pattern(pattern) => (2, std::cmp::Reverse(pattern.letters())),
        }
    }

    /// Whether some path is matched by both, and neither is the more specific one.
    pub fn ties_with(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Pattern(a), Self::Pattern(b)) => a.letters() == b.letters() && a.meets(b),
            (a, b) => a == b,
        }
    }
}

impl fmt::Display for PathRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(text) => f.write_str(text),
            Self::Prefix(text) => write!(f, "{text}/*"),
            Self::Pattern(pattern) => f.write_str(&pattern.text),
        }
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({})", self.text)
    }
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, BadRule> {
        let mut tokens = Vec::new();
        let segments: Vec<&str> = text.split('/').skip(1).collect();
        for (i, segment) in segments.iter().enumerate() {
            let last = i + 1 == segments.len();
            match *segment {
                "**" => tokens.extend([Token::Beneath, Token::Inside]),
                "*" if last => tokens.extend([Token::Beneath, Token::Inside]),
                s if s.contains("**") => return Err(BadRule::Stars),
                s => {
                    tokens.push(Token::Byte(b'/'));
                    tokens.extend(s.bytes().map(|b| if b == b'*' { Token::Star } else { Token::Byte(b) }));
                }
            }
        }
        if tokens.len() > TOKENS_MAX || text.len() > 200 {
            return Err(BadRule::Long);
        }
        Ok(Self { text: text.into(), tokens: tokens.into() })
    }

    fn letters(&self) -> usize {
        self.tokens.iter().filter(|t| matches!(t, Token::Byte(_))).count()
    }

    /// Adds a place and those that are reached from it without a byte.
    fn enter(&self, mut at: usize, places: &mut Places) {
        loop {
            places[at / 64] |= 1 << (at % 64);
            match self.tokens.get(at) {
                Some(Token::Star | Token::Inside) => at += 1,
                Some(Token::Beneath) => at += 2,
                Some(Token::Byte(_)) | None => return,
            }
        }
    }

    /// Where a byte leads from a place.
    fn step(&self, at: usize, byte: u8) -> Option<usize> {
        match self.tokens.get(at)? {
            Token::Byte(b) => (*b == byte).then_some(at + 1),
            Token::Star => (byte != b'/').then_some(at),
            Token::Beneath => (byte == b'/').then_some(at + 1),
            Token::Inside => Some(at),
        }
    }

    /// In time proportional to the product of both lengths, whatever they are.
    fn matches(&self, path: &str) -> bool {
        let mut now = [0; 4];
        self.enter(0, &mut now);
        for &byte in path.as_bytes() {
            let mut next = [0; 4];
            for at in places(&now) {
                if let Some(to) = self.step(at, byte) {
                    self.enter(to, &mut next);
                }
            }
            if next == [0; 4] {
                return false;
            }
            now = next;
        }
        let end = self.tokens.len();
        now[end / 64] >> (end % 64) & 1 == 1
    }

    /// Where what a star at the end stands for begins, as early as it can be; the end where there is no such star.
    fn rest_at(&self, path: &str) -> usize {
        let [.., Token::Beneath, Token::Inside] = &*self.tokens else { return path.len() };
        let before = self.tokens.len() - 2;
        let mut now = [0; 4];
        self.enter(0, &mut now);
        for (i, &byte) in path.as_bytes().iter().enumerate() {
            if byte == b'/' && now[before / 64] >> (before % 64) & 1 == 1 {
                return i;
            }
            let mut next = [0; 4];
            for at in places(&now) {
                if let Some(to) = self.step(at, byte) {
                    self.enter(to, &mut next);
                }
            }
            now = next;
        }
        path.len()
    }

    /// Whether there is a path that both match.
    fn meets(&self, other: &Self) -> bool {
        let bytes: Vec<u8> = {
            let mut bytes: Vec<u8> = self
                .tokens
                .iter()
                .chain(&other.tokens)
                .filter_map(|t| if let Token::Byte(b) = t { Some(*b) } else { None })
                // One for all that neither of them names.
                .chain([b'/', 0])
                .collect();
            bytes.sort_unstable();
            bytes.dedup();
            bytes
        };
        let closed = |of: &Self, at: usize| {
            let mut set = [0; 4];
            of.enter(at, &mut set);
            places(&set).collect::<Vec<_>>()
        };
        let mut seen = std::collections::HashSet::new();
        let mut waiting = vec![(0, 0)];
        while let Some((a, b)) = waiting.pop() {
            for a in closed(self, a) {
                for b in closed(other, b) {
                    if !seen.insert((a, b)) {
                        continue;
                    }
                    if (a, b) == (self.tokens.len(), other.tokens.len()) {
                        return true;
                    }
                    for &byte in &bytes {
                        if let (Some(a), Some(b)) = (self.step(a, byte), other.step(b, byte)) {
                            waiting.push((a, b));
                        }
                    }
                }
            }
        }
        false
    }
}

fn places(set: &Places) -> impl Iterator<Item = usize> + use<> {
    let set = *set;
    set.into_iter().enumerate().flat_map(|(i, word)| {
        let mut word = word;
        std::iter::from_fn(move || {
            let at = word.trailing_zeros();
            if word == 0 {
                return None;
            }
            word &= word - 1;
            Some(i * 64 + at as usize)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rule(text: &str) -> PathRule {
        PathRule::parse(text).unwrap()
    }

    #[test]
    fn a_rule_matches_its_paths_only() {
        for (text, yes, no) in [
            ("/about", &["/about"][..], &["/about/", "/aboutx", "/", "/a"][..]),
            ("/*", &["/", "/a", "/a/b/"], &[]),
            ("/api/*", &["/api", "/api/", "/api/x/y"], &["/apix", "/", "/ap"]),
            ("/a/**", &["/a", "/a/b/c"], &["/b"]),
            ("/img*", &["/img", "/img1.png"], &["/img/x", "/im"]),
            ("/*/feed.xml", &["/a/feed.xml", "/é/feed.xml"], &["/feed.xml", "/a/b/feed.xml"]),
            ("/**/*.php", &["/x.php", "/a/b/x.php", "/.php"], &["/x.php/y", "/x.phpx"]),
            ("/*/files/*", &["/u/files", "/u/files/", "/u/files/a/b"], &["/files/a", "/u/filesx"]),
            ("/u/*/", &["/u/a/"], &["/u/a", "/u/a/b/"]),
        ] {
            for path in yes {
                assert!(rule(text).matches(path).is_some(), "{text} {path}");
            }
            for path in no {
                assert!(rule(text).matches(path).is_none(), "{text} {path}");
            }
            assert_eq!(rule(&rule(text).to_string()), rule(text), "{text} is shown as it can be read");
        }
        for (text, path, rest_at) in [
            ("/api/*", "/api/x", 4),
            ("/*/old/*", "/shop/old/a/old/b", 9),
            ("/*/old/*", "/shop/old", 9),
            ("/**/x/*", "/x/x/y", 2),
            ("/*.php", "/a.php", 6),
        ] {
            assert_eq!(rule(text).matches(path), Some(rest_at), "{text} {path}");
        }
    }

    #[test]
    fn the_more_specific_rule_sorts_first() {
        let mut rules = ["/*", "/**/*.php", "/api/v1/*", "/*/x", "/api/*", "/api/v1/x"].map(rule).to_vec();
        rules.sort_by_key(PathRule::rank);
        let shown: Vec<_> = rules.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["/api/v1/x", "/api/v1/*", "/api/*", "/**/*.php", "/*/x", "/*"]);
    }

    #[test]
    fn patterns_tie_where_a_path_is_matched_by_both() {
        for (a, b, ties) in [
            ("/a*c", "/*bc", true),
            ("/*/x", "/x/*z", false),
            ("/a*/b", "/b*/a", false),
            ("/**/ab", "/*/ba", false),
            ("/**/ab", "/x/*b", false),
            ("/a*", "/*a", true),
        ] {
            assert_eq!(rule(a).ties_with(&rule(b)), ties, "{a} {b}");
            assert_eq!(rule(b).ties_with(&rule(a)), ties, "{b} {a}");
        }
        assert!(rule("/a").ties_with(&rule("/a")) && !rule("/a").ties_with(&rule("/a/*")));
    }

    #[test]
    fn what_is_no_rule_says_why() {
        for (text, why) in [
            ("", BadRule::NoSlash),
            ("a/*", BadRule::NoSlash),
            ("/a//b", BadRule::NotPlain),
            ("/a/../b", BadRule::NotPlain),
            ("/a%20b", BadRule::NotPlain),
            ("/a?b", BadRule::NotPlain),
            ("/a**b/c", BadRule::Stars),
        ] {
            assert_eq!(PathRule::parse(text), Err(why), "{text}");
        }
        assert_eq!(PathRule::parse(&format!("/*{}", "a".repeat(300))), Err(BadRule::Long));
    }

    /// The plainest matcher that there is.
    fn slow(tokens: &[Token], path: &[u8]) -> bool {
        match (tokens, path) {
            ([], rest) => rest.is_empty(),
            ([Token::Byte(b), more @ ..], [first, rest @ ..]) if b == first => slow(more, rest),
            ([Token::Byte(_), ..], _) => false,
            ([Token::Star, more @ ..], _) => {
                slow(more, path) || matches!(path, [b, rest @ ..] if *b != b'/' && slow(tokens, rest))
            }
            ([Token::Beneath, inside @ ..], _) => {
                slow(&inside[1..], path) || matches!(path, [b'/', rest @ ..] if slow(inside, rest))
            }
            ([Token::Inside, more @ ..], _) => {
                slow(more, path) || matches!(path, [_, rest @ ..] if slow(tokens, rest))
            }
        }
    }

    proptest! {
        #[test]
        fn matching_agrees_with_the_plainest_matcher(text in "(/(a|b|\\*|\\*\\*|a\\*|\\*b)){1,4}/?", path in "(/[ab]{0,3}){1,4}") {
            if let Ok(PathRule::Pattern(pattern)) = PathRule::parse(&text) {
                prop_assert_eq!(pattern.matches(&path), slow(&pattern.tokens, path.as_bytes()));
            }
        }

        #[test]
        fn two_patterns_that_match_one_path_meet(a in "(/(a|b|\\*|\\*\\*|a\\*)){1,3}", b in "(/(a|b|\\*|\\*\\*|\\*b)){1,3}", path in "(/[ab]{1,2}){1,3}") {
            if let (Ok(PathRule::Pattern(a)), Ok(PathRule::Pattern(b))) = (PathRule::parse(&a), PathRule::parse(&b))
                && a.matches(&path) && b.matches(&path)
            {
                prop_assert!(a.meets(&b));
            }
        }
    }
}
