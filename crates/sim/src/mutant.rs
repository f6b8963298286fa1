//! Managers, disks and providers that are wrong on purpose, one for each promise: a check that no mutant can trip
//! checks nothing.

use ostler_manager::{BindingState, By, Command, Drill, Hit, Knowledge, ServiceKnowledge};
use ostler_model::estate::drills::Fault;
use ostler_model::ids::{AttemptId, BindingId, CommandId, InstanceId};
use ostler_model::time::Span;

use crate::promise::Promise;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// The disk forgets what it acknowledged last.
    ForgetfulDisk,
    /// The disk gives back one fact in another's place.
    SwappingDisk,
    /// The disk does not store secrets.
    SecretlessDisk,
    /// The manager remembers what it has not recorded.
    RemembersUnrecorded,
    /// The manager gives orders twice.
    OrdersTwice,
    /// Whoever holds the processes starts one beside another.
    StartsTwins,
    /// A provider makes things nobody knows.
    MakesOrphans,
    /// The manager deletes what it should stop.
    DeletesForStop,
    /// The manager makes anew what lost its data.
    ReplacesLostData,
    /// The manager never backs up.
    NeverBacksUp,
    /// The manager never proves a restore.
    NeverProves,
    /// The manager deletes the newest backup.
    DropsNewest,
    /// The manager repairs without pause.
    RepairsWithoutPause,
    /// The manager takes callers from every instance it thinks about.
    WithdrawsLast,
    /// The manager sends callers elsewhere.
    RoutesWrong,
    /// The manager does not hear of what came of its orders.
    LosesOutcomes,
    /// The manager stops things for no reason.
    StopsForNothing,
    /// The manager stops what fails only because its needs do.
    HealsVictims,
    /// The manager goes on ordering when all is well.
    NeverAtRest,
    /// Whoever asks brokers uses one name for all asks.
    RepeatsAsks,
    /// The manager takes what is in use for something that was left behind.
    TidiesUsed,
    /// The manager ends credentials that are in use.
    EndsUsedCredentials,
    /// The manager does not renew credentials.
    NeverRenews,
    /// The manager stops what is of a plan that is gone.
    StopsVanished,
    /// The manager deletes what was bought at a provider that is not in the file any more.
    RemovesWithProvider,
    /// The manager deletes what it should leave to its provider.
    DeletesForRelease,
    /// The manager does not undo what it has caused.
    NeverUndoes,
    /// The manager makes two drills at once.
    DrillsTwice,
    /// The manager makes drills at any time.
    DrillsAnytime,
    /// The manager leaves behind what was left behind.
    NeverTidies,
    /// The manager sends callers to what a move left.
    RoutesLeft,
    /// The manager sends callers to what a move makes before it was looked at.
    OpensEarly,
    /// The manager moves services with the oldest backup that there is.
    RestoresOldest,
    /// The manager deletes what a move left.
    DiscardsLeft,
    /// The gateway says that it has cut off callers, and has not.
    FencesInVain,
    /// The manager never looks at what a move makes.
    NeverProvesMoves,
}

