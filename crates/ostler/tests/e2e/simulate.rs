//! `ostler simulate`: what a year would be like, and wrong questions.

use std::fs;

use serde_json::Value;

use crate::harness::Ostler;

const SHOP: &str = r#"
[estate]
name = "shop"
currency = "EUR"

[provider.here]
kind = "host"

[service.cache]
offering = "redis"

[service.web]
offering = "program"
run = ["./not-built-yet"]
needs = ["cache"]
instances = 2
failures = { crash = "2d" }
"#;

fn shop() -> (Ostler, String) {
    let ostler = Ostler::new();
    let file = ostler.folder().join("shop.toml");
    fs::write(&file, SHOP).unwrap();
    (ostler, file.to_str().unwrap().to_owned())
}

#[test]
fn a_year_is_played_and_nothing_is_started() {
    let (ostler, file) = shop();
    let svg = ostler.folder().join("year.svg");
    let asked = [
        "simulate",
        &file,
        "--json",
        "--years",
        "4",
        "--days",
        "60",
        "--instances",
        "web=1",
        "--provider-outage",
        "here=6h",
        "--without",
        "here",
        "--svg",
        svg.to_str().unwrap(),
    ];
    let said = ostler.run(&asked);
    assert_eq!(said.code, 0, "{said}");
    let report: Value = serde_json::from_str(&said.out).unwrap();
    let rows = report["rows"].as_array().unwrap();
    let who: Vec<(&str, &str)> =
        rows.iter().map(|row| (row["policy"]["who"].as_str().unwrap(), row["variation"].as_str().unwrap())).collect();
    let expected = [
        ("nobody", ""),
        ("person", ""),
        ("ostler", ""),
        ("ostler", "--without here"),
        ("ostler", "--instances web=1"),
        ("ostler", "--provider-outage here=6h"),
    ];
    assert_eq!(who, expected);
    assert!(rows[3]["impossible"].as_str().unwrap().contains("no provider offers `redis`"), "{}", rows[3]);
    let median = |row: usize, service: usize| -> f64 {
        rows[row]["services"][service]["availability"]["median"].as_str().unwrap().parse().unwrap()
    };
    let web = 1;
    assert!(median(2, web) > median(0, web), "ostler is better than nothing");
    assert!(median(5, web) < median(2, web), "an outage of six hours is felt");
    for row in [0, 1, 2, 4, 5] {
        assert_eq!(rows[row]["broken"].as_array().map(Vec::len), Some(0), "{}", rows[row]);
    }
    let crash =
        report["expected"].as_array().unwrap().iter().find(|one| one["kind"] == "crash" && one["target"] == "web");
    assert_eq!((&crash.unwrap()["source"], &crash.unwrap()["every"]), (&"file".into(), &"2d".into()));
    let picture = fs::read_to_string(&svg).unwrap();
    assert!(picture.starts_with("<svg") && picture.contains("cache") && picture.contains("99.99 %"), "{picture}");
    assert_eq!(ostler.run(&asked).out, said.out, "the same question has the same answer");
    let status = ostler.run(&["status"]);
    assert_eq!(status.code, 1, "nothing was started: {status}");
}

#[test]
fn wrong_questions_are_refused() {
    let (ostler, file) = shop();
    for (options, code, words) in [
        (&["--without", "acme"][..], 1, "the estate has no provider `acme`"),
        (&["--instances", "wbe=2"], 1, "the estate has no service `wbe`"),
        (&["--provider-outage", "acme=6h"], 1, "the estate has no provider `acme`"),
        (&["--provider-outage", "here"], 64, "write the provider and a time, as in `acme=6h`"),
        (&["--provider-outage", "here=31d"], 64, "30 days at most"),
        (&["--instances", "web=none"], 64, "is not a number of instances"),
        (&["--years", "0"], 64, "0 is not in 1..=10000"),
        (&["--on-call", "1s"], 64, "from a minute to 30 days"),
        (&["--svg", "/nowhere/year.svg"], 1, "cannot write the picture /nowhere/year.svg"),
    ] {
        let said = ostler.run(&[&["simulate", &file][..], options].concat());
        assert_eq!(said.code, code, "{options:?}: {said}");
        assert!(said.err.contains(words) && said.out.is_empty(), "{options:?}: {said}");
    }
}
