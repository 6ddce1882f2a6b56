//! `Accept-Encoding` (RFC 9110 §12.5.3): which content codings a client takes.

use crate::field;

/// The codings that files are kept in beside the original, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    Brotli,
    Zstd,
    Gzip,
}

impl Coding {
    pub const ALL: [Self; 3] = [Self::Brotli, Self::Zstd, Self::Gzip];

    /// As in `Content-Encoding`.
    pub const fn token(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }

    /// What a file's name ends in.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Brotli => ".br",
            Self::Zstd => ".zst",
            Self::Gzip => ".gz",
        }
    }

    /// By its name in `Content-Encoding`.
    pub fn of(token: &[u8]) -> Option<Self> {
        [(&b"br"[..], Self::Brotli), (b"zstd", Self::Zstd), (b"gzip", Self::Gzip), (b"x-gzip", Self::Gzip)]
            .into_iter()
            .find(|(name, _)| token.eq_ignore_ascii_case(name))
            .map(|(_, coding)| coding)
    }
}

/// How much a client likes each coding, in thousandths; 0: it does not take it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    weights: [u16; 3],
    named: [bool; 3],
    any: u16,
}

impl Accepted {
    /// Takes in one `Accept-Encoding` line. What cannot be read is left out.
    pub fn add(&mut self, value: &[u8]) {
        for member in field::list(value) {
            let mut parts = member.split(|b| *b == b';').map(field::trim);
            let token = parts.next().unwrap_or_default();
            let Some(weight) = parts.try_fold(1000, |_, part| weight(part)) else { continue };
            if token == b"*" {
                self.any = weight;
            } else if let Some(coding) = Coding::of(token) {
                self.weights[coding as usize] = weight;
                self.named[coding as usize] = true;
            }
        }
    }

    /// What the client likes most of these, and of equals the first.
    pub fn best_in(&self, codings: &[Coding]) -> Option<Coding> {
        let mut best: Option<(u16, Coding)> = None;
        for &coding in codings {
            let at = coding as usize;
            let weight = if self.named[at] { self.weights[at] } else { self.any };
            if weight > 0 && best.is_none_or(|(w, _)| weight > w) {
                best = Some((weight, coding));
            }
        }
        best.map(|(_, coding)| coding)
    }

    /// The best of those that `there` says exist: what the client likes most, and of equals our order.
    pub fn best(&self, there: impl Fn(Coding) -> bool) -> Option<Coding> {
        let there = Coding::ALL.map(|c| there(c).then_some(c));
        let mut some = [Coding::Gzip; 3];
        let mut count = 0;
        for coding in there.into_iter().flatten() {
            some[count] = coding;
            count += 1;
        }
        self.best_in(&some[..count])
    }
}

/// `q=0.5` in thousandths (§12.4.2).
fn weight(parameter: &[u8]) -> Option<u16> {
    let [b'q' | b'Q', b'=', number @ ..] = parameter else { return None };
    let (whole, fraction) = match number {
        [whole @ (b'0' | b'1')] => (whole, &[][..]),
        [whole @ (b'0' | b'1'), b'.', fraction @ ..] if fraction.len() <= 3 => (whole, fraction),
        _ => return None,
    };
    let mut thousandths = u16::from(whole - b'0') * 1000;
    for (digit, unit) in fraction.iter().zip([100, 10, 1]) {
        if !digit.is_ascii_digit() {
            return None;
        }
        thousandths += u16::from(digit - b'0') * unit;
    }
    (thousandths <= 1000).then_some(thousandths)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn best(value: &str, there: &[Coding]) -> Option<Coding> {
        let mut accepted = Accepted::default();
        accepted.add(value.as_bytes());
        accepted.best(|c| there.contains(&c))
    }

    #[test]
    fn the_client_chooses_and_of_equals_the_smaller_one() {
        let all = &Coding::ALL[..];
        for (value, there, coding) in [
            ("gzip, deflate, br, zstd", all, Some(Coding::Brotli)),
            ("gzip, deflate, br, zstd", &[Coding::Gzip], Some(Coding::Gzip)),
            ("gzip;q=1.0, br;q=0.5", all, Some(Coding::Gzip)),
            ("*", all, Some(Coding::Brotli)),
            ("br;q=0, *;q=0.1", all, Some(Coding::Zstd)),
            ("identity", all, None),
            ("gzip;q=0", all, None),
            ("gzip;q=0.000, GZIP", all, Some(Coding::Gzip)),
            ("x-gzip", all, Some(Coding::Gzip)),
            ("gzip;q=2", all, None),
            ("gzip;level=9", all, None),
            ("", all, None),
            ("br", &[], None),
        ] {
            assert_eq!(best(value, there), coding, "{value}");
        }
    }
}
