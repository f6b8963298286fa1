//! Service credits that people claim from providers: what was claimed for which month, and what came of it.
//!
//! How much is owed follows from the books; this only says how far a claim is. Nothing else is decided from it.
//!
//! Invariants: one claim for each provider and month; each step follows from the one before ([`Claim::refusal`]); a step
//! that is asked for again changes nothing.

use std::collections::BTreeMap;

use ostler_model::estate::Currency;
use ostler_model::ids::ProviderName;
use ostler_model::money::Amount;
use ostler_model::month::Month;
use ostler_model::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::knowledge::Knowledge;

/// The longest note, in characters.
pub const NOTE_CHARS_MAX: usize = 1000;
/// The longest name of whoever does something, in characters.
const BY_CHARS_MAX: usize = 200;

/// What happens to a claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "step")]
pub enum ClaimStep {
    /// It is made.
    Claimed {
        /// How much.
        amount: Amount,
        /// In what.
        currency: Currency,
    },
    /// The provider has granted it.
    Paid {
        /// How much of it; as much as was claimed if `None`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        amount: Option<Amount>,
    },
    /// The provider has refused it.
    Refused,
    /// It is as if it had not been made.
    Reopened,
}

/// How far a claim is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClaimState {
    /// It is not made.
    Open,
    /// It is made, and not answered.
    Claimed,
    /// It was granted.
    Paid,
    /// It was refused.
    Refused,
}

/// A claim for one month of one provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// How far it is.
    pub state: ClaimState,
    /// Since when.
    pub since: Timestamp,
    /// Who said so.
    pub by: String,
    /// What they wrote about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// How much was claimed last.
    pub claimed: Amount,
    /// In what.
    pub currency: Currency,
    /// How much was granted; nothing unless it is paid.
    #[serde(default)]
    pub paid: Amount,
}

/// The claims of each provider, by month.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Claims(BTreeMap<ProviderName, BTreeMap<Month, Claim>>);

/// Who has done something about a claim, when, and what they wrote about it.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub by: &'a str,
    /// What they wrote.
    pub note: Option<&'a str>,
}

impl ClaimState {
    /// In one word, as the JSON has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Claimed => "claimed",
            Self::Paid => "paid",
            Self::Refused => "refused",
        }
    }
}

impl Claims {
    /// The claim of this provider's month, if one was ever made.
    pub fn of(&self, provider: &ProviderName, month: Month) -> Option<&Claim> {
        self.0.get(provider)?.get(&month)
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = (&ProviderName, Month, &Claim)> {
        self.0.iter().flat_map(|(provider, months)| months.iter().map(move |(month, claim)| (provider, *month, claim)))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Makes `step` true. What does not follow from what was before changes nothing.
    pub fn take(&mut self, provider: &ProviderName, month: Month, step: &ClaimStep, told: Told<'_>) {
        if Claim::refusal(self.of(provider, month), step).is_some() {
            return;
        }
        let (since, by, note) = (told.at, told.by.to_owned(), told.note.map(str::to_owned));
        if let ClaimStep::Claimed { amount, currency } = step {
            let (claimed, currency) = (*amount, currency.clone());
            let claim = Claim { state: ClaimState::Claimed, since, by, note, claimed, currency, paid: Amount::ZERO };
            self.0.entry(provider.clone()).or_default().insert(month, claim);
            return;
        }
        let Some(claim) = self.0.get_mut(provider).and_then(|months| months.get_mut(&month)) else { return };
        (claim.since, claim.by, claim.note) = (since, by, note);
        (claim.state, claim.paid) = match step {
            ClaimStep::Paid { amount } => (ClaimState::Paid, amount.unwrap_or(claim.claimed)),
            ClaimStep::Refused => (ClaimState::Refused, Amount::ZERO),
            ClaimStep::Reopened | ClaimStep::Claimed { .. } => (ClaimState::Open, Amount::ZERO),
        };
    }
}

impl Claim {
    /// Why `step` does not follow from how far `claim` is, as a sentence without its subject; `None` if it does.
    pub fn refusal(claim: Option<&Self>, step: &ClaimStep) -> Option<&'static str> {
        let state = claim.map_or(ClaimState::Open, |claim| claim.state);
        let ever = claim.is_some();
        match (step, state) {
            (ClaimStep::Claimed { .. }, ClaimState::Open | ClaimState::Claimed)
            | (ClaimStep::Paid { .. } | ClaimStep::Refused, ClaimState::Claimed)
            | (ClaimStep::Paid { .. }, ClaimState::Paid)
            | (ClaimStep::Refused, ClaimState::Refused)
            | (ClaimStep::Reopened, ClaimState::Claimed | ClaimState::Paid | ClaimState::Refused) => None,
            (ClaimStep::Reopened, ClaimState::Open) if ever => None,
            (ClaimStep::Claimed { .. } | ClaimStep::Refused, ClaimState::Paid) => Some("it was paid already"),
            (ClaimStep::Claimed { .. } | ClaimStep::Paid { .. }, ClaimState::Refused) => Some("it was refused already"),
            (ClaimStep::Paid { .. } | ClaimStep::Refused | ClaimStep::Reopened, ClaimState::Open) => {
                Some("nothing was claimed")
            }
        }
    }

    /// Whether `step` says what is so already.
    fn is(&self, step: &ClaimStep) -> bool {
        match step {
            ClaimStep::Claimed { amount, currency } => {
                self.state == ClaimState::Claimed && self.claimed == *amount && self.currency == *currency
            }
            ClaimStep::Paid { amount } => {
                self.state == ClaimState::Paid && amount.is_none_or(|amount| amount == self.paid)
            }
            ClaimStep::Refused => self.state == ClaimState::Refused,
            ClaimStep::Reopened => self.state == ClaimState::Open,
        }
    }
}

impl Knowledge {
    /// Why a step of a claim cannot be recorded, as a sentence; `None` if it can.
    pub fn credit_refusal(
        &self,
        provider: &ProviderName,
        month: Month,
        step: &ClaimStep,
        (by, note): (&str, Option<&str>),
    ) -> Option<String> {
        let claim = self.claims.of(provider, month);
        if claim.is_none() && self.provider(provider).is_none() {
            return Some(format!("there is no provider `{provider}`"));
        }
        let is_line = |text: &str, most| text.chars().count() <= most && !text.chars().any(char::is_control);
        if by.trim().is_empty() || !is_line(by, BY_CHARS_MAX) {
            return Some(format!("a name has 1 to {BY_CHARS_MAX} characters, in one line"));
        }
        if note.is_some_and(|note| note.trim().is_empty() || !is_line(note, NOTE_CHARS_MAX)) {
            return Some(format!("a note has 1 to {NOTE_CHARS_MAX} characters, in one line"));
        }
        Claim::refusal(claim, step).map(|why| format!("of the credit of {provider} for {month}: {why}"))
    }

