//! A service's upgrade: the next step, from what is known.
//!
//! The order is what keeps callers and data whole: a backup first, then one instance, then a gate, then more. Stopping and
//! starting instances is done by the same looks as always, which ask which launch each is to run from.

use std::time::Duration;

use ostler_model::estate::Occasion;
use ostler_model::ids::InstanceId;
use ostler_model::time::{Timestamp, in_words};

use super::service::backup_name;
use crate::agenda::{Waits, closed, declared, is_offered, not_well, seek, waits};
use crate::command::Command;
use crate::decide::{Draft, Reason};
use crate::diagnosis::Cause;
use crate::event::Scope;
use crate::fact::FactKind;
use crate::failover::Move;
use crate::instance::{Instance, OperationKind, Phase};
use crate::knowledge::{Knowledge, ServiceKnowledge};
use crate::moving::Brings;
use crate::upgrade::{AgendaStep, Looked, TRIES_MAX, UpgradeStep, Upgrading, from_to, wave_size};

/// What could not be made is not tried again sooner.
const PUT_OFF_FOR: Duration = Duration::from_secs(3600);
/// What waits for a neighbour, or until all is well, is looked at again this often, in case nobody thought of it.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// A wave that does worse than before is taken back if it is this many times as bad, and more than [`BAD_MIN`] of its time.
const WORSE: i64 = 2;
/// One in so many microseconds of a wave's time may be bad whatever came before.
const BAD_MIN: i64 = 200;

/// Looks for what is newer.
pub(crate) fn look_for_newer(draft: &mut Draft<'_>) {
    let agenda = seek(draft.known);
    let names: Vec<_> = agenda.steps.iter().map(|step| step.service.clone()).collect();
    draft.fact(FactKind::UpgradesSought { agenda: Box::new(agenda) });
    names.into_iter().for_each(|name| draft.look(Scope::Service(name)));
}

/// The next step of the service's upgrade, if there is one to be made.
pub(super) fn look(draft: &mut Draft<'_>, service: &ServiceKnowledge) {
    // What is on the agenda may not be so any more, until it was looked again.
    if !draft.known.is_wanted(service) || (service.upgrading().is_none() && draft.known.agenda_is_old) {
        return;
    }
    match service.upgrading() {
        None => begin(draft, service),
        Some(it) if it.data => through_a_move(draft, service, it),
        Some(it) if it.returns.is_some() || it.back => until_all_are(draft, service, it),
        Some(it) => in_waves(draft, service, it),
    }
}

fn fact(draft: &mut Draft<'_>, service: &ServiceKnowledge, step: UpgradeStep) {
    draft.fact(FactKind::Upgrade { service: service.spec.name.clone(), step: Box::new(step) });
}

fn begin(draft: &mut Draft<'_>, service: &ServiceKnowledge) {
    let known = draft.known;
    let Some(step) = known.agenda.step_of(&service.spec.name) else { return };
    if let Some(waits) = waits(known, service, step, draft.now) {
        return wait(draft, service, &waits);
    }
    let AgendaStep { from, to, data, declared: by_file, .. } = step;
    let offers_backups = known.offering(service).is_some_and(|offering| offering.actions.backup);
    // A move backs up by itself, once nobody can write any more.
    let backs_up = !data && known.is_durable(service) && offers_backups;
    let wish = service.upgrades().wish.as_ref();
    let because = match (wish, by_file) {
        (Some(_), _) => "a person asked for it",
        (None, true) => "the estate file asks for it",
        (None, false) => "it is on offer, and a window is open",
    };
    let began = UpgradeStep::Began {
        to: to.clone(),
        data: *data,
        back: false,
        backup: backs_up.then(|| backup_name(service, "upgrade-", draft.now)),
        despite: wish.and_then(|wish| wish.despite.clone()),
        why: format!("from {}: {because}", from_to(from, to)),
    };
    fact(draft, service, began);
}

fn wait(draft: &mut Draft<'_>, service: &ServiceKnowledge, waits: &Waits) {
    let scope = || Scope::Service(service.spec.name.clone());
    match waits {
        Waits::Asked | Waits::Window(None) => {}
        Waits::Window(Some(at)) | Waits::PutOff(at, _) => draft.wake(*at, scope()),
        Waits::Other(_) | Waits::TooMany(_) | Waits::NotWell(_) | Waits::Drill => {
            draft.wake(draft.now + LOOK_AGAIN, scope());
        }
    }
    draft.withhold(scope(), Reason::UpgradeWaits(waits.clone()));
}

