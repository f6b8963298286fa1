//! Upgrades in the status: what is newer, what is being put to use, and what became of the last.

use ostler_model::ids::InstanceId;
use ostler_model::time::{Timestamp, in_words};
use serde::{Deserialize, Serialize};

use crate::agenda::{closed, declared, not_well, waits};
use crate::knowledge::{Knowledge, ServiceKnowledge};
use crate::upgrade::{AgendaStep, Upgraded, Upgrading, named};

/// Something newer than what is used, which can be put to use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AvailableView {
    /// From which version.
    pub from: String,
    /// To which.
    pub to: String,
    /// Its data has to be dumped and restored for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub data: bool,
    /// Its data is backed up before anything is touched.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub backup: bool,
    /// The estate file asks for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub declared: bool,
    /// What it waits for, in words; `None` if it begins at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<String>,
    /// Its place in the order of all that can be upgraded, from 1.
    pub place: usize,
}

/// Something newer that is not put to use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockedView {
    /// What there is.
    pub newest: String,
    /// Why not, and what to do.
    pub because: String,
}

/// An upgrade that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpgradeView {
    /// From which version.
    pub from: String,
    /// To which.
    pub to: String,
    /// Since when; RFC 3339.
    pub began: String,
    /// Why.
    pub why: String,
    /// What is being done, in words.
    pub now: String,
    /// How many waves have begun; the first is the canary.
    pub wave: u32,
    /// How many have passed their gates.
    pub passed: u32,
    /// How many waves there are altogether.
    #[serde(default)]
    pub waves: u32,
    /// The instances that waves have reached.
    pub reached: Vec<InstanceId>,
    /// How many instances no wave has reached.
    pub left: usize,
    /// Until when the present wave is watched; RFC 3339. `None` while it does not serve as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watched_until: Option<String>,
    /// When it is over, by what was learned of this service's upgrades, if all goes well and nothing is waited for; RFC
    /// 3339. `None` where nothing was learned yet, or it waits for something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over_by: Option<String>,
    /// When the present window closes: what is left then goes on in the next one; RFC 3339. `None` where it has no end, or
    /// plays no role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_until: Option<String>,
    /// Its data is dumped and restored.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub data: bool,
    /// Why it is being taken back, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub returns: Option<String>,
    /// What a person is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<String>,
    /// How to answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
}

/// An upgrade that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpgradedView {
    /// From which version.
    pub from: String,
    /// To which.
    pub to: String,
    /// Since when; RFC 3339.
    pub began: String,
    /// Until when; RFC 3339.
    pub ended: String,
    /// In how many waves.
    pub waves: u32,
    /// Why it was taken back, if it was: then the service is what it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub returned: Option<String>,
    /// Its data was dumped and restored.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub data: bool,
    /// What of its data is lost by it, in words, if its data went over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<String>,
}

pub(super) fn available(known: &Knowledge, service: &ServiceKnowledge, now: Timestamp) -> Option<AvailableView> {
    let steps = &known.agenda.steps;
    let place = steps.iter().position(|step| step.service == service.spec.name)?;
    let step: &AgendaStep = steps.get(place)?;
    (service.upgrading().is_none()).then(|| AvailableView {
        from: named(&step.from),
        to: named(&step.to),
        data: step.data,
        backup: known.is_backed_up_before_upgrade(service, step.data),
        declared: step.declared,
        waits: waits(known, service, step, now).map(|waits| waits.in_words(now)),
        place: place + 1,
    })
}

pub(super) fn blocked(known: &Knowledge, service: &ServiceKnowledge) -> Option<BlockedView> {
    let blocked = known.agenda.blocked.iter().find(|blocked| blocked.service == service.spec.name)?;
    Some(BlockedView { newest: blocked.newest.clone(), because: blocked.because.clone() })
}

