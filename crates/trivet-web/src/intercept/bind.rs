//! Binding: from patterns and templates to the chain of interceptors of each route.

use super::{Condition, Pattern, Reach, SameValue};
use crate::router::{Part, Template};
use crate::segments::Segments;

/// An interceptor as it was registered. Its number is its place among all.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Where it applies.
    pub pattern: Pattern,
    /// Texts of route templates that it leaves out.
    pub except: Vec<String>,
}

/// An interceptor in the chain of a route.
#[derive(Clone, Debug)]
pub struct Bound {
    /// Its number.
    pub interceptor: u32,
    /// `Always`, or `Maybe`: then `holds` decides for each request.
    pub reach: Reach,
    /// What the pattern captures, and where the value comes from.
    pub captures: Vec<Capture>,
    condition: Condition,
}

/// A captured segment of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    /// Its name in the pattern.
    pub name: String,
    /// Where its value is.
    pub source: Source,
}

/// Where the value of a captured segment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// It is the parameter of that index of the route, which has the same name: converter and value are the route's.
    Parameter(usize),
    /// It is the text of that segment.
    Segment(usize),
}

/// The chains of all routes, and what is needed for requests without one.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    chains: Vec<Vec<Bound>>,
    /// Numbers of interceptors with their patterns: parents first, then in the order of registration.
    order: Vec<(u32, Pattern)>,
}

/// Why patterns and routes do not fit: all of these would be open doors.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BindError {
    /// A pattern without a route.
    #[error("pattern `{pattern}` matches no route\nhint: {hint}")]
    NoRoute {
        /// The pattern.
        pattern: String,
        /// What would be right.
        hint: String,
    },
    /// An exception that is no template.
    #[error("exception `{exception}` of pattern `{pattern}` is no route's template\nhint: {hint}")]
    NoTemplate {
        /// The pattern.
        pattern: String,
        /// The exception.
        exception: String,
        /// What would be right.
        hint: String,
    },
    /// An exception from what the pattern does not cover.
    #[error(
        "exception `{exception}` is not below pattern `{pattern}`\nhint: leave it out, or correct the pattern"
    )]
    NotBelow {
        /// The pattern.
        pattern: String,
        /// The exception.
        exception: String,
    },
    /// Exceptions that leave nothing.
    #[error(
        "pattern `{pattern}` matches only routes that it excepts\nhint: remove the interceptor or an exception"
    )]
    AllExcepted {
        /// The pattern.
        pattern: String,
    },
    /// A pattern for a part of what is mounted.
    #[error(
        "pattern `{pattern}` reaches inside `{mount}`, which reads paths in its own way\n\
         hint: guard the whole mount with `{whole}`"
    )]
    InsideMount {
        /// The pattern.
        pattern: String,
        /// Where the app is mounted.
        mount: String,
        /// The pattern for all of it.
        whole: String,
    },
}

/// Binds interceptors to routes. Number i of the result's chains belongs to number i of the templates.
///
/// Chains run parents first (patterns that name fewer segments), then in the order of registration.
pub fn bind(rules: &[Rule], templates: &[&Template]) -> Result<Plan, BindError> {
    let mut order: Vec<usize> = (0..rules.len()).collect();
    order.sort_by_key(|&index| rules[index].pattern.depth());
    let mut chains: Vec<Vec<Bound>> = vec![Vec::new(); templates.len()];
    for &index in &order {
        let Rule { pattern, except } = &rules[index];
        for exception in except {
            check_exception(pattern, exception, templates)?;
        }
        let (mut covered, mut bound) = (false, false);
        for (template, chain) in templates.iter().zip(&mut chains) {
            let Some(condition) = pattern.condition(template) else { continue };
            covered = true;
            if except.iter().any(|exception| exception == template.text()) {
                continue;
            }
            if pattern.reaches_inside(template) {
                return Err(BindError::InsideMount {
                    pattern: pattern.text().to_owned(),
                    mount: template.text().to_owned(),
                    whole: format!("{}/*", template.text().trim_end_matches('/')),
                });
            }
            bound = true;
            chain.push(Bound {
                interceptor: index as u32,
                reach: condition.reach(),
                captures: captures(pattern, template),
                condition,
            });
        }
        if !covered {
            return Err(BindError::NoRoute {
                pattern: pattern.text().to_owned(),
                hint: hint(pattern, templates),
            });
        }
        if !bound {
            return Err(BindError::AllExcepted { pattern: pattern.text().to_owned() });
        }
    }
    let order = order.into_iter().map(|index| (index as u32, rules[index].pattern.clone())).collect();
    Ok(Plan { chains, order })
}