    /// Whether a step of a claim says what is known already, with nothing new written about it.
    pub(crate) fn knows_credit(
        &self,
        provider: &ProviderName,
        month: Month,
        step: &ClaimStep,
        note: Option<&str>,
    ) -> bool {
        let claim = self.claims.of(provider, month);
        claim.is_some_and(|claim| claim.is(step) && (note.is_none() || note == claim.note.as_deref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_follows_from_the_one_before_and_a_repeated_one_changes_nothing() {
        let amount = |text: &str| text.parse::<Amount>().unwrap();
        let claimed =
            || ClaimStep::Claimed { amount: amount("10"), currency: Currency::try_from("EUR".to_owned()).unwrap() };
        let paid = || ClaimStep::Paid { amount: None };
        let (provider, month) = ("acme".parse().unwrap(), "2026-11".parse().unwrap());
        let (refused, reopened) = (|| ClaimStep::Refused, || ClaimStep::Reopened);
        let start = |steps: Vec<ClaimStep>| {
            let mut known = Knowledge::default();
            for step in steps {
                known.claims.take(&provider, month, &step, Told { at: Timestamp(0), by: "ana", note: None });
            }
            known
        };
        for (before, step, allowed) in [
            (vec![], claimed(), true),
            (vec![], paid(), false),
            (vec![], refused(), false),
            (vec![], reopened(), false),
            (vec![claimed()], claimed(), true),
            (vec![claimed()], paid(), true),
            (vec![claimed()], refused(), true),
            (vec![claimed()], reopened(), true),
            (vec![claimed(), paid()], claimed(), false),
            (vec![claimed(), paid()], paid(), true),
            (vec![claimed(), paid()], refused(), false),
            (vec![claimed(), paid()], reopened(), true),
            (vec![claimed(), refused()], claimed(), false),
            (vec![claimed(), refused()], paid(), false),
            (vec![claimed(), refused()], reopened(), true),
            (vec![claimed(), refused(), reopened()], claimed(), true),
            (vec![claimed(), refused(), reopened()], paid(), false),
        ] {
            let mut known = start(before.clone());
            let was = known.claims.clone();
            let refusal = Claim::refusal(was.of(&provider, month), &step);
            assert_eq!(refusal.is_none(), allowed, "{before:?} {step:?}");
            let told = Told { at: Timestamp(1), by: "bob", note: None };
            known.claims.take(&provider, month, &step, told);
            assert_eq!(known.claims != was, allowed, "{before:?} {step:?}");
            assert!(!allowed || known.knows_credit(&provider, month, &step, None), "{before:?} {step:?}");
        }
        let paid_in_part = ClaimStep::Paid { amount: Some(amount("7.5")) };
        let known = start(vec![claimed(), paid_in_part]);
        assert_eq!(known.claims.of(&provider, month).unwrap().paid, amount("7.5"));
        let asked = |by, note| start(vec![claimed()]).credit_refusal(&provider, month, &ClaimStep::Refused, (by, note));
        assert_eq!(asked("ana", Some("they saw nothing")), None);
        assert!(asked("", None).is_some() && asked("ana", Some("two\nlines")).is_some());
        assert!(Knowledge::default().credit_refusal(&provider, month, &claimed(), ("ana", None)).is_some());
    }
}
