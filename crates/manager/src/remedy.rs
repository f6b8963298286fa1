//! Which remedy to use: the one with the least expected cost, by odds that are learned.
//!
//! What a remedy costs is how long callers go without while it is tried, what is lost by it and what is paid for it, on
//! one scale: time, which is money where it is declared what an outage costs (`price.rs`). How likely it is to help
//! follows from how often it did, over a prior that counts as a few cases (the mean of a Beta distribution). To try first
//! what has the least cost for its chance makes the expected cost of the whole sequence the least there is (W. E. Smith,
//! "Various optimizers for single-stage production", 1956; the same rule for tests until one succeeds: L. Mitten, 1960).
//!
//! Invariants: whole numbers only, so that the same facts give the same choice everywhere; what has failed in a trouble
//! is less and less likely to be chosen again in it, so that every ladder ends with a person; what is remembered is
//! bounded by the number of ailments and remedies.

use std::collections::BTreeMap;
use std::time::Duration;

use ostler_model::money::Amount;
use ostler_model::time::in_words;
use serde::{Deserialize, Serialize};

use crate::backoff;
use crate::diagnosis::{Cause, Fault};
use crate::price::{Costs, OutageCost};

/// An action that may cure a diagnosis, from the gentlest to the most drastic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Remedy {
    /// Do nothing for a while: it may pass, or whoever runs it may heal it.
    Wait,
    /// Stop what runs, and start it; or start, or make, once more what does not.
    Restart,
    /// Make the credentials anew by which it uses what it needs, or by which ostler looks at it.
    RenewBinding,
    /// Take its last change back.
    RollBack,
    /// Move its service to another provider.
    FailOver,
    /// Ask a person; what can be tried meanwhile goes on.
    Ask,
}

/// What remedies are chosen for: a cause without its particulars.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Ailment {
    /// Of the instance itself.
    Fault(Fault),
    /// What lies around it.
    Around(Around),
}

/// What lies around an instance, as an ailment of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Around {
    /// A change did it no good.
    Change,
    /// Its provider is away.
    ProviderAway,
    /// Its region is away.
    RegionAway,
}

/// How often a remedy helped against an ailment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Odds {
    /// So often.
    pub helped: u32,
    /// How often it did not.
    pub failed: u32,
    /// How long it took when it helped, in milliseconds, added up.
    pub took_ms: u64,
}

/// What was learned of all of them.
pub type Learned = BTreeMap<Ailment, BTreeMap<Remedy, Odds>>;

/// One remedy as it was weighed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weighed {
    /// Which.
    pub remedy: Remedy,
    /// How likely it is to help now, in thousandths.
    pub chance: u32,
    /// How long it is expected to take, in milliseconds.
    pub takes_ms: u64,
    /// What else it costs, as milliseconds of an outage that are as bad: data that is lost, for one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub besides_ms: u64,
    /// What is paid for it, as milliseconds of an outage that cost as much; where an outage's cost is declared.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub price_ms: u64,
    /// What it is expected to cost if it helps, where that can be said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub costs: Option<Costs>,
    /// How often it helped before.
    pub helped: u32,
    /// How often it did not.
    pub failed: u32,
    /// How often it was tried in this trouble.
    #[serde(default, skip_serializing_if = "is_none")]
    pub tried: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_none(number: &u32) -> bool {
    *number == 0
}

/// What there is to choose from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) remedy: Remedy,
    /// What else it costs, as milliseconds of outage.
    pub(crate) besides_ms: u64,
    /// What is paid for it; `None` if that is not stated.
    pub(crate) price: Option<Amount>,
}

impl Choice {
    /// One that costs nothing but the time that it takes.
    pub(crate) fn free(remedy: Remedy) -> Self {
        Self { remedy, besides_ms: 0, price: Some(Amount::ZERO) }
    }
}

/// An honest guess before anything was seen: it counts as `helped` and `failed` cases.
struct Prior {
    helped: u32,
    failed: u32,
    takes: Duration,
}

