//! The trie of templates, and the search in it.
//!
//! One node for each prefix of segments. A search goes down in the order of precedence and comes back where it led
//! nowhere; as this is a tree, no node is visited twice for a request.

use super::converter::Converter;
use super::method::{Method, MethodSet};
use super::template::{Part, Tail, Template};
use super::{Found, Params};
use crate::segments::{Segments, Span};

/// Beyond this many literal children a node gets a hash table.
const FEW: usize = 8;
const NOBODY: u32 = u32::MAX;

#[derive(Clone, Debug, Default)]
pub(super) struct Trie {
    nodes: Vec<Node>,
    /// All literals, one after another.
    text: Vec<u8>,
}

#[derive(Clone, Debug, Default)]
struct Node {
    literals: Literals,
    /// In order of precedence.
    parameters: Vec<Edge>,
    /// Routes that end here.
    ends: Vec<End>,
    /// Routes whose path parameter begins here.
    paths: Vec<End>,
    /// What is mounted here.
    mounts: Vec<End>,
}

#[derive(Clone, Debug)]
struct Edge {
    prefix: Box<[u8]>,
    suffix: Box<[u8]>,
    converter: Converter,
    child: u32,
}

#[derive(Clone, Debug)]
struct End {
    id: u32,
    slash: bool,
    methods: MethodSet,
}

/// Literal children: a list, or a hash table with open addressing once it is frozen. Keys come from the program and
/// never from a request, so the hash needs no secret.
#[derive(Clone, Debug, Default)]
struct Literals {
    entries: Vec<Entry>,
    /// The table's length less one; 0 for a list.
    mask: u32,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    hash: u32,
    start: u32,
    len: u32,
    /// `NOBODY` for a free place.
    child: u32,
}

/// A search under way.
struct Search<'s, 'p> {
    segments: &'s Segments<'p>,
    method: Method<'s>,
    params: Params,
    id: u32,
    /// A route of the other slash form.
    slash: Option<u32>,
    allow: MethodSet,
    refused: Vec<u32>,
}

impl Trie {
    pub(super) fn new() -> Trie {
        Trie { nodes: vec![Node::default()], text: Vec::new() }
    }

    /// Adds a route, or names the route and the method that are there already.
    pub(super) fn insert(
        &mut self,
        template: &Template,
        methods: &MethodSet,
        id: u32,
    ) -> Result<(), (u32, String)> {
        let mut at = 0;
        for part in &template.parts {
            at = match part {
                Part::Literal(text) => self.literal_child(at, text),
                Part::Parameter { prefix, suffix, index } => {
                    self.parameter_child(at, prefix, suffix, &template.parameters()[*index].converter)
                }
            };
        }
        let node = &mut self.nodes[at as usize];
        let ends = match template.tail {
            Tail::None => &mut node.ends,
            Tail::Path(_) => &mut node.paths,
            Tail::Mount { .. } => &mut node.mounts,
        };
        let slash = template.trailing_slash();
        for end in ends.iter().filter(|end| end.slash == slash) {
            if let Some(method) = end.methods.common(methods) {
                return Err((end.id, method));
            }
        }
        ends.push(End { id, slash, methods: methods.clone() });
        Ok(())
    }

    fn literal_child(&mut self, at: u32, text: &[u8]) -> u32 {
        if let Some(child) = self.nodes[at as usize].literals.child(text, &self.text) {
            return child;
        }
        let entry = Entry {
            hash: hash(text),
            start: self.text.len() as u32,
            len: text.len() as u32,
            child: self.nodes.len() as u32,
        };
        self.text.extend_from_slice(text);
        self.nodes[at as usize].literals.entries.push(entry);
        self.nodes.push(Node::default());
        entry.child
    }

