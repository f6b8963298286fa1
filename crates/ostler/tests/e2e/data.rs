//! Backups: of a service's data, and of what ostler itself knows.

use crate::harness::{Ostler, bookshop, http};

#[test]
fn what_came_after_a_backup_goes_with_its_restore_and_what_was_before_stays() {
    let ostler = Ostler::up(&bookshop("", ""));
    let shop = ostler.endpoint("web");
    let kept = http::order(shop, 4);
    let made = ostler.json(&["backup", "db", "--name", "before-the-sale"]);
    assert_eq!(made["name"], "before-the-sale");
    let lost = http::order(shop, 5);
    assert!(http::orders(shop).contains(&lost));
    let unconfirmed = ostler.run(&["restore", "db"]);
    assert_eq!(unconfirmed.code, 1, "{unconfirmed}");
    ostler.ok(&["restore", "db", "before-the-sale", "--yes"]);
    let orders = http::orders(shop);
    assert!(orders.contains(&kept) && !orders.contains(&lost), "{orders:?}");

    // What ostler knows is copied while it runs; the copy is whole.
    let copy = ostler.folder().join("copy");
    ostler.ok(&["home", "backup", copy.to_str().unwrap(), "--with-key"]);
    let other = Ostler::new();
    other.ok(&["home", "restore", copy.to_str().unwrap()]);
    let verified = other.json(&["journal", "--verify"]);
    assert_eq!(verified["sound"], true);
    assert!(verified["facts"].as_u64().unwrap() > 20 && verified["secrets"].as_u64().unwrap() >= 4, "{verified}");
}
