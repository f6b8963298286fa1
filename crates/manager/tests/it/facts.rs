//! `evolve` takes any fact in any state.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ostler_manager::diagnosis::{Cause, Changed, Fault, Finding};
use ostler_manager::remedy::Remedy;
use ostler_manager::{
    Aim, Brings, By, ClaimStep, Command, Diagnosis, Difference, Drill, DrillResult, Elsewhere, Event, Fact, FactKind,
    Hit, Instruction, Knowledge, Launch, Measured, Newer, Outcome, OwnBuild, OwnStep, Place, Process, ResumeCause,
    Scope, Untreated, Verdict, WhyEnded, check, decide, evolve, status,
};
use ostler_model::catalog::{Limits, Placement};
use ostler_model::estate::drills::Fault as DrillFault;
use ostler_model::estate::{Listen, Occasion};
use ostler_model::health::{Exit, Health, Symptom, SymptomKind};
use ostler_model::ids::{AttemptId, BindingId, CommandId, InstanceId, ServiceName};
use ostler_model::outcome::{BackupMade, Counted, FailureClass, Observation, Proof, Running};
use ostler_model::overrides::OverrideId;
use ostler_model::time::{Span, Timestamp};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

use crate::storm::{drawn, estates};
use crate::support::{START, catalogs, here, local, name, uuid};
use crate::world::{failure, unready};

fn service() -> impl Strategy<Value = ServiceName> {
    (0..4_u8).prop_map(|number| name(&format!("s{number}")))
}

fn instance() -> impl Strategy<Value = InstanceId> {
    (service(), prop_oneof![9 => 1..4_u32, 1 => Just(u32::MAX)])
        .prop_map(|(service, number)| InstanceId::new(service, number))
}

fn time() -> impl Strategy<Value = Timestamp> {
    prop_oneof![8 => (0..600_000_000_i64).prop_map(|more| Timestamp(START.0 + more)), 1 => any::<i64>().prop_map(Timestamp)]
}

fn running() -> impl Strategy<Value = Running> {
    (prop::option::of(1..5_u32), 1..4_u16, time()).prop_map(|(pid, port, since)| Running {
        pid,
        address: local(port),
        since,
    })
}

fn health() -> impl Strategy<Value = Health> {
    let symptom = || Symptom { kind: SymptomKind::TimedOut, detail: "slow".to_owned() };
    let unknown = Symptom { kind: SymptomKind::Unknown, detail: "no more descriptors".to_owned() };
    prop_oneof![
        Just(Health::Ready),
        Just(Health::Shallow(symptom())),
        Just(unready("nobody answers")),
        Just(Health::Unready(unknown))
    ]
}

fn diagnosis() -> impl Strategy<Value = Diagnosis> {
    let symptom = Symptom { kind: SymptomKind::Refused, detail: "refused".to_owned() };
    prop_oneof![
        Just(Diagnosis::Died { exit: Exit::Code(1), why_not: "spent".to_owned() }),
        Just(Diagnosis::DiedAndRestarted { exit: Exit::Signal(9) }),
        Just(Diagnosis::Unresponsive { symptom: symptom.clone() }),
        Just(Diagnosis::NeverReady { symptom: Some(symptom) }),
        Just(Diagnosis::NeverReady { symptom: None }),
        Just(Diagnosis::CannotStart { cause: "no file".to_owned(), remedy: Some("make it".to_owned()) }),
        Just(Diagnosis::CannotStart { cause: "no file".to_owned(), remedy: None }),
        Just(Diagnosis::FoundDead { exit: None }),
    ]
}

