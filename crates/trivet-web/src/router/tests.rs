//! Rules of the router one by one, all of them against the plain model, and how long a search takes.

use std::fmt::Write as _;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};

use super::naive::{self, Answer, Model};
use super::*;

fn template(text: &str) -> Template {
    Template::parse(text, &|_| None).unwrap()
}

fn methods(names: &str) -> MethodSet {
    MethodSet::of(names.split(' ')).unwrap()
}

/// Routes as "GET POST /template", called by their place.
fn router(routes: &[&str]) -> Router {
    let mut router = open_router(routes);
    router.freeze();
    router
}

fn open_router(routes: &[&str]) -> Router {
    let mut router = Router::new();
    for (id, route) in routes.iter().enumerate() {
        let (names, text) = route.split_once(" /").unwrap();
        router.insert(template(&format!("/{text}")), methods(names), id as u32).unwrap();
    }
    router
}

/// The answer in short: "2 a=1 b=x", "slash 2", "405 GET, HEAD", "404".
fn ask(router: &Router, method: &str, path: &str) -> String {
    let path_info = naive::decoded(path);
    let segments = Segments::split(&path_info, b"", Some(path.as_bytes()));
    match router.find(Method::of(method.as_bytes()), &segments) {
        Found::Route { id, params } => {
            let mut text = id.to_string();
            let template = &router.route(id).unwrap().template;
            assert_eq!(params.len(), template.parameters().len());
            for (parameter, span) in template.parameters().iter().zip(params.iter()) {
                let value = String::from_utf8_lossy(segments.bytes(span));
                write!(text, " {}={value}", parameter.name).unwrap();
            }
            text
        }
        Found::Slash { id } => format!("slash {id}"),
        Found::Method { allow, .. } => format!("405 {allow}"),
        Found::None => "404".to_owned(),
    }
}

#[test]
fn precedence_at_a_segment() {
    let routes = [
        "GET /u/{x}",
        "GET /u/{x:path}",
        "GET /u/{x:re([0-9]+)}",
        "GET /u/{x:int}",
        "GET /u/v{x}",
        "GET /u/vv{x:int}",
        "GET /u/v{x:int}",
        "GET /u/{x}.txt",
        "GET /u/v1",
        "GET /u/{x:float}",
    ];
    let router = router(&routes);
    for (path, answer) in [
        ("/u/v1", "8"),
        ("/u/v2", "6 x=2"),
        ("/u/vv2", "5 x=2"),
        ("/u/vx", "4 x=x"),
        ("/u/vv.txt", "7 x=vv"),
        ("/u/v", "0 x=v"),
        ("/u/12", "2 x=12"),
        ("/u/-12", "3 x=-12"),
        ("/u/1.5", "9 x=1.5"),
        ("/u/.txt", "0 x=.txt"),
        ("/u/a/b", "1 x=a/b"),
        ("/u/a/", "1 x=a/"),
        ("/u", "404"),
    ] {
        assert_eq!(ask(&router, "GET", path), answer, "{path}");
    }
}

#[test]
fn a_way_that_leads_nowhere_is_taken_back() {
    let router =
        router(&["GET /a/{x:int}/c", "GET /a/{y}/{z}", "GET /a/b/d", "GET /{p:path}", "GET /{q}/b/e/f"]);
    assert_eq!(ask(&router, "GET", "/a/1/c"), "0 x=1");
    assert_eq!(ask(&router, "GET", "/a/1/d"), "1 y=1 z=d");
    assert_eq!(ask(&router, "GET", "/a/b/d"), "2");
    assert_eq!(ask(&router, "GET", "/a/b/c"), "1 y=b z=c");
    assert_eq!(ask(&router, "GET", "/a/b/e/f"), "4 q=a");
    assert_eq!(ask(&router, "GET", "/a/b/e/g"), "3 p=a/b/e/g");
    assert_eq!(ask(&router, "GET", "/"), "404");
}

