//! What an answer of a broker means: the specification's tables, and what they leave open.
//!
//! Pure. Invariant: an answer counts as "nothing was made" only if the specification says that such an answer means so
//! (sections "Response" of each request, "Orphan Mitigation"); whatever else it may be leaves the matter in doubt.

use ostler_model::outcome::FailureClass;
use serde_json::{Map, Value};

/// A JSON object.
pub type Object = Map<String, Value>;

/// What a request was about, as far as the meaning of its answer depends on that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// What it offers.
    Catalog,
    /// What an instance is.
    FetchInstance,
    /// What a binding is.
    FetchBinding,
    /// Something that changes something.
    For(Goal),
    /// How far that has come.
    Poll(Goal),
}

/// What a request is to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// An instance is made.
    Provision,
    /// It is changed.
    Update,
    /// It is deleted.
    Deprovision,
    /// A binding is made.
    Bind,
    /// It is ended.
    Unbind,
}

/// What came back.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// The request never reached the broker.
    NotSent(String),
    /// It may have, and no answer came.
    NoAnswer(String),
    /// An answer.
    Answer {
        /// The HTTP status.
        status: u16,
        /// What it says.
        body: Body,
    },
}

/// What an answer says.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// As every answer should.
    Object(Object),
    /// It is no JSON object, and why.
    Malformed(String),
}

/// What it means.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It is so.
    Done(Object),
    /// It will be so; the broker is to be asked how far it has come.
    Accepted(Object),
    /// What was to be deleted is not there.
    Gone,
    /// It is not over yet.
    InProgress(Option<String>),
    /// It is over, and failed. Something may be there all the same.
    Failed(Failed),
    /// The broker does not know it.
    Unknown(String),
    /// Nothing was changed, or nothing is known: it can be asked again later.
    Later(Later),
    /// Nothing was changed, and asking again will not help.
    Rejected(String),
    /// Something is there already under this name, and is not what was asked for, or nobody can tell.
    Conflict(String),
    /// Whether it happened is not known.
    Doubt(String),
}

/// What a broker says of something that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// In its own words.
    pub why: String,
    /// The instance can be used all the same. What is not said is so.
    pub usable: bool,
    /// The same may be asked for again. What is not said is so.
    pub repeatable: bool,
}

/// Why something is to be asked for later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Later {
    /// In words.
    pub why: String,
    /// The catalog has changed since it was read.
    pub catalog_is_old: bool,
}

impl Verdict {
    /// What follows from it where nothing but the general rule applies: what a create or a bind failed with, or what is
    /// asked again anyway. What says that something was done, or is, is no failure, and so an answer that means nothing.
    pub fn class(&self) -> FailureClass {
        match self {
            Self::Later(_) | Self::Failed(_) => FailureClass::Temporary,
            Self::Rejected(_) | Self::Unknown(_) | Self::Conflict(_) => FailureClass::NeedsPerson,
            Self::Doubt(_) | Self::Done(_) | Self::Accepted(_) | Self::Gone | Self::InProgress(_) => {
                FailureClass::InDoubt
            }
        }
    }
}

/// Reads an answer.
pub fn read(asked: Asked, reply: Reply) -> Verdict {
    match reply {
        Reply::NotSent(why) => later(why),
        Reply::NoAnswer(why) => unclear(asked, why),
        Reply::Answer { status, body } => match status {
            200..=299 => succeeded(asked, status, body),
            400..=499 => refused(asked, status, &body),
            // A redirect leads nowhere, and whether something happened before it nobody knows.
            _ => unclear(asked, told(status, &body)),
        },
    }
}

/// It may have happened.
fn unclear(asked: Asked, why: String) -> Verdict {
    match asked {
        Asked::For(_) => Verdict::Doubt(why),
        Asked::Catalog | Asked::FetchInstance | Asked::FetchBinding | Asked::Poll(_) => later(why),
    }
}

fn later(why: String) -> Verdict {
    Verdict::Later(Later { why, catalog_is_old: false })
}

