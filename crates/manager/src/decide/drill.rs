//! Whether a drill may begin, and where: what is wrong on purpose must be the only thing that is wrong.

use std::time::Duration;

use ostler_model::estate::drills::{Drills, Fault, LASTS_MIN};
use ostler_model::ids::{BindingId, ServiceName};
use ostler_model::time::{Span, Timestamp, in_words};

use super::Draft;
use crate::binding::BindingState;
use crate::command::Command;
use crate::drill::{Aim, By, Drill, Hit};
use crate::event::Scope;
use crate::fact::FactKind;
use crate::instance::Instance;
use crate::knowledge::{Knowledge, Origin, Phase, ServiceKnowledge};
use crate::overrides::whose;

/// Where nothing is declared of backups, the last one may be so old before a fault that can lose data.
const BACKUP_AGE_MAX: Duration = Duration::from_secs(86_400);
/// To what a fault is done.
pub(crate) type Aimed = (Vec<Hit>, Option<Aim>);

/// A person's reason is no longer than this, in characters.
pub(crate) const REASON_CHARS_MAX: usize = 300;

impl Draft<'_> {
    /// A person asks for a drill.
    pub(super) fn drill_asked(
        &mut self,
        name: &ServiceName,
        fault: Fault,
        lasts: Option<Span>,
        despite: Option<&String>,
    ) {
        let known = self.known;
        let Some(service) = known.services.get(name).filter(|service| !service.is_guest()) else {
            return self.refuse(name, format!("there is no service `{name}`"));
        };
        let drills = declared(known);
        let most = fault.lasts_max();
        let lasts = lasts.unwrap_or(if fault == Fault::BackupRestore { most } else { drills.lasts });
        if !(LASTS_MIN..=most).contains(&lasts) {
            return self.refuse(name, format!("a fault lasts from {LASTS_MIN} to {most}"));
        }
        let is_reason = |text: &String| !text.trim().is_empty() && text.chars().count() <= REASON_CHARS_MAX;
        if despite.is_some_and(|text| !is_reason(text)) {
            return self.refuse(name, format!("a reason has 1 to {REASON_CHARS_MAX} characters"));
        }
        if despite.is_none() && !drills.calendar.is_open(self.now) {
            let when =
                drills.calendar.next(self.now).map(|next| format!("; the next window opens at {}", next.to_seconds()));
            let why = format!("no window for drills is open now{}", when.unwrap_or_default());
            return self.refuse(name, format!("{why}: `--now REASON` makes it all the same"));
        }
        match drill_hits(known, service, fault, &drills, self.now) {
            Ok(aimed) => self.begin_drill(name, fault, aimed, lasts, By::Person { despite: despite.cloned() }),
            Err(why) => self.refuse(name, why),
        }
    }

    /// It is recorded with all that its end takes before anything is done.
    pub(crate) fn begin_drill(&mut self, name: &ServiceName, fault: Fault, (hits, aim): Aimed, lasts: Span, by: By) {
        let number = self.known.last_drill.saturating_add(1);
        let placement = self.known.services.get(name).and_then(|service| service.placement.as_ref());
        let provider = placement.filter(|_| !hits.is_empty()).map(|placement| placement.provider.clone());
        let until = self.now + lasts.get();
        let drill = Drill { number, service: name.clone(), provider, fault, hits, aim, until, by };
        self.fact(FactKind::DrillBegan { drill: drill.clone() });
        if let Some(backup) = drill.backup() {
            self.fact(FactKind::ProofAsked { service: name.clone(), name: backup.to_owned() });
        }
        self.command(Command::Fault { drill: Box::new(drill) });
        self.look(Scope::Service(name.clone()));
    }
}

/// What is declared of drills, or what holds where nothing is.
pub(crate) fn declared(known: &Knowledge) -> Drills {
    known.estate.as_ref().and_then(|estate| estate.drill.as_deref()).cloned().unwrap_or_default()
}