/// The waves, one after the other, with a gate after each.
fn in_waves(draft: &mut Draft<'_>, service: &ServiceKnowledge, it: &Upgrading) {
    let known = draft.known;
    if it.wave > 0
        && let Some(why) = fails(known, service, it)
    {
        return take_back(draft, service, it, why);
    }
    if let Some(backup) = it.backup.as_ref().filter(|name| !is_made(service, name)) {
        return back_up_first(draft, service, it, backup);
    }
    if it.passed < it.wave {
        let wave: Vec<u32> =
            active(service).filter(|(number, _)| it.reached.contains(number)).map(|(n, _)| n).collect();
        return gate(draft, service, it, &wave);
    }
    let left: Vec<u32> = active(service).map(|(number, _)| number).filter(|n| !it.reached.contains(n)).collect();
    if left.is_empty() {
        return end(draft, service, it);
    }
    if let Some(waits) =
        closed(known, it.is_urgent(), draft.now).or_else(|| not_well(known, service).map(Waits::NotWell))
    {
        return wait(draft, service, &waits);
    }
    let done = active(service).filter(|(number, _)| it.reached.contains(number)).count();
    let instances: Vec<u32> = left.into_iter().take(wave_size(done)).collect();
    for number in &instances {
        draft.look(Scope::Instance(service.instance_id(*number)));
    }
    fact(draft, service, UpgradeStep::WaveBegan { instances });
}

fn active(service: &ServiceKnowledge) -> impl Iterator<Item = (u32, &Instance)> {
    service.instances.iter().filter(|(_, instance)| !instance.retired).map(|(number, instance)| (*number, &**instance))
}

fn is_made(service: &ServiceKnowledge, name: &str) -> bool {
    service.backups.iter().any(|(_, made)| made.name == name)
}

/// What holds data is backed up before anything is touched.
fn back_up_first(draft: &mut Draft<'_>, service: &ServiceKnowledge, it: &Upgrading, backup: &str) {
    if it.backup_failures >= TRIES_MAX {
        let failure = service.backup_trouble.as_ref().map(|failure| failure.detail.clone()).unwrap_or_default();
        let why = format!("its data could not be backed up before: {failure}");
        let message =
            format!("the upgrade of {} from {} was put off: {why}", service.spec.name, from_to(&it.from, &it.to));
        draft.tell(&service.spec.name, Occasion::Failed, message);
        return fact(draft, service, UpgradeStep::PutOff { until: draft.now + PUT_OFF_FOR, why });
    }
    if draft.now < it.not_before {
        return draft.wake(it.not_before, Scope::Service(service.spec.name.clone()));
    }
    let under_way = Knowledge::is_under_way(service, OperationKind::Backup);
    if service.backup_wanted.is_none() && !under_way {
        draft.fact(FactKind::BackupAsked { service: service.spec.name.clone(), name: backup.to_owned() });
    }
}

/// Whether these serve, have been watched for long enough, are as consumers rely on, and do no worse than before.
fn gate(draft: &mut Draft<'_>, service: &ServiceKnowledge, it: &Upgrading, wave: &[u32]) {
    let known = draft.known;
    let scope = || Scope::Service(service.spec.name.clone());
    if service.launch().map(|launch| &launch.placement) != service.placement.as_ref() {
        return; // what it is to be started from waits for something
    }
    let serves = |number: &u32| {
        service.instances.get(number).is_some_and(|instance| {
            let runs = instance.phase == Phase::Running && instance.is_ready() && instance.observed;
            runs && (it.data || instance.generation == Some(service.generation)) && instance.changes_to.is_none()
        })
    };
    if !wave.iter().all(serves) {
        return; // whatever becomes of it is seen by its instances' looks
    }
    let Some(since) = it.serves_since else { return fact(draft, service, UpgradeStep::Serves) };
    let until = since + declared(known).soak.get();
    if draft.now < until {
        draft.wake(until, scope());
        return draft.withhold(scope(), Reason::Soaks(until));
    }
    match &it.looked {
        Some(Looked::Wrong(problem)) => {
            return take_back(draft, service, it, format!("it is not as its consumers rely on: {problem}"));
        }
        None if it.look_failures < TRIES_MAX => return look_at(draft, service, it, wave),
        // That nobody could look says nothing against it: it serves, and has been watched.
        Some(Looked::Fine) | None => {}
    }
    if let Some(why) = does_worse(service, it, since, draft.now) {
        return take_back(draft, service, it, why);
    }
    fact(draft, service, UpgradeStep::Passed);
}

