//! Random estates in a random world: what must never happen does not, and what must happen in the end does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ostler_manager::{
    APPEARS_WITHIN, Ask, BindingState, Ending, Event, Fact, Knowledge, ResumeCause, Scope, Settlement, Waits, decide,
    evolve, waits,
};
use ostler_model::catalog::{Catalog, Maintenance};
use ostler_model::estate::drills::Fault;
use ostler_model::estate::upgrade::Upgrade;
use ostler_model::estate::{Estate, Occasion, Service};
use ostler_model::health::State;
use ostler_model::ids::{AttemptId, CommandId, InstanceId, ProviderName};
use ostler_model::outcome::FailureClass;
use ostler_model::time::{Span, Timestamp};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{FileFailurePersistence, RngSeed};

use crate::overridden::{assert_expired_changes_nothing, begin, end, instruction};
use crate::support::{admit, estate, given, local, name, provide, sell, service, with_provider};
use crate::world::{Flaw, World};

/// One service of a random estate; its needs are some of those before it.
#[derive(Clone, Debug)]
pub(crate) struct Sketch {
    offering: usize,
    needs: u8,
    instances: u32,
    before: bool,
    endpoint: Option<u16>,
    backed_up: bool,
    env: u8,
    declared: bool,
}

pub(crate) fn sketch() -> impl Strategy<Value = Sketch> {
    let chance = |percent: f64| prop::bool::weighted(percent);
    (0..4_usize, any::<u8>(), 1..=5_u32, chance(0.2), 0..6_u16, chance(0.3), 0..3_u8, chance(0.85)).prop_map(
        |(offering, needs, instances, before, endpoint, backed_up, env, declared)| {
            let endpoint = (endpoint < 3).then_some(endpoint);
            Sketch { offering, needs, instances, before, endpoint, backed_up, env, declared }
        },
    )
}

/// Estates of the same services that differ: what people give, one after the other.
pub(crate) fn estates() -> impl Strategy<Value = Vec<Vec<Sketch>>> {
    (1..=8_usize).prop_flat_map(|services| vec(vec(sketch(), services), 1..4))
}

/// The offerings are those of the first estate: what exists does not become something else.
pub(crate) fn drawn(first: &[Sketch], sketches: &[Sketch], at_once: u8) -> Estate {
    let mut services: Vec<Service> = Vec::new();
    for (number, sketch) in sketches.iter().enumerate() {
        if !sketch.declared && number > 0 {
            continue;
        }
        let offering = ["program", "postgresql", "redis", "bought"][first[number].offering];
        let mut drawn = service(&format!("s{number}"), offering);
        let chosen = services.iter().enumerate().filter(|(index, _)| sketch.needs >> index & 1 == 1);
        drawn.needs = chosen.map(|(_, need)| need.name.clone()).collect();
        drawn.instances = sketch.instances;
        drawn.endpoint = sketch.endpoint.map(|side| local(10_000 + side * 100 + u16::try_from(number).unwrap()));
        if sketch.before {
            drawn.before = vec!["./migrate".parse().unwrap()];
        }
        if sketch.backed_up {
            drawn.data.backup_every = Some(Span::seconds(900));
        }
        // What one file asks for and the next does not is an upgrade, or the way back.
        drawn.version = match (offering, sketch.env) {
            ("postgresql", 0) => "<17".parse().unwrap(),
            ("redis", 0) => "<8".parse().unwrap(),
            _ => drawn.version,
        };
        drawn.env.insert("SIDE".to_owned(), sketch.env.to_string().parse().unwrap());
        services.push(drawn);
    }
    let estate = ["there", "yonder"].into_iter().fold(estate(at_once, services), with_provider);
    let soak = if at_once == 1 { Span::seconds(0) } else { Span::seconds(60) };
    let upgrade = Upgrade { by_itself: true, major: at_once == 50, soak, ..Upgrade::default() };
    Estate { provide: Some(Box::new(provide(3))), upgrade: Some(Box::new(upgrade)), ..estate }
}

/// The estate once more, with what is offered now.
fn given_again(known: &Knowledge, estate: &Estate) -> Event {
    let offered = |name: &ProviderName| known.catalogs.get(name).cloned();
    let catalogs: BTreeMap<_, _> =
        estate.providers.keys().filter_map(|name| Some((name.clone(), offered(name)?))).collect();
    if catalogs.is_empty() { given(estate) } else { Event::EstateGiven { estate: Arc::new(estate.clone()), catalogs } }
}

