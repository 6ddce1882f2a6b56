//! Rules of patterns and chains one by one, and the promise that no pattern is passed by: against the plain model.

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};

use super::*;
use crate::router::naive::{self, Model, UUID};
use crate::router::{Found, Method, MethodSet, Re, Router};

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).unwrap()
}

fn template(text: &str) -> Template {
    Template::parse(text, &|name| {
        (name == "slug").then(|| Converter::Re(Re::custom("slug", "[A-Za-z]+", 7).unwrap()))
    })
    .unwrap()
}

fn rule(text: &str, except: &[&str]) -> Rule {
    Rule { pattern: pattern(text), except: except.iter().map(ToString::to_string).collect() }
}

fn bound(rules: &[Rule], texts: &[&str]) -> Result<Plan, BindError> {
    let templates: Vec<Template> = texts.iter().map(|text| template(text)).collect();
    bind(rules, &templates.iter().collect::<Vec<_>>())
}

fn numbers(chain: &[Bound]) -> Vec<u32> {
    chain.iter().map(|bound| bound.interceptor).collect()
}

fn split<'a>(path_info: &'a [u8], raw: &str) -> Segments<'a> {
    Segments::split(path_info, b"", Some(raw.as_bytes()))
}

fn matches(text: &str, raw: &str) -> bool {
    pattern(text).matches(&split(&naive::decoded(raw), raw))
}

/// Whether the first rule holds for a request of the first route.
fn holds(text: &str, route: &str, raw: &str) -> bool {
    let plan = bound(&[rule(text, &[])], &[route]).unwrap();
    plan.chain(0)[0].holds(&split(&naive::decoded(raw), raw))
}

#[test]
fn a_pattern_matches_its_paths_only() {
    for (text, yes, no) in [
        (
            "/admin/*",
            &["/admin", "/admin/", "/admin/a", "/admin/a/b/"][..],
            &["/", "/admins", "/a/admin", "/Admin"][..],
        ),
        ("/*", &["/", "", "/a", "/a/b"], &[]),
        ("/", &["/", ""], &["/a"]),
        ("/a/*/b", &["/a/x/b", "/a/x/b/"], &["/a/b", "/a/x/y/b", "/a/x/b/c"]),
        ("/a/", &["/a", "/a/"], &["/a/b"]),
        ("/*/*", &["/a", "/a/b"], &["/"]),
        ("/{x}/b/*", &["/a/b", "/b/b/c"], &["/b"]),
        ("/é x/*", &["/%C3%A9%20x/a"], &["/e%20x"]),
        ("/a{{b}}", &["/a{b}", "/a%7Bb%7D"], &["/ab"]),
        ("/a;x", &["/a;x", "/a%3Bx"], &["/a"]),
    ] {
        for path in yes {
            assert!(matches(text, path), "{text} {path}");
        }
        for path in no {
            assert!(!matches(text, path), "{text} {path}");
        }
    }
}

#[test]
fn a_doubt_counts_for_the_pattern() {
    let upper = UUID.to_uppercase();
    assert!(matches(&format!("/{UUID}/*"), &format!("/{upper}/x")));
    assert!(matches(&format!("/{upper}"), &format!("/{UUID}")));
    assert!(matches("/v/1.5/*", "/v/01.50"));
    assert!(!matches("/v/1.5/*", "/v/1.51"));
    assert!(!matches("/v/7", "/v/07"), "no route takes 07 for an int");
    assert!(matches("/a/b/*", "/a%2Fb/c"), "somebody may read it so");
    assert!(matches("/*/c", "/a%2Fb/c"), "or so");
}

