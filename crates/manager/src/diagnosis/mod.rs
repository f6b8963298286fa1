//! From what deviates to one cause, with its evidence.
//!
//! A probe, an exit or an answer says what is wrong with one instance ([`Diagnosis`]); this says what is behind it: the
//! instance itself, a change that was made to it, something that it needs, its provider, a region, or ostler's own view.
//! What the cause is decides what may be done: a victim is left alone, and so is everything while ostler itself is the
//! likelier one to be blind.
//!
//! Invariants: the same knowledge gives the same cause; a service whose needs all work is never a victim; what was seen
//! to die, or refuses on this machine, is never explained by ostler's own view. The work grows with the needs of the
//! service and with the number of providers, not with the estate.

use std::collections::BTreeSet;
use std::time::Duration;

use ostler_model::health::{Exit, Health, Symptom, SymptomKind};
use ostler_model::ids::{InstanceId, ProviderName, ServiceName};
use ostler_model::time::Timestamp;

use crate::fact::Diagnosis;
use crate::knowledge::{Instance, Knowledge, Phase, ServiceKnowledge};

mod finding;

pub use self::finding::{Case, Cause, Changed, Evidence, Fault, Finding, Root};

/// A trouble that begins so soon after a change was made is likely to come from it.
const RECENT: Duration = Duration::from_secs(600);
/// So many services without needs in trouble that fall silent together, and nothing that answers: more than a coincidence.
const SILENT_TOGETHER: usize = 3;
/// So many services are looked at to find these, or one that answers.
const SEARCHED_MAX: usize = 64;
/// For no longer than this is ostler's own view the likelier fault: then what can be done is done, within all brakes.
const OWN_VIEW_MAX: Duration = Duration::from_secs(300);
/// A need of which nothing else is known has needs of its own, and so on: no estate is deeper.
const DEPTH_MAX: usize = 64;

/// What is behind it that `id` deviates as `sign` says.
pub fn conclude(known: &Knowledge, id: &InstanceId, sign: &Diagnosis, now: Timestamp) -> Finding {
    let Some(service) = known.services.get(id.service()) else {
        return Finding { cause: Cause::Instance(Fault::of(sign)), evidence: Vec::new() };
    };
    let instance = service.instances.get(&id.number()).map(Box::as_ref);
    let scene = Scene { known, service, instance, sign, now };
    let rules = [Scene::need, Scene::own_view, Scene::region, Scene::provider, Scene::change, Scene::credentials];
    rules.iter().find_map(|rule| rule(&scene)).unwrap_or_else(|| scene.itself())
}

/// Every trouble of the estate by its cause, with everything that it explains.
pub fn cases(known: &Knowledge, now: Timestamp) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for (name, service) in &known.services {
        for (number, instance) in &service.instances {
            let Some(repair) = &instance.repair else { continue };
            let id = InstanceId::new(name.clone(), *number);
            let finding = conclude(known, &id, &repair.diagnosis, now);
            let is_victim = matches!(finding.cause, Cause::Need(_));
            let root = root(known, name, &finding, now);
            let found = cases.iter().position(|case| case.root == root);
            let place = found.unwrap_or_else(|| {
                cases.push(Case::new(root));
                cases.len() - 1
            });
            if is_victim {
                cases[place].victims.push(id);
            } else {
                cases[place].add(id, finding);
            }
        }
    }
    cases
}

/// Where the trouble comes from: of a victim, where that of its need does.
fn root(known: &Knowledge, name: &ServiceName, finding: &Finding, now: Timestamp) -> Root {
    match &finding.cause {
        Cause::Need(need) => {
            let service = known.services.get(need);
            let sick = service.into_iter().flat_map(|service| &service.instances);
            let of_need = sick.filter_map(|(number, instance)| {
                let repair = instance.repair.as_ref()?;
                let finding = conclude(known, &InstanceId::new(need.clone(), *number), &repair.diagnosis, now);
                (!matches!(finding.cause, Cause::Need(_))).then(|| root(known, need, &finding, now))
            });
            of_need.min().unwrap_or_else(|| Root::Service(need.clone()))
        }
        Cause::Instance(_) | Cause::Change(_) => Root::Service(name.clone()),
        Cause::Provider(provider) => Root::Provider(provider.clone()),
        Cause::Region(region) => Root::Region(region.clone()),
        Cause::OwnView => Root::OwnView,
    }
}

