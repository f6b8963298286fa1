//! A rehearsal: what ostler would do about an event if everything it orders went well. This is what `preview` shows.
//!
//! Invariant: it runs the very same `decide` and `evolve` over a copy of what is known, so the real thing begins with
//! exactly these commands.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};

use ostler_model::health::Health;
use ostler_model::ids::CommandId;
use ostler_model::outcome::{BackupMade, Counted, Observation, Proof, Running};
use ostler_model::time::{Span, Timestamp};

use crate::command::{Command, Outcome};
use crate::decide::{Withheld, take};
use crate::event::Event;
use crate::knowledge::{Knowledge, Phase};

/// What would be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rehearsal {
    /// The commands that change something, in the order in which they would be given.
    pub commands: Vec<Command>,
    /// What was asked for and refused.
    pub refused: Vec<Withheld>,
    /// What is known at the end.
    pub known: Knowledge,
}

/// Plays `event` through.
pub fn rehearse(known: &Knowledge, event: &Event, now: Timestamp) -> Rehearsal {
    let mut known = known.clone();
    let mut commands = Vec::new();
    let mut events = VecDeque::from([event.clone()]);
    events.extend(under_way(&known, now));
    let mut refused = None;
    while let Some(event) = events.pop_front() {
        let decision = take(&mut known, &event, now);
        refused.get_or_insert_with(|| {
            let is_refusal = |w: &Withheld| matches!(w.reason, crate::decide::Reason::Refused(_));
            decision.withheld.iter().filter(|w| is_refusal(w)).cloned().collect()
        });
        for (id, command) in decision.commands {
            if let Command::Watch { instance, .. } = &command {
                events.push_back(Event::Probed { instance: instance.clone(), watch: id, health: Health::Ready });
            }
            if let Some(outcome) = success(&known, id, &command, now) {
                events.push_back(Event::Ended { id, outcome });
            }
            if changes_something(&command) {
                commands.push(command);
            }
        }
    }
    Rehearsal { commands, refused: refused.unwrap_or_default(), known }
}

/// How everything that is under way already goes well.
fn under_way(known: &Knowledge, now: Timestamp) -> Vec<Event> {
    let ends = known
        .commands
        .iter()
        .filter_map(|(id, command)| Some(Event::Ended { id: *id, outcome: success(known, *id, command, now)? }));
    let becomes_ready = known.services.values().flat_map(|service| {
        service.instances.iter().filter_map(|(number, instance)| {
            let watch = instance.watch.filter(|_| instance.health.is_none())?;
            Some(Event::Probed { instance: service.instance_id(*number), watch, health: Health::Ready })
        })
    });
    ends.chain(becomes_ready).collect()
}

fn changes_something(command: &Command) -> bool {
    !matches!(
        command,
        Command::Watch { .. }
            | Command::Unwatch { .. }
            | Command::Route { .. }
            | Command::Notify { .. }
            | Command::Observe { .. }
            | Command::ProveBackup { .. }
            | Command::Fault { .. }
            | Command::Undo { .. }
    )
}

fn success(known: &Knowledge, id: CommandId, command: &Command, now: Timestamp) -> Option<Outcome> {
    let somewhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    Some(match command {
        Command::OpenEndpoint { address, .. } => Outcome::Open(address.unwrap_or(somewhere)),
        Command::Start { instance, .. } => Outcome::Started(
            Running {
                pid: None,
                address: known.instance(instance).and_then(|i| i.address()).unwrap_or(somewhere),
                since: now,
            }
            .into(),
        ),
        Command::Stop { .. } => Outcome::Stopped { exit: None, killed: false, cut: 0 },
        Command::Observe { instance } => Outcome::Observed(match known.instance(instance) {
            Some(found) => match (found.phase, found.running) {
                (Phase::Running, Some(running)) => Observation::Running(running),
                (Phase::Declared, _) if found.attempts.is_open() => Observation::Stopped { exit: None },
                (Phase::Declared, _) => Observation::Absent,
                (Phase::Running | Phase::Stopped, _) => Observation::Stopped { exit: None },
            },
            None => Observation::Absent,
        }),
        // Bound again, because its endpoint has moved or its instance was lost: what it holds differs.
        Command::Bind { .. } => Outcome::Bound { digest: format!("rehearsed as {id}"), renew_at: None },
        Command::Backup { name, .. } => {
            Outcome::BackedUp(BackupMade { name: name.clone(), bytes: 0, sha256: String::new(), place: None })
        }
        Command::Prove { .. } => Outcome::Proved { checks: Vec::new() },
        Command::ProveBackup { .. } => {
            Outcome::Proven(Proof { took: Span::seconds(0), counted: Counted::new(), contracts: 0 })
        }
        // A rehearsal is of what a file changes: faults are no part of that, and what is left of one is undone.
        Command::Fault { .. } => Outcome::Caused { at: now },
        Command::Undo { .. } => Outcome::Undone(Box::default()),
        Command::DropBackup { .. }
        | Command::CloseEndpoint { .. }
        | Command::Fence { .. }
        | Command::Provision { .. }
        | Command::Before { .. }
        | Command::Deprovision { .. }
        | Command::Unbind { .. }
        | Command::Update { .. }
        | Command::Release { .. }
        | Command::Tidy { .. }
        | Command::Mitigate { .. }
        | Command::Restore { .. } => Outcome::Done,
        Command::Watch { .. } | Command::Unwatch { .. } | Command::Route { .. } | Command::Notify { .. } => {
            return None;
        }
    })
}
