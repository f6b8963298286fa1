//! The books of a real estate: what it costs, what a change costs, what the budget does not allow, and a month as FOCUS.

use serde_json::Value;

use crate::harness::{Ostler, kill, wait_until};

/// Two services on a machine that costs `purchase` over four years.
fn shop(purchase: u32, budget: u32) -> String {
    format!(
        "[estate]\nname = \"shop\"\nbudget = {{ monthly = {budget} }}\n\n[provider.here]\nkind = \"host\"\n\
         cost = {{ purchase = {purchase}, years = 4 }}\n\n[service.cache]\noffering = \"redis\"\n\n\
         [service.queue]\noffering = \"redis\"\nneeds = [\"cache\"]\n"
    )
}

/// Their names in the order of the alphabet: which of two costs more by a cent is no matter.
fn rows(books: &Value) -> Vec<&str> {
    let mut names: Vec<&str> = books["rows"].as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    names
}

#[test]
fn what_an_estate_costs_is_told_and_the_budget_holds() {
    let ostler = Ostler::new();
    ostler.write("ostler.toml", &shop(1440, 20));
    let said = ostler.run(&["up", "ostler.toml", "--detach"]);
    assert_eq!(said.code, 1, "{said}");
    assert!(said.err.contains("it would cost 30.00 EUR a month, and the budget is 20.00 EUR"), "{said}");
    assert!(said.err.contains("Raise `[estate] budget` to 30.00"), "{said}");
    drop(ostler);

    let ostler = Ostler::up(&shop(1440, 50));
    let books = ostler.json(&["books"]);
    assert_eq!((&books["budget"], &books["by"]), (&"50".into(), &"service".into()), "{books}");
    assert_eq!(rows(&books), ["cache", "queue"], "{books}");
    let by_need = ostler.json(&["books", "--by", "need"]);
    assert_eq!(rows(&by_need), ["queue"], "nobody needs the queue: {by_need}");
    assert_eq!(by_need["rows"][0]["parts"].as_array().unwrap().len(), 2, "{by_need}");
    assert_eq!(rows(&ostler.json(&["books", "--by", "provider"])), ["here"]);

    ostler.write("more.toml", &shop(4800, 50));
    let preview = ostler.run(&["preview", "more.toml", "--json"]).json();
    let costs = &preview["costs"];
    assert_eq!((&costs["before"], &costs["difference"]), (&"30.00".into(), &"70.00".into()), "{costs}");
    assert_eq!(costs["refused"], true, "{costs}");
    let said = ostler.run(&["apply", "more.toml"]);
    assert_eq!(said.code, 1, "{said}");
    assert!(said.err.contains("100.00 EUR a month instead of 30.00 EUR, and the budget is 50.00 EUR"), "{said}");

    let said = ostler.ok(&["books", "--focus", "-"]);
    assert_eq!(said.out.lines().count(), 3, "a line of headers, and a part of the machine for each: {said}");
    let said = ostler.run(&["books", "--month", "9999-01"]);
    assert!(said.code == 1 && said.err.contains("9999-01 has not begun"), "{said}");
    let said = ostler.run(&["books", "--month", "2026-13"]);
    assert!(said.code == 64 && said.err.contains("`2026-13` is no month"), "{said}");
}

#[test]
fn the_books_survive_ostler_itself() {
    let ostler = Ostler::up(&shop(1440, 50));
    let before = ostler.json(&["books"]);
    let month = before["month"].as_str().unwrap(); // a month may just be ending
    let manager = ostler.own_process("manager");
    kill(manager);
    // Whoever asks the one that is just dying is told to ask again.
    wait_until("there is another manager", || ostler.own_processes("manager").iter().any(|pid| *pid != manager));
    let after = ostler.json(&["books", "--month", month]);
    assert_eq!((&after["forecast"], rows(&after)), (&before["forecast"], rows(&before)));
    ostler.ok(&["down", "--yes"]);
    // Read from the journal: nobody is there to be asked.
    let at_rest = ostler.json(&["books", "--month", month]);
    assert_eq!((&at_rest["forecast"], rows(&at_rest)), (&before["forecast"], rows(&before)));
}
