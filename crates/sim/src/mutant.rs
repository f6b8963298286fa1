//! Managers, disks and providers that are wrong on purpose, one for each promise: a check that no mutant can trip
//! checks nothing.

use ostler_manager::{Command, Knowledge};
use ostler_model::ids::CommandId;
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
    /// The manager goes on ordering when all is well.
    NeverAtRest,
}

impl Mutant {
    /// All of them, each with the promises that it breaks: at least one of these must be seen to be broken.
    pub const ALL: [(Self, &'static [Promise]); 16] = [
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
        (Self::RepairsWithoutPause, &[Promise::Brakes]),
        (Self::WithdrawsLast, &[Promise::LastOneServes]),
        (Self::RoutesWrong, &[Promise::RoutesRight]),
        (Self::LosesOutcomes, &[Promise::HealedOrAsked, Promise::Converges]),
        (Self::StopsForNothing, &[Promise::Explained]),
        (Self::NeverAtRest, &[Promise::SettledLeftAlone]),
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
                (Self::NeverBacksUp, Command::Backup { .. }) => {}
                (Self::ReplacesLostData, Command::Observe { instance }) => {
                    wrong.push((id, Command::Provision { instance }));
                }
                (Self::RoutesWrong, Command::Route { instance, address: Some(address) }) => {
                    let mut address = address;
                    address.set_port(address.port() ^ 1);
                    wrong.push((id, Command::Route { instance, address: Some(address) }));
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
            Self::NeverAtRest if was_settled => {
                wrong.extend(ready.take(1).map(|instance| (id, Command::Unwatch { instance })));
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