fn command() -> impl Strategy<Value = Command> {
    let binding = || (service(), service()).prop_map(|(consumer, need)| BindingId { consumer, need });
    let span = Span::seconds(1);
    let made = || BackupMade { name: "b".to_owned(), bytes: 1, sha256: String::new(), place: None };
    prop_oneof![
        (service(), prop::option::of(1..4_u16))
            .prop_map(|(service, port)| { Command::OpenEndpoint { service, address: port.map(local) } }),
        service().prop_map(|service| Command::CloseEndpoint { service }),
        (service(), 0..3_u64).prop_map(|(service, epoch)| Command::Fence { service, epoch }),
        instance().prop_map(|instance| Command::Prove { instance }),
        instance().prop_map(|instance| Command::Provision { instance }),
        instance().prop_map(|instance| Command::Observe { instance }),
        (instance(), 0..4_u32).prop_map(|(instance, generation)| Command::Before { instance, generation }),
        (instance(), 0..4_u32, any::<bool>()).prop_map(move |(instance, generation, entrust)| Command::Start {
            instance,
            generation,
            reflex_burst: 1,
            reflex_refill: span,
            entrust
        }),
        instance().prop_map(move |instance| Command::Stop { instance, drain: span, grace: span }),
        instance().prop_map(|instance| Command::Deprovision { instance }),
        (binding(), instance(), 1..4_u16).prop_map(|(binding, instance, port)| Command::Bind {
            binding,
            instance,
            endpoint: local(port)
        }),
        (binding(), instance()).prop_map(|(binding, instance)| Command::Unbind { binding, instance }),
        instance().prop_map(|instance| Command::Release { instance }),
        (instance(), 0..4_u32).prop_map(|(instance, generation)| Command::Update { instance, generation }),
        (instance(), 1..3_u32)
            .prop_map(|(instance, attempt)| Command::Mitigate { leftover: AttemptId { instance, attempt } }),
        (binding(), instance()).prop_map(|(binding, instance)| Command::Tidy { binding, instance, rounds: vec![1, 2] }),
        instance().prop_map(|instance| Command::Backup { instance, name: "b".to_owned() }),
        instance().prop_map(move |instance| Command::Restore { instance, backup: made() }),
        service().prop_map(move |service| Command::ProveBackup { service, backup: made() }),
        service().prop_map(move |service| Command::DropBackup { service, backup: made() }),
        (instance(), 1..4_u16).prop_map(|(instance, port)| Command::Watch { instance, address: local(port) }),
        instance().prop_map(|instance| Command::Unwatch { instance }),
        (instance(), prop::option::of(1..4_u16))
            .prop_map(|(instance, port)| Command::Route { instance, address: port.map(local) }),
        drill().prop_map(|drill| Command::Fault { drill: Box::new(drill) }),
        drill().prop_map(|drill| Command::Undo { drill: Box::new(drill) }),
        service().prop_map(|service| Command::Notify { service, occasion: Occasion::Failed, message: "m".to_owned() }),
    ]
}

fn drill() -> impl Strategy<Value = Drill> {
    let hits = vec((instance(), running()).prop_map(|(instance, running)| Hit { instance, running }), 0..3);
    let fault = prop::sample::select(DrillFault::ALL.to_vec());
    let binding = (service(), service()).prop_map(|(consumer, need)| BindingId { consumer, need });
    let aim = prop_oneof![binding.prop_map(Aim::Binding), Just(Aim::Backup("b".to_owned()))];
    let all = (service(), fault, hits, prop::option::of(aim), time(), 0..4_u32);
    all.prop_map(|(service, fault, hits, aim, until, number)| Drill {
        number,
        service,
        provider: Some(here()),
        fault,
        hits,
        aim,
        until,
        by: By::Schedule,
    })
}

fn drilled() -> impl Strategy<Value = FactKind> {
    let verdict = prop::sample::select(vec![Verdict::Proven, Verdict::NotHealed, Verdict::NotCaused("no".to_owned())]);
    (drill(), time(), verdict).prop_map(|(drill, time, verdict)| {
        let result = DrillResult {
            drill,
            began: time,
            caused: Some(time),
            ended: time,
            verdict,
            noticed_ms: Some(u64::MAX),
            diagnosed: None,
            healed_ms: None,
            measured: Measured::default(),
        };
        FactKind::DrillEnded { result: Box::new(result) }
    })
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let made = BackupMade { name: "b".to_owned(), bytes: 1, sha256: String::new(), place: None };
    prop_oneof![
        (1..4_u16).prop_map(|port| Outcome::Open(local(port))),
        running().prop_map(|running| Outcome::Observed(Observation::Running(running))),
        Just(Outcome::Observed(Observation::Stopped { exit: None })),
        Just(Outcome::Observed(Observation::Absent)),
        Just(Outcome::Observed(Observation::NotSeen { why: "404".to_owned() })),
        Just(Outcome::Observed(Observation::Useless { why: "failed".to_owned() })),
        running().prop_map(|running| Outcome::Started(running.into())),
        Just(Outcome::Stopped { exit: None, killed: false, cut: 0 }),
        (0..2_u8).prop_map(|digest| Outcome::Bound { digest: digest.to_string(), renew_at: None }),
        Just(Outcome::BackedUp(made)),
        Just(Outcome::Proven(Proof { took: Span::seconds(1), counted: Counted::new(), contracts: 0 })),
        Just(Outcome::Unusable { why: "damaged".to_owned() }),
        Just(Outcome::Done),
        Just(Outcome::Proved { checks: Vec::new() }),
        time().prop_map(|at| Outcome::Caused { at }),
        Just(Outcome::Undone(Box::default())),
        prop_oneof![
            Just(FailureClass::Temporary),
            Just(FailureClass::NeedsPerson),
            Just(FailureClass::Interrupted),
            Just(FailureClass::InDoubt),
            Just(FailureClass::LeftBehind),
            Just(FailureClass::Unclear),
        ]
        .prop_map(|class| Outcome::Failed(failure(class, "no"))),
    ]
}

