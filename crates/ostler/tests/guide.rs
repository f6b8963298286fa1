//! The guide is true: what README.md and the pages in docs/src show is run, and does what they show.
//!
//! Blocks marked `console` hold `$ commands` and what they print. A block `toml,file=NAME` is written to that file. In
//! what is shown, `…` stands for anything, alone on a line for any lines, and runs of blanks count as one. A command has to
//! succeed unless `$ echo $?` follows. A block `console,eventually` is repeated until it is as shown; one marked
//! `console,not-run` is not run. Port 8080 becomes a free one.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail like tests")]

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// How long a block `eventually` may take to become as shown.
const EVENTUALLY: Duration = Duration::from_secs(60);

#[test]
fn every_page_does_what_it_shows() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut pages = vec![root.join("README.md")];
    let guide = fs::read_dir(root.join("docs/src")).unwrap().map(|entry| entry.unwrap().path());
    pages.extend(guide.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    pages.sort();
    let mut commands = 0;
    for page in &pages {
        let blocks = blocks(&fs::read_to_string(page).unwrap());
        if blocks.iter().any(|block| matches!(block, Block::Console { .. })) {
            commands += Place::new().run(page, &blocks);
        }
    }
    assert!(commands > 10, "the guide's commands were not found");
}

#[test]
fn differences_are_noticed() {
    let printed = "a  b\n\nc 12 d\nlast\n";
    for fits in ["a b\n\nc … d\nlast", "…\nlast", "a b\n…", "…", "a b\n…\nc 12 d\n…"] {
        assert!(is_as_shown(fits, printed), "{fits}");
    }
    for differs in ["a b", "a b\n\nc … e\nlast", "…\nc 12 d", "last\n…", "a b\nc … d\nlast"] {
        assert!(!is_as_shown(differs, printed), "{differs}");
    }
}

enum Block {
    File { name: String, text: String },
    Console { eventually: bool, steps: Vec<Step> },
}

struct Step {
    command: String,
    shown: String,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(kind) = line.strip_prefix("```") else { continue };
        let body: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        if let Some((_, name)) = kind.split_once(",file=") {
            found.push(Block::File { name: name.to_owned(), text: body.join("\n") + "\n" });
        } else if kind == "console" || kind == "console,eventually" {
            found.push(Block::Console { eventually: kind.ends_with("eventually"), steps: steps(&body) });
        }
    }
    found
}

fn steps(body: &[&str]) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in body {
        match (line.strip_prefix("$ "), steps.last_mut()) {
            (Some(command), _) => steps.push(Step { command: command.to_owned(), shown: String::new() }),
            (None, Some(step)) => step.shown.push_str(&format!("{line}\n")),
            (None, None) => panic!("a console block does not begin with a command: {line}"),
        }
    }
    steps
}

/// Whether `printed` is what the guide shows.
fn is_as_shown(shown: &str, printed: &str) -> bool {
    let words = |text: &str| -> Vec<String> {
        text.trim_end().lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    };
    fits(&words(shown), &words(printed), &|shown, printed| {
        let [shown, printed] = [shown, printed].map(|line| line.chars().map(String::from).collect::<Vec<_>>());
        fits(&shown, &printed, &|shown, printed| shown == printed)
    })
}

/// Whether `there` is `pattern`, in which `…` stands for any number of things.
fn fits(pattern: &[String], there: &[String], same: &dyn Fn(&str, &str) -> bool) -> bool {
    let mut reachable = vec![false; there.len() + 1];
    reachable[0] = true;
    for part in pattern {
        let mut next = vec![false; there.len() + 1];
        for at in 0..=there.len() {
            next[at] = if part == "…" {
                reachable[..=at].contains(&true)
            } else {
                at > 0 && reachable[at - 1] && same(part, &there[at - 1])
            };
        }
        reachable = next;
    }
    reachable[there.len()]
}

/// A folder of its own for one page, with the homes of its estates.
struct Place {
    folder: tempfile::TempDir,
    endpoint: String,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("ostler-guide").tempdir().unwrap();
        // Servers that refuse to run as root have to pass through.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o711)).unwrap();
        let shop = programs().join("bookshop-web");
        assert!(shop.exists(), "build it first: `cargo build -p bookshop-web`");
        symlink(shop, folder.path().join("bookshop-web")).unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        Self { folder, endpoint: free.to_string() }
    }

    /// Runs a page and gives the number of its commands.
    fn run(&self, page: &Path, blocks: &[Block]) -> usize {
        let mut count = 0;
        for block in blocks {
            match block {
                Block::File { name, text } => fs::write(self.folder.path().join(name), self.here(text)).unwrap(),
                Block::Console { eventually, steps } => {
                    count += steps.len();
                    let deadline = Instant::now() + EVENTUALLY;
                    while let Err(difference) = self.steps(steps) {
                        let is_over = !eventually || Instant::now() > deadline;
                        assert!(!is_over, "{}: {difference}", page.display());
                    }
                }
            }
        }
        count
    }

    fn here(&self, text: &str) -> String {
        text.replace("127.0.0.1:8080", &self.endpoint)
    }

    fn steps(&self, steps: &[Step]) -> Result<(), String> {
        let mut last_code = 0;
        for (number, step) in steps.iter().enumerate() {
            let (code, printed) = match step.command.as_str() {
                "echo $?" => (0, format!("{last_code}\n")),
                command => self.shell(command),
            };
            let code_is_shown = steps.get(number + 1).is_some_and(|next| next.command == "echo $?");
            let shown = self.here(&step.shown);
            let as_shown = shown.is_empty() || is_as_shown(&shown, &printed);
            if (code != 0 && !code_is_shown) || !as_shown {
                return Err(format!("`{}` ends with {code} and prints\n{printed}\nand not\n{shown}", step.command));
            }
            last_code = code;
        }
        Ok(())
    }

    fn shell(&self, command: &str) -> (i32, String) {
        let path = format!("{}:{}", programs().display(), std::env::var("PATH").unwrap());
        let output = Command::new("sh")
            .args(["-c", &format!("exec 2>&1\n{}", self.here(command))])
            .current_dir(self.folder.path())
            .env("PATH", path)
            .env("HOME", self.folder.path())
            .env("XDG_STATE_HOME", self.folder.path().join("state"))
            .env_remove("OSTLER_HOME")
            .env_remove("OSTLER_KEY")
            .output()
            .unwrap();
        (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for Place {
    /// Nothing is left running, also where a page was found wrong.
    fn drop(&mut self) {
        for home in fs::read_dir(self.folder.path().join("state/ostler")).into_iter().flatten().flatten() {
            self.shell(&format!("ostler down --home '{}'", home.path().display()));
        }
    }
}

fn programs() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_ostler")).parent().unwrap().to_owned()
}
