//! Whether a service can be moved to another provider: to which, with which data, and what is lost by it.
//!
//! Invariant: durable data is never left behind without a person's word, and no more of it is lost than was declared or
//! accepted.

use std::collections::BTreeSet;

use ostler_model::catalog::{Placement, Price};
use ostler_model::estate::Estate;
use ostler_model::ids::ProviderName;
use ostler_model::outcome::BackupMade;
use ostler_model::time::{Span, Timestamp, in_words};

use crate::choose::best_elsewhere;
use crate::instance::Instance;
use crate::knowledge::{Knowledge, Origin, ServiceKnowledge};
use crate::moving::Brings;
use crate::overrides::InForce;
use crate::place::at_provider;

/// A move that can be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// To where.
    pub to: Placement,
    /// With which data.
    pub brings: Brings,
    /// A person accepts that what no backup holds is lost, however much that is.
    pub accepts_loss: bool,
    /// What one instance costs where it is, if its provider says.
    pub price_from: Option<Price>,
    /// What one costs where it goes, if its provider says.
    pub price_to: Option<Price>,
}

/// Why a service cannot be moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WhyNot {
    /// It is not to run.
    NotWanted,
    /// Others bought it.
    Sold,
    /// It has no instances.
    NothingThere,
    /// It is being moved.
    UnderWay,
    /// It is being upgraded.
    Upgrading,
    /// The estate file says `by_itself = false`.
    NotByItself,
    /// No other provider will do.
    Nowhere(String),
    /// Several instances hold durable data, and a backup is of one.
    SeveralInstances,
    /// Its data cannot be brought there.
    CannotRestore(ProviderName),
    /// There is no backup that could go with it.
    NoBackup,
    /// The newest backup that could go with it was made then, and no more than so much may be lost; `None` if nothing
    /// says how much.
    TooOld(Timestamp, Option<Span>),
}

/// On which terms a move is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Terms {
    /// A person asks for it.
    pub(crate) asked: bool,
    /// To whom, if somebody says.
    pub(crate) to: Option<ProviderName>,
    /// What no backup holds may be lost, however much that is.
    pub(crate) accept_loss: bool,
}

impl WhyNot {
    /// In words, after "it cannot be moved: ".
    pub fn in_words(&self, now: Timestamp) -> String {
        match self {
            Self::NotWanted => "it is stopped: `ostler up` starts it".to_owned(),
            Self::Sold => "it was sold: its buyer knows where it is".to_owned(),
            Self::NothingThere => "it has no instance yet".to_owned(),
            Self::UnderWay => "it is being moved already".to_owned(),
            Self::Upgrading => "it is being upgraded: `ostler rollback` takes that back".to_owned(),
            Self::NotByItself => "`failover = { by_itself = false }` is declared".to_owned(),
            Self::Nowhere(why) => why.clone(),
            Self::SeveralInstances => "its instances hold data of their own, and a backup is of one of them".to_owned(),
            Self::CannotRestore(provider) => format!("{provider} cannot restore backups of it"),
            Self::NoBackup => {
                "it has no backup, and its instance does not answer; `--accept-loss` moves it without its data"
                    .to_owned()
            }
            Self::TooOld(made, limit) => {
                let age = in_words(now.since(*made));
                let most = match limit {
                    Some(limit) => format!("no more than {limit} may be lost"),
                    None => "nothing says how much may be lost".to_owned(),
                };
                format!("its newest backup is {age} old, and {most}; `--accept-loss` accepts it")
            }
        }
    }
}

/// Whether the service can be moved without a person: to where, with which data, since when what was written is lost,
/// and what it costs.
///
/// # Errors
/// Why it cannot.
pub fn can_move(known: &Knowledge, service: &ServiceKnowledge, now: Timestamp) -> Result<Move, WhyNot> {
    weigh(known, service, &Terms::default(), known.standing(now))
}

/// The same for a person, who may move it also where ostler may not do so by itself, and may name the provider.
///
/// # Errors
/// Why it cannot be moved.
pub fn can_be_moved(
    known: &Knowledge,
    service: &ServiceKnowledge,
    to: Option<&ProviderName>,
    accept_loss: bool,
    now: Timestamp,
) -> Result<Move, WhyNot> {
    weigh(known, service, &Terms { asked: true, to: to.cloned(), accept_loss }, known.standing(now))
}