#[derive(Clone, Debug)]
enum Step {
    CarryOut(usize),
    TellOutcome(usize),
    Fail(usize, FailureClass),
    /// It was done, and whoever did it was cut off before saying so.
    DoneAndCutOff(usize),
    /// It was done, and the answer was lost.
    AnswerLost(usize),
    /// What was asked for long ago is made now.
    Appear(usize),
    Accepted(usize),
    Settle(usize, Settlement),
    TellReport {
        twice: bool,
    },
    Kill(usize),
    Spoil(usize),
    Hang(usize),
    Lose(usize),
    Probe(usize),
    Blind(usize),
    Oblige(usize),
    Pass(u64),
    Resume(ResumeCause, u64),
    Give(usize),
    Ask(usize, AskKind),
    Trade(usize, Trade),
    Down,
    NeverReady(usize, bool),
    Crashing(usize, bool),
    /// These versions can be had, and so the broker's plans are kept up to date.
    Offer(u8),
    /// One of these versions is no good, or is good again.
    Flawed(usize, usize, Option<bool>),
}

#[derive(Clone, Copy, Debug)]
enum AskKind {
    Restart,
    Scale(u32),
    Delete,
    Backup,
    Restore,
    FailOver {
        accept_loss: bool,
    },
    FailBack,
    Prove,
    DropBackup,
    Drill(Fault),
    Upgrade {
        one: bool,
    },
    Rollback {
        accept_loss: bool,
    },
    /// What is instructed by the number, of what and where by the place; for so many seconds.
    Override(u8, u64),
    EndOverride,
}

/// What others do who buy from the estate.
#[derive(Clone, Copy, Debug)]
enum Trade {
    Sell { large: bool },
    Admit,
    Leave,
    GiveBack,
}

fn step() -> impl Strategy<Value = Step> {
    let at = || 0..64_usize;
    let class = prop_oneof![
        6 => Just(FailureClass::Temporary),
        1 => Just(FailureClass::NeedsPerson),
        2 => Just(FailureClass::Interrupted),
        3 => Just(FailureClass::InDoubt),
        2 => Just(FailureClass::LeftBehind),
        1 => Just(FailureClass::Unclear),
    ];
    let cause = prop_oneof![Just(ResumeCause::Started), Just(ResumeCause::HolderReturned)];
    let ask = prop_oneof![
        3 => Just(AskKind::Restart),
        3 => (0..7_u32).prop_map(AskKind::Scale),
        2 => Just(AskKind::Delete),
        2 => Just(AskKind::Backup),
        1 => Just(AskKind::Restore),
        3 => any::<bool>().prop_map(|accept_loss| AskKind::FailOver { accept_loss }),
        1 => Just(AskKind::FailBack),
        1 => Just(AskKind::Prove),
        1 => Just(AskKind::DropBackup),
        4 => prop::sample::select(Fault::ALL.to_vec()).prop_map(AskKind::Drill),
        2 => any::<bool>().prop_map(|one| AskKind::Upgrade { one }),
        2 => any::<bool>().prop_map(|accept_loss| AskKind::Rollback { accept_loss }),
        5 => (any::<u8>(), 1..600_u64).prop_map(|(kind, seconds)| AskKind::Override(kind, seconds)),
        2 => Just(AskKind::EndOverride),
    ];
    let trade = prop_oneof![
        3 => any::<bool>().prop_map(|large| Trade::Sell { large }),
        3 => Just(Trade::Admit),
        1 => Just(Trade::Leave),
        1 => Just(Trade::GiveBack),
    ];
    prop_oneof![
        20 => at().prop_map(Step::CarryOut),
        20 => at().prop_map(Step::TellOutcome),
        4 => (at(), class).prop_map(|(at, class)| Step::Fail(at, class)),
        1 => at().prop_map(Step::DoneAndCutOff),
        2 => at().prop_map(Step::AnswerLost),
        2 => at().prop_map(Step::Appear),
        2 => at().prop_map(Step::Accepted),
        1 => (at(), prop_oneof![Just(Settlement::Delete), Just(Settlement::Release)])
            .prop_map(|(at, how)| Step::Settle(at, how)),
        6 => any::<bool>().prop_map(|twice| Step::TellReport { twice }),
        5 => at().prop_map(Step::Kill),
        1 => at().prop_map(Step::Spoil),
        3 => at().prop_map(Step::Hang),
        1 => at().prop_map(Step::Lose),
        20 => at().prop_map(Step::Probe),
        2 => at().prop_map(Step::Blind),
        30 => (1..40_usize).prop_map(Step::Oblige),
        10 => prop_oneof![0..2_000_u64, 0..400_000_u64].prop_map(Step::Pass),
        2 => (cause, any::<u64>()).prop_map(|(cause, mask)| Step::Resume(cause, mask)),
        4 => (0..4_usize).prop_map(Step::Give),
        7 => (at(), ask).prop_map(|(at, kind)| Step::Ask(at, kind)),
        4 => (at(), trade).prop_map(|(at, trade)| Step::Trade(at, trade)),
        1 => Just(Step::Down),
        1 => (at(), any::<bool>()).prop_map(|(at, on)| Step::NeverReady(at, on)),
        1 => (at(), any::<bool>()).prop_map(|(at, on)| Step::Crashing(at, on)),
        3 => any::<u8>().prop_map(Step::Offer),
        2 => (at(), at(), prop_oneof![Just(None), any::<bool>().prop_map(Some)])
            .prop_map(|(at, version, flaw)| Step::Flawed(at, version, flaw)),
    ]
}