/// One instance that deviates, in what is known around it.
struct Scene<'a> {
    known: &'a Knowledge,
    service: &'a ServiceKnowledge,
    instance: Option<&'a Instance>,
    sign: &'a Diagnosis,
    now: Timestamp,
}

impl Scene<'_> {
    /// What it needs is not there: it is a victim of the first need that fails by itself.
    fn need(&self) -> Option<Finding> {
        // To be made, it needs nobody but its provider.
        if self.instance.is_none_or(|instance| instance.phase == Phase::Declared) {
            return None;
        }
        let missing = self.known.missing_needs(self.service);
        let first = missing.first()?;
        let mut root = first.clone();
        let mut passed = BTreeSet::from([self.service.spec.name.clone()]);
        for _ in 0..DEPTH_MAX {
            if !passed.insert(root.clone()) {
                break;
            }
            let deeper =
                self.known.services.get(&root).and_then(|need| self.known.missing_needs(need).into_iter().next());
            match deeper.filter(|deeper| !passed.contains(deeper)) {
                Some(deeper) => root = deeper,
                None => break,
            }
        }
        let mut evidence = vec![Evidence::NeedAway(first.clone())];
        if root != *first {
            evidence.push(Evidence::NeedAway(root.clone()));
        }
        Some(Finding { cause: Cause::Need(root), evidence })
    }

    /// Everything falls silent together: the likelier fault is ostler's own, until that has lasted too long.
    fn own_view(&self) -> Option<Finding> {
        if !self.is_silence() || self.lasted() >= OWN_VIEW_MAX {
            return None;
        }
        if let Some(silent) = self.nothing_answers() {
            return Some(Finding { cause: Cause::OwnView, evidence: vec![Evidence::NothingAnswers { silent }] });
        }
        let away = self.everything_elsewhere_is_away()?;
        Some(Finding { cause: Cause::OwnView, evidence: vec![Evidence::NothingElsewhereAnswers { providers: away }] })
    }

    /// Whether what is wrong is only that nothing is heard. A death is seen by whoever holds the process, and who
    /// refuses on this machine is heard.
    fn is_silence(&self) -> bool {
        let symptom = match self.sign {
            Diagnosis::Unresponsive { symptom } => symptom,
            Diagnosis::NeverReady { .. }
            | Diagnosis::Died { .. }
            | Diagnosis::DiedAndRestarted { .. }
            | Diagnosis::CannotStart { .. }
            | Diagnosis::FoundDead { .. } => return false,
        };
        match symptom.kind {
            SymptomKind::TimedOut | SymptomKind::Hung | SymptomKind::Slow | SymptomKind::Broken => true,
            SymptomKind::Refused => self.is_elsewhere(self.service),
            SymptomKind::WrongCredentials | SymptomKind::WrongAnswer | SymptomKind::DiskFull | SymptomKind::Unknown => {
                false
            }
        }
    }

    fn lasted(&self) -> Duration {
        let repair = self.instance.and_then(|instance| instance.repair.as_ref());
        repair.map_or(Duration::ZERO, |repair| self.now.since(repair.began))
    }

    /// How many services that should answer by themselves are silent, if none answers.
    fn nothing_answers(&self) -> Option<u32> {
        if self.known.evidence.values().any(|seen| seen.working > 0) {
            return None;
        }
        let mut silent = 0;
        for service in self.known.services.values().filter(|service| self.known.is_wanted(service)).take(SEARCHED_MAX) {
            if service.ready > 0 {
                return None;
            }
            let is_root = service.spec.needs.is_empty() || self.known.missing_needs(service).is_empty();
            if is_root && service.instances.values().any(|instance| is_silent(instance)) {
                silent += 1;
            }
        }
        (silent >= SILENT_TOGETHER).then(|| u32::try_from(silent).unwrap_or(u32::MAX))
    }

    /// How many providers elsewhere are away, if that is all of them and more than one, and something here answers.
    fn everything_elsewhere_is_away(&self) -> Option<u32> {
        if !self.is_elsewhere(self.service) {
            return None;
        }
        let elsewhere: BTreeSet<&ProviderName> =
            self.providers().filter(|name| self.provider_is_elsewhere(name)).collect();
        let all = elsewhere.len() > 1 && elsewhere.iter().all(|name| self.is_away(name));
        // Where all of them are in one region, that region is the likelier fault.
        let regions: BTreeSet<Option<&str>> = elsewhere.iter().map(|name| self.region_of(name)).collect();
        let apart = regions.len() > 1 || regions.contains(&None);
        (all && apart).then(|| u32::try_from(elsewhere.len()).unwrap_or(u32::MAX))
    }

    /// Everything in one region is away, and something elsewhere works.
    fn region(&self) -> Option<Finding> {
        let here = &self.service.placement.as_ref()?.provider;
        let region = self.region_of(here)?;
        let inside: Vec<&ProviderName> = self.providers().filter(|name| self.region_of(name) == Some(region)).collect();
        if inside.len() < 2 || !inside.iter().all(|name| self.is_away(name)) {
            return None;
        }
        let working = self.working_except(|name| self.region_of(name) == Some(region));
        let away = u32::try_from(inside.len()).unwrap_or(u32::MAX);
        let evidence = vec![Evidence::ProvidersAway { providers: away }, Evidence::ElsewhereWorks { working }];
        (working > 0).then(|| Finding { cause: Cause::Region(region.to_owned()), evidence })
    }

    /// Nothing that was bought at its provider works, and more than this one instance says so.
    fn provider(&self) -> Option<Finding> {
        let name = &self.service.placement.as_ref()?.provider;
        if !self.is_elsewhere(self.service) || !self.is_away(name) {
            return None;
        }
        let unheard = self.known.evidence.get(name)?.unheard_since;
        let (_, away) = self.seen_at(name);
        let mut evidence = vec![Evidence::ProviderAway { away: away.max(1) }];
        evidence.extend(unheard.map(|since| Evidence::ProviderDoesNotAnswer { since }));
        evidence.push(Evidence::ElsewhereWorks { working: self.working_except(|other| other == name) });
        (away > 1 || unheard.is_some()).then(|| Finding { cause: Cause::Provider(name.clone()), evidence })
    }

    /// It has not worked since a change that was made shortly before, and did before that.
    fn change(&self) -> Option<Finding> {
        let (changed, instance) = (self.service.changed.as_ref()?, self.instance?);
        let is_of_it = instance.generation == Some(changed.generation) && !instance.worked_since_start();
        let recent = self.now.since(changed.at) < RECENT + self.lasted();
        let judges = match self.sign {
            Diagnosis::Died { .. }
            | Diagnosis::DiedAndRestarted { .. }
            | Diagnosis::NeverReady { .. }
            | Diagnosis::CannotStart { .. }
            | Diagnosis::Unresponsive { .. } => true,
            Diagnosis::FoundDead { .. } => false,
        };
        if !(is_of_it && recent && judges) {
            return None;
        }
        let evidence = vec![
            Evidence::ChangedBefore { what: changed.what, at: changed.at },
            Evidence::WorkedBefore { generation: changed.former },
        ];
        Some(Finding { cause: Cause::Change(changed.what), evidence })
    }

    /// With its own credentials a need was found to reject it.
    fn credentials(&self) -> Option<Finding> {
        let is_rejected = |need: &&ServiceName| self.service.bindings.get(*need).is_some_and(|b| b.is_rejected());
        let rejected = self.service.spec.needs.iter().find(is_rejected)?;
        let evidence = vec![Evidence::Rejected(rejected.clone()), Evidence::NeedsWork];
        Some(Finding { cause: Cause::Instance(Fault::WrongCredentials), evidence })
    }

    /// Nothing else explains it.
    fn itself(&self) -> Finding {
        let mut evidence = Vec::new();
        if !self.service.spec.needs.is_empty() {
            evidence.push(Evidence::NeedsWork);
        }
        if self.service.ready > 0 {
            evidence.push(Evidence::OthersWork { working: u32::try_from(self.service.ready).unwrap_or(u32::MAX) });
        }
        let provider = self.service.placement.as_ref().map(|placement| &placement.provider);
        let works = |seen: &&crate::evidence::Evidence| seen.working > 0;
        if let Some(seen) = provider.and_then(|name| self.known.evidence.get(name)).filter(works) {
            evidence.push(Evidence::ProviderWorks { working: seen.working });
        }
        Finding { cause: Cause::Instance(Fault::of(self.sign)), evidence }
    }

    /// Every provider at which something is bought that should work.
    fn providers(&self) -> impl Iterator<Item = &ProviderName> {
        self.known.evidence.iter().filter(|(_, seen)| seen.working + seen.away > 0).map(|(name, _)| name)
    }

    /// Whether nothing works that was bought there, and something should.
    fn is_away(&self, provider: &ProviderName) -> bool {
        let (working, away) = self.seen_at(provider);
        working == 0 && away > 0
    }

    /// How many of what was bought there work, and how many do not. What is drilled counts against nobody, and is seen all
    /// the same.
    fn seen_at(&self, provider: &ProviderName) -> (u32, u32) {
        let (mut working, mut away) =
            self.known.evidence.get(provider).map_or((0, 0), |seen| (seen.working, seen.away));
        if self.known.drilled_provider() == Some(provider) {
            let hits = self.known.drill.iter().flat_map(|drilling| &drilling.drill.hits);
            for instance in hits.filter_map(|hit| self.known.instance(&hit.instance)) {
                *(if instance.is_ready() { &mut working } else { &mut away }) += 1;
            }
        }
        (working, away)
    }

    fn working_except(&self, is_inside: impl Fn(&ProviderName) -> bool) -> u32 {
        self.known.evidence.iter().filter(|(name, _)| !is_inside(name)).map(|(_, seen)| seen.working).sum()
    }

    fn region_of(&self, provider: &ProviderName) -> Option<&str> {
        self.known.provider(provider)?.region.as_deref()
    }

    /// Whether its instances are somewhere else, as far as the manager knows: whoever can be started and stopped is held
    /// on this machine.
    fn is_elsewhere(&self, service: &ServiceKnowledge) -> bool {
        !self.known.can_be_restarted(service)
    }

    fn provider_is_elsewhere(&self, provider: &ProviderName) -> bool {
        self.known
            .catalogs
            .get(provider)
            .is_some_and(|catalog| catalog.offerings.values().all(|offering| !offering.actions.start_stop))
    }
}

