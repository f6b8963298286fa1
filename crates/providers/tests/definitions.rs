//! Definition files: those that ostler brings, wrong ones, and whatever bytes a user's folder may hold.

#![allow(clippy::unwrap_used, clippy::panic, reason = "clippy does not see that helpers of tests are tests")]

use ostler_providers::host::{Definition, Definitions, FILE_BYTES_MAX};
use proptest::prelude::*;

const BUILTIN: [(&str, &str); 3] = [
    ("postgresql.toml", include_str!("../../../offerings/postgresql.toml")),
    ("redis.toml", include_str!("../../../offerings/redis.toml")),
    ("program.toml", include_str!("../../../offerings/program.toml")),
];

fn errors(text: &str) -> String {
    Definition::parse("shop.toml", text).unwrap_err().render(false)
}

#[test]
fn the_builtin_ones_are_right() {
    Definitions::builtin().unwrap();
    for (file, text) in BUILTIN {
        Definition::parse(file, text).unwrap_or_else(|problems| panic!("{problems}"));
    }
}

#[test]
fn the_guides_example_is_right() {
    let guide = include_str!("../../../docs/src/offerings.md");
    let example = guide.split("```toml\n# nginx.toml\n").nth(1).unwrap().split("```").next().unwrap();
    Definition::parse("nginx.toml", example).unwrap_or_else(|problems| panic!("{problems}"));
}

#[test]
fn an_unknown_key_names_the_nearest() {
    insta::assert_snapshot!(errors("description = 'x'\nrun_program = true\n[[plan]]\nname = 'a'\ndescription = 'x'\n"));
}

#[test]
fn everything_that_does_not_fit_is_told_at_once() {
    insta::assert_snapshot!(errors(
        r#"
description = "a shop"
bindable = true

[find]
folders = ["usr/bin"]
programs = ["shopd"]
install = "Install shopd."

[secret]
generate = ["password"]
fields = { password = "x", uri = "shop://{{ secret.pasword }}" }

[[plan]]
name = "small"
description = "small"
values = { size = "1" }

[[plan]]
name = "small"
description = "the same again"

[[file]]
path = "/etc/shop.conf"
text = "port {{ instance.prt }}"

[run]
command = ["{{ binaries.shop }}", "{{ binding.username }}"]

[[backup.step]]
run = ["{{ binaries.shopd }}", "--dump"]

[[accepts]]
versions = ">=3"
offering = "postgresql"
range = "at least 15"

[[accepts]]
offering = "My SQL"
range = ">=10"
"#
    ));
}

#[test]
fn what_it_works_with_may_be_said_for_some_of_its_versions() {
    let with = |accepts: &str| {
        Definition::parse(
            "shop.toml",
            &format!(
                "description = 'x'\n[find]\nfolders = ['/usr/bin']\nprograms = ['shopd']\ninstall = 'x'\n\
                 [find.version]\nrun = ['{{{{ binaries.shopd }}}}', '-V']\nafter = 'shop '\n\
                 [run]\ncommand = ['{{{{ binaries.shopd }}}}']\n[[plan]]\nname = 'a'\ndescription = 'x'\n{accepts}"
            ),
        )
    };
    with("[[accepts]]\nversions = '>=3'\noffering = 'postgresql'\nrange = '>=15, <18'\n").unwrap();
    let entry = "[[accepts]]\noffering = 'postgresql'\nrange = '>=15'\n";
    with(&entry.repeat(1000)).unwrap();
    let many = with(&entry.repeat(1001)).unwrap_err();
    assert_eq!(many.list.len(), 1, "{many}");
}

#[test]
fn what_is_no_toml_is_told_with_its_place() {
    insta::assert_snapshot!(errors("description = 'x'\nplan = [\n"));
    insta::assert_snapshot!(errors(
        "description = 'x'\n[[plan]]\nname = 'Not A Name'\ndescription = 'x'\n[run]\ncommand = ['x']\n"
    ));
    insta::assert_snapshot!(errors(
        "description = 'x'\n[[plan]]\nname = 'a'\ndescription = 'x'\n[run]\ncommand = ['{{ open']\n"
    ));
}

#[test]
fn a_folder_may_replace_what_is_built_in_and_tells_all_wrong_files() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("redis.toml", BUILTIN[2].1);
    write("notes.txt", "not a definition");
    Definitions::with_folder(folder.path()).unwrap();
    write("wrong.toml", "nonsense");
    write("Not-A-Name.toml", BUILTIN[2].1);
    write("long.toml", &"#".repeat(FILE_BYTES_MAX + 1));
    let problems = Definitions::with_folder(folder.path()).unwrap_err();
    assert_eq!(problems.len(), 3, "{problems:?}");
    assert!(Definitions::with_folder(&folder.path().join("none")).is_err());
}

proptest! {
    /// A definition is a user's file: whatever is in it, the answer is a definition or its errors.
    #[test]
    fn no_file_makes_the_parser_panic(
        which in 0..BUILTIN.len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0..40_usize, "[ -~\n]{0,12}"), 1..6),
    ) {
        let mut text = BUILTIN[which].1.to_owned();
        for (at, length, insert) in changes {
            let at = at.index(text.len());
            text.replace_range(at..(at + length).min(text.len()), &insert);
            if text.is_empty() {
                break;
            }
        }
        if let Err(problems) = Definition::parse("x.toml", &text) {
            prop_assert!(!problems.list.is_empty());
            prop_assert!(!problems.render(false).is_empty());
        }
    }

    #[test]
    fn no_bytes_make_the_parser_panic(text in "\\PC{0,200}") {
        let _ = Definition::parse("x.toml", &text);
    }
}