fn nth<T: Clone>(mut of: impl ExactSizeIterator<Item = T>, number: usize) -> Option<T> {
    let length = of.len();
    (length > 0).then(|| of.nth(number % length)).flatten()
}

struct Storm {
    world: World,
    estates: Vec<Estate>,
    backups: u32,
}

impl Storm {
    fn take(&mut self, step: &Step) {
        let Self { world, estates, .. } = self;
        match step {
            Step::CarryOut(at) => {
                if let Some(id) = nth(world.orders.keys().copied(), *at) {
                    world.carry_out(id);
                }
            }
            Step::TellOutcome(at) => {
                if let Some(id) = nth(world.outcomes.keys().copied(), *at) {
                    let _ = world.tell_outcome(id);
                }
            }
            Step::Fail(at, class) => {
                if let Some(id) = nth(world.orders.keys().copied(), *at) {
                    world.fail(id, *class);
                }
            }
            Step::DoneAndCutOff(at) => {
                if let Some(id) = nth(world.orders.keys().copied(), *at) {
                    world.cut_off(id);
                }
            }
            Step::AnswerLost(at) => {
                if let Some(id) = nth(world.orders.keys().copied(), *at) {
                    world.answer_lost(id);
                }
            }
            Step::Appear(at) => {
                let still = |(id, since): (&AttemptId, &Timestamp)| {
                    (world.now.since(*since) < APPEARS_WITHIN && world.waits_for(id)).then(|| id.clone())
                };
                let late: Vec<AttemptId> = world.broker.late.iter().filter_map(still).collect();
                if let Some(id) = nth(late.into_iter(), *at) {
                    world.appear(&id);
                }
            }
            Step::Accepted(at) => {
                if let Some(id) = nth(world.orders.keys().copied(), *at) {
                    let _ = world.give(&Event::Accepted { id, operation: Some("task".to_owned()) });
                }
            }
            Step::Settle(at, how) => {
                let leftovers: Vec<AttemptId> =
                    world.known.services.values().flat_map(|service| service.leftovers.keys().cloned()).collect();
                if let Some(leftover) = nth(leftovers.into_iter(), *at) {
                    let released = *how == Settlement::Release;
                    let ask = Ask::Settle { leftover: leftover.clone(), how: *how };
                    let refused = world.give(&Event::Asked(ask)).facts.is_empty();
                    if released && !refused {
                        world.broker.bought.remove(&leftover); // it is no concern of ours any more
                    }
                }
            }
            Step::TellReport { twice } => {
                if let Some(report) = world.reports.pop_front() {
                    let _ = world.give(&report);
                    if *twice {
                        world.reports.push_back(report);
                    }
                }
            }
            Step::Kill(at) => each(world, *at, World::kill),
            Step::Spoil(at) => {
                if let Some((service, name)) = nth(world.stored.all().into_iter(), *at) {
                    world.stored.spoil(&service, &name);
                }
            }
            Step::Lose(at) => each(world, *at, World::lose),
            Step::Hang(at) => each(world, *at, |world, id| {
                if let Some(process) = world.instances.get_mut(id).and_then(|truth| truth.process.as_mut()) {
                    process.hung = true;
                }
            }),
            Step::Probe(at) => {
                if let Some(id) = nth(world.watches.keys().cloned(), *at) {
                    let _ = world.probe(&id);
                }
            }
            Step::Blind(at) => {
                if let Some(id) = nth(world.watches.keys().cloned(), *at) {
                    world.blind(&id);
                }
            }
            Step::Oblige(times) => {
                for _ in 0..*times {
                    world.oblige();
                }
            }
            Step::Pass(millis) => world.pass(Duration::from_millis(*millis)),
            Step::Resume(cause, mask) => {
                let _ = world.resume(*cause, |CommandId(id)| mask >> (id % 64) & 1 == 1);
            }
            Step::Give(at) => {
                let estate = nth(estates.iter(), *at).expect("there is one");
                let _ = world.give(&given_again(&world.known, estate));
            }
            Step::Offer(mask) => offer(world, *mask),
            Step::Flawed(at, version, flaw) => {
                let key = (name(&format!("s{}", at % 8)), VERSIONS[version % VERSIONS.len()].parse().unwrap());
                match flaw {
                    Some(true) => drop(world.flawed.insert(key, Flaw::NeverReady)),
                    Some(false) => drop(world.flawed.insert(key, Flaw::Broken)),
                    None => drop(world.flawed.remove(&key)),
                }
            }
            Step::Ask(at, kind) => self.ask(*at, *kind),
            Step::Trade(at, trade) => self.trade(*at, *trade),
            Step::Down => {
                let _ = world.give(&Event::Asked(Ask::Down));
            }
            Step::NeverReady(at, on) => mark(&mut world.never_ready, *at, *on),
            Step::Crashing(at, on) => mark(&mut world.crashing, *at, *on),
        }
    }