/// The newest of the wave is looked at as its consumers see it.
fn look_at(draft: &mut Draft<'_>, service: &ServiceKnowledge, it: &Upgrading, wave: &[u32]) {
    if Knowledge::is_under_way(service, OperationKind::Prove) {
        return;
    }
    if draft.now < it.not_before {
        return draft.wake(it.not_before, Scope::Service(service.spec.name.clone()));
    }
    let free = |number: &&u32| service.instances.get(number).is_some_and(|i| i.operation.is_none());
    match wave.iter().rev().find(free) {
        Some(number) => draft.command(Command::Prove { instance: service.instance_id(*number) }),
        None => draft.wake(draft.now + LOOK_AGAIN, Scope::Service(service.spec.name.clone())),
    }
}

/// Why what the waves have reached fails, if it does by its own fault: by a trouble of its own, or because consumers cannot
/// rely on it any more.
fn fails(known: &Knowledge, service: &ServiceKnowledge, it: &Upgrading) -> Option<String> {
    if let Some(trouble) = service.before_failed().filter(|trouble| trouble.generation == service.generation) {
        return Some(format!("its one-off command failed: {}", trouble.failure.detail));
    }
    let reached = active(service).filter(|(number, _)| it.data || it.reached.contains(number));
    let own = reached.filter_map(|(number, instance)| own_trouble(service, it, &service.instance_id(number), instance));
    own.chain(new_breaks(known, service, it)).next()
}

fn own_trouble(service: &ServiceKnowledge, it: &Upgrading, id: &InstanceId, instance: &Instance) -> Option<String> {
    if let Some((question, _)) = &instance.held {
        return Some(format!("{id} needs a person: {question}"));
    }
    // What failed before the wave began, and was healed, is not forgotten; but it says nothing of the new version.
    let has_failed = instance.failures > 0 && instance.not_before > it.wave_began;
    if has_failed && instance.phase == Phase::Running && instance.generation != Some(service.generation) {
        return Some(format!("{id} could not be changed to it"));
    }
    let repair = instance.repair.as_ref()?;
    match repair.finding.as_ref().map(|finding| &finding.cause)? {
        Cause::Instance(_) | Cause::Change(_) => Some(format!("{id} {}", repair.diagnosis.in_words())),
        Cause::Need(_) | Cause::Provider(_) | Cause::Region(_) | Cause::OwnView => None,
    }
}

/// What consumers have found since the wave began that they cannot rely on, and could before.
fn new_breaks(known: &Knowledge, service: &ServiceKnowledge, it: &Upgrading) -> Option<String> {
    let name = &service.spec.name;
    let consumers = known.consumers.get(name).into_iter().flatten().filter_map(|consumer| known.services.get(consumer));
    consumers.into_iter().find_map(|consumer| {
        let verified = consumer.bindings.get(name)?.verified.as_ref().filter(|v| v.at > it.wave_began)?;
        let is_new = |check: &str| !it.broken_before.contains(&format!("{}: {check}", consumer.spec.name));
        let wrong = verified.checks.iter().find_map(|checked| {
            let problem = checked.problem.as_ref().filter(|problem| problem.kind.is_wrong())?;
            is_new(&checked.name).then_some((&checked.name, problem))
        });
        wrong.map(|(check, problem)| format!("{} cannot rely on it: `{check}`: {problem}", consumer.spec.name))
    })
}

/// Why the service does worse since the wave serves than it did for as long before the upgrade began, if it does.
fn does_worse(service: &ServiceKnowledge, it: &Upgrading, since: Timestamp, now: Timestamp) -> Option<String> {
    let level = service.level.as_ref()?;
    let length = now.since(since);
    let (bad, before) = (level.bad_within(since, now), level.bad_within(it.began - length, it.began));
    let micros = i64::try_from(length.as_micros()).unwrap_or(i64::MAX);
    let allowed = before.saturating_mul(WORSE).max(micros / BAD_MIN);
    (bad > allowed).then(|| {
        let in_words = |bad: i64| in_words(Duration::from_micros(u64::try_from(bad).unwrap_or(0)));
        format!("{} of its time were bad since, and {} of as long a time before", in_words(bad), in_words(before))
    })
}

/// Whether everything can become what it was.
fn can_be_taken_back(known: &Knowledge, service: &ServiceKnowledge, it: &Upgrading) -> bool {
    if it.data {
        return service.moving.as_ref().is_some_and(|moving| moving.can_be_given_up());
    }
    let is_untouched =
        |instance: &Instance| instance.generation != Some(service.generation) && instance.changes_to.is_none();
    // What its provider has made newer it does not make older again.
    let never_was = active(service).all(|(_, instance)| is_untouched(instance));
    never_was || (known.can_be_restarted(service) && is_offered(known, service, &it.from))
}

