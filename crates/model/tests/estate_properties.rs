//! What holds for every text, right or wrong.

use std::collections::BTreeSet;
use std::path::Path;

use ostler_model::diagnostics::Problems;
use ostler_model::estate::failures::{FailureKind, FailureRate, FailureScope, Failures};
use ostler_model::estate::terms::{Percent, Terms};
use ostler_model::estate::{Estate, Parsed, parse};
use ostler_model::ids::ServiceName;
use ostler_model::time::Span;
use proptest::prelude::*;

const GOOD: &str = include_str!("estates/full.toml");

/// What mutations put into a good file: all that means something in TOML, and some that means something to terminals.
const BITS: &[&str] = &[
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    "\"",
    "'",
    "\"\"\"",
    "'''",
    "=",
    ",",
    ".",
    "#",
    "\n",
    "\r\n",
    " ",
    "\\",
    "\0",
    "\u{feff}",
    "ä",
    "\u{1b}[31m",
    "\u{202e}",
    "0",
    "-1",
    "99999999999999999999",
    "1e400",
    "nan",
    "true",
    "2026-01-01",
    "{{",
    "}}",
    "{{ needs.db.uri }}",
    "\"db\"",
    "\"web\"",
    "needs = [\"web\"]\n",
    "[service.db]\n",
    "[service.x]\n",
    "offering = \"redis\"\n",
    "probe.ready = \"tcp\"\n",
    "endpoint = \"0.0.0.0:8080\"\n",
    "endpoint = \"[::]:8080\"\n",
    "%",
    "-",
    "[failures]\n",
    "[service.db.failures]\n",
    "[provider.here.failures]\n",
    "crash = \"60d\"\n",
    "power_loss = \"never\"\n",
    "outage = { every = \"90d\", lasts = \"1m - 2h\" }\n",
    "lasts = \"99999999999999999999d - 1ns\"\n",
    "budget = { monthly = 400 }\n",
    "rates = { USD = \"0.92\" }\n",
    "zone = \"Europe/Berlin\"\n",
    "[provider.here.cost]\n",
    "purchase = 1e999\nyears = 4\n",
    "[provider.here.terms.prices.redis]\n",
    "cache = [{ amount = \"9\", currency = \"USD\" }, 99999999999999999999]\n",
    "[provider.here.terms]\n",
    "availability = \"99.95%\"\n",
    "credits = [{ below = \"99%\", refund = \"10%\" }]\n",
    "[[provider.here.terms.credits]]\n",
    "below = \"99.9%\"\nrefund = \"99999999999999999999%\"\n",
];

fn read(text: &str) -> Result<Parsed, Problems> {
    parse("ostler.toml", Path::new("/srv/shop"), text)
}

/// Each problem can be shown and has a place in the text; an estate is whole.
fn check(text: &str) {
    match read(text) {
        Err(problems) => check_problems(text, &problems),
        Ok(parsed) => check_whole(text, &parsed),
    }
}

fn check_problems(text: &str, problems: &Problems) {
    assert!(!problems.list.is_empty());
    assert!(problems.list.is_sorted_by_key(|problem| problem.span.start));
    for problem in &problems.list {
        assert!(text.get(problem.span.clone()).is_some(), "{problem:?} lies outside of the text");
        assert!(!problem.cause.is_empty() && !problem.remedy.is_empty(), "{problem:?}");
    }
    let located = problems.located();
    assert_eq!(located.len(), problems.list.len());
    let lines = text.matches('\n').count() + 1;
    assert!(located.iter().all(|place| (1..=lines).contains(&place.line) && place.column > 0));
    assert_eq!(problems.render(false).matches("error: ").count().min(50), located.len().min(50));
    assert!(!problems.render(true).is_empty());
}

fn check_whole(text: &str, parsed: &Parsed) {
    let estate = &parsed.estate;
    assert!(!estate.providers.is_empty());
    for service in estate.services.values() {
        assert!(service.needs.iter().all(|need| estate.services.contains_key(need) && *need != service.name));
        assert!(service.prefer.iter().all(|provider| estate.providers.contains_key(provider)));
        for template in service.env.values().chain(&service.run).chain(&service.before) {
            for reference in template.references().filter_map(|reference| reference.strip_prefix("needs.")) {
                let need = reference.split('.').next().unwrap_or_default();
                assert!(service.needs.iter().any(|name| name.as_str() == need), "{reference}");
            }
        }
    }
    check_failures(&estate.failures);
    for service in estate.services.values() {
        check_failures(&service.failures);
        let scopes = [FailureScope::Instance, FailureScope::Service];
        assert!(service.failures.iter().all(|(kind, _)| scopes.contains(&kind.scope())));
    }
    for provider in estate.providers.values() {
        check_failures(&provider.failures);
        assert!(provider.failures.iter().all(|(kind, _)| kind.scope() == FailureScope::Provider));
        provider.terms.iter().for_each(check_terms);
    }
    assert!(has_an_order(estate), "needs have a cycle");
    let endpoints: Vec<_> = estate.services.values().filter_map(|service| service.endpoint).collect();
    assert_eq!(endpoints.iter().collect::<BTreeSet<_>>().len(), endpoints.len());
    assert!(parsed.spans.values().all(|span| text.get(span.clone()).is_some()));
    let json = serde_json::to_string(estate).expect("an estate has a JSON form");
    assert_eq!(&serde_json::from_str::<Estate>(&json).expect("what was written can be read"), estate);
}