    /// Four things can be bought, three at the same time, and each has two users.
    fn trade(&mut self, at: usize, trade: Trade) {
        let sold = ["a", "b", "c", "d"][at % 4];
        let guest = format!("{sold}{}", at / 4 % 2);
        let ask = match trade {
            Trade::Sell { large } => {
                sell(sold, ["redis", "postgresql"][at % 2], Some(if large { "large" } else { "small" }))
            }
            Trade::Admit => admit(&guest, sold),
            Trade::Leave => Ask::EndSale { service: name(&format!("guest-{guest}")) },
            Trade::GiveBack => Ask::EndSale { service: name(&format!("sold-{sold}")) },
        };
        let _ = self.world.give(&Event::Asked(ask));
    }

    fn ask(&mut self, at: usize, kind: AskKind) {
        let service = name(&format!("s{}", at % 8));
        let ask = match kind {
            AskKind::Restart => Ask::Restart { service },
            AskKind::Scale(instances) => Ask::Scale { service, instances },
            AskKind::Delete => Ask::Delete { service },
            AskKind::Backup => {
                self.backups += 1;
                Ask::Backup { service, name: format!("b{}", self.backups) }
            }
            AskKind::Restore => Ask::Restore { service, name: "b1".to_owned() },
            AskKind::FailOver { accept_loss } => Ask::FailOver { service, to: None, accept_loss },
            AskKind::FailBack => Ask::FailBack { service },
            AskKind::Prove => Ask::Prove { service, name: None },
            AskKind::DropBackup => Ask::DropBackup { service, name: format!("b{}", at / 8) },
            AskKind::Upgrade { one } => Ask::Upgrade { service: one.then_some(service), to: None, despite: None },
            AskKind::Rollback { accept_loss } => Ask::Rollback { service, accept_loss },
            AskKind::Override(kind, seconds) => begin(instruction(service, kind, at), seconds),
            AskKind::EndOverride => match nth(self.world.overrides.keys().copied(), at) {
                Some(id) => end(id),
                None => return,
            },
            AskKind::Drill(fault) => Ask::Drill { service, fault, lasts: None, despite: None },
        };
        let _ = self.world.give(&Event::Asked(ask));
    }