    fn parameter_child(&mut self, at: u32, prefix: &[u8], suffix: &[u8], converter: &Converter) -> u32 {
        let child = self.nodes.len() as u32;
        let edges = &mut self.nodes[at as usize].parameters;
        let edge = Edge { prefix: prefix.into(), suffix: suffix.into(), converter: converter.clone(), child };
        if let Some(known) =
            edges.iter().find(|known| known.precedence() == edge.precedence() && known.same(&edge))
        {
            return known.child;
        }
        // after all of its rank: siblings keep the order of their declaration
        let place = edges.partition_point(|known| known.precedence() <= edge.precedence());
        edges.insert(place, edge);
        self.nodes.push(Node::default());
        child
    }

    /// Makes the hash tables; nothing can be inserted afterwards.
    pub(super) fn freeze(&mut self) {
        for node in &mut self.nodes {
            node.literals.freeze();
        }
    }

    pub(super) fn find(&self, method: Method, segments: &Segments) -> Found {
        if segments.is_odd() {
            return Found::None;
        }
        let mut search = Search {
            segments,
            method,
            params: Params::default(),
            id: 0,
            slash: None,
            allow: MethodSet::default(),
            refused: Vec::new(),
        };
        if self.visit(0, 0, &mut search) {
            Found::Route { id: search.id, params: search.params }
        } else if let Some(id) = search.slash {
            Found::Slash { id }
        } else if search.refused.is_empty() {
            Found::None
        } else {
            Found::Method { allow: search.allow, ids: search.refused }
        }
    }

    /// Whether a route was found below a node. Depth is bounded by `SEGMENTS_MAX`.
    fn visit(&self, at: u32, depth: usize, search: &mut Search) -> bool {
        let node = &self.nodes[at as usize];
        if depth == search.segments.len() {
            if search.ended(&node.ends, search.segments.trailing_slash()) {
                return true;
            }
        } else {
            let segment = search.segments.get(depth);
            if let Some(child) = node.literals.child(segment, &self.text)
                && self.visit(child, depth + 1, search)
            {
                return true;
            }
            for edge in &node.parameters {
                let Some(value) = edge.value(segment) else { continue };
                let start = search.segments.span(depth).start + edge.prefix.len() as u32;
                search.params.push(Span { start, end: start + value.len() as u32 });
                if self.visit(edge.child, depth + 1, search) {
                    return true;
                }
                search.params.pop();
            }
            if !node.paths.is_empty() && search.path(&node.paths, depth) {
                return true;
            }
        }
        !node.mounts.is_empty() && search.ended(&node.mounts, false)
    }
}

impl Search<'_, '_> {
    /// Whether one of the routes that end here serves the method; if not, remembers what they say.
    #[inline]
    fn ended(&mut self, ends: &[End], slash: bool) -> bool {
        if let Some(end) = serving(ends, self.method, slash) {
            self.id = end.id;
            return true;
        }
        if !ends.is_empty() {
            self.refuse(ends, slash);
        }
        false
    }

    #[cold]
    fn refuse(&mut self, ends: &[End], slash: bool) {
        for end in ends.iter().filter(|end| end.slash == slash) {
            self.allow.extend(&end.methods);
            self.refused.push(end.id);
        }
        if self.slash.is_none() {
            self.slash = serving(ends, self.method, !slash).map(|end| end.id);
        }
    }

    /// As `ended`, for routes whose path parameter begins at `depth`.
    fn path(&mut self, ends: &[End], depth: usize) -> bool {
        // A value `a/b` from `a%2Fb` would be one segment to a guard and two to the handler.
        if self.segments.has_encoded_slash()
            && (depth..self.segments.len()).any(|at| memchr::memchr(b'/', self.segments.get(at)).is_some())
        {
            return false;
        }
        let rest = self.segments.rest_span(depth);
        let slash = self.segments.trailing_slash();
        if slash {
            self.params.push(Span { start: rest.start, end: rest.end - 1 });
            if let Some(end) = serving(ends, self.method, true) {
                self.id = end.id;
                return true;
            }
            self.params.pop();
        }
        // without a declared slash the one of the path is part of the value
        self.params.push(rest);
        if let Some(end) = serving(ends, self.method, false) {
            self.id = end.id;
            return true;
        }
        self.params.pop();
        for end in ends.iter().filter(|end| slash || !end.slash) {
            self.allow.extend(&end.methods);
            self.refused.push(end.id);
        }
        if !slash && self.slash.is_none() {
            self.slash = serving(ends, self.method, true).map(|end| end.id);
        }
        false
    }
}