#[test]
fn a_pattern_that_cannot_be_meant_is_explained() {
    for (text, problem, hint) in [
        ("admin/*", "does not begin with a slash", "write `/admin/*`"),
        ("/a//b", "empty segment", "one slash"),
        ("//*", "empty segment", "one slash"),
        ("/a/**", "`**` has no meaning", "all below"),
        ("/admin*", "shares its segment", "one whole segment"),
        ("/*.txt", "shares its segment", "one whole segment"),
        ("/{a:int}/*", "`a` has a converter", "write `{a}`"),
        ("/x-{a}", "not whole", "`/{name}/`"),
        ("/{a}-x", "not whole", "`/{name}/`"),
        ("/{a", "not whole", "`{{`"),
        ("/a}", "closes nothing", "`}}`"),
        ("/{}", "no name", "argument"),
        ("/{a}/{a}", "two segments are called `a`", "a name of its own"),
        ("/../a", "the segment `..`", "lead to"),
        ("/a%20b", "`%` has no meaning", "decoded"),
        ("/a?b", "`?` has no meaning", "path"),
    ] {
        let error = Pattern::parse(text).unwrap_err().to_string();
        let (said, hinted) = error.split_once("\nhint: ").unwrap();
        assert!(said.contains(problem) && said.contains(&format!("`{text}`")), "{error}");
        assert!(hinted.contains(hint), "{error}");
    }
    assert!(Pattern::parse(&"/a".repeat(64)).is_ok());
    assert!(Pattern::parse(&"/a".repeat(65)).is_err());
}

#[test]
fn reach_is_known_beforehand_where_it_can_be() {
    use Reach::*;
    for (text, route, reach) in [
        ("/*", "/", Always),
        ("/*", "/{p:path}", Always),
        ("/admin/*", "/admin", Always),
        ("/admin/*", "/admin/", Always),
        ("/admin/*", "/admin/{x}/y", Always),
        ("/admin/*", "/admins", Never),
        ("/admin/", "/admin", Always),
        ("/admin", "/admin/x", Never),
        ("/*/report", "/{section}/report", Always),
        ("/sales/report", "/{section}/report", Maybe),
        ("/a/*", "/{x}", Maybe),
        ("/a/*", "/a{x}", Never),
        ("/ab/*", "/a{x}", Maybe),
        ("/a", "/{x:int}", Never),
        ("/07", "/{x:int}", Never),
        ("/7", "/{x:int}", Maybe),
        ("/x", "/{x:re([a-c])}", Never),
        ("/b", "/{x:re([a-c])}", Maybe),
        ("/f/*", "/f/{p:path}", Always),
        ("/f/*/*", "/f/{p:path}", Always),
        ("/f/*/*/*", "/f/{p:path}", Maybe),
        ("/f", "/f/{p:path}", Never),
        ("/f/*/b", "/f/{p:path}", Maybe),
        // one whole segment, and more may follow
        ("/f/{x}", "/f/{p:path}", Maybe),
        ("/f/secret/*", "/f/{p:path}", Maybe),
        ("/g/*", "/f/{p:path}", Never),
    ] {
        assert_eq!(pattern(text).reach(&template(route)), reach, "{text} {route}");
    }
}

#[test]
fn maybe_is_decided_on_the_requests_segments() {
    assert!(holds("/sales/report", "/{section}/report", "/sales/report"));
    assert!(holds("/sales/report", "/{section}/report", "/%73ales/report"));
    assert!(!holds("/sales/report", "/{section}/report", "/Sales/report"));
    assert!(holds("/f/secret/*", "/f/{p:path}", "/f/secret"));
    assert!(holds("/f/secret/*", "/f/{p:path}", "/f/secret/a/"));
    assert!(!holds("/f/secret/*", "/f/{p:path}", "/f/a/secret"));
    assert!(holds("/f/*/b", "/f/{p:path}", "/f/a/b/"));
    assert!(!holds("/f/*/b", "/f/{p:path}", "/f/a/b/c"));
    assert!(!holds("/f/*/b", "/f/{p:path}", "/f/a"));
    assert!(holds("/f/*/*/*", "/f/{p:path}", "/f/a/b"));
    assert!(!holds("/f/*/*/*", "/f/{p:path}", "/f/a"));
}

#[test]
fn values_are_compared_where_spellings_differ() {
    let upper = UUID.to_uppercase();
    assert!(holds(&format!("/d/{UUID}/*"), "/d/{id:uuid}", &format!("/d/{upper}")));
    assert!(holds(&format!("/d/x-{upper}/*"), "/d/x-{id:uuid}", &format!("/d/x-{UUID}")));
    assert!(!holds(&format!("/d/{UUID}/*"), "/d/{id}", &format!("/d/{upper}")), "a str is its bytes");
    assert!(holds("/v/1.5", "/v/{n:float}", "/v/001.500"));
    assert!(!holds("/v/1.5", "/v/{n:float}", "/v/1.6"));
    assert!(holds("/2024-02-29", "/{day:date}", "/2024-02-29"));
}