    /// Nothing fails any more, and people answer what is asked. How much time and how many answers that takes is
    /// bounded: the longest pause is five minutes, and a repair has its turn within a few of them.
    fn calm(&mut self) {
        let world = &mut self.world;
        for id in world.overrides.keys().copied().collect::<Vec<_>>() {
            let _ = world.give(&Event::Asked(end(id)));
        }
        world.never_ready.clear();
        world.flawed.clear();
        world.crashing.clear();
        world
            .instances
            .values_mut()
            .filter_map(|truth| truth.process.as_mut())
            .for_each(|process| process.hung = false);
        for _ in 0..120 {
            world.settle();
            if is_quiet(&world.known) && !upgrade_is_due(&world.known, world.now) {
                return;
            }
            let held: BTreeSet<_> = world
                .known
                .services
                .iter()
                .filter(|(_, service)| service.instances.values().any(|instance| instance.held.is_some()))
                .map(|(name, service)| (name.clone(), service.ending == Some(Ending::Delete)))
                .collect();
            for (service, deleted) in held {
                let ask = if deleted { Ask::Delete { service } } else { Ask::Restart { service } };
                let _ = world.give(&Event::Asked(ask));
            }
            let quarantined: Vec<AttemptId> = world
                .known
                .services
                .values()
                .flat_map(|service| &service.leftovers)
                .filter(|(_, leftover)| leftover.quarantined.is_some())
                .map(|(id, _)| id.clone())
                .collect();
            for leftover in quarantined {
                let _ = world.give(&Event::Asked(Ask::Settle { leftover, how: Settlement::Delete }));
            }
            let moves: Vec<_> = world
                .known
                .services
                .iter()
                .filter(|(_, service)| service.moving.as_ref().is_some_and(|moving| moving.held.is_some()))
                .map(|(name, _)| name.clone())
                .collect();
            for service in moves {
                let went_back = !world.give(&Event::Asked(Ask::FailBack { service: service.clone() })).facts.is_empty();
                if !went_back {
                    let _ = world.give(&Event::Asked(Ask::FailOver { service, to: None, accept_loss: true }));
                }
            }
            world.settle();
            world.pass(Duration::from_secs(60));
        }
        panic!("never settled: {}", unsettled(&world.known, world.now).join("\n"));
    }
}

/// Settled, or stopped because that was asked. What is lost of a service that is not to run is a question that can wait.
fn is_quiet(known: &Knowledge) -> bool {
    known.is_settled() && (!known.down || known.is_at_rest())
}

/// Whether an upgrade will begin as soon as somebody looks.
fn upgrade_is_due(known: &Knowledge, now: Timestamp) -> bool {
    known.agenda.steps.iter().any(|step| {
        let service = known.services.get(&step.service).filter(|service| known.is_wanted(service));
        service.is_some_and(|service| match waits(known, service, step, now) {
            None
            | Some(Waits::Other(_) | Waits::TooMany(_) | Waits::NotWell(_) | Waits::Drill | Waits::Override(_)) => true,
            Some(Waits::Asked | Waits::Window(_) | Waits::PutOff(..)) => false,
        })
    })
}

/// What keeps the estate from being settled.
fn unsettled(known: &Knowledge, now: Timestamp) -> Vec<String> {
    let mut lines = vec![format!("down: {}, commands: {:?}", known.down, known.commands)];
    for step in &known.agenda.steps {
        let waits = known.services.get(&step.service).and_then(|service| waits(known, service, step, now));
        lines.push(format!("{} is to be upgraded, and waits for {waits:?}", step.service));
    }
    for view in ostler_manager::status(known, now).services {
        let mut service = known.services[&view.name].clone();
        for instance in view.instances {
            let known = known.instance(&instance.id).unwrap();
            let rests = matches!(instance.state, State::Retained | State::Stopped) && known.observed;
            if !(rests || instance.state == State::Ready && known.observed && known.entrusted && known.repair.is_none())
            {
                lines.push(format!("{} {} {:?} {known:?}", instance.id, instance.state, instance.because));
            }
        }
        service.instances.clear();
        lines.push(format!("{} {service:?}", view.state));
    }
    lines
}

/// Versions that there are of what has some.
const VERSIONS: [&str; 6] = ["15.18", "15.19", "16.4", "17.2", "7.2", "8.0"];