fn succeeded(asked: Asked, status: u16, body: Body) -> Verdict {
    let object = match body {
        Body::Object(object) => object,
        Body::Malformed(why) => {
            let why = format!("the broker answered {status} with what is no answer: {why}");
            return match (asked, status) {
                // Nothing is to be deleted because of such an answer, and something is there.
                (Asked::For(Goal::Provision | Goal::Bind), 200) => Verdict::Conflict(why),
                _ => unclear(asked, why),
            };
        }
    };
    match (asked, status) {
        (Asked::Poll(goal), 200) => polled(goal, &object),
        (Asked::Catalog | Asked::FetchInstance | Asked::FetchBinding, 200)
        | (Asked::For(_), 200)
        | (Asked::For(Goal::Provision | Goal::Bind), 201) => Verdict::Done(object),
        (Asked::For(_), 202) => Verdict::Accepted(object),
        _ => unclear(asked, format!("the broker answered {status}, which means nothing here")),
    }
}

fn polled(goal: Goal, object: &Object) -> Verdict {
    let description = text(object, "description");
    match object.get("state").and_then(Value::as_str) {
        Some("in progress") => Verdict::InProgress(description),
        Some("succeeded") if matches!(goal, Goal::Deprovision | Goal::Unbind) => Verdict::Gone,
        Some("succeeded") => Verdict::Done(object.clone()),
        Some("failed") => Verdict::Failed(Failed {
            why: description.unwrap_or_else(|| "the broker does not say why".to_owned()),
            usable: flag(object, "instance_usable"),
            repeatable: flag(object, "update_repeatable"),
        }),
        Some(other) => later(format!("the broker names a state that does not exist: `{}`", short(other, 40))),
        None => later("the broker names no state".to_owned()),
    }
}

fn flag(object: &Object, key: &str) -> bool {
    object.get(key).and_then(Value::as_bool).unwrap_or(true)
}

fn refused(asked: Asked, status: u16, body: &Body) -> Verdict {
    let why = told(status, body);
    let code = match body {
        Body::Object(object) => object.get("error").and_then(Value::as_str),
        Body::Malformed(_) => None,
    };
    match (asked, status) {
        (Asked::For(Goal::Deprovision | Goal::Unbind) | Asked::Poll(Goal::Deprovision | Goal::Unbind), 410) => {
            Verdict::Gone
        }
        (Asked::FetchInstance | Asked::FetchBinding, 404 | 410) => Verdict::Unknown(why),
        (Asked::For(Goal::Deprovision | Goal::Unbind | Goal::Update), 404) => Verdict::Unknown(why),
        (Asked::For(Goal::Provision | Goal::Bind), 409) => Verdict::Conflict(why),
        // The request was not taken in at all, or not now.
        (_, 408 | 425 | 429) => later(why),
        (_, 422) if code == Some("ConcurrencyError") => later(why),
        (_, 422) if code == Some("MaintenanceInfoConflict") => Verdict::Later(Later { why, catalog_is_old: true }),
        // Who is not let in has not been told anything.
        (Asked::FetchInstance | Asked::FetchBinding | Asked::Poll(_), 401 | 403) => later(why),
        // Whatever an answer to such a question is, it says nothing about what is asked about.
        (Asked::Poll(_), 400 | 404 | 410) => Verdict::Unknown(why),
        (Asked::Poll(_), _) => later(why),
        _ => Verdict::Rejected(match status {
            401 | 403 => format!("{why}; it does not accept who ostler says it is"),
            412 => format!("{why}; it speaks another version of the Open Service Broker API"),
            _ => why,
        }),
    }
}

/// What the broker said, for people.
pub(crate) fn told(status: u16, body: &Body) -> String {
    let Body::Object(object) = body else { return format!("the broker answered {status}") };
    let code = object.get("error").and_then(Value::as_str).map(|code| format!(" ({})", short(code, 60)));
    let words = text(object, "description").map(|words| format!(": {words}"));
    format!("the broker answered {status}{}{}", code.unwrap_or_default(), words.unwrap_or_default())
}