pub(super) fn take_back(draft: &mut Draft<'_>, service: &ServiceKnowledge, it: &Upgrading, why: String) {
    let name = &service.spec.name;
    let change = from_to(&it.from, &it.to);
    if can_be_taken_back(draft.known, service, it) {
        let message = format!(
            "the upgrade of {name} from {change} is taken back: {why}; it is not tried again, except by `ostler upgrade \
             {name}`"
        );
        draft.tell(name, Occasion::Failed, message);
        fact(draft, service, UpgradeStep::TakenBack { why });
        if service.moving.is_some() {
            draft.fact(FactKind::MoveReturned { service: name.clone() });
        }
        for (number, _) in active(service) {
            draft.look(Scope::Instance(service.instance_id(number)));
        }
        return;
    }
    let question = format!("the upgrade of {name} from {change} does not pass its gate: {why}");
    if it.held.as_ref().is_some_and(|(asked, _)| *asked == question) {
        return;
    }
    let answer = match it.data {
        true => format!(
            "put right what is wrong, and it goes on by itself; or `ostler rollback {name} --accept-loss` goes back to {}, \
             and what was written since is lost",
            crate::upgrade::named(&it.from)
        ),
        false => format!(
            "put right what is wrong, and it goes on by itself: {} is not to be had any more",
            crate::upgrade::named(&it.from)
        ),
    };
    draft.tell(name, Occasion::Held, format!("{question}; {answer}"));
    fact(draft, service, UpgradeStep::Held { question, answer });
}

/// Back to what it was, all at once but for what has to go on serving.
fn until_all_are(draft: &mut Draft<'_>, service: &ServiceKnowledge, it: &Upgrading) {
    if let Some(backup) = it.backup.as_ref().filter(|name| it.back && !is_made(service, name)) {
        return back_up_first(draft, service, it, backup);
    }
    let is_defined = service.launch().map(|launch| &launch.placement) == service.placement.as_ref();
    let done = is_defined && service.outdated.is_empty() && service.is_whole();
    if done {
        end(draft, service, it);
    }
}

/// Data that the new version cannot read goes over in a move to a new instance at the same provider.
fn through_a_move(draft: &mut Draft<'_>, service: &ServiceKnowledge, it: &Upgrading) {
    if service.moving.is_some() {
        return; // its own look has the next step
    }
    let moved = service.moved.as_ref().filter(|moved| moved.began >= it.began);
    match moved {
        Some(moved) if moved.returned => end(draft, service, it),
        Some(_) => {
            if let Some(why) = fails(draft.known, service, it) {
                return take_back(draft, service, it, why);
            }
            let all: Vec<u32> = active(service).map(|(number, _)| number).collect();
            match it.passed {
                0 if it.wave == 0 => fact(draft, service, UpgradeStep::WaveBegan { instances: all }),
                0 => gate(draft, service, it, &all),
                _ => end(draft, service, it),
            }
        }
        None => {
            if let Some(name) = not_well(draft.known, service) {
                return wait(draft, service, &Waits::NotWell(name));
            }
            let back = service.upgrades().last.as_ref().filter(|_| it.back);
            let kept = back.and_then(|_| service.kept_by_upgrade(&it.to));
            let brings = match kept {
                Some((number, since)) => Brings::Kept { number, lost_since: since },
                None => Brings::LastBackup,
            };
            let accepts_loss = matches!(brings, Brings::Kept { .. });
            let to = it.to.clone();
            let it_moves = Move { to, brings, accepts_loss, price_from: None, price_to: None };
            draft.begin_move(service, it_moves, format!("upgrade {}", it.why));
        }
    }
}

fn end(draft: &mut Draft<'_>, service: &ServiceKnowledge, it: &Upgrading) {
    let name = service.spec.name.clone();
    let change = from_to(&it.from, &it.to);
    let took = in_words(draft.now.since(it.began));
    let message = match &it.returns {
        Some(_) => format!(
            "{name} is {} again: its upgrade from {change} was taken back within {took}",
            crate::upgrade::named(&it.from)
        ),
        None if it.back => format!("{name} went back from {change} within {took}"),
        None => format!("{name} was upgraded from {change} within {took}"),
    };
    draft.tell(&name, Occasion::Upgraded, message);
    fact(draft, service, UpgradeStep::Ended);
    // Whoever waited for this one may begin.
    let waiting: Vec<_> = draft.known.agenda.steps.iter().map(|step| step.service.clone()).collect();
    waiting.into_iter().for_each(|name| draft.look(Scope::Service(name)));
    draft.look_at_consumers(&name);
}