fn check_failures(failures: &Failures) {
    for (kind, rate) in failures.iter() {
        let Some(FailureRate { every, lasts }) = rate else { continue };
        assert!(every >= Span::seconds(60) && every <= Span::seconds(36_500 * 86_400), "{kind}: {every}");
        let Some((least, most)) = lasts else { continue };
        assert!(kind.lasts() && least <= most, "{kind}: {least} - {most}");
        assert!(least >= Span::millis(1) && most <= Span::seconds(30 * 86_400), "{kind}: {least} - {most}");
    }
}

fn check_terms(terms: &Terms) {
    assert_ne!(terms.availability, Some(Percent::ZERO));
    for pair in terms.credits.windows(2) {
        assert!(pair[0].below > pair[1].below && pair[0].refund <= pair[1].refund, "{terms:?}");
    }
    assert!(terms.credits.iter().all(|credit| credit.below > Percent::ZERO));
    assert_eq!(terms.refund(Percent::WHOLE), Percent::ZERO);
    let most = terms.credits.last().map_or(Percent::ZERO, |credit| credit.refund);
    assert_eq!(terms.refund(Percent::ZERO), most);
}

/// Any rate that a file can declare for `kind`.
fn rate(kind: FailureKind) -> impl Strategy<Value = Option<FailureRate>> {
    let (least, most) = (60_000_u64, 36_500 * 86_400_000_u64);
    let length = || 1..=30 * 86_400_000_u64;
    let lasts = (length(), length()).prop_map(|(a, b)| (Span::millis(a.min(b)), Span::millis(a.max(b))));
    let lasts = prop::option::of(lasts).prop_map(move |lasts| lasts.filter(|_| kind.lasts()));
    let every = (least..=most).prop_map(Span::millis);
    prop::option::weighted(0.8, (every, lasts).prop_map(|(every, lasts)| FailureRate { every, lasts }))
}

/// Any table of failures of the whole estate.
fn failures() -> impl Strategy<Value = Failures> {
    let entries = FailureKind::ALL.map(|kind| prop::option::of(rate(kind)).prop_map(move |rate| Some((kind, rate?))));
    Vec::from(entries).prop_map(|entries| entries.into_iter().flatten().collect())
}

/// Whether the services can be started one after the other, each after its needs.
fn has_an_order(estate: &Estate) -> bool {
    let mut started: BTreeSet<&ServiceName> = BTreeSet::new();
    loop {
        let startable =
            estate.services.values().filter(|service| service.needs.iter().all(|need| started.contains(need)));
        let next: BTreeSet<_> = startable.map(|service| &service.name).collect();
        if next.len() == started.len() {
            return started.len() == estate.services.len();
        }
        started = next;
    }
}