/// A text of an answer, for people: at most 300 characters of one line.
pub(crate) fn text(object: &Object, key: &str) -> Option<String> {
    let text = object.get(key)?.as_str()?;
    let text = short(text, 300);
    (!text.is_empty()).then_some(text)
}

/// A foreign text, on one line, without what moves the cursor.
pub(crate) fn short(text: &str, most: usize) -> String {
    let visible = text.chars().take(4 * most).map(|c| if c.is_control() || c == '\u{2028}' { ' ' } else { c });
    let joined = visible.collect::<String>().split_whitespace().collect::<Vec<_>>().join(" ");
    match joined.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &joined[..end]),
        None => joined,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn goal() -> impl Strategy<Value = Goal> {
        prop_oneof![
            Just(Goal::Provision),
            Just(Goal::Update),
            Just(Goal::Deprovision),
            Just(Goal::Bind),
            Just(Goal::Unbind),
        ]
    }

    fn asked() -> impl Strategy<Value = Asked> {
        prop_oneof![
            Just(Asked::Catalog),
            Just(Asked::FetchInstance),
            Just(Asked::FetchBinding),
            goal().prop_map(Asked::For),
            goal().prop_map(Asked::Poll),
        ]
    }

    fn body() -> impl Strategy<Value = Body> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,40}".prop_map(Value::from),
            prop_oneof![Just("in progress"), Just("succeeded"), Just("failed"), Just("ConcurrencyError")]
                .prop_map(Value::from),
            Just(json!({"a": ["b"]})),
        ];
        let key = prop_oneof![
            Just("state"),
            Just("description"),
            Just("error"),
            Just("operation"),
            Just("instance_usable"),
            Just("credentials"),
        ];
        let object = proptest::collection::btree_map(key.prop_map(str::to_owned), leaf, 0..6);
        prop_oneof![
            4 => object.prop_map(|object| Body::Object(object.into_iter().collect())),
            1 => Just(Body::Malformed("it is empty".to_owned())), // ostler's own words
        ]
    }

    proptest! {
        #[test]
        fn only_what_the_specification_calls_so_means_that_nothing_was_made(
            goal in goal(), status in 100..1000_u16, body in body(),
        ) {
            let verdict = read(Asked::For(goal), Reply::Answer { status, body });
            let nothing = matches!(verdict, Verdict::Later(_) | Verdict::Rejected(_));
            prop_assert!(!nothing || (400..500).contains(&status), "{status}: {verdict:?}");
            let doubt = matches!(verdict, Verdict::Doubt(_));
            prop_assert!(!doubt || !(400..500).contains(&status), "{status}: {verdict:?}");
        }

        #[test]
        fn whatever_is_said_of_an_operation_only_its_state_ends_it(
            goal in goal(), status in 100..1000_u16, body in body(),
        ) {
            let says = |word: &str| matches!(&body, Body::Object(o) if o.get("state") == Some(&json!(word)));
            let (ends, fails) = (status == 200 && says("succeeded"), status == 200 && says("failed"));
            let gone = status == 410 && matches!(goal, Goal::Deprovision | Goal::Unbind);
            let verdict = read(Asked::Poll(goal), Reply::Answer { status, body });
            prop_assert_eq!(matches!(verdict, Verdict::Done(_) | Verdict::Gone), ends || gone);
            prop_assert_eq!(matches!(verdict, Verdict::Failed(_)), fails);
        }

        #[test]
        fn what_is_told_is_short_and_stays_on_its_line(asked in asked(), status in 100..1000_u16, body in body()) {
            let why = match read(asked, Reply::Answer { status, body }) {
                Verdict::Unknown(why) | Verdict::Rejected(why) | Verdict::Conflict(why) | Verdict::Doubt(why) => why,
                Verdict::Later(later) => later.why,
                Verdict::Failed(failed) => failed.why,
                Verdict::InProgress(description) => description.unwrap_or_default(),
                Verdict::Done(_) | Verdict::Accepted(_) | Verdict::Gone => return Ok(()),
            };
            prop_assert!(why.chars().count() < 600 && !why.contains(['\n', '\r', '\u{1b}']), "{why:?}");
        }
    }
}