/// To what the fault would be done, or why it must not be.
pub(crate) fn drill_hits(
    known: &Knowledge,
    service: &ServiceKnowledge,
    fault: Fault,
    drills: &Drills,
    now: Timestamp,
) -> Result<Aimed, String> {
    let name = &service.spec.name;
    if let Some(drilling) = &known.drill {
        return Err(format!("{} is being drilled, and there is one drill at a time", drilling.drill.service));
    }
    if !known.is_wanted(service) {
        return Err(format!("`{name}` is stopped: `ostler up` starts it"));
    }
    if matches!(service.origin, Origin::Sold { .. }) {
        return Err(format!("`{name}` was sold: what its buyer has of it is not for drills"));
    }
    if service.moving.is_some() {
        return Err(format!("`{name}` is being moved to another provider"));
    }
    if let Some(upgrading) = known.upgrading.iter().next() {
        return Err(format!("{upgrading} is being upgraded: a drill begins where all is well"));
    }
    if !service.is_whole() {
        return Err(format!("`{name}` is not ready as a whole: a drill begins where all is well"));
    }
    if let Some(sick) = in_repair(known) {
        return Err(format!("{sick} is under repair: a drill begins where all is well"));
    }
    let (hits, aim) = match fault {
        Fault::ProviderOutage => (all_at_provider(known, service)?, None),
        Fault::BackupRestore => (Vec::new(), Some(Aim::Backup(newest_backup(known, service)?))),
        Fault::WrongCredentials => one_consumer(known, service, now)?,
        Fault::Kill | Fault::Hang | Fault::Slow | Fault::Refuse | Fault::FillDisk => (one(service, fault)?, None),
    };
    for hit in &hits {
        let Some(hit_service) = known.services.get(hit.instance.service()) else { continue };
        if let Some(found) = known.standing(now).holds(&hit_service.spec.name) {
            return Err(format!("nobody would heal {}: it is held by {}", hit_service.spec.name, whose(found)));
        }
        let gone = hits.iter().filter(|other| other.instance.service() == hit.instance.service()).count();
        if hit_service.ready.saturating_sub(gone) < drills.keep as usize {
            let name = &hit_service.spec.name;
            return Err(format!(
                "{} of `{name}` would serve on, and `keep` in [drill] asks for {}",
                hit_service.ready.saturating_sub(gone),
                drills.keep
            ));
        }
    }
    if fault.may_lose_data() {
        has_backup(known, service, now)?;
    }
    Ok((hits, aim))
}

/// The consumer of which credentials are ended: the first that uses the service by some that can be made again.
fn one_consumer(known: &Knowledge, service: &ServiceKnowledge, now: Timestamp) -> Result<Aimed, String> {
    let name = &service.spec.name;
    if !known.offering(service).is_some_and(|offering| offering.actions.rebind) {
        return Err(match service.instances.values().find_map(|instance| instance.running?.pid) {
            Some(_) => format!("`{name}` knows no credentials: whoever reaches it may use it"),
            None => format!(
                "`{name}` runs elsewhere: its provider makes the credentials, and what was ended there could not be put \
                 back. Use `refuse` or `provider-outage`"
            ),
        });
    }
    one(service, Fault::WrongCredentials)?;
    let mut why = format!("nobody uses `{name}` with credentials that ostler made");
    for consumer in known.consumers.get(name).into_iter().flatten() {
        let id = BindingId { consumer: consumer.clone(), need: name.clone() };
        let Some(found) = known.services.get(consumer).filter(|found| found.origin == Origin::Declared) else {
            continue;
        };
        let Some(binding) = found.bindings.get(name).filter(|binding| binding.state == BindingState::Made) else {
            continue;
        };
        if !known.is_wanted(found) || !found.is_whole() {
            why =
                format!("`{consumer}`, which uses `{name}`, is not ready as a whole: a drill begins where all is well");
        } else if !binding.may_be_doubted(now) {
            why = format!("the credentials of `{consumer}` were made anew a moment ago, and are not again so soon");
        } else {
            let all = found.instances.iter();
            let running = all.filter_map(|(number, instance)| Some((found.instance_id(*number), instance.running?)));
            let hits: Vec<Hit> = running.map(|(instance, running)| Hit { instance, running }).collect();
            return Ok((hits, Some(Aim::Binding(id))));
        }
    }
    Err(why)
}