/// A good file with a few changes: text taken out and something else put in.
fn mutated() -> impl Strategy<Value = String> {
    let edit = (any::<prop::sample::Index>(), 0..12_usize, prop::sample::select(BITS));
    prop::collection::vec(edit, 1..6).prop_map(|edits| {
        let mut text = GOOD.to_owned();
        for (at, length, bit) in edits {
            let start = text.floor_char_boundary(at.index(text.len() + 1));
            let end = text.ceil_char_boundary((start + length).min(text.len()));
            text.replace_range(start..end, bit);
        }
        text
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        check(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn bits_of_toml_never_panic(bits in prop::collection::vec(prop::sample::select(BITS), 0..60)) {
        check(&bits.concat());
    }

    #[test]
    fn mutated_estates_never_panic(text in mutated()) {
        check(&text);
    }

    /// What is shown of a rate can be written into a file, and is read as the same.
    #[test]
    fn rates_are_read_as_they_are_shown(failures in failures()) {
        let mut text = "[estate]\nname = \"a\"\n[provider.here]\nkind = \"host\"\n[failures]\n".to_owned();
        for (kind, rate) in failures.iter() {
            let rate = rate.map_or_else(|| "\"never\"".to_owned(), |rate| rate.to_string());
            text.push_str(&format!("{kind} = {rate}\n"));
        }
        let parsed = read(&text).expect("every rate can be declared");
        prop_assert_eq!(&parsed.estate.failures, &failures);
        check_whole(&text, &parsed);
    }

    /// Terms are refused exactly if a bound stands twice or is 0%, or if less is paid back for less.
    #[test]
    fn terms_are_whole_or_refused(credits in prop::collection::vec((0..6_u32, 0..6_u32), 0..5)) {
        let mut text = "[estate]\nname = \"a\"\n[provider.here]\nkind = \"host\"\nterms.credits = [".to_owned();
        for (below, refund) in &credits {
            text.push_str(&format!("{{ below = \"{below}%\", refund = \"{refund}%\" }}, "));
        }
        text.push_str("]\n");
        let mut sorted = credits.clone();
        sorted.sort_by_key(|(below, _)| std::cmp::Reverse(*below));
        let is_wrong = credits.iter().any(|(below, _)| *below == 0)
            || sorted.windows(2).any(|pair| pair[0].0 == pair[1].0 || pair[0].1 > pair[1].1);
        prop_assert_eq!(read(&text).is_err(), is_wrong);
        check(&text);
    }

    /// The file is refused exactly if the needs have a cycle, and then each problem is one.
    #[test]
    fn cycles_are_found_and_nothing_else(needs in prop::collection::vec(prop::collection::btree_set(0..8_usize, 0..4), 1..8)) {
        let count = needs.len();
        let mut text = "[estate]\nname = \"a\"\n[provider.here]\nkind = \"host\"\n".to_owned();
        let edges: Vec<BTreeSet<usize>> = needs
            .iter()
            .enumerate()
            .map(|(me, needs)| needs.iter().map(|need| need % count).filter(|need| *need != me).collect())
            .collect();
        for (me, needs) in edges.iter().enumerate() {
            let list: Vec<String> = needs.iter().map(|need| format!("\"s{need}\"")).collect();
            text.push_str(&format!("[service.s{me}]\noffering = \"redis\"\nneeds = [{}]\n", list.join(", ")));
        }
        let reaches_itself = |start: usize| {
            let mut seen = BTreeSet::new();
            let mut waiting: Vec<usize> = edges[start].iter().copied().collect();
            while let Some(node) = waiting.pop() {
                if seen.insert(node) {
                    waiting.extend(&edges[node]);
                }
            }
            seen.contains(&start)
        };
        let is_cyclic = (0..count).any(reaches_itself);
        match read(&text) {
            Ok(parsed) => {
                prop_assert!(!is_cyclic);
                check_whole(&text, &parsed);
            }
            Err(problems) => {
                prop_assert!(is_cyclic, "{problems}");
                prop_assert!(problems.list.iter().all(|problem| problem.cause.contains(" → ")), "{problems}");
            }
        }
    }
}

#[test]
fn long_chains_and_deep_nests_do_not_overflow() {
    let mut text = "[estate]\nname = \"a\"\n[provider.here]\nkind = \"host\"\n".to_owned();
    for index in 0..10_000 {
        let need = if index < 9_999 { format!("needs = [\"s{}\"]", index + 1) } else { "needs = [\"s0\"]".to_owned() };
        text.push_str(&format!("[service.s{index}]\noffering = \"redis\"\n{need}\n"));
    }
    let problems = read(&text).unwrap_err();
    assert_eq!(problems.list.len(), 1, "{problems}");
    assert!(problems.list[0].cause.contains("(9989 more)"), "{problems}");
    check(&"[".repeat(100_000));
    check(&format!("a = {}", "{ a = ".repeat(50_000)));
    check(&format!("{}a = 1", "a.".repeat(100_000)));
    check(&format!("[{}a]", "a.".repeat(100_000)));
}

#[test]
fn too_long_and_too_many_are_refused() {
    let long = format!("# {}", "x".repeat(1 << 20));
    let problems = read(&long).unwrap_err();
    assert!(problems.to_string().contains("an estate file has at most 1048576"), "{problems}");
    check(&long);
    let mut many = "service={".to_owned();
    for index in 0..100_001 {
        many.push_str(&format!("a{index:x}={{}},"));
    }
    many.push('}');
    let problems = read(&many).unwrap_err();
    assert!(problems.to_string().contains("an estate has at most 100000"), "{}", problems.list.len());
}