/// The remedies in the order in which to try them: best first. By money where it is declared what an outage costs, as far
/// as prices are stated, and by time alone elsewhere.
pub(crate) fn weigh(
    learned: &Learned,
    ailment: Ailment,
    options: &[Choice],
    outage: Option<&OutageCost>,
    tried: &BTreeMap<Remedy, u32>,
    failures: u32,
) -> Vec<Weighed> {
    let of = |option: &Choice| {
        let prior = prior(ailment, option.remedy)?;
        let odds = learned.get(&ailment).and_then(|known| known.get(&option.remedy)).copied().unwrap_or_default();
        let tried = tried.get(&option.remedy).copied().unwrap_or(0);
        let pause = if tried == 0 { Duration::ZERO } else { backoff::pause(failures) };
        let takes_ms = millis(pause).saturating_add(takes_ms(&prior, odds));
        let paid = outage.zip(option.price);
        Some(Weighed {
            remedy: option.remedy,
            chance: chance(&prior, odds, tried),
            takes_ms,
            besides_ms: option.besides_ms,
            price_ms: paid.map_or(0, |(outage, price)| outage.as_long_as(price)),
            costs: paid.and_then(|(outage, price)| outage.costs(takes_ms.saturating_add(option.besides_ms), price)),
            helped: odds.helped,
            failed: odds.failed,
            tried,
        })
    };
    let mut weighed: Vec<Weighed> = options.iter().filter_map(of).collect();
    weighed.sort_by_key(|weighed| (weighed.cost_for_chance(), weighed.remedy));
    weighed
}

/// What to try of what was weighed. Whoever was asked gets the time that an answer takes before anything is paid that was
/// weighed as worse than asking; what costs nothing is tried meanwhile.
pub(crate) fn best(weighed: &[Weighed], is_asked: bool) -> Option<&Weighed> {
    let ask = weighed.iter().position(|it| it.remedy == Remedy::Ask).filter(|_| is_asked);
    let is_worse = |at: usize| ask.is_some_and(|ask| ask < at);
    let (_, best) =
        weighed.iter().enumerate().find(|(at, it)| Some(*at) != ask && (it.price_ms == 0 || !is_worse(*at)))?;
    Some(best)
}

/// How often an answer could have come since a person was asked: each time that it did not, it is less likely to.
pub(crate) fn asked_in_vain(learned: &Learned, ailment: Ailment, waited: Duration) -> u32 {
    let odds = learned.get(&ailment).and_then(|known| known.get(&Remedy::Ask)).copied().unwrap_or_default();
    let takes = prior(ailment, Remedy::Ask).map_or(1, |prior| takes_ms(&prior, odds)).max(1);
    u32::try_from(millis(waited) / takes).unwrap_or(u32::MAX)
}

/// In thousandths: the mean of the Beta distribution, halved for each time that it has not helped in this trouble.
fn chance(prior: &Prior, odds: Odds, tried: u32) -> u32 {
    let helped = u64::from(prior.helped) + u64::from(odds.helped);
    let all = helped + u64::from(prior.failed) + u64::from(odds.failed);
    u32::try_from((1000 * helped / all.max(1)) >> tried.min(63)).unwrap_or(1000).min(999)
}

/// How long it took when it helped, on average; the prior counts as so many cases, too.
fn takes_ms(prior: &Prior, odds: Odds) -> u64 {
    let cases = u64::from(prior.helped.max(1));
    let sum = millis(prior.takes).saturating_mul(cases).saturating_add(odds.took_ms);
    sum / (cases + u64::from(odds.helped))
}

impl Weighed {
    /// Milliseconds of outage for a whole success: without end where there is no chance.
    fn cost_for_chance(&self) -> u64 {
        let cost = self.takes_ms.saturating_add(self.besides_ms).saturating_add(self.price_ms).saturating_mul(1000);
        cost.checked_div(u64::from(self.chance)).unwrap_or(u64::MAX)
    }