/// The backup that would be taken if the data were lost now.
fn newest_backup(known: &Knowledge, service: &ServiceKnowledge) -> Result<String, String> {
    let name = &service.spec.name;
    if !known.offering(service).is_some_and(|offering| offering.actions.prove) {
        return Err(format!("`{}` has no data whose restore can be proven on this machine", service.spec.offering));
    }
    let vault = service.vault();
    if vault.operation.is_some() || vault.proof_wanted.is_some() {
        return Err(format!("a backup of `{name}` is being restored on the side already"));
    }
    let newest = service.newest_good().map(|(_, made)| made.name.clone());
    newest.ok_or_else(|| format!("`{name}` has no backup that is good: `ostler backup {name}` makes one"))
}

/// Something that is being repaired, or waits for that or for a person.
fn in_repair(known: &Knowledge) -> Option<String> {
    let repaired = known.repairing.iter().chain(known.sick.iter().map(|(_, instance)| instance)).next();
    repaired.map(ToString::to_string)
}

fn is_idle(instance: &Instance) -> bool {
    let runs = instance.phase == Phase::Running && instance.running.is_some();
    runs && !instance.retired && instance.is_ready() && instance.operation.is_none() && instance.observed
}

/// The instance with the highest number to which nothing is being done.
fn one(service: &ServiceKnowledge, fault: Fault) -> Result<Vec<Hit>, String> {
    let name = &service.spec.name;
    let idle = service.instances.iter().rev().find(|(_, instance)| is_idle(instance));
    let found = idle.and_then(|(number, instance)| {
        Some(Hit { instance: service.instance_id(*number), running: instance.running? })
    });
    let hit = found.ok_or_else(|| format!("something is being done to every instance of `{name}`"))?;
    if fault.is_done_to_a_process() && hit.running.pid.is_none() {
        return Err(format!(
            "{} runs elsewhere, out of ostler's reach: use `refuse` or `provider-outage`",
            hit.instance
        ));
    }
    Ok(vec![hit])
}

fn all_at_provider(known: &Knowledge, service: &ServiceKnowledge) -> Result<Vec<Hit>, String> {
    let provider = service.placement.as_ref().map(|placement| &placement.provider);
    let mut hits = Vec::new();
    for other in known.services.values() {
        for (number, instance) in &other.instances {
            // What a move left may be bought elsewhere than its service is.
            let bought_at = other.placement_of(instance).map(|placement| &placement.provider);
            let Some(running) = instance.running.filter(|_| bought_at == provider) else { continue };
            hits.push(Hit { instance: other.instance_id(*number), running });
        }
    }
    match provider {
        Some(provider) if hits.iter().any(|hit| hit.running.pid.is_some()) => {
            Err(format!("{provider} is this machine, and ostler would be out with it: use another fault"))
        }
        Some(_) => Ok(hits),
        None => Err(format!("`{}` is bought nowhere", service.spec.name)),
    }
}

/// What can be backed up has to have been, not long ago.
fn has_backup(known: &Knowledge, service: &ServiceKnowledge, now: Timestamp) -> Result<(), String> {
    let can_be = known.offering(service).is_some_and(|offering| offering.actions.backup);
    if !can_be || !known.is_durable(service) {
        return Ok(());
    }
    let name = &service.spec.name;
    // Twice: one that is just being made counts for as long as it takes.
    let most = service.spec.data.backup_every.map_or(BACKUP_AGE_MAX, |every| every.get() * 2);
    match service.backups.last().map(|(at, _)| now.since(*at)) {
        Some(age) if age <= most => Ok(()),
        Some(age) => Err(format!(
            "the last backup of `{name}` is {} old, and may be {} old for a fault that ends a process: `ostler backup \
             {name}` makes another",
            in_words(age),
            in_words(most)
        )),
        None => Err(format!(
            "`{name}` has no backup, and a fault that ends a process might cost its data: `ostler backup {name}` makes one"
        )),
    }
}
