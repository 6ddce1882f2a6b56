//! Methods and sets of them, as a route declares and `Allow` prints them.

use std::fmt;

/// The method of a request. Names are case-sensitive (RFC 9110 §9.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method<'a> {
    /// GET
    Get,
    /// HEAD
    Head,
    /// POST
    Post,
    /// PUT
    Put,
    /// PATCH
    Patch,
    /// DELETE
    Delete,
    /// OPTIONS
    Options,
    /// Any other, as `PROPFIND`.
    Other(&'a [u8]),
}

const NAMES: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
const ANY: u8 = 0x80;

impl<'a> Method<'a> {
    /// The method of that name.
    #[inline]
    pub fn of(name: &'a [u8]) -> Method<'a> {
        match name {
            b"GET" => Method::Get,
            b"HEAD" => Method::Head,
            b"POST" => Method::Post,
            b"PUT" => Method::Put,
            b"PATCH" => Method::Patch,
            b"DELETE" => Method::Delete,
            b"OPTIONS" => Method::Options,
            other => Method::Other(other),
        }
    }

    /// Its name.
    pub fn name(&self) -> &'a [u8] {
        match self {
            Method::Other(name) => name,
            known => NAMES[known.bit().trailing_zeros() as usize].as_bytes(),
        }
    }

    #[inline]
    fn bit(self) -> u8 {
        match self {
            Method::Get => 1,
            Method::Head => 2,
            Method::Post => 4,
            Method::Put => 8,
            Method::Patch => 16,
            Method::Delete => 32,
            Method::Options => 64,
            Method::Other(_) => 0,
        }
    }
}

/// The methods of a route, or of all routes of a path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MethodSet {
    known: u8,
    others: Vec<Box<str>>,
}

/// A method that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no method\nhint: a method is a word as `GET` or `PROPFIND`")]
pub struct BadMethod(String);

impl MethodSet {
    /// The methods of these names; lower case is taken for upper case.
    pub fn of<'n>(names: impl IntoIterator<Item = &'n str>) -> Result<MethodSet, BadMethod> {
        let mut set = MethodSet::default();
        for name in names {
            // RFC 9110 §5.6.2 token
            let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
            if name.is_empty() || !name.bytes().all(token) {
                return Err(BadMethod(name.to_owned()));
            }
            let upper = name.to_ascii_uppercase();
            match Method::of(upper.as_bytes()) {
                Method::Other(_) => set.add_other(upper.into()),
                known => set.known |= known.bit(),
            }
        }
        Ok(set)
    }

    /// Every method there is: for what answers 405 by itself, as a mounted app does.
    pub fn any() -> MethodSet {
        MethodSet { known: u8::MAX, others: Vec::new() }
    }

    /// Whether this is every method.
    pub fn is_any(&self) -> bool {
        self.known & ANY != 0
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.known == 0 && self.others.is_empty()
    }

    /// Whether the method was declared. GET does not stand for HEAD here, the router sees to that.
    #[inline]
    pub fn contains(&self, method: Method) -> bool {
        match method {
            Method::Other(name) => self.is_any() || self.others.iter().any(|other| other.as_bytes() == name),
            known => self.known & known.bit() != 0,
        }
    }

    /// Adds all of another set.
    pub fn extend(&mut self, other: &MethodSet) {
        self.known |= other.known;
        for name in &other.others {
            self.add_other(name.clone());
        }
    }

    /// A method in both sets, by name.
    pub fn common(&self, other: &MethodSet) -> Option<String> {
        if let Some(index) = (0..7).find(|index| self.known & other.known & 1 << index != 0) {
            return Some(NAMES[index].to_owned());
        }
        let of = |one: &MethodSet, two: &MethodSet| {
            one.others
                .iter()
                .find(|name| two.contains(Method::Other(name.as_bytes())))
                .map(ToString::to_string)
        };
        of(self, other).or_else(|| of(other, self))
    }

    /// The declared names, sorted.
    pub fn names(&self) -> Vec<&str> {
        let known = (0..7).filter(|index| self.known & 1 << index != 0).map(|index| NAMES[index]);
        let mut names: Vec<&str> = known.chain(self.others.iter().map(AsRef::as_ref)).collect();
        names.sort_unstable();
        names
    }

    fn add_other(&mut self, name: Box<str>) {
        if !self.others.contains(&name) {
            self.others.push(name);
        }
    }
}

/// As `Allow` says it (RFC 9110 §10.2.1): sorted, HEAD wherever there is GET, OPTIONS always.
impl fmt::Display for MethodSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all = self.clone();
        all.known |= Method::Options.bit();
        if all.contains(Method::Get) {
            all.known |= Method::Head.bit();
        }
        f.write_str(&all.names().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allow_is_sorted_and_names_what_is_automatic() {
        let set = |names: &[&str]| MethodSet::of(names.iter().copied()).unwrap();
        assert_eq!(set(&["post", "GET", "PROPFIND"]).to_string(), "GET, HEAD, OPTIONS, POST, PROPFIND");
        assert_eq!(set(&["DELETE"]).to_string(), "DELETE, OPTIONS");
        let mut both = set(&["PUT", "LOCK"]);
        both.extend(&set(&["PATCH", "LOCK"]));
        assert_eq!(both.names(), ["LOCK", "PATCH", "PUT"]);
    }

    #[test]
    fn a_method_is_a_token() {
        for bad in ["", "GET ", "G\r\nT", "é", "A,B"] {
            assert!(MethodSet::of([bad]).unwrap_err().to_string().contains("is no method"));
        }
    }

    #[test]
    fn names_are_case_sensitive_in_requests() {
        let set = MethodSet::of(["get", "purge"]).unwrap();
        assert!(set.contains(Method::of(b"GET")) && set.contains(Method::of(b"PURGE")));
        assert!(!set.contains(Method::of(b"get")) && !set.contains(Method::of(b"purge")));
        assert!(!set.contains(Method::Head));
        for name in NAMES {
            assert_eq!(Method::of(name.as_bytes()).name(), name.as_bytes());
        }
    }

    #[test]
    fn any_is_every_method() {
        let any = MethodSet::any();
        assert!(any.contains(Method::Get) && any.contains(Method::Other(b"BREW")));
        assert_eq!(any.common(&MethodSet::of(["BREW"]).unwrap()).as_deref(), Some("BREW"));
        assert_eq!(MethodSet::of(["BREW"]).unwrap().common(&any).as_deref(), Some("BREW"));
        assert_eq!(MethodSet::of(["GET"]).unwrap().common(&MethodSet::of(["PUT"]).unwrap()), None);
    }
}