impl Mutant {
    /// All of them, each with the promises that it breaks: at least one of these must be seen to be broken.
    pub const ALL: [(Self, &'static [Promise]); 36] = [
        (Self::ForgetfulDisk, &[Promise::FactsKept]),
        (Self::SwappingDisk, &[Promise::FactsKept]),
        (Self::SecretlessDisk, &[Promise::SecretsKept]),
        (Self::RemembersUnrecorded, &[Promise::ReplayEqual]),
        (Self::OrdersTwice, &[Promise::OneOperation]),
        (Self::StartsTwins, &[Promise::OneProcess]),
        (Self::MakesOrphans, &[Promise::NoOrphan]),
        (Self::DeletesForStop, &[Promise::NoUnaskedDeletion]),
        (Self::ReplacesLostData, &[Promise::DataKept]),
        (Self::NeverBacksUp, &[Promise::BackupsInTime]),
        (Self::NeverProves, &[Promise::ProofsInTime]),
        (Self::DropsNewest, &[Promise::GoodBackupKept]),
        (Self::RepairsWithoutPause, &[Promise::Brakes]),
        (Self::WithdrawsLast, &[Promise::LastOneServes]),
        (Self::RoutesWrong, &[Promise::RoutesRight]),
        (Self::LosesOutcomes, &[Promise::HealedOrAsked, Promise::Converges]),
        (Self::StopsForNothing, &[Promise::Explained]),
        (Self::HealsVictims, &[Promise::VictimsSpared]),
        (Self::NeverAtRest, &[Promise::SettledLeftAlone]),
        (Self::RepeatsAsks, &[Promise::AskedOnce]),
        (Self::TidiesUsed, &[Promise::UsedKept]),
        (Self::EndsUsedCredentials, &[Promise::CredentialsKept]),
        (Self::NeverRenews, &[Promise::RenewedInTime]),
        (Self::StopsVanished, &[Promise::PlansKept]),
        (Self::RemovesWithProvider, &[Promise::BoughtKept]),
        (Self::DeletesForRelease, &[Promise::ReleasedKept]),
        (Self::NeverUndoes, &[Promise::DrillUndone]),
        (Self::DrillsTwice, &[Promise::OneDrill]),
        (Self::DrillsAnytime, &[Promise::DrillInWindow]),
        (Self::NeverTidies, &[Promise::NothingDoubled]),
        (Self::RoutesLeft, &[Promise::LeftAlone]),
        (Self::OpensEarly, &[Promise::ProvenFirst]),
        (Self::RestoresOldest, &[Promise::LossBounded]),
        (Self::DiscardsLeft, &[Promise::LeftKept]),
        (Self::FencesInVain, &[Promise::NoSplit]),
        (Self::NeverProvesMoves, &[Promise::MovesEnd]),
    ];

    /// What this manager hands over in the place of what the right one decided.
    pub(crate) fn orders(
        self,
        right: Vec<(CommandId, Command)>,
        known: Option<&Knowledge>,
        was_settled: bool,
    ) -> Vec<(CommandId, Command)> {
        let Some(known) = known else { return right };
        let mut wrong = Vec::with_capacity(right.len());
        for (id, command) in right {
            let odd = CommandId(id.0 + (1 << 60));
            match (self, command) {
                (Self::OrdersTwice, command @ Command::Start { .. }) => {
                    wrong.push((odd, command.clone()));
                    wrong.push((id, command));
                }
                (Self::DeletesForStop, Command::Stop { instance, .. }) => {
                    wrong.push((id, Command::Deprovision { instance }));
                }
                (Self::NeverBacksUp, Command::Backup { .. }) | (Self::NeverProves, Command::ProveBackup { .. }) => {}
                (Self::DropsNewest, Command::ProveBackup { service, backup }) => {
                    wrong.push((id, Command::DropBackup { service, backup }));
                }
                (Self::RoutesWrong, Command::Route { instance, address: Some(address) }) => {
                    let mut address = address;
                    address.set_port(address.port() ^ 1);
                    wrong.push((id, Command::Route { instance, address: Some(address) }));
                }
                (Self::TidiesUsed, Command::Observe { instance }) => match made(known, &instance) {
                    Some(attempt) => {
                        let leftover = AttemptId { instance, attempt };
                        wrong.push((id, Command::Mitigate { leftover }));
                    }
                    None => wrong.push((id, Command::Observe { instance })),
                },
                (Self::NeverRenews, Command::Bind { binding, .. }) if is_made(known, &binding) => {}
                (Self::DeletesForRelease, Command::Release { instance }) => {
                    wrong.push((id, Command::Deprovision { instance }));
                }
                (Self::NeverTidies, Command::Mitigate { .. }) | (Self::NeverProvesMoves, Command::Prove { .. }) => {}
                (Self::OpensEarly, Command::Prove { instance }) => {
                    let address = known.instance(&instance).and_then(|instance| instance.address());
                    wrong.push((odd, Command::Route { instance: instance.clone(), address }));
                    wrong.push((id, Command::Prove { instance }));
                }
                (Self::RestoresOldest, Command::Restore { instance, backup }) => {
                    let oldest = known.services.get(instance.service()).and_then(|service| service.backups.first());
                    let backup = oldest.map_or(backup, |(_, oldest)| oldest.clone());
                    wrong.push((id, Command::Restore { instance, backup }));
                }
                (Self::NeverUndoes, Command::Undo { .. }) => {}
                (Self::DrillsTwice, Command::Fault { drill }) => {
                    let second = Box::new(Drill { number: drill.number + 1, ..(*drill).clone() });
                    wrong.push((id, Command::Fault { drill }));
                    wrong.push((odd, Command::Fault { drill: second }));
                }
                (_, command) => wrong.push((id, command)),
            }
        }
        let ready = known.services.values().flat_map(|service| {
            service
                .instances
                .iter()
                .filter(|(_, i)| i.is_ready() && i.operation.is_none())
                .map(|(number, _)| service.instance_id(*number))
        });
        let id = CommandId(known.last_command.0 + (1 << 61));
        match self {
            Self::WithdrawsLast if !wrong.is_empty() => {
                wrong.extend(ready.map(|instance| (id, Command::Route { instance, address: None })));
            }
            Self::StopsForNothing if !wrong.is_empty() => {
                let stop = |instance| Command::Stop { instance, drain: Span::millis(0), grace: Span::seconds(1) };
                wrong.extend(ready.take(1).map(|instance| (id, stop(instance))));
            }
            Self::HealsVictims => {
                let victims = known.services.values().filter(|service| {
                    service.spec.needs.iter().any(|need| known.services.get(need).is_some_and(|need| need.ready == 0))
                });
                let sick = victims.flat_map(|service| {
                    let runs = service
                        .instances
                        .iter()
                        .filter(|(_, i)| i.repair.is_some() && i.running.is_some() && i.operation.is_none());
                    runs.map(|(number, _)| service.instance_id(*number))
                });
                let stop = |instance| Command::Stop { instance, drain: Span::millis(0), grace: Span::seconds(1) };
                wrong.extend(sick.take(1).map(|instance| (id, stop(instance))));
            }
            Self::NeverAtRest if was_settled => {
                wrong.extend(ready.take(1).map(|instance| (id, Command::Unwatch { instance })));
            }
            Self::DrillsAnytime if known.drill.is_none() && is_no_time_for_drills(known) => {
                let hits = |instance: InstanceId| {
                    let running = known.instance(&instance)?.running?;
                    Some(vec![Hit { instance, running }])
                };
                let until = known.latest + std::time::Duration::from_secs(60);
                wrong.extend(ready.filter_map(hits).take(1).map(|hits| {
                    let service = hits[0].instance.service().clone();
                    let (number, fault, by) = (u32::MAX, Fault::Refuse, By::Schedule);
                    (
                        id,
                        Command::Fault {
                            drill: Box::new(Drill {
                                number,
                                service,
                                provider: None,
                                fault,
                                hits,
                                aim: None,
                                until,
                                by,
                            }),
                        },
                    )
                }));
            }
            Self::ReplacesLostData if !wrong.is_empty() => {
                let asked = known.services.values().flat_map(|service| {
                    let held = service.instances.iter().filter(|(_, i)| i.held.is_some() && i.operation.is_none());
                    held.map(|(number, _)| service.instance_id(*number))
                });
                wrong.extend(asked.take(1).map(|instance| (id, Command::Provision { instance })));
            }
            Self::RoutesLeft if !wrong.is_empty() => {
                let nowhere = || std::net::SocketAddr::from(([127, 0, 0, 1], 9));
                wrong.extend(left_by_moves(known).take(1).map(|instance| {
                    let address = known.instance(&instance).and_then(|instance| instance.address());
                    (id, Command::Route { instance, address: address.or_else(|| Some(nowhere())) })
                }));
            }
            Self::DiscardsLeft if !wrong.is_empty() => {
                wrong.extend(left_by_moves(known).take(1).map(|instance| (id, Command::Deprovision { instance })));
            }
            Self::EndsUsedCredentials if !wrong.is_empty() => {
                wrong.extend(used_credentials(known).take(1).map(|tidy| (id, tidy)));
            }
            Self::StopsVanished => {
                let gone = ready.filter(|instance| is_of_vanished_plan(known, instance));
                let stop = |instance| Command::Stop { instance, drain: Span::millis(0), grace: Span::seconds(1) };
                wrong.extend(gone.take(1).map(|instance| (id, stop(instance))));
            }
            Self::RemovesWithProvider => {
                let left = known.services.values().filter(|service| is_of_removed_provider(known, service));
                let instances = left.flat_map(|service| {
                    let idle = service.instances.iter().filter(|(_, instance)| instance.operation.is_none());
                    idle.map(|(number, _)| service.instance_id(*number))
                });
                wrong.extend(instances.take(1).map(|instance| (id, Command::Deprovision { instance })));
            }
            Self::RepairsWithoutPause => {
                let sick = known.services.values().flat_map(|service| {
                    let broken = service.instances.iter().filter(|(_, i)| i.repair.is_some() && i.operation.is_none());
                    broken.map(|(number, _)| (service.instance_id(*number), service.generation))
                });
                for _ in 0..60 {
                    wrong.extend(sick.clone().map(|(instance, generation)| {
                        let (reflex_burst, reflex_refill) = (0, Span::seconds(5));
                        (id, Command::Start { instance, generation, reflex_burst, reflex_refill, entrust: false })
                    }));
                }
            }
            _ => {}
        }
        wrong
    }
}

/// What a move left, and nothing is being done to.
fn left_by_moves(known: &Knowledge) -> impl Iterator<Item = InstanceId> {
    known.services.values().flat_map(|service| {
        let left =
            service.instances.iter().filter(|(_, instance)| instance.is_fenced() && instance.operation.is_none());
        left.map(|(number, _)| service.instance_id(*number))
    })
}

fn is_no_time_for_drills(known: &Knowledge) -> bool {
    let declared = known.estate.as_ref().and_then(|estate| estate.drill.as_deref());
    declared.is_some_and(|declared| !declared.calendar.is_open(known.latest))
}

/// The number of the ask that made the instance, where asks have numbers.
fn made(known: &Knowledge, instance: &InstanceId) -> Option<u32> {
    let attempts = known.instance(instance)?.attempts;
    attempts.number().filter(|_| attempts.is_made())
}

/// Whether there is such a binding already.
fn is_made(known: &Knowledge, binding: &BindingId) -> bool {
    let consumer = known.services.get(&binding.consumer);
    let found = consumer.and_then(|consumer| consumer.bindings.get(&binding.need));
    found.is_some_and(|found| found.state == BindingState::Made && found.renew_at.is_some())
}

/// Orders that end what something runs with.
fn used_credentials(known: &Knowledge) -> impl Iterator<Item = Command> {
    known.services.values().flat_map(move |service| {
        service.bindings.iter().filter_map(move |(need, binding)| {
            let idle = known.instance(&binding.instance).is_some_and(|instance| instance.operation.is_none());
            let round = binding.used.filter(|_| idle && service.ready > 0)?;
            let (binding, instance) = (service.binding_id(need), binding.instance.clone());
            Some(Command::Tidy { binding, instance, rounds: vec![round] })
        })
    })
}

fn is_of_vanished_plan(known: &Knowledge, instance: &InstanceId) -> bool {
    let service = known.services.get(instance.service());
    let Some(placement) = service.and_then(|service| service.placement.as_ref()) else { return false };
    let offering = known.catalogs.get(&placement.provider).and_then(|c| c.offerings.get(&placement.offering));
    offering.is_some_and(|offering| {
        let is_gone = |plan: &ostler_model::catalog::Plan| plan.name == placement.plan && plan.withdrawn;
        offering.withdrawn || offering.plans.iter().any(is_gone)
    })
}

fn is_of_removed_provider(known: &Knowledge, service: &ServiceKnowledge) -> bool {
    let provider = service.placement.as_ref().map(|placement| &placement.provider);
    known.is_unrepeatable(service) && provider.is_some_and(|provider| known.former_providers.contains_key(provider))
}