/// Some of them can be had; and a broker's plans are kept up to date.
fn offer(world: &mut World, mask: u8) {
    let Some(estate) = world.known.estate.clone() else { return };
    let some = |of: &[&str], mask: u8| {
        let chosen = of.iter().enumerate().filter(|(index, _)| mask >> index & 1 == 1);
        let chosen: Vec<_> = chosen.map(|(_, version)| version.parse().unwrap()).collect();
        if chosen.is_empty() { vec![of[of.len() - 1].parse().unwrap()] } else { chosen }
    };
    for provider in estate.providers.keys() {
        let Some(known) = world.known.catalogs.get(provider) else { continue };
        let mut catalog = Catalog::clone(known);
        for (called, versions) in
            [("postgresql", some(&VERSIONS[..4], mask)), ("redis", some(&VERSIONS[4..], mask >> 4))]
        {
            if let Some(offering) = catalog.offerings.get_mut(&called.parse().unwrap()) {
                offering.versions = versions;
            }
        }
        if let Some(bought) = catalog.offerings.get_mut(&"bought".parse().unwrap()) {
            let maintenance = Maintenance { version: format!("1.{}.0", mask >> 6), description: None };
            bought.plans.iter_mut().for_each(|plan| plan.maintenance = Some(maintenance.clone()));
        }
        let _ = world.give(&Event::CatalogRead { provider: provider.clone(), catalog: Arc::new(catalog) });
    }
}

fn each(world: &mut World, at: usize, what: impl Fn(&mut World, &InstanceId)) {
    if let Some(id) = nth(world.instances.keys().cloned(), at) {
        what(world, &id);
    }
}

fn mark(services: &mut BTreeSet<ostler_model::ids::ServiceName>, at: usize, on: bool) {
    let service = name(&format!("s{}", at % 8));
    if on {
        services.insert(service);
    } else {
        services.remove(&service);
    }
}

/// A settled estate is left alone, whatever makes ostler look.
fn assert_left_alone(world: &mut World) {
    let scopes: Vec<Scope> = world.known.services.keys().cloned().map(Scope::Service).collect();
    for scope in scopes {
        let decision = decide(&world.known, &Event::Look(scope.clone()), world.now);
        assert_eq!((decision.facts, decision.commands), (vec![], vec![]), "{scope:?}");
    }
    if !world.known.down
        && let Some(estate) = world.known.estate.clone()
    {
        let scaled = world.known.services.values().any(|service| service.scale.is_some());
        let decision = decide(&world.known, &given_again(&world.known, &estate), world.now);
        assert!(scaled || decision.facts.is_empty(), "{:?}", decision.facts);
    }
    for cause in [ResumeCause::Started, ResumeCause::HolderReturned] {
        world.pass(Duration::from_millis(1));
        let from = world.facts.len();
        let _ = world.resume(cause, |_| true);
        world.settle();
        for fact in &world.facts[from..] {
            if let ostler_manager::FactKind::CommandIssued { command, .. } = &fact.kind {
                use ostler_manager::Command::{
                    Backup, Bind, CloseEndpoint, DropBackup, Mitigate, Notify, Observe, OpenEndpoint, ProveBackup,
                    Start, Tidy, Watch,
                };
                let harmless = match command {
                    Observe { .. } | Watch { .. } | OpenEndpoint { .. } | Mitigate { .. } | Tidy { .. } => true,
                    Bind { instance, .. } => world.is_bought(instance.service()), // its time came
                    // Their time came while ostler looked around.
                    Backup { name, .. } => name.starts_with("scheduled-"),
                    ProveBackup { .. } | DropBackup { .. } => true,
                    Start { instance, .. } => world.truth(instance).process.is_some_and(|p| p.since < fact.at),
                    // What was lost while nobody looked is seen now.
                    Notify { occasion, .. } => *occasion == Occasion::Held,
                    CloseEndpoint { service } => !world.known.services[service].declared || world.known.down,
                    _ => false,
                };
                assert!(harmless, "{command:?}");
            }
        }
        assert!(is_quiet(&world.known), "{}", unsettled(&world.known, world.now).join("\n"));
    }
}