#[test]
fn values_of_custom_converters_are_their_owners() {
    let plan = bound(&[rule("/t/admin/*", &[])], &["/t/{team:slug}"]).unwrap();
    let chain = plan.chain(0);
    assert_eq!(chain[0].reach, Reach::Maybe);
    let segments = Segments::split(b"/t/ADMIN", b"", None);
    assert!(chain[0].holds(&segments), "in doubt it applies");
    let mut asked = Vec::new();
    let mut lower = |id, literal: &[u8], value: &[u8]| {
        asked.push((id, literal.to_vec(), value.to_vec()));
        literal == value.to_ascii_lowercase()
    };
    assert!(chain[0].holds_with(&segments, &mut lower));
    assert!(!chain[0].holds_with(&Segments::split(b"/t/sales", b"", None), &mut lower));
    assert_eq!(asked[0], (7, b"admin".to_vec(), b"ADMIN".to_vec()));
}

#[test]
fn parents_come_first_then_the_order_of_registration() {
    let rules =
        [rule("/a/{x}/*", &[]), rule("/a/b", &[]), rule("/*", &[]), rule("/a/*", &[]), rule("/a/*/*", &[])];
    let plan = bound(&rules, &["/a/b", "/a", "/z"]).unwrap();
    assert_eq!(numbers(plan.chain(0)), [2, 3, 0, 1, 4]);
    assert_eq!(numbers(plan.chain(1)), [2, 3]);
    assert_eq!(numbers(plan.chain(2)), [2]);
    assert!(plan.chain(3).is_empty());
    let none: Vec<u32> = plan.applicable(&Segments::split(b"/a/b", b"", None)).collect();
    assert_eq!(none, [2, 3, 0, 1, 4]);
    let odd: Vec<u32> = plan.applicable(&Segments::split(b"/a//", b"", None)).collect();
    assert_eq!(odd, [2, 3, 0, 4]);
}

#[test]
fn an_exception_names_a_template() {
    let rules = [rule("/admin/*", &["/admin/login", "/admin/{x}/public"])];
    let plan = bound(&rules, &["/admin/login", "/admin/{x}/public", "/admin/{x}", "/admin/login"]).unwrap();
    assert!(plan.chain(0).is_empty() && plan.chain(1).is_empty() && plan.chain(3).is_empty());
    assert_eq!(numbers(plan.chain(2)), [0]);
    let login = Segments::split(b"/admin/login/", b"", None);
    assert_eq!(plan.applicable_to(&[0], &login).count(), 0);
    assert_eq!(plan.applicable_to(&[0, 2], &login).collect::<Vec<_>>(), [0]);
    assert_eq!(plan.applicable(&login).collect::<Vec<_>>(), [0]);

    let error =
        |except: &str| bound(&[rule("/admin/*", &[except])], &["/admin/login/", "/admin", "/x"]).unwrap_err();
    assert!(
        error("/admin/login")
            .to_string()
            .ends_with("hint: write `/admin/login/`, as the route was registered")
    );
    assert!(error("/admin/logout").to_string().contains("never values"));
    assert!(error("/x").to_string().contains("not below pattern `/admin/*`"));
    let all = bound(&[rule("/x/*", &["/x"])], &["/x"]).unwrap_err();
    assert!(all.to_string().contains("only routes that it excepts"));
}

#[test]
fn a_pattern_without_a_route_is_an_error() {
    let error = |text: &str| bound(&[rule(text, &[])], &["/admin/x", "/n/{n:int}"]).unwrap_err().to_string();
    assert!(error("/admn/*").starts_with("pattern `/admn/*` matches no route\nhint: register"));
    assert!(error("/admin").ends_with("write `/admin/*` for all that lies below"));
    assert!(error("/n/a").contains("matches no route"));
    assert!(bound(&[rule("/*", &[])], &[]).is_err());
}

