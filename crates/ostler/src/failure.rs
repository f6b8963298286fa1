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

    /// On standard error for people, on standard output as JSON for scripts.
    pub(crate) fn show(&self, json: bool) {
        if json {
            let body = serde_json::json!({ "error": self.0 });
            anstream::println!("{body}");
            return;
        }
        anstream::eprint!("{}", self.in_words());
    }

    fn in_words(&self) -> String {
        let bold_red = anstyle::AnsiColor::Red.on_default().bold();
        if let Some(rendered) = &self.0.rendered {
            return rendered.clone();
        }
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