/// The route of that slash form for a method: its own, or GET's for HEAD.
#[inline]
fn serving<'e>(ends: &'e [End], method: Method, slash: bool) -> Option<&'e End> {
    let of = |method| ends.iter().find(|end| end.slash == slash && end.methods.contains(method));
    match of(method) {
        None if method == Method::Head => of(Method::Get),
        found => found,
    }
}

impl Edge {
    /// Smaller is asked first: with text around it, the longest first; then what is typed, then str.
    fn precedence(&self) -> (usize, usize, bool) {
        (
            usize::MAX - self.prefix.len() - self.suffix.len(),
            usize::MAX - self.prefix.len(),
            self.converter == Converter::Str,
        )
    }

    fn same(&self, other: &Edge) -> bool {
        self.prefix == other.prefix && self.suffix == other.suffix && self.converter == other.converter
    }

    #[inline]
    fn value<'v>(&self, segment: &'v [u8]) -> Option<&'v [u8]> {
        let value = inner(&self.prefix, &self.suffix, segment)?;
        self.converter.accepts(value).then_some(value)
    }
}

/// What is between prefix and suffix, if both are there and do not overlap.
#[inline]
pub(crate) fn inner<'v>(prefix: &[u8], suffix: &[u8], segment: &'v [u8]) -> Option<&'v [u8]> {
    segment.strip_prefix(prefix)?.strip_suffix(suffix)
}

impl Literals {
    #[inline]
    fn child(&self, segment: &[u8], text: &[u8]) -> Option<u32> {
        let is = |entry: &Entry| {
            entry.len as usize == segment.len()
                && text[entry.start as usize..entry.start as usize + entry.len as usize] == *segment
        };
        if self.mask == 0 {
            return self.entries.iter().find(|entry| is(entry)).map(|entry| entry.child);
        }
        let hash = hash(segment);
        let mut place = hash & self.mask;
        // at most half of the places are taken, so there is a free one
        loop {
            let entry = &self.entries[place as usize];
            if entry.child == NOBODY {
                return None;
            }
            if entry.hash == hash && is(entry) {
                return Some(entry.child);
            }
            place = (place + 1) & self.mask;
        }
    }

    fn freeze(&mut self) {
        if self.entries.len() <= FEW || self.mask != 0 {
            return;
        }
        let places = (self.entries.len() * 2).next_power_of_two();
        let mask = places as u32 - 1;
        let free = Entry { hash: 0, start: 0, len: 0, child: NOBODY };
        let mut table = vec![free; places];
        for entry in &self.entries {
            let mut place = entry.hash & mask;
            while table[place as usize].child != NOBODY {
                place = (place + 1) & mask;
            }
            table[place as usize] = *entry;
        }
        *self = Literals { entries: table, mask };
    }
}

/// Eight bytes at a time: multiply and fold.
#[inline]
fn hash(bytes: &[u8]) -> u32 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut state = bytes.len() as u64;
    let mut add = |word: u64| {
        let product = u128::from(state ^ word) * u128::from(ODD);
        state = product as u64 ^ (product >> 64) as u64;
    };
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        add(u64::from_le_bytes(word.try_into().expect("chunks of eight")));
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        let mut word = [0; 8];
        word[..rest.len()].copy_from_slice(rest);
        add(u64::from_le_bytes(word));
    }
    (state ^ state >> 32) as u32
}