fn launch() -> impl Strategy<Value = Arc<Launch>> {
    proptest::collection::btree_map(service(), 1..3_u32, 0..3).prop_map(|needs| {
        let placement = Placement {
            provider: "here".parse().unwrap(),
            offering: "program".parse().unwrap(),
            plan: "small".parse().unwrap(),
            version: None,
            handle: None,
            maintenance: None,
        };
        Arc::new(Launch {
            placement,
            run: Vec::new(),
            before: Vec::new(),
            env: BTreeMap::new(),
            parameters: Default::default(),
            context: Default::default(),
            listen: Listen::Port,
            limits: Limits::default(),
            folder: "/srv".into(),
            needs,
        })
    })
}

fn happened() -> impl Strategy<Value = FactKind> {
    let id = || (0..8_u64).prop_map(CommandId);
    let process = || (1..5_u32, time()).prop_map(|(pid, since)| Process { pid, since });
    prop_oneof![
        1 => Just(FactKind::Resumed { cause: ResumeCause::Started }),
        10 => instance().prop_map(|instance| FactKind::InstanceDeclared { instance }),
        3 => instance().prop_map(|instance| FactKind::InstanceRetired { instance }),
        20 => (id(), command()).prop_map(|(id, command)| FactKind::CommandIssued { id, command }),
        20 => (id(), outcome()).prop_map(|(id, outcome)| FactKind::CommandEnded { id, outcome }),
        5 => (instance(), time(), prop::option::of(process())).prop_map(|(instance, seen, restarted)| {
            FactKind::InstanceDied { instance, pid: Some(1), exit: Exit::Unknown, seen, restarted, why_not: None }
        }),
        10 => (instance(), health()).prop_map(|(instance, health)| FactKind::HealthChanged { instance, health }),
        5 => (instance(), diagnosis()).prop_map(|(instance, diagnosis)| FactKind::RepairBegan { instance, diagnosis }),
        2 => instance().prop_map(|instance| FactKind::RepairEnded { instance }),
        3 => (instance(), time(), any::<u32>())
            .prop_map(|(instance, until, failures)| FactKind::BackedOff { instance, until, failures }),
        1 => (instance(), any::<bool>()).prop_map(|(instance, goes_on)| {
            FactKind::Held { instance, question: "?".to_owned(), answer: "!".to_owned(), goes_on }
        }),
        5 => (instance(), cause()).prop_map(|(instance, cause)| {
            FactKind::Concluded { instance, finding: Finding { cause, evidence: Vec::new() } }
        }),
        5 => (instance(), remedy()).prop_map(|(instance, remedy)| {
            FactKind::RemedyChosen { instance, remedy, weighed: Vec::new(), forced: Some(OverrideId(1)) }
        }),
        2 => (service(), 0..4_u32).prop_map(|(service, generation)| {
            FactKind::LaunchRejected { service, generation, why: "bad".to_owned() }
        }),
        2 => (service(), service()).prop_map(|(consumer, need)| {
            FactKind::CredentialsDoubted { binding: BindingId { consumer, need } }
        }),
    ]
}

fn cause() -> impl Strategy<Value = Cause> {
    prop_oneof![
        Just(Cause::Instance(Fault::Hung)),
        Just(Cause::Instance(Fault::CrashLoop)),
        Just(Cause::Change(Changed::Program)),
        service().prop_map(Cause::Need),
        Just(Cause::Provider("here".parse().unwrap())),
        Just(Cause::Region("eu".to_owned())),
        Just(Cause::OwnView),
    ]
}