fn assert_facts_are_all(world: &World) {
    let folded = world.folded();
    assert_eq!(folded, world.known, "the facts do not tell all that is known");
    let mut again = folded.clone();
    again.clone_from(&Knowledge::default());
    world.facts.iter().for_each(|fact| evolve(&mut again, fact));
    assert_eq!(again, folded, "folded twice");
    for fact in &world.facts {
        let text = serde_json::to_string(fact).unwrap();
        assert_eq!(&serde_json::from_str::<Fact>(&text).unwrap(), fact, "{text}");
    }
    let text = serde_json::to_string(&folded).unwrap();
    assert_eq!(serde_json::from_str::<Knowledge>(&text).unwrap(), folded);
}

/// What is at the broker is in use, or kept on purpose; nothing else is paid for.
fn assert_nothing_left(world: &mut World) {
    let left = |world: &World| {
        let in_use = |id: &&AttemptId| {
            world.known.instance(&id.instance).and_then(|instance| instance.attempts.number()) == Some(id.attempt)
        };
        world.broker.bought.iter().find(|id| !in_use(id)).cloned()
    };
    // What appeared late is found by the time at which nothing appears any more.
    for _ in 0..26 {
        if world.known.down || left(world).is_none() {
            return;
        }
        world.pass(Duration::from_secs(3600));
        world.settle();
    }
    panic!("{:?} is left behind", left(world));
}

fn assert_truth_is_known(world: &World) {
    for (id, truth) in &world.instances {
        let known = world.instance(id);
        let pid = truth.process.as_ref().map(|process| process.pid).filter(|_| !world.is_bought(id.service()));
        assert_eq!(known.running.and_then(|running| running.pid), pid, "{id}");
        let routed = known.address().filter(|_| known.routed);
        assert_eq!(world.routes.get(id).copied(), routed, "callers of {id}");
    }
    for (id, (watch, _)) in &world.watches {
        assert_eq!(world.instance(id).watch, Some(*watch), "the watch of {id}");
    }
    for (service, address) in &world.endpoints {
        let endpoint = &world.known.services[service].endpoint;
        assert_eq!((endpoint.open, endpoint.address), (true, Some(*address)), "{service}'s endpoint");
    }
    for (binding, instance) in &world.bindings {
        let held = world.known.services.get(&binding.consumer).and_then(|service| service.bindings.get(&binding.need));
        // Whether it was made elsewhere is not known, and is seen to when somebody needs it.
        if held.is_some_and(|held| held.state == BindingState::Doubtful) {
            continue;
        }
        assert_eq!(held.map(|held| &held.instance), Some(instance), "{binding}");
    }
    for service in world.known.services.values().filter(|service| world.known.is_wanted(service)) {
        for (need, held) in service.bindings.iter().filter(|(need, _)| service.spec.needs.contains(*need)) {
            assert_eq!(world.bindings.get(&service.binding_id(need)), Some(&held.instance), "{need}");
        }
    }
}

fn storm(estates: &[Vec<Sketch>], at_once: u8, steps: &[Step]) -> Storm {
    let estates = estates.iter().map(|sketches| drawn(&estates[0], sketches, at_once)).collect();
    let mut storm = Storm { world: World::new(), estates, backups: 0 };
    storm.world.broker.lasts = Some(Duration::from_secs(3600));
    storm.take(&Step::Give(0));
    for step in steps {
        storm.take(step);
    }
    storm
}

const SEED: u64 = 2;

/// As many cases as `PROPTEST_CASES` says, 256 without it, from one fixed seed, so that a change is what makes it fail
/// and not chance; `PROPTEST_RNG_SEED` looks elsewhere.
fn config() -> ProptestConfig {
    let seed = std::env::var("PROPTEST_RNG_SEED").ok().and_then(|seed| seed.parse().ok());
    ProptestConfig {
        rng_seed: RngSeed::Fixed(seed.unwrap_or(SEED)),
        max_shrink_iters: 4000,
        max_shrink_time: 120_000,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("tests/regressions/storm.txt"))),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn after_the_storm_all_is_well(
        estates in estates(),
        at_once in prop_oneof![Just(1_u8), Just(20), Just(50)],
        steps in vec(step(), 0..150),
    ) {
        let mut storm = storm(&estates, at_once, &steps);
        assert_expired_changes_nothing(&storm.world);
        storm.calm();
        assert_nothing_left(&mut storm.world);
        assert_facts_are_all(&storm.world);
        assert_truth_is_known(&storm.world);
        prop_assert_eq!((&storm.world.fault, &storm.world.known.drill), (&None, &None), "a drill is never undone");
        assert_left_alone(&mut storm.world);
    }
}