pub(crate) fn weigh(
    known: &Knowledge,
    service: &ServiceKnowledge,
    terms: &Terms,
    standing: InForce<'_>,
) -> Result<Move, WhyNot> {
    if !known.is_wanted(service) || service.is_guest() {
        return Err(WhyNot::NotWanted);
    }
    if service.origin != Origin::Declared {
        return Err(WhyNot::Sold);
    }
    if service.moving.is_some() {
        return Err(WhyNot::UnderWay);
    }
    if service.upgrading().is_some() {
        return Err(WhyNot::Upgrading);
    }
    if !terms.asked && !service.spec.failover.by_itself {
        return Err(WhyNot::NotByItself);
    }
    let (Some(estate), Some(from)) = (&known.estate, &service.placement) else { return Err(WhyNot::NothingThere) };
    if service.unfenced().next().is_none() {
        return Err(WhyNot::NothingThere);
    }
    if known.is_durable(service) && service.active > 1 {
        return Err(WhyNot::SeveralInstances);
    }
    let not_at = BTreeSet::from([from.provider.clone()]);
    let to = destination(known, estate, service, terms.to.as_ref(), not_at, standing)?;
    let brings = brings(known, service, terms, &BTreeSet::new(), standing.now)?;
    if brings != Brings::Nothing && !can_restore(known, &to) {
        return Err(WhyNot::CannotRestore(to.provider));
    }
    Ok(Move {
        accepts_loss: terms.accept_loss && known.is_durable(service),
        price_from: price(known, from),
        price_to: price(known, &to),
        to,
        brings,
    })
}

/// The best place that is allowed and not at one of these.
pub(crate) fn destination(
    known: &Knowledge,
    estate: &Estate,
    service: &ServiceKnowledge,
    only: Option<&ProviderName>,
    mut not_at: BTreeSet<ProviderName>,
    standing: InForce<'_>,
) -> Result<Placement, WhyNot> {
    if let Some(only) = only {
        if not_at.contains(only) {
            return Err(WhyNot::Nowhere(format!("{only} is where it is, or was tried in vain")));
        }
        if !estate.providers.contains_key(only) {
            return Err(WhyNot::Nowhere(format!("there is no provider `{only}`")));
        }
        not_at.extend(estate.providers.keys().filter(|name| *name != only).cloned());
    }
    let durable = known.is_durable(service);
    let held = service.placement.as_ref().and_then(|placement| placement.version.clone());
    let mut why = None;
    loop {
        let (provider, plan) = best_elsewhere(known, estate, &service.spec, &not_at, standing).map_err(|excluded| {
            WhyNot::Nowhere(why.clone().or(excluded).unwrap_or_else(|| "no other provider will do".to_owned()))
        })?;
        match at_provider(known, estate, &service.spec, &provider, &plan, held.as_ref().filter(|_| durable)) {
            Ok(placement) => return Ok(placement),
            // The next best may have what this one lacks.
            Err(cause) => why = Some(cause),
        }
        not_at.insert(provider);
    }
}

/// The data that goes with it: a last backup where the old instance still answers, as nothing is lost by that; or else
/// the newest that is not known to be bad, if that is recent enough.
fn brings(
    known: &Knowledge,
    service: &ServiceKnowledge,
    terms: &Terms,
    bad: &BTreeSet<String>,
    now: Timestamp,
) -> Result<Brings, WhyNot> {
    if !known.is_durable(service) {
        return Ok(Brings::Nothing);
    }
    if service.unfenced().any(|(_, instance)| can_be_backed_up(known, service, instance)) {
        return Ok(Brings::LastBackup);
    }
    from_backups(service, terms.accept_loss, bad, now)
}

/// The newest backup that is not known to be bad.
///
/// # Errors
/// If there is none, or if more than may be lost was written since.
pub(crate) fn from_backups(
    service: &ServiceKnowledge,
    accept_loss: bool,
    bad: &BTreeSet<String>,
    began: Timestamp,
) -> Result<Brings, WhyNot> {
    let Some((at, made)) = newest_left(service, bad) else {
        return if accept_loss { Ok(Brings::Nothing) } else { Err(WhyNot::NoBackup) };
    };
    let limit = service.spec.loses_at_most();
    if accept_loss || limit.is_some_and(|limit| began.since(*at) <= limit.get()) {
        Ok(Brings::Backup { made: made.clone(), lost_since: Some(*at) })
    } else {
        Err(WhyNot::TooOld(*at, limit))
    }
}

/// The newest backup that is left, whatever its age; never one that is known to be of no use.
pub(crate) fn newest_left<'a>(
    service: &'a ServiceKnowledge,
    bad: &BTreeSet<String>,
) -> Option<&'a (Timestamp, BackupMade)> {
    let is_left = |made: &BackupMade| !bad.contains(&made.name) && !service.is_bad(&made.name);
    service.backups.iter().rev().find(|(_, made)| is_left(made))
}

pub(crate) fn can_restore(known: &Knowledge, place: &Placement) -> bool {
    let offering = known.catalogs.get(&place.provider).and_then(|catalog| catalog.offerings.get(&place.offering));
    offering.is_some_and(|offering| offering.actions.backup)
}

fn can_be_backed_up(known: &Knowledge, service: &ServiceKnowledge, instance: &Instance) -> bool {
    let offered = known.offering_of(service, instance).is_some_and(|offering| offering.actions.backup);
    offered && instance.is_ready()
}

fn price(known: &Knowledge, place: &Placement) -> Option<Price> {
    let offering = known.catalogs.get(&place.provider)?.offerings.get(&place.offering)?;
    offering.plans.iter().find(|plan| plan.name == place.plan)?.price.clone()
}
