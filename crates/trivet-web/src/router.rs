//! The router: templates in, the route of a request out.
//!
//! At each segment literals come first, then parameters with text around them, typed ones (in order of declaration),
//! str, path, mounts; a way that leads nowhere is taken back. The cost of a search is bounded by the table, whatever
//! the path.

mod build;
mod converter;
mod method;
#[cfg(test)]
pub(crate) mod naive;
mod template;
#[cfg(test)]
mod tests;
mod trie;

pub use build::BuildError;
pub use converter::{BadRegex, Converter, Re, int};
pub use method::{BadMethod, Method, MethodSet};
pub use template::{BadTemplate, Parameter, Template};

pub(crate) use converter::is_uuid;
pub(crate) use template::{Part, Tail, is_name, misplaced};
pub(crate) use trie::inner;

use crate::segments::{Segments, Span};

/// Values kept without an allocation.
const INLINE: usize = 6;

/// A table of routes: built once, then only asked.
#[derive(Clone, Debug)]
pub struct Router {
    trie: trie::Trie,
    routes: Vec<Route>,
    frozen: bool,
}

/// What was inserted.
#[derive(Clone, Debug)]
pub struct Route {
    /// The caller's name for it.
    pub id: u32,
    /// Where it is.
    pub template: Template,
    /// What it serves, without what is automatic.
    pub methods: MethodSet,
}

/// What the router says of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A route serves it; `params` in the order of the template's parameters.
    Route {
        /// The route.
        id: u32,
        /// Where its values lie.
        params: Params,
    },
    /// This route would serve it with the other form of the trailing slash: 308 for GET and HEAD, else 404.
    Slash {
        /// The route.
        id: u32,
    },
    /// There are routes for the path but none for the method: OPTIONS is answered with `allow`, all else is 405.
    Method {
        /// All methods of these routes.
        allow: MethodSet,
        /// The routes, best first.
        ids: Vec<u32>,
    },
    /// No route: 404.
    None,
}

/// Spans of the parameters' values in the path, in the order of the template.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params {
    inline: [Span; INLINE],
    more: Vec<Span>,
    len: usize,
}

impl Params {
    /// How many.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where the value of parameter `index` lies; `Segments::bytes` has its bytes.
    #[inline]
    pub fn get(&self, index: usize) -> Option<Span> {
        if index >= self.len {
            return None;
        }
        self.inline.get(index).or_else(|| self.more.get(index - INLINE)).copied()
    }

    /// The spans in order.
    pub fn iter(&self) -> impl Iterator<Item = Span> + '_ {
        (0..self.len).filter_map(|index| self.get(index))
    }

    #[inline]
    fn push(&mut self, span: Span) {
        match self.inline.get_mut(self.len) {
            Some(place) => *place = span,
            None => self.more.push(span),
        }
        self.len += 1;
    }

    #[inline]
    fn pop(&mut self) {
        self.len -= 1;
        match self.inline.get_mut(self.len) {
            // equal results are equal, whatever was tried before
            Some(place) => *place = Span::default(),
            None => drop(self.more.pop()),
        }
    }
}

/// Why a route cannot be inserted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InsertError {
    /// Another route has the same paths and a method in common.
    #[error(
        "{method} `{template}` is the same as `{other}`, which is there already\nhint: {}",
        same(template, other)
    )]
    Same {
        /// The method both serve.
        method: String,
        /// The template that was to be inserted.
        template: String,
        /// The template that is there.
        other: String,
    },
    /// A route without methods.
    #[error("`{0}` serves no method\nhint: name at least one, as `GET`")]
    NoMethod(String),
    /// The router is frozen.
    #[error("`{0}` comes too late\nhint: register every route before the first request")]
    Frozen(String),
}

fn same(template: &str, other: &str) -> &'static str {
    if template == other { "register it once" } else { "the names of parameters make no difference to paths" }
}

impl Default for Router {
    fn default() -> Router {
        Self::new()
    }
}

impl Router {
    /// A router without routes.
    pub fn new() -> Router {
        Router { trie: trie::Trie::new(), routes: Vec::new(), frozen: false }
    }

    /// Adds a route that `find` will call `id`.
    pub fn insert(&mut self, template: Template, methods: MethodSet, id: u32) -> Result<(), InsertError> {
        if self.frozen {
            return Err(InsertError::Frozen(template.text().to_owned()));
        }
        if methods.is_empty() {
            return Err(InsertError::NoMethod(template.text().to_owned()));
        }
        self.trie.insert(&template, &methods, id).map_err(|(other, method)| InsertError::Same {
            method,
            template: template.text().to_owned(),
            other: self.route(other).map_or_else(String::new, |route| route.template.text().to_owned()),
        })?;
        self.routes.push(Route { id, template, methods });
        Ok(())
    }

    /// Ends registration and makes the tables that `find` is fast with.
    pub fn freeze(&mut self) {
        self.trie.freeze();
        self.frozen = true;
    }

    /// The route for a request. No allocation unless the method is refused or there are more than 6 parameters.
    pub fn find(&self, method: Method, segments: &Segments) -> Found {
        self.trie.find(method, segments)
    }

    /// The routes in the order in which they were inserted.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// The first route of that id.
    pub fn route(&self, id: u32) -> Option<&Route> {
        self.routes
            .get(id as usize)
            .filter(|route| route.id == id)
            .or_else(|| self.routes.iter().find(|route| route.id == id))
    }
}