fn check_exception(pattern: &Pattern, exception: &str, templates: &[&Template]) -> Result<(), BindError> {
    let named =
        |text: &str| templates.iter().filter(move |template| template.text() == text).collect::<Vec<_>>();
    let excepted = named(exception);
    if excepted.is_empty() {
        let other = match exception.strip_suffix('/') {
            Some(without) => without.to_owned(),
            None => format!("{exception}/"),
        };
        let hint = if named(&other).is_empty() {
            "an exception names the template of a route as it was registered, never values".to_owned()
        } else {
            format!("write `{other}`, as the route was registered")
        };
        return Err(BindError::NoTemplate {
            pattern: pattern.text().to_owned(),
            exception: exception.to_owned(),
            hint,
        });
    }
    if excepted.iter().all(|template| pattern.reach(template) == Reach::Never) {
        return Err(BindError::NotBelow {
            pattern: pattern.text().to_owned(),
            exception: exception.to_owned(),
        });
    }
    Ok(())
}

/// What is nearest to a pattern without a route.
fn hint(pattern: &Pattern, templates: &[&Template]) -> String {
    let subtree = format!("{}/*", pattern.text().trim_end_matches('/'));
    let below = Pattern::parse(&subtree)
        .is_ok_and(|wider| templates.iter().any(|template| wider.reach(template) != Reach::Never));
    if below && !pattern.is_subtree() {
        format!("write `{subtree}` for all that lies below")
    } else {
        "register its routes, or correct it: a pattern that matches nothing guards nothing".to_owned()
    }
}

fn captures(pattern: &Pattern, template: &Template) -> Vec<Capture> {
    let of = |(name, at): (&str, usize)| {
        let source = match template.parts.get(at) {
            Some(Part::Parameter { index, .. }) if template.parameters()[*index].name == name => {
                Source::Parameter(*index)
            }
            _ => Source::Segment(at),
        };
        Capture { name: name.to_owned(), source }
    };
    pattern.captures().map(of).collect()
}

impl Bound {
    /// Whether it covers this request of its route. Values of custom converters may have spellings that only their
    /// owner knows: it covers all of them.
    #[inline]
    pub fn holds(&self, segments: &Segments) -> bool {
        self.holds_with(segments, &mut |_, _, _| true)
    }

    /// As `holds`, and `custom` (converter's id, the pattern's literal, the request's text) decides whether the two
    /// are one value.
    #[inline]
    pub fn holds_with(&self, segments: &Segments, custom: &mut SameValue<'_>) -> bool {
        self.reach == Reach::Always || self.condition.holds(segments, custom)
    }
}

impl Plan {
    /// The chain of a route; nothing for a route that was not bound.
    #[inline]
    pub fn chain(&self, route: u32) -> &[Bound] {
        self.chains.get(route as usize).map_or(&[], Vec::as_slice)
    }

    /// All chains, in the order of the templates.
    pub fn chains(&self) -> &[Vec<Bound>] {
        &self.chains
    }

    /// The interceptors of a request that has no route, in the order of a chain.
    pub fn applicable(&self, segments: &Segments) -> impl Iterator<Item = u32> {
        self.order.iter().filter(|(_, pattern)| pattern.matches(segments)).map(|(number, _)| *number)
    }

    /// The interceptors of a request that these routes match but none serves (405, OPTIONS, the other form of the
    /// slash): all of their chains in one, so that exceptions count where they do for all of the routes.
    pub fn applicable_to(&self, routes: &[u32], segments: &Segments) -> impl Iterator<Item = u32> {
        let runs = |number: u32| {
            let mut bounds = routes.iter().flat_map(|route| self.chain(*route));
            bounds.any(|bound| bound.interceptor == number && bound.holds(segments))
        };
        self.order.iter().map(|(number, _)| *number).filter(move |number| runs(*number))
    }

    /// The pattern of an interceptor.
    pub fn pattern(&self, interceptor: u32) -> Option<&Pattern> {
        self.order.iter().find(|(number, _)| *number == interceptor).map(|(_, pattern)| pattern)
    }
}
