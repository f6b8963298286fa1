//! What a command says when it fails: the operation and the thing, the causes, a blank line, what to do.

use ostler_runtime::control::Refused;

/// The exit code of a failure.
pub(crate) const EXIT_FAILURE: u8 = 1;
/// The exit code of `preview` when there are changes.
pub(crate) const EXIT_CHANGES: u8 = 2;
/// The exit code of wrong usage (EX_USAGE of sysexits.h).
pub(crate) const EXIT_USAGE: u8 = 64;

/// A failure, as it is shown.
#[derive(Debug)]
pub(crate) struct Failure(Box<Refused>);

pub(crate) type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    pub(crate) fn new(what: impl Into<String>, cause: impl Into<String>, remedy: impl Into<String>) -> Self {
        let causes = vec![cause.into()];
        Self::from(Refused { what: what.into(), causes, remedy: remedy.into(), problems: Vec::new(), rendered: None })
    }

    pub(crate) fn of(what: impl Into<String>, error: &dyn std::error::Error, remedy: impl Into<String>) -> Self {
        Self::from(Refused::from_error(what, error, remedy))
    }

    /// What clap says about a command line that it does not understand.
    pub(crate) fn of_usage(error: &clap::Error) -> Self {
        let what = "cannot understand the command line";
        if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
            return Self::new(what, "no command is named", "see `ostler --help`"); // the text is the whole help
        }
        let text = error.render().to_string();
        let one_line = |part: &str| part.lines().map(str::trim).collect::<Vec<_>>().join(" ");
        let mut parts = text.split("\n\n").map(one_line);
        let cause = parts.next().unwrap_or_default();
        let cause = cause.strip_prefix("error: ").unwrap_or(&cause).to_owned();
        let hints: Vec<String> =
            parts.filter(|part| part.starts_with("tip: ") || part.starts_with("Usage: ")).collect();
        let remedy = if hints.is_empty() { "see `ostler --help`".to_owned() } else { hints.join("; ") };
        Self::new(what, cause, remedy)
    }

    /// On standard error for people, on standard output as JSON for scripts.
    pub(crate) fn show(&self, json: bool) {
        if json {
            anstream::println!("{}", self.in_json());
        } else {
            anstream::eprint!("{}", self.in_words()); // which takes out the colours where nobody would see them
        }
    }

    pub(crate) fn in_json(&self) -> serde_json::Value {
        let rendered = self.0.rendered.as_deref().map(|text| anstream::adapter::strip_str(text).to_string());
        serde_json::json!({ "error": Refused { rendered, ..(*self.0).clone() } })
    }

    fn in_words(&self) -> String {
        if let Some(rendered) = &self.0.rendered {
            return rendered.clone();
        }
        let bold_red = anstyle::AnsiColor::Red.on_default().bold();
        let mut text = format!("{bold_red}error:{bold_red:#} {}\n", self.0.what);
        for cause in &self.0.causes {
            text.push_str(&format!("  cause: {cause}\n"));
        }
        text.push_str(&format!("\n{}\n", capitalized(&self.0.remedy)));
        text
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        Self(Box::new(refused))
    }
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    let mut out: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    out.push_str(letters.as_str());
    if !out.ends_with(['.', '!', '?']) {
        out.push('.');
    }
    out
}
