//! Owning weighed against buying, on the command line: for people, for scripts, as a picture, and where something is wrong.

use crate::harness::Ostler;

/// A cache with what is agreed upon with a broker that cannot be reached.
const SHOP: &str = "[estate]\nname = \"shop\"\n\n[provider.here]\nkind = \"host\"\n\
    cost = { purchase = \"2400\", years = 4, watts = 120, kwh = \"0.30\", care = 2, care_rate = \"60\" }\n\n\
    [provider.acme]\nkind = \"osb\"\nurl = \"http://127.0.0.1:9/\"\n\
    auth = { username = \"u\", password = { env = \"PATH\" } }\n\
    terms = { availability = \"99.95%\", prices = { redis = { small = \"19.00\", large = \"120\" } } }\n\n\
    [service.cache]\noffering = \"redis\"\ninstances = 3\n\n[own]\ngrowth = \"0%..30%\"\n\n\
    [service.cache.own]\noutage_hour = \"50..200\"\n";

#[test]
fn it_is_told_in_words_and_as_json_and_drawn() {
    let ostler = Ostler::new();
    ostler.write("ostler.toml", SHOP);
    let said = ostler.ok(&["own-or-buy", "cache", "--svg", "cache.svg"]);
    for told in [
        "Own or buy cache of shop: net present value over 5 years, in EUR",
        "Buying small at acme costs",
        "What the answer hangs on most",
        "[service.cache.own]",
        "[own]",
        "`care_rate` of `[provider.here.cost]`, times 1,600 hours",
        "default: Uptime Institute",
        "what acme promises allows for the most",
        "The picture is cache.svg.",
    ] {
        assert!(said.out.contains(told), "{told}: {said}");
    }
    let picture = std::fs::read_to_string(ostler.folder().join("cache.svg")).unwrap();
    assert!(picture.starts_with("<svg") && picture.contains("small at acme") && picture.ends_with("</svg>\n"));

    let weighed = ostler.json(&["own-or-buy", "cache"]);
    assert_eq!(weighed, ostler.json(&["own-or-buy", "cache", "--seed", "1"]), "chance is repeated by its seed");
    assert_ne!(weighed["own"]["spread"], ostler.json(&["own-or-buy", "cache", "--seed", "2"])["own"]["spread"]);
    assert_eq!(weighed["plans"][0]["monthly"], "19");
    let growth = weighed["assumed"].as_array().unwrap().iter().find(|one| one["assumption"] == "growth").unwrap();
    assert_eq!((&growth["figure"], &growth["origin"]), (&"0%..15%..30%".into(), &"estate".into()));
    let swings: Vec<f64> = weighed["hangs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|hangs| {
            let at = |end: &str| hangs[end].as_str().unwrap().parse::<f64>().unwrap();
            (at("at_high") - at("at_low")).abs()
        })
        .collect();
    assert!(swings.len() > 5 && swings.is_sorted_by(|a, b| a >= b), "{swings:?}");
}

#[test]
fn what_cannot_be_weighed_says_why() {
    let ostler = Ostler::new();
    ostler.write("ostler.toml", SHOP);
    for (arguments, code, told) in [
        (vec!["own-or-buy", "cash"], 1, "the estate has no service `cash`"),
        (vec!["own-or-buy", "cache", "--years", "8"], 64, "8 is not in 1..=7"),
        (vec!["own-or-buy", "cache", "none.toml"], 1, "cannot read the estate file none.toml"),
        (vec!["own-or-buy", "cache", "--svg", "no/where.svg"], 1, "cannot write the picture no/where.svg"),
    ] {
        let said = ostler.run(&arguments);
        assert!(said.code == code && said.err.contains(told), "{told}: {said}");
    }
    ostler.write("crowns.toml", &SHOP.replace("name = \"shop\"\n", "name = \"shop\"\ncurrency = \"SEK\"\n"));
    let said = ostler.run(&["own-or-buy", "cache", "crowns.toml"]);
    assert!(said.code == 1 && said.err.contains("rates = { EUR = "), "{said}");
    // Nobody sells a program: then only owning is told.
    ostler.write("own.toml", &SHOP.replace("offering = \"redis\"", "offering = \"program\"\nrun = [\"./web\"]"));
    let said = ostler.ok(&["own-or-buy", "cache", "own.toml"]);
    assert!(said.out.contains("Nobody here offers a plan"), "{said}");
}
