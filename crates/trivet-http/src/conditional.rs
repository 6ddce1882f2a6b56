//! Conditional requests (RFC 9110 §13) for GET and HEAD on a representation with a strong tag and a date.

use crate::date;

/// The request's fields that set conditions, each as it came; a list may be spread over several lines.
#[derive(Debug, Default)]
pub struct Conditions<'a> {
    pub if_match: Vec<&'a [u8]>,
    pub if_none_match: Vec<&'a [u8]>,
    pub if_modified_since: Option<&'a [u8]>,
    pub if_unmodified_since: Option<&'a [u8]>,
    pub if_range: Option<&'a [u8]>,
}

/// What the representation is known by.
#[derive(Clone, Copy, Debug)]
pub struct Validators<'a> {
    /// A strong entity tag with its quotes.
    pub etag: &'a [u8],
    /// Seconds since 1970.
    pub modified: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// 200, or 206 if a range is asked for.
    Send,
    /// 200 whatever range is asked for: it is of another representation (§13.1.5).
    SendWhole,
    NotModified,
    PreconditionFailed,
}

impl Conditions<'_> {
    /// In the order of RFC 9110 §13.2.2. `now`: seconds since 1970.
    pub fn judge(&self, has: Validators<'_>, now: u64) -> Verdict {
        if !self.if_match.is_empty() {
            if !self.if_match.iter().any(|list| names(list, has.etag, false)) {
                return Verdict::PreconditionFailed;
            }
        } else if let Some(date) = self.if_unmodified_since.and_then(|v| date::parse(v, now))
            && has.modified > date
        {
            return Verdict::PreconditionFailed;
        }
        if !self.if_none_match.is_empty() {
            if self.if_none_match.iter().any(|list| names(list, has.etag, true)) {
                return Verdict::NotModified;
            }
        } else if let Some(date) = self.if_modified_since.and_then(|v| date::parse(v, now))
            && has.modified <= date
        {
            return Verdict::NotModified;
        }
        match self.if_range {
            None => Verdict::Send,
            Some(value) if value.first() == Some(&b'"') => {
                if value == has.etag {
                    Verdict::Send
                } else {
                    Verdict::SendWhole
                }
            }
            // A date is a strong validator only if the file has rested for a second since (§8.8.2.2).
            Some(value) => match date::parse(value, now) {
                Some(date) if date == has.modified && has.modified < now as i64 - 1 => Verdict::Send,
                _ => Verdict::SendWhole,
            },
        }
    }
}

/// Whether a list of entity tags (or `*`) names `etag`, which is strong. A list that is not one names nothing further.
fn names(list: &[u8], etag: &[u8], weakly: bool) -> bool {
    let mut rest = crate::field::trim(list);
    if rest == b"*" {
        return true;
    }
    loop {
        let start = rest.iter().position(|b| !matches!(b, b' ' | b'\t' | b','));
        let Some(start) = start else { return false };
        rest = &rest[start..];
        let weak = rest.starts_with(b"W/");
        let tag = if weak { &rest[2..] } else { rest };
        if tag.first() != Some(&b'"') {
            return false;
        }
        let Some(end) = memchr::memchr(b'"', &tag[1..]) else { return false };
        if &tag[..end + 2] == etag && (weakly || !weak) {
            return true;
        }
        rest = &tag[end + 2..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000;
    const TAG: &[u8] = b"\"abc\"";

    fn judge(conditions: &Conditions<'_>) -> Verdict {
        conditions.judge(Validators { etag: TAG, modified: 784_111_777 }, NOW)
    }

    const SAME: &[u8] = b"Sun, 06 Nov 1994 08:49:37 GMT";
    const BEFORE: &[u8] = b"Sun, 06 Nov 1994 08:49:36 GMT";

    #[test]
    fn tags_decide_before_dates() {
        for (list, verdict) in [
            (&b"\"abc\""[..], Verdict::NotModified),
            (b"W/\"abc\"", Verdict::NotModified),
            (b"\"x\", \"abc\"", Verdict::NotModified),
            (b"\"a,b\",W/\"abc\"", Verdict::NotModified),
            (b"*", Verdict::NotModified),
            (b"\"x\"", Verdict::Send),
            (b"abc", Verdict::Send),
            (b"\"abc", Verdict::Send),
            (b"\"abcd\"", Verdict::Send),
        ] {
            let c = Conditions {
                if_none_match: vec![list],
                if_modified_since: Some(BEFORE),
                ..Conditions::default()
            };
            assert_eq!(judge(&c), verdict, "{}", list.escape_ascii());
        }
        let two = Conditions { if_none_match: vec![b"\"x\"", TAG], ..Conditions::default() };
        assert_eq!(judge(&two), Verdict::NotModified, "a list over two lines");
    }

    #[test]
    fn dates_decide_where_there_is_no_tag() {
        let since = |v| judge(&Conditions { if_modified_since: Some(v), ..Conditions::default() });
        assert_eq!(
            (since(SAME), since(BEFORE), since(b"yesterday")),
            (Verdict::NotModified, Verdict::Send, Verdict::Send)
        );
        let unless = |v| judge(&Conditions { if_unmodified_since: Some(v), ..Conditions::default() });
        assert_eq!(
            (unless(SAME), unless(BEFORE), unless(b"0")),
            (Verdict::Send, Verdict::PreconditionFailed, Verdict::Send)
        );
    }

    #[test]
    fn if_match_is_strong_and_goes_first() {
        let only =
            |list| Conditions { if_match: vec![list], if_none_match: vec![TAG], ..Conditions::default() };
        assert_eq!(judge(&only(b"W/\"abc\"")), Verdict::PreconditionFailed);
        assert_eq!(judge(&only(TAG)), Verdict::NotModified);
        assert_eq!(judge(&only(b"*")), Verdict::NotModified);
    }

    #[test]
    fn a_range_of_another_representation_is_no_range() {
        let range = |v| judge(&Conditions { if_range: Some(v), ..Conditions::default() });
        assert_eq!((range(TAG), range(b"\"x\"")), (Verdict::Send, Verdict::SendWhole));
        assert_eq!(
            (range(b"W/\"abc\""), range(SAME), range(BEFORE)),
            (Verdict::SendWhole, Verdict::Send, Verdict::SendWhole)
        );
        let fresh = Conditions { if_range: Some(b"Tue, 14 Nov 2023 22:13:20 GMT"), ..Conditions::default() };
        let has = Validators { etag: TAG, modified: NOW as i64 };
        assert_eq!(fresh.judge(has, NOW), Verdict::SendWhole, "it may change again in the same second");
    }
}