#[test]
fn what_is_captured_is_the_routes_own_where_it_has_the_name() {
    let rules = [rule("/projects/{project}/*", &[])];
    let texts =
        ["/projects/{project:int}/x", "/projects/{id}", "/projects/p-{project}", "/projects/{project:path}"];
    let plan = bound(&rules, &texts).unwrap();
    let source = |route| plan.chain(route)[0].captures[0].source;
    assert_eq!(source(0), Source::Parameter(0));
    assert_eq!(source(1), Source::Segment(1));
    assert_eq!(source(2), Source::Parameter(0));
    assert_eq!(source(3), Source::Segment(1), "one segment is not the rest of the path");
    let segments = Segments::split(b"/projects/abc/y", b"", None);
    let spans = rules[0].pattern.spans(&segments);
    assert_eq!((spans[0].0, segments.bytes(spans[0].1)), ("project", &b"abc"[..]));
}

#[test]
fn a_mount_is_guarded_as_a_whole() {
    let mount = |text, opaque| Template::mount(text, opaque, &|_| None).unwrap();
    let of = |text: &str, mount: &Template| bind(&[rule(text, &[])], &[mount]);
    let old = mount("/old", true);
    for text in ["/*", "/old/*", "/{x}/*"] {
        assert_eq!(of(text, &old).unwrap().chain(0)[0].reach, Reach::Always, "{text}");
    }
    for text in ["/old", "/old/admin/*", "/old/*/*", "/*/x"] {
        let error = of(text, &old).unwrap_err().to_string();
        assert!(error.contains("reaches inside `/old`") && error.ends_with("with `/old/*`"), "{error}");
    }
    assert!(of("/new/*", &old).unwrap_err().to_string().contains("matches no route"));
    assert!(of("/a/*", &mount("/", true)).unwrap_err().to_string().ends_with("with `/*`"));

    let files = mount("/files", false);
    let plan = of("/files/secret/*", &files).unwrap();
    let holds = |raw: &str| plan.chain(0)[0].holds(&split(&naive::decoded(raw), raw));
    assert!(holds("/files/secret/a") && holds("/files/secret%2Fa"));
    assert!(!holds("/files/open/a") && !holds("/files"));
}

/// A pattern as a plain model; none for any segment.
#[derive(Clone, Debug)]
struct Plain {
    wants: Vec<Option<&'static str>>,
    subtree: bool,
}

impl Plain {
    fn text(&self) -> String {
        let wants = self.wants.iter().map(|want| want.unwrap_or("*")).chain(self.subtree.then_some("*"));
        let text: String = wants.flat_map(|want| ["/", want]).collect();
        // a last `*` would be a subtree
        let any_last = !self.subtree && self.wants.last() == Some(&None);
        if any_last {
            text[..text.len() - 1].to_owned() + "{last}"
        } else {
            text + if self.wants.is_empty() && !self.subtree { "/" } else { "" }
        }
    }

    fn covers(&self, segments: &[Vec<u8>]) -> bool {
        fn walk(wants: &[Option<&str>], subtree: bool, segments: &[Vec<u8>]) -> bool {
            match (wants, segments) {
                ([], []) => true,
                ([], _) => subtree,
                (_, []) => false,
                ([want, wants @ ..], [segment, segments @ ..]) => {
                    want.is_none_or(|want| want.as_bytes() == segment) && walk(wants, subtree, segments)
                }
            }
        }
        walk(&self.wants, self.subtree, segments)
    }
}

fn plain() -> impl Strategy<Value = Plain> {
    let want = prop_oneof![3 => naive::literal().prop_map(Some), 1 => Just(None)];
    (prop::collection::vec(want, 0..4), prop::bool::weighted(0.6))
        .prop_map(|(wants, subtree)| Plain { wants, subtree })
}

/// Patterns that are bound by themselves, with what they leave out.
fn usable(
    patterns: Vec<(Plain, Option<prop::sample::Index>)>,
    templates: &[&Template],
) -> Vec<(Plain, Rule)> {
    let with = |(plain, except): (Plain, Option<prop::sample::Index>)| {
        let except = except.map(|index| templates[index.index(templates.len())].text().to_owned());
        let pattern = pattern(&plain.text());
        let excepting = Rule { pattern: pattern.clone(), except: except.into_iter().collect() };
        let rule = match bind(std::slice::from_ref(&excepting), templates) {
            Ok(_) => excepting,
            Err(_) => Rule { pattern, except: Vec::new() },
        };
        bind(std::slice::from_ref(&rule), templates).is_ok().then_some((plain, rule))
    };
    patterns.into_iter().filter_map(with).collect()
}

