//! What is assumed where owning is weighed against buying: read, stored, and refused with its place.

use std::path::Path;

use ostler_model::estate::own::Assumption;
use ostler_model::estate::{Estate, parse};

const HEAD: &str =
    "[estate]\nname = \"shop\"\n\n[provider.here]\nkind = \"host\"\n\n[service.db]\noffering = \"redis\"\n\n";

#[test]
fn what_is_assumed_is_read_for_everything_and_for_one_service() {
    let text = format!(
        "{HEAD}own = {{ care = \"4..8\", outage_hour = 500 }}\n\n[own]\ngrowth = \"-10%..0%..20%\"\nkwh = 0.25\ncare = \"2\"\n"
    );
    let estate = parse("shop.toml", Path::new("/srv"), &text).unwrap_or_else(|problems| panic!("{problems}")).estate;
    let shown = |own: &ostler_model::estate::own::Own| -> Vec<String> {
        own.0.iter().map(|(assumption, range)| format!("{assumption} {range}")).collect()
    };
    assert_eq!(shown(&estate.own), ["growth -10..0..20", "kwh 0.25", "care 2"]);
    assert_eq!(shown(&estate.services[&"db".parse().unwrap()].own), ["care 4..6..8", "outage_hour 500"]);
    let stored = serde_json::to_string(&estate).unwrap();
    assert!(stored.contains(r#""own":{"growth":"-10..0..20","kwh":"0.25","care":"2"}"#), "{stored}");
    assert_eq!(serde_json::from_str::<Estate>(&stored).unwrap(), estate);
}

#[test]
fn every_assumption_can_be_declared_with_its_default() {
    for assumption in Assumption::ALL {
        let sign = if assumption.unit() == ostler_model::estate::own::Unit::Percent { "%" } else { "" };
        let usual = assumption.usual().map_or("3".to_owned(), |usual| {
            usual.to_string().split("..").map(|figure| format!("{figure}{sign}")).collect::<Vec<_>>().join("..")
        });
        let text = format!("{HEAD}[own]\n{assumption} = \"{usual}\"\n");
        let estate =
            parse("shop.toml", Path::new("/srv"), &text).unwrap_or_else(|problems| panic!("{problems}")).estate;
        let read = estate.own.0[assumption];
        assert!(assumption.usual().is_none_or(|usual| usual == read), "{assumption}");
    }
}

#[test]
fn what_is_wrong_is_told_at_its_place_and_all_at_once() {
    let text = format!(
        "{HEAD}[own]\ngrowth = \"0..20\"\ncare = \"8..4\"\nheal = \"two\"\nsallary = 60000\nyears = 0\nkwh = [1]\ndiscount = \"4%..200%\"\n\n\
         [service.db.own]\nholds = \"0.5\"\nspare = -1\npurchase = \"1..2..3..4\"\n"
    );
    let problems = parse("shop.toml", Path::new("/srv"), &text).unwrap_err();
    assert_eq!(problems.list.len(), 10);
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!("own", problems.render(false));
    });
}