pub(super) fn upgrade_view(known: &Knowledge, service: &ServiceKnowledge, now: Timestamp) -> Option<UpgradeView> {
    let it = service.upgrading()?;
    let active = || service.instances.iter().filter(|(_, instance)| !instance.retired).map(|(number, _)| *number);
    let soak = declared(known).soak.get();
    let watched_until =
        it.serves_since.filter(|_| it.passed < it.wave && it.returns.is_none()).map(|since| since + soak);
    let rest = service.rest_of_upgrade(it, declared(known).soak.get(), now);
    let goes_on = it.returns.is_none() && !it.back && it.held.is_none();
    let closed = closed(known, Some(&service.spec.name), it.is_urgent(), known.standing(now)).is_some();
    let waits = it.passed == it.wave && !it.data && (closed || backs_up(service, it));
    let over_by = rest.lasts.filter(|_| goes_on && !waits).map(|lasts| now + lasts);
    let window_until =
        if goes_on && !it.is_urgent() && !closed { declared(known).calendar.open_until(now) } else { None };
    Some(UpgradeView {
        from: named(&it.from),
        to: named(&it.to),
        began: it.began.to_seconds(),
        why: it.why.clone(),
        now: step_in_words(known, service, it, now),
        wave: it.wave,
        passed: it.passed,
        waves: rest.waves,
        reached: active().filter(|number| it.reached.contains(number)).map(|n| service.instance_id(n)).collect(),
        left: active().filter(|number| it.holds_back(*number)).count(),
        watched_until: watched_until.map(Timestamp::to_seconds),
        over_by: over_by.map(Timestamp::to_seconds),
        window_until: window_until.map(Timestamp::to_seconds),
        data: it.data,
        returns: it.returns.clone(),
        question: it.held.as_ref().map(|(question, _)| question.clone()),
        answer: it.held.as_ref().map(|(_, answer)| answer.clone()),
    })
}

/// Whether the backup is not there yet that has to be there before anything is touched.
fn backs_up(service: &ServiceKnowledge, it: &Upgrading) -> bool {
    let is_made = |name: &String| service.backups.iter().any(|(_, backup)| backup.name == *name);
    it.wave == 0 && it.backup.as_ref().is_some_and(|name| !is_made(name))
}

fn step_in_words(known: &Knowledge, service: &ServiceKnowledge, it: &Upgrading, now: Timestamp) -> String {
    if let Some(step) = service.move_step() {
        return step.in_words().to_owned();
    }
    if it.returns.is_some() || it.back {
        return "every instance becomes what it was".to_owned();
    }
    if backs_up(service, it) {
        return "its data is backed up first".to_owned();
    }
    if it.passed == it.wave {
        let waits = closed(known, Some(&service.spec.name), it.is_urgent(), known.standing(now))
            .map(|waits| waits.in_words(now));
        let not_well = || not_well(known, service).map(|name| format!("not all is well with {name}"));
        return waits.or_else(not_well).unwrap_or_else(|| "the next wave begins".to_owned());
    }
    let wave = if it.wave == 1 && !it.data { "the canary".to_owned() } else { format!("wave {}", it.wave) };
    match it.serves_since.map(|since| since + declared(known).soak.get()) {
        None => format!("{wave} is started"),
        Some(until) if now < until => format!("{wave} serves, and is watched for {} more", in_words(until.since(now))),
        Some(_) => format!("{wave} is looked at as its consumers see it"),
    }
}

pub(super) fn upgraded_view(service: &ServiceKnowledge, last: &Upgraded) -> UpgradedView {
    let moved =
        service.moved.as_ref().filter(|moved| last.data && moved.began >= last.began && moved.ended <= last.ended);
    UpgradedView {
        from: named(&last.from),
        to: named(&last.to),
        began: last.began.to_seconds(),
        ended: last.ended.to_seconds(),
        waves: last.waves,
        returned: last.returned.clone(),
        data: last.data,
        lost: moved.map(|moved| moved.lost_in_words()),
    }
}