fn remedy() -> impl Strategy<Value = Remedy> {
    prop_oneof![
        Just(Remedy::Wait),
        Just(Remedy::Restart),
        Just(Remedy::RenewBinding),
        Just(Remedy::RollBack),
        Just(Remedy::FailOver),
        Just(Remedy::Ask),
    ]
}

fn asked() -> impl Strategy<Value = FactKind> {
    let text = || "b".to_owned();
    prop_oneof![
        Just(FactKind::EstateFounded { uuid: uuid() }),
        (service(), launch(), 0..4_u32).prop_map(|(service, launch, generation)| FactKind::LaunchDefined {
            service,
            generation,
            launch
        }),
        (service(), launch())
            .prop_map(|(service, launch)| FactKind::ServicePlaced { service, placement: launch.placement.clone() }),
        Just(FactKind::CatalogSeen {
            provider: "here".parse().unwrap(),
            catalog: catalogs().into_values().next().unwrap()
        }),
        service().prop_map(|service| FactKind::Told { service, occasion: Occasion::Failed }),
        service().prop_map(|service| FactKind::RestartAsked { service }),
        (service(), any::<u32>()).prop_map(|(service, instances)| FactKind::ScaleAsked { service, instances }),
        Just(FactKind::DownAsked),
        service().prop_map(|service| FactKind::DeleteAsked { service }),
        service().prop_map(move |service| FactKind::BackupAsked { service, name: text() }),
        service().prop_map(move |service| FactKind::RestoreAsked { service, name: text() }),
        service().prop_map(move |service| FactKind::ProofAsked { service, name: text() }),
        service().prop_map(move |service| FactKind::BackupBrought {
            service,
            backup: BackupMade { name: text(), bytes: u64::MAX, sha256: text(), place: None },
        }),
        service().prop_map(move |service| FactKind::BackupDropped { service, name: text(), why: text() }),
        service().prop_map(|service| FactKind::CallersAffected {
            service,
            from: START,
            until: START,
            waited: u64::MAX,
            failed: 0,
            longest: Duration::MAX
        }),
        Just(FactKind::LossAccepted { acknowledged: None }),
        prop::sample::select(vec![ClaimStep::Paid { amount: None }, ClaimStep::Refused, ClaimStep::Reopened]).prop_map(
            |step| FactKind::ServiceCredit {
                provider: here(),
                month: "2026-11".parse().unwrap(),
                step,
                by: "ana".to_owned(),
                note: None,
            }
        ),
        Just(FactKind::SelfUpgrade { from: own_build(), to: own_build(), step: OwnStep::TakenBack { why: text() } }),
        drill().prop_map(|drill| FactKind::DrillBegan { drill }),
        overridden(),
        drilled(),
        moved(),
    ]
}

pub(crate) fn instruction() -> impl Strategy<Value = Instruction> {
    let provider = || prop_oneof![Just("here"), Just("there")].prop_map(|name| name.parse().unwrap());
    prop_oneof![
        (service(), provider()).prop_map(|(service, provider)| Instruction::Pin { service, provider, plan: None }),
        service().prop_map(|service| Instruction::Hold { service }),
        provider().prop_map(|provider| Instruction::ForbidProvider { provider }),
        service().prop_map(|service| Instruction::SkipUpgrade { service, version: None }),
        prop::option::of(service()).prop_map(|service| Instruction::Freeze { service }),
        (service(), remedy()).prop_map(|(service, remedy)| Instruction::ForceRemedy { service, remedy }),
    ]
}

fn overridden() -> impl Strategy<Value = FactKind> {
    let id = || (1..5_u32).prop_map(OverrideId);
    let place = |provider: &str| Place {
        provider: provider.parse().unwrap(),
        offering: "program".parse().unwrap(),
        plan: "small".parse().unwrap(),
    };
    let elsewhere = move || Elsewhere { with: place("here"), instead: place("there") };
    let difference = prop_oneof![
        (service(), any::<bool>())
            .prop_map(move |(service, is)| Difference::Place { service, instead: is.then(elsewhere) }),
        (service(), prop::option::of(any::<u32>())).prop_map(|(service, updates)| Difference::Upgrade {
            service,
            instead: updates.map(|updates| Newer { to: "2".to_owned(), updates })
        }),
        (instance(), remedy(), any::<u64>(), any::<bool>()).prop_map(|(instance, remedy, takes_ms, away)| {
            Difference::Remedy { instance, instead: Some(Untreated { remedy, takes_ms, away }) }
        }),
        instance().prop_map(|instance| Difference::Remedy { instance, instead: None }),
    ];
    prop_oneof![
        (id(), instruction(), time()).prop_map(|(id, instruction, until)| FactKind::OverrideBegan {
            id,
            instruction,
            owner: "Ada".to_owned(),
            reason: "so".to_owned(),
            until
        }),
        (id(), difference).prop_map(|(id, difference)| FactKind::OverrideWeighed { id, difference }),
        id().prop_map(|id| FactKind::OverrideEnded { id, end: WhyEnded::Expired }),
    ]
}