#[test]
fn the_method_decides_among_templates_of_a_path() {
    let router =
        router(&["POST /u/me", "GET PUT /u/{x}", "PROPFIND /u/{x:path}", "OPTIONS /o", "HEAD /h", "GET /h"]);
    assert_eq!(ask(&router, "POST", "/u/me"), "0");
    assert_eq!(ask(&router, "GET", "/u/me"), "1 x=me");
    assert_eq!(ask(&router, "HEAD", "/u/me"), "1 x=me");
    assert_eq!(ask(&router, "PROPFIND", "/u/me"), "2 x=me");
    assert_eq!(ask(&router, "DELETE", "/u/me"), "405 GET, HEAD, OPTIONS, POST, PROPFIND, PUT");
    assert_eq!(ask(&router, "OPTIONS", "/u/x"), "405 GET, HEAD, OPTIONS, PROPFIND, PUT");
    assert_eq!(ask(&router, "propfind", "/u/x"), "405 GET, HEAD, OPTIONS, PROPFIND, PUT");
    assert_eq!(ask(&router, "OPTIONS", "/o"), "3");
    assert_eq!(ask(&router, "HEAD", "/h"), "4");
    assert_eq!(ask(&router, "GET", "/h"), "5");
    let segments = Segments::split(b"/u/me", b"", None);
    match router.find(Method::Delete, &segments) {
        Found::Method { ids, .. } => assert_eq!(ids, [0, 1, 2]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_declared_slash_is_canonical() {
    let router = router(&[
        "GET /a",
        "GET /b/",
        "POST /c/",
        "POST /d",
        "GET /d/",
        "GET /f/{p:path}/",
        "GET /{x}",
        "GET /e/",
        "PUT /e",
    ]);
    assert_eq!(ask(&router, "GET", "/a"), "0");
    assert_eq!(ask(&router, "GET", "/b/"), "1");
    assert_eq!(ask(&router, "GET", "/b"), "6 x=b", "a route that matches is better than a redirect");
    assert_eq!(ask(&router, "GET", "/a/"), "slash 0");
    assert_eq!(ask(&router, "POST", "/c"), "slash 2");
    assert_eq!(ask(&router, "POST", "/d/"), "slash 3");
    assert_eq!(ask(&router, "GET", "/f/x/y/"), "5 p=x/y");
    assert_eq!(ask(&router, "HEAD", "/f/x/y"), "slash 5");
    assert_eq!(ask(&router, "DELETE", "/e"), "405 GET, HEAD, OPTIONS, PUT");
    assert_eq!(ask(&router, "DELETE", "/e/"), "405 GET, HEAD, OPTIONS");
}

#[test]
fn the_root_and_nothing() {
    let router = router(&["GET /"]);
    assert_eq!(ask(&router, "GET", "/"), "0");
    assert_eq!(ask(&router, "GET", ""), "slash 0");
    assert_eq!(ask(&router, "GET", "//"), "404");
}

#[test]
fn no_route_for_an_odd_path() {
    let router = router(&["GET /{p:path}", "GET /{a}/{b}", "GET /{a}"]);
    for path in ["//a", "/a//b", "/./a", "/a/..", "/%2e%2e/a", "/a/%2E", "/..%2Fa", "/a/b%2F..%2Fc", "*", "a"]
    {
        assert_eq!(ask(&router, "GET", path), "404", "{path}");
        assert_eq!(ask(&router, "DELETE", path), "404", "{path}");
    }
    let long = "/a".repeat(65);
    assert_eq!(ask(&router, "GET", &long), "404");
    assert_eq!(ask(&router, "GET", &long[2..]), format!("0 p={}", &long[3..]));
}

#[test]
fn an_escaped_slash_makes_no_segment_and_no_path() {
    let router = router(&["GET /f/{p:path}", "GET /t/{x}", "GET /t/a/b"]);
    assert_eq!(ask(&router, "GET", "/t/a%2Fb"), "1 x=a/b");
    assert_eq!(ask(&router, "GET", "/f/a%2Fb"), "404");
    assert_eq!(ask(&router, "GET", "/f/a/b%5Cc"), "0 p=a/b\\c");
    assert_eq!(ask(&router, "GET", "/f%2Fa"), "404");
}

#[test]
fn a_mount_takes_what_nobody_else_does() {
    let mut router = Router::new();
    let mount = |text| Template::mount(text, true, &|_| None).unwrap();
    router.insert(mount("/old"), MethodSet::any(), 0).unwrap();
    router.insert(mount("/"), methods("GET"), 1).unwrap();
    router.insert(template("/old/new"), methods("GET"), 2).unwrap();
    router.insert(template("/old/{p:path}"), methods("PUT"), 3).unwrap();
    router.freeze();
    assert_eq!(ask(&router, "GET", "/old/new"), "2");
    assert_eq!(ask(&router, "BREW", "/old/new"), "0");
    assert_eq!(ask(&router, "GET", "/old"), "0");
    assert_eq!(ask(&router, "GET", "/old/"), "0");
    assert_eq!(ask(&router, "GET", "/old/a%2Fb/c"), "0");
    assert_eq!(ask(&router, "PUT", "/old/a"), "3 p=a");
    assert_eq!(ask(&router, "GET", "/older"), "1");
    assert_eq!(ask(&router, "GET", "/"), "1");
    assert_eq!(ask(&router, "PUT", "/x"), "405 GET, HEAD, OPTIONS");
    assert!(router.insert(mount("/x"), MethodSet::any(), 4).unwrap_err().to_string().contains("too late"));
}

#[test]
fn the_same_paths_twice_are_an_error() {
    let mut router = open_router(&["GET /a/{x:int}", "POST /a/{y:int}", "GET /a/{x:int}/", "GET /{p:path}"]);
    let mut insert =
        |text: &str, names: &str| router.insert(template(text), methods(names), 9).unwrap_err().to_string();
    assert_eq!(
        insert("/a/{z:int}", "PUT POST"),
        "POST `/a/{z:int}` is the same as `/a/{y:int}`, which is there already\n\
         hint: the names of parameters make no difference to paths"
    );
    assert!(insert("/{p:path}", "GET").ends_with("hint: register it once"));
    let error = router.insert(template("/z"), MethodSet::default(), 9).unwrap_err();
    assert!(error.to_string().contains("serves no method"));
}

#[test]
fn many_parameters_are_kept() {
    let router =
        router(&["GET /{a}/{b}/{c}/{d}/{e}/{f}/{g}/{h}", "GET /{a}/{b}/{c}/{d}/{e}/{f}/{g:int}/{h}/{i}"]);
    assert_eq!(ask(&router, "GET", "/1/2/3/4/5/6/7/8"), "0 a=1 b=2 c=3 d=4 e=5 f=6 g=7 h=8");
    assert_eq!(ask(&router, "GET", "/1/2/3/4/5/6/7/8/9"), "1 a=1 b=2 c=3 d=4 e=5 f=6 g=7 h=8 i=9");
}

#[test]
fn a_node_with_many_children_finds_each() {
    let routes: Vec<String> = (0..1000).map(|n| format!("GET /r{n}/x")).collect();
    let router = router(&routes.iter().map(String::as_str).collect::<Vec<_>>());
    for n in 0..1000 {
        assert_eq!(ask(&router, "GET", &format!("/r{n}/x")), n.to_string());
    }
    for miss in ["/r1000/x", "/r/x", "/r0", "/R1/x", "/r01/x"] {
        assert_eq!(ask(&router, "GET", miss), "404");
    }
}

fn filled(table: &[Model]) -> Router {
    let mut router = Router::new();
    for (id, model) in table.iter().enumerate() {
        router.insert(model.template(), methods(&model.methods.join(" ")), id as u32).unwrap();
    }
    router
}

proptest! {
    #![proptest_config(Config { cases: 600, rng_seed: RngSeed::Fixed(4), failure_persistence: None, ..Config::default() })]

    #[test]
    fn the_router_agrees_with_the_plain_model(
        table in naive::table(),
        paths in prop::collection::vec(naive::path(), 1..60),
    ) {
        let mut router = filled(&table);
        router.freeze();
        for path in &paths {
            for method in ["GET", "HEAD", "POST", "LOCK"] {
                let path_info = naive::decoded(path);
                let segments = Segments::split(&path_info, b"", Some(path.as_bytes()));
                let answer = match router.find(Method::of(method.as_bytes()), &segments) {
                    Found::Route { id, params } => {
                        Answer::Route(id as usize, params.iter().map(|span| segments.bytes(span).to_vec()).collect())
                    }
                    Found::Slash { id } => Answer::Slash(id as usize),
                    Found::Method { mut ids, .. } => {
                        ids.sort_unstable();
                        Answer::Method(ids.into_iter().map(|id| id as usize).collect())
                    }
                    Found::None => Answer::None,
                };
                let expected = naive::find(&table, method, path);
                let texts: Vec<String> = table.iter().map(Model::text).collect();
                prop_assert_eq!(answer, expected, "{} {} in {:?}", method, path, texts);
            }
        }
    }

    #[test]
    fn a_route_that_clashes_is_refused(table in naive::table(), model in naive::model()) {
        let mut router = filled(&table);
        let clash = table.iter().any(|known| known.clashes(&model));
        prop_assert_eq!(router.insert(model.template(), methods(&model.methods.join(" ")), 999).is_err(), clash);
    }

    #[test]
    fn what_is_built_is_found_again(
        text in prop::sample::select(vec![
            "/a/{x}", "/a/{x}/", "/a/v-{x}.txt", "/{x:path}", "/b/{x:path}/", "/a b/{x:int}", "/{x:float}/é", "/{x:re([^c]+)}",
        ]),
        value in prop_oneof!["[a-c/. %é\\\\]{0,6}", "-?[0-9]{0,3}(\\.[0-9]{1,2})?", "\\PC{0,4}"],
    ) {
        let template = template(text);
        let mut router = Router::new();
        router.insert(template.clone(), methods("GET"), 0).unwrap();
        let Ok(path) = template.build(&[("x", &value)]) else { return Ok(()) };
        prop_assert!(path.is_ascii() && path.starts_with('/') && !path.starts_with("//"));
        prop_assert_eq!(ask(&router, "GET", &path), format!("0 x={value}"));
    }

    #[test]
    fn a_template_of_any_text_is_read_or_explained(text in "/?[a-z/{}:()\\[\\]*.%é re]{0,24}") {
        if let Err(error) = Template::parse(&text, &|_| None) {
            prop_assert!(error.to_string().contains("\nhint: "));
        }
    }
}

/// Prints what a search costs: `cargo test --release -p trivet-web -- --ignored --nocapture what_a_search_costs`.
#[test]
#[ignore = "a measurement"]
fn what_a_search_costs() {
    use std::hint::black_box;
    use std::time::Instant;

    for routes in [10, 100, 1000, 10_000] {
        let mut router = Router::new();
        for n in 0..routes / 2 {
            router.insert(template(&format!("/api/resource{n}/{{id:int}}")), methods("GET"), 2 * n).unwrap();
            router
                .insert(template(&format!("/api/resource{n}/list")), methods("GET POST"), 2 * n + 1)
                .unwrap();
        }
        router.freeze();
        let paths: Vec<String> = (0..1024u32)
            .map(|n| {
                let resource = n.wrapping_mul(2_654_435_761) % (routes / 2);
                let last = if n % 2 == 0 { "list".to_owned() } else { n.to_string() };
                format!("/api/resource{resource}/{last}")
            })
            .collect();
        let same = format!("/api/resource{}/1234", routes / 4);
        let run = |paths: &[&str]| {
            let mut best = f64::MAX;
            for _ in 0..20 {
                let start = Instant::now();
                for _ in 0..200 {
                    for path in paths {
                        let segments =
                            Segments::split(black_box(path.as_bytes()), b"", Some(path.as_bytes()));
                        let found = router.find(black_box(Method::Get), &segments);
                        assert!(matches!(black_box(found), Found::Route { .. }));
                    }
                }
                best = best.min(start.elapsed().as_nanos() as f64 / (200 * paths.len()) as f64);
            }
            best
        };
        let all = run(&paths.iter().map(String::as_str).collect::<Vec<_>>());
        let one = run(&vec![same.as_str(); 1024]);
        eprintln!("{routes:>6} routes: {all:.1} ns for all in turn, {one:.1} ns for one of them");
    }
}