/// Whether it runs, as far as anybody knows, and is not heard.
fn is_silent(instance: &Instance) -> bool {
    let is_unheard = |symptom: &Symptom| {
        matches!(
            symptom.kind,
            SymptomKind::TimedOut | SymptomKind::Hung | SymptomKind::Slow | SymptomKind::Broken | SymptomKind::Refused
        )
    };
    instance.phase == Phase::Running
        && matches!(&instance.health, Some(Health::Unready(symptom)) if is_unheard(symptom))
}

impl Instance {
    /// Whether it has been ready since it was last started on purpose.
    fn worked_since_start(&self) -> bool {
        self.was_ready
    }
}

impl Fault {
    /// What `sign` says of the instance itself.
    pub fn of(sign: &Diagnosis) -> Self {
        match sign {
            Diagnosis::DiedAndRestarted { exit } => Self::of_exit(*exit),
            Diagnosis::Died { exit: Exit::OutOfMemory, .. } => Self::OutOfMemory,
            Diagnosis::Died { .. } => Self::CrashLoop,
            Diagnosis::FoundDead { exit } => exit.map_or(Self::Crashed, Self::of_exit),
            Diagnosis::Unresponsive { symptom } => Self::of_symptom(symptom.kind),
            Diagnosis::NeverReady { symptom: Some(symptom) } if symptom.kind == SymptomKind::DiskFull => Self::DiskFull,
            Diagnosis::NeverReady { symptom: Some(symptom) } if symptom.kind == SymptomKind::WrongCredentials => {
                Self::WrongCredentials
            }
            Diagnosis::NeverReady { .. } => Self::NeverReady,
            Diagnosis::CannotStart { .. } => Self::CannotStart,
        }
    }

    fn of_exit(exit: Exit) -> Self {
        match exit {
            Exit::OutOfMemory => Self::OutOfMemory,
            Exit::Code(_) | Exit::Signal(_) | Exit::Unknown => Self::Crashed,
        }
    }

    fn of_symptom(kind: SymptomKind) -> Self {
        match kind {
            SymptomKind::Refused => Self::Refuses,
            SymptomKind::TimedOut | SymptomKind::Hung => Self::Hung,
            SymptomKind::Slow => Self::Slow,
            SymptomKind::Broken => Self::Broken,
            SymptomKind::WrongCredentials => Self::WrongCredentials,
            SymptomKind::WrongAnswer | SymptomKind::Unknown => Self::WrongAnswer,
            SymptomKind::DiskFull => Self::DiskFull,
        }
    }
}