fn own_build() -> OwnBuild {
    OwnBuild { version: "1".to_owned(), sha256: String::new() }
}

fn moved() -> impl Strategy<Value = FactKind> {
    let made = BackupMade { name: "b".to_owned(), bytes: 1, sha256: String::new(), place: None };
    let brings = || {
        prop_oneof![
            Just(Brings::Nothing),
            Just(Brings::LastBackup),
            Just(Brings::Backup { made: made.clone(), lost_since: Some(START) })
        ]
    };
    let place = |there: bool| Placement {
        provider: if there { "there" } else { "here" }.parse().unwrap(),
        offering: "program".parse().unwrap(),
        plan: "small".parse().unwrap(),
        version: None,
        handle: None,
        maintenance: None,
    };
    let why = String::new;
    prop_oneof![
        (service(), any::<bool>(), brings()).prop_map(move |(service, there, brings)| FactKind::MoveBegan {
            service,
            to: place(there),
            brings,
            accepts_loss: there,
            why: why()
        }),
        (service(), prop::option::of(any::<bool>()), brings()).prop_map(move |(service, to, brings)| {
            let (to, bad) = (to.map(place), Some("b".to_owned()));
            FactKind::MoveTurned { service, to, brings, bad, accepts_loss: false, why: why() }
        }),
        service().prop_map(|service| FactKind::MoveHeld { service, question: "?".to_owned(), answer: "!".to_owned() }),
        service().prop_map(|service| FactKind::MoveReturned { service }),
        service().prop_map(|service| FactKind::MoveEnded { service }),
        instance().prop_map(|instance| FactKind::InstanceDiscarded { instance, why: String::new() }),
    ]
}

/// The counters and sets that speed up questions hold in any state; the other rules speak of honest histories.
fn assert_counts_hold(known: &Knowledge) {
    let broken: Vec<String> = check(known).into_iter().map(|violation| violation.0).collect();
    let counting = ["counts", "takes", "are counted", "count as"];
    let miscounted: Vec<&String> =
        broken.iter().filter(|text| counting.iter().any(|word| text.contains(word))).collect();
    assert!(miscounted.is_empty(), "{miscounted:?}");
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("tests/regressions/facts.txt"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_fact_in_any_state(
        estates in estates(),
        kinds in vec((time(), prop_oneof![1 => (0..3_usize).prop_map(Err), 6 => asked().prop_map(Ok), 40 => happened().prop_map(Ok)]), 1..200),
    ) {
        let mut known = Knowledge::default();
        for (at, kind) in kinds {
            let kind = kind.unwrap_or_else(|number| {
                let estate = drawn(&estates[0], &estates[number % estates.len()], 20);
                FactKind::EstateDeclared { estate: Arc::new(estate) }
            });
            let fact = Fact { at, kind };
            evolve(&mut known, &fact);
            assert_counts_hold(&known);
            let text = serde_json::to_string(&fact).unwrap();
            prop_assert_eq!(serde_json::from_str::<Fact>(&text).unwrap(), fact);
        }
        // Nor does anything that only looks panic on it. A service that is to have billions of instances is not looked at.
        for (name, service) in known.services.iter().filter(|(_, service)| service.wanted_instances() < 1000) {
            let _ = decide(&known, &Event::Look(Scope::Service(name.clone())), START);
            for number in service.instances.keys() {
                let _ = decide(&known, &Event::Look(Scope::Instance(service.instance_id(*number))), START);
            }
        }
        let _ = status(&known, START);
        let text = serde_json::to_string(&known).unwrap();
        prop_assert_eq!(serde_json::from_str::<Knowledge>(&text).unwrap(), known);
    }
}