    /// In words: "restart: 90 % within 2.0 s (helped 3 of 4 times before)".
    pub fn in_words(&self) -> String {
        let percent = format!("{}.{} %", self.chance / 10, self.chance % 10);
        let takes = in_words(Duration::from_millis(self.takes_ms));
        let before = match (self.helped, self.failed) {
            (0, 0) => "never tried before".to_owned(),
            (helped, failed) => format!("helped {helped} of {} times before", u64::from(helped) + u64::from(failed)),
        };
        let now = match self.tried {
            0 => String::new(),
            1 => ", once in vain now".to_owned(),
            times => format!(", {times} times in vain now"),
        };
        let besides = match self.besides_ms {
            0 => String::new(),
            ms => format!(", and what it loses is as bad as {} of outage", in_words(Duration::from_millis(ms))),
        };
        let costs = self.costs.as_ref().map_or_else(String::new, |costs| format!(", costs {}", costs.in_words()));
        format!("{}: {percent} within {takes}{costs} ({before}{now}{besides})", self.remedy.in_words())
    }
}

impl Remedy {
    /// In words, as something to do: "restart".
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Wait => "wait",
            Self::Restart => "restart",
            Self::RenewBinding => "renew the credentials",
            Self::RollBack => "take the change back",
            Self::FailOver => "move it to another provider",
            Self::Ask => "ask a person",
        }
    }

    /// Whether it does something to an instance: such remedies are what the brakes are for.
    pub fn acts(self) -> bool {
        match self {
            Self::Wait | Self::Ask => false,
            Self::Restart | Self::RenewBinding | Self::RollBack | Self::FailOver => true,
        }
    }
}

impl Cause {
    /// What remedies are chosen for; `None` where nothing is to be done about the instance.
    pub fn ailment(&self) -> Option<Ailment> {
        match self {
            Self::Instance(fault) => Some(Ailment::Fault(*fault)),
            Self::Change(_) => Some(Ailment::Around(Around::Change)),
            Self::Provider(_) => Some(Ailment::Around(Around::ProviderAway)),
            Self::Region(_) => Some(Ailment::Around(Around::RegionAway)),
            Self::Need(_) | Self::OwnView => None,
        }
    }
}

impl Odds {
    /// It helped, after so long.
    pub(crate) fn help(&mut self, took: Duration) {
        self.helped = self.helped.saturating_add(1);
        self.took_ms = self.took_ms.saturating_add(millis(took));
    }

    /// It did not help.
    pub(crate) fn fail(&mut self) {
        self.failed = self.failed.saturating_add(1);
    }
}

/// What is taken for likely before anything was seen. Small numbers: a handful of cases of one's own outweighs them.
///
/// That most crashes and hangs are gone after a restart is old experience (J. Gray, "Why do computers stop", 1985: most
/// faults that get into production are transient; G. Candea and A. Fox, "Crash-only software", 2003); what never became
/// ready or cannot be started seldom does so for being started once more. Outages at providers mostly end by themselves,
/// after minutes rather than seconds.
fn prior(ailment: Ailment, remedy: Remedy) -> Option<Prior> {
    use Fault::{
        Broken, CannotStart, CrashLoop, Crashed, DiskFull, Hung, NeverReady, OutOfMemory, Refuses, Slow, WrongAnswer,
        WrongCredentials,
    };
    let fault = match ailment {
        Ailment::Fault(fault) => Some(fault),
        Ailment::Around(_) => None,
    };
    let around = match ailment {
        Ailment::Fault(_) => None,
        Ailment::Around(around) => Some(around),
    };
    let (helped, failed, seconds) = match (remedy, fault, around) {
        (Remedy::Wait, Some(Slow), _) => (3, 2, 15),
        (Remedy::Wait, Some(Broken), _) => (3, 2, 30),
        (Remedy::Wait, Some(Crashed | CrashLoop | OutOfMemory | Hung | Refuses), _) => (2, 3, 60),
        (Remedy::Wait, Some(_), _) => (1, 3, 60),
        (Remedy::Wait, None, Some(Around::ProviderAway)) => (3, 2, 300),
        (Remedy::Wait, None, Some(Around::RegionAway)) => (2, 3, 900),
        (Remedy::Wait, None, _) => (1, 4, 60),
        (Remedy::Restart, Some(Crashed), _) => (9, 1, 2),
        (Remedy::Restart, Some(Hung), _) => (8, 1, 3),
        (Remedy::Restart, Some(OutOfMemory), _) => (5, 1, 2),
        (Remedy::Restart, Some(Refuses), _) => (4, 1, 3),
        (Remedy::Restart, Some(Broken), _) => (3, 2, 5),
        (Remedy::Restart, Some(Slow), _) => (1, 2, 10),
        (Remedy::Restart, Some(WrongAnswer | NeverReady), _) => (1, 1, 5),
        (Remedy::Restart, Some(CrashLoop | CannotStart), _) => (1, 2, 3),
        (Remedy::Restart, Some(WrongCredentials), _) => (1, 4, 5),
        (Remedy::Restart, Some(DiskFull), _) => (1, 9, 5),
        (Remedy::Restart, None, Some(Around::Change)) => (1, 4, 5),
        (Remedy::Restart, None, _) => (1, 2, 60),
        (Remedy::RenewBinding, Some(WrongCredentials), _) => (6, 1, 2),
        (Remedy::RenewBinding, _, _) => return None,
        (Remedy::RollBack, None, Some(Around::Change)) => (6, 1, 10),
        (Remedy::RollBack, _, _) => return None,
        (Remedy::FailOver, Some(_), _) => (3, 1, 30),
        (Remedy::FailOver, None, Some(Around::ProviderAway | Around::RegionAway)) => (6, 1, 30),
        (Remedy::FailOver, None, _) => return None,
        (Remedy::Ask, _, _) => (9, 1, 3600),
    };
    Some(Prior { helped, failed, takes: Duration::from_secs(seconds) })
}

fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn choices(remedies: &[Remedy]) -> Vec<Choice> {
        remedies.iter().map(|remedy| Choice::free(*remedy)).collect()
    }

    fn best(
        learned: &Learned,
        fault: Fault,
        remedies: &[Remedy],
        tried: &BTreeMap<Remedy, u32>,
        failures: u32,
    ) -> Remedy {
        weigh(learned, Ailment::Fault(fault), &choices(remedies), None, tried, failures)[0].remedy
    }

    #[test]
    fn what_fails_is_tried_less_and_less_and_a_person_is_asked() {
        for fault in [Fault::Crashed, Fault::CrashLoop, Fault::Hung, Fault::NeverReady, Fault::DiskFull, Fault::Slow] {
            let mut tried = BTreeMap::new();
            let mut order = Vec::new();
            for failures in 1..40 {
                let remedy =
                    best(&Learned::new(), fault, &[Remedy::Restart, Remedy::Wait, Remedy::Ask], &tried, failures);
                order.push(remedy);
                *tried.entry(remedy).or_default() += 1;
                if remedy == Remedy::Ask {
                    break;
                }
            }
            assert_eq!(order.last(), Some(&Remedy::Ask), "{fault:?}: {order:?}");
            assert!(order.len() > 2, "{fault:?}: people are not asked at once: {order:?}");
        }
    }

    #[test]
    fn what_was_seen_outweighs_the_guess() {
        let remedies = [Remedy::Restart, Remedy::Ask];
        let mut learned = Learned::new();
        assert_eq!(best(&learned, Fault::Hung, &remedies, &BTreeMap::new(), 1), Remedy::Restart);
        for _ in 0..40_000 {
            learned.entry(Ailment::Fault(Fault::Hung)).or_default().entry(Remedy::Restart).or_default().fail();
        }
        assert_eq!(best(&learned, Fault::Hung, &remedies, &BTreeMap::new(), 1), Remedy::Ask);
        let odds = learned.get_mut(&Ailment::Fault(Fault::Hung)).unwrap().get_mut(&Remedy::Restart).unwrap();
        (0..400_000).for_each(|_| odds.help(Duration::from_secs(1)));
        let weighed = weigh(&learned, Ailment::Fault(Fault::Hung), &choices(&remedies), None, &BTreeMap::new(), 1);
        let restart = &weighed[0];
        assert_eq!((restart.remedy, restart.chance, restart.takes_ms), (Remedy::Restart, 909, 1000));
        assert_eq!(restart.in_words(), "restart: 90.9 % within 1.0 s (helped 400000 of 440000 times before)");
    }

    #[test]
    fn what_is_lost_weighs_against_a_remedy() {
        let learned = Learned::new();
        let away = Ailment::Around(Around::ProviderAway);
        let move_it = |besides_ms| {
            let price = Some(Amount::ZERO);
            [Choice::free(Remedy::Wait), Choice { remedy: Remedy::FailOver, besides_ms, price }]
        };
        let first = |besides_ms| weigh(&learned, away, &move_it(besides_ms), None, &BTreeMap::new(), 1)[0].remedy;
        assert_eq!(first(0), Remedy::FailOver);
        assert_eq!(first(3_600_000), Remedy::Wait);
    }

    #[test]
    fn what_is_paid_weighs_as_much_as_the_outage_that_it_ends() {
        let (learned, away) = (Learned::new(), Ailment::Around(Around::ProviderAway));
        let weighed = |per_hour: Option<&str>, price: Option<&str>| {
            let currency = "EUR".to_owned().try_into().unwrap();
            let outage = per_hour.map(|per_hour| OutageCost { per_hour: per_hour.parse().unwrap(), currency });
            let price = price.map(|price| price.parse().unwrap());
            let options = [Choice::free(Remedy::Wait), Choice { remedy: Remedy::FailOver, besides_ms: 0, price }];
            weigh(&learned, away, &options, outage.as_ref(), &BTreeMap::new(), 1)
        };
        // Waiting costs 300 s with a chance of 60 %, a move 30 s with one of 85.7 %: it is worth 398 s more of outage.
        for (per_hour, price, first) in [
            (Some("3600"), Some("398"), Remedy::FailOver),
            (Some("3600"), Some("400"), Remedy::Wait),
            (Some("36"), Some("398"), Remedy::Wait),
            (Some("36000"), Some("400"), Remedy::FailOver),
            (Some("0.01"), Some("0"), Remedy::FailOver),
            (Some("0.01"), None, Remedy::FailOver),
            (None, Some("400"), Remedy::FailOver),
        ] {
            assert_eq!(weighed(per_hour, price)[0].remedy, first, "{per_hour:?} {price:?}");
        }
        let told: Vec<String> = weighed(Some("3600"), Some("400")).iter().map(Weighed::in_words).collect();
        assert_eq!(
            told,
            [
                "wait: 60.0 % within 5 min, costs 300.00 EUR of outage (never tried before)",
                "move it to another provider: 85.7 % within 30 s, costs 30.00 EUR of outage and 400.00 EUR of price \
                 (never tried before)",
            ]
        );
        assert!(weighed(None, Some("400")).iter().all(|weighed| weighed.costs.is_none()));
    }

    #[test]
    fn what_was_learned_survives_being_stored() {
        let mut learned = Learned::new();
        for ailment in [Ailment::Fault(Fault::Hung), Ailment::Around(Around::RegionAway)] {
            learned.entry(ailment).or_default().entry(Remedy::FailOver).or_default().help(Duration::from_secs(2));
        }
        let text = serde_json::to_string(&learned).unwrap();
        assert_eq!(serde_json::from_str::<Learned>(&text).unwrap(), learned, "{text}");
    }

    proptest! {
        /// Whatever was learned: chances are chances, and the order follows from cost and chance alone.
        #[test]
        fn the_best_comes_first(helped in 0_u32..=u32::MAX, failed in 0_u32..=u32::MAX, took in 0..=u64::MAX, tried in 0_u32..100) {
            let ailment = Ailment::Fault(Fault::Refuses);
            let odds = Odds { helped, failed, took_ms: took };
            let learned = Learned::from([(ailment, BTreeMap::from([(Remedy::Restart, odds)]))]);
            let tried = BTreeMap::from([(Remedy::Restart, tried)]);
            let weighed = weigh(&learned, ailment, &choices(&[Remedy::Ask, Remedy::Wait, Remedy::Restart]), None, &tried, 9);
            prop_assert_eq!(weighed.len(), 3);
            prop_assert!(weighed.iter().all(|weighed| weighed.chance < 1000));
            prop_assert!(weighed.is_sorted_by_key(|weighed| weighed.cost_for_chance()));
        }
    }
}