proptest! {
    #![proptest_config(Config { cases: 600, rng_seed: RngSeed::Fixed(5), failure_persistence: None, ..Config::default() })]

    #[test]
    fn no_pattern_is_passed_by(
        table in naive::table(),
        patterns in prop::collection::vec((plain(), prop::option::weighted(0.2, any::<prop::sample::Index>())), 1..12),
        paths in prop::collection::vec(naive::path(), 1..60),
    ) {
        let templates: Vec<Template> = table.iter().map(Model::template).collect();
        let templates: Vec<&Template> = templates.iter().collect();
        let mut router = Router::new();
        for (id, model) in table.iter().enumerate() {
            let methods = MethodSet::of(model.methods.iter().copied()).unwrap();
            router.insert(templates[id].clone(), methods, id as u32).unwrap();
        }
        router.freeze();
        let patterns = usable(patterns, &templates);
        let rules: Vec<Rule> = patterns.iter().map(|(_, rule)| rule.clone()).collect();
        let plan = bind(&rules, &templates).unwrap();

        for path in &paths {
            let path_info = naive::decoded(path);
            let segments = split(&path_info, path);
            let (plain_segments, _) = naive::segments(path);
            for method in [Method::Get, Method::Post, Method::Options] {
                let found = router.find(method, &segments);
                let (routes, runs): (Vec<u32>, Vec<u32>) = match &found {
                    Found::Route { id, .. } => {
                        let holding = plan.chain(*id).iter().filter(|bound| bound.holds(&segments));
                        (vec![*id], holding.map(|bound| bound.interceptor).collect())
                    }
                    Found::Slash { id } => (vec![*id], plan.applicable_to(&[*id], &segments).collect()),
                    Found::Method { ids, .. } => (ids.clone(), plan.applicable_to(ids, &segments).collect()),
                    Found::None => (Vec::new(), plan.applicable(&segments).collect()),
                };
                for (number, (plain, rule)) in patterns.iter().enumerate() {
                    let out = |id: &u32| rule.except.iter().any(|text| text == templates[*id as usize].text());
                    let excepted = !routes.is_empty() && routes.iter().all(out);
                    let covers = plain.covers(&plain_segments);
                    let ran = runs.contains(&(number as u32));
                    prop_assert!(!covers || excepted || ran, "{} on {} with {found:?}", plain.text(), path);
                    prop_assert!(!(ran && excepted), "{} on {} with {found:?}", plain.text(), path);
                    // and nobody else, where spelling leaves no doubt
                    let doubt = segments.has_encoded_slash()
                        || plain.wants.iter().flatten().any(|want| want.contains('.') || *want == UUID);
                    prop_assert!(!ran || covers || doubt, "{} on {} with {found:?}", plain.text(), path);
                }
                let depths: Vec<(usize, u32)> =
                    runs.iter().map(|number| (rules[*number as usize].pattern.depth(), *number)).collect();
                prop_assert!(depths.is_sorted());
            }
        }
    }

    #[test]
    fn reach_agrees_with_what_requests_show(table in naive::table(), plain in plain(), paths in prop::collection::vec(naive::path(), 1..60)) {
        let pattern = pattern(&plain.text());
        for model in &table {
            let template = model.template();
            let reach = pattern.reach(&template);
            for path in &paths {
                let alone = [Model { methods: vec!["GET"], ..model.clone() }];
                if let naive::Answer::Route(..) = naive::find(&alone, "GET", path) {
                    let (segments, _) = naive::segments(path);
                    let covers = plain.covers(&segments);
                    prop_assert!(reach != Reach::Always || covers, "{} {} {}", plain.text(), model.text(), path);
                    prop_assert!(reach != Reach::Never || !covers, "{} {} {}", plain.text(), model.text(), path);
                }
            }
        }
    }

    #[test]
    fn a_pattern_of_any_text_is_read_or_explained(text in "/?[a-z/{}:*.%é]{0,16}") {
        if let Err(error) = Pattern::parse(&text) {
            prop_assert!(error.to_string().contains("\nhint: "));
        }
    }
}
