//! Carries out orders.
//!
//! Invariant: every order may be repeated, and a role may ask only for what it is there for.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::time::Instant;

use ostler_model::ids::InstanceId;
use rustix::process::Signal;

use crate::grant::Bucket;
use crate::keeper::{Ending, Instance, Keeper, Phase};
use crate::launch::Prepared;
use crate::peers::Waiter;
use crate::protocol::{Answer, Grant, Launch, Order, Refusal, Report, Role, Survey, Surveyed, ToGateway, VERSION};
use crate::replacing::Beside;
use crate::roles::RoleKind;
use crate::sockets::{Change, NAME_BYTES_MAX};

/// Table entries for the gateway, at most: one for each service.
const TABLES_MAX: usize = 65_536;

impl Keeper {
    /// Carries out one order. Its answer may come later.
    pub(crate) fn carry_out(&mut self, waiter: Waiter, order: Order, descriptor: Option<OwnedFd>) {
        let Some(connection) = self.connections.get(&waiter.connection) else { return };
        let allowed = may(connection.role, &order).and_then(|()| match self.ending {
            Some(_) => Err(Refusal::NotUnderstood("the keeper is ending".into())), // nothing may be started any more
            None => Ok(()),
        });
        if let Err(refusal) = allowed {
            self.answer(waiter, Answer::Refused(refusal), None);
            return;
        }
        let answer = match order {
            Order::Hello { version, role } => {
                self.hello(waiter, version, role);
                return;
            }
            Order::Start { launch, grant } => match self.ordered_start(waiter, &launch, grant) {
                Some(answer) => answer,
                None => return, // it waits for the rest of a tree
            },
            Order::Stop { instance, signal, grace_ms } => match Signal::from_named_raw(signal) {
                Some(signal) => {
                    self.stop(waiter, &instance, signal, grace_ms);
                    return;
                }
                None => Answer::Refused(Refusal::NotUnderstood(format!("{signal} is no signal"))),
            },
            Order::Listen { name, address, share_with_gateway } => {
                self.listen(waiter, &name, address, share_with_gateway);
                return;
            }
            Order::Shutdown { leave_running } => match self.shut_down(waiter, leave_running) {
                Some(answer) => answer,
                None => return, // answered at the end
            },
            Order::Survey => Answer::Survey(Box::new(self.survey())),
            Order::Reflexes(grant) => {
                self.estate.replace(grant, Instant::now());
                Answer::Done
            }
            Order::Unlisten { name } => {
                remember(&mut self.withdrawn.sockets, &name);
                if self.sockets.unlisten(&name) {
                    self.tell_gateways(&ToGateway::Close { name });
                }
                Answer::Done
            }
            Order::Return { name, address, share_with_gateway } => {
                self.take_back(waiter, name, descriptor, address, share_with_gateway)
            }
            Order::GatewayTable { key, body } => self.table(waiter, key, body),
            Order::GatewayTell { body } => match self.tell_gateways(&ToGateway::Tell { body }) {
                0 => Answer::Refused(Refusal::NoGateway),
                1 => Answer::Done,
                gateways => Answer::Told { gateways },
            },
            Order::GatewaySays { body } => {
                self.reports.push(crate::keeper::timestamp(), Report::FromGateway { body });
                Answer::Done
            }
            Order::Acknowledge { report } => {
                let steps = self.reports.acknowledge(report);
                self.steps_stored(steps);
                Answer::Done
            }
            Order::KeepUp { manager, gateway } => {
                self.keep_up(RoleKind::Manager, manager);
                self.keep_up(RoleKind::Gateway, gateway);
                Answer::Done
            }
            Order::Upgrade { from, to, probation_ms, trial_ms } => {
                self.begin_upgrade(*from, *to, probation_ms, trial_ms)
            }
            Order::TakeBack { why } => self.take_build_back(&why),
            Order::Confirm => {
                self.answer(waiter, Answer::Done, None); // before what follows from it
                self.confirmed(waiter.connection);
                return;
            }
        };
        self.answer(waiter, answer, None);
    }

    fn hello(&mut self, waiter: Waiter, version: u32, role: Role) {
        if version != VERSION {
            self.answer(waiter, Answer::Refused(Refusal::OtherVersion(VERSION)), None);
            return;
        }
        let Some(connection) = self.connections.get(&waiter.connection) else { return };
        let pid = connection.pid;
        let kind = match role {
            Role::Visitor | Role::FormerGateway => None,
            Role::Manager => Some(RoleKind::Manager),
            Role::Gateway => Some(RoleKind::Gateway),
        };
        let beside = match kind {
            Some(RoleKind::Gateway) => self.gateway_beside(waiter.connection, pid),
            Some(RoleKind::Manager) | None => Beside::Neither,
        };
        if let Some(kind) = kind
            && beside == Beside::Neither
            && !self.role_connected(kind, waiter.connection, pid)
        {
            self.close(waiter.connection);
            return;
        }
        let Some(connection) = self.connections.get_mut(&waiter.connection) else { return };
        connection.role = Some(if beside == Beside::Former { Role::FormerGateway } else { role });
        let welcome =
            Answer::Welcome { pid: std::process::id(), keeper: self.name.clone(), build: self.config.build.clone() };
        self.answer(waiter, welcome, None);
        match role {
            Role::Gateway if beside == Beside::Former => self.retire(waiter.connection),
            Role::Gateway => self.synchronize_gateway(waiter.connection),
            Role::FormerGateway => self.tell_tables(waiter.connection),
            Role::Manager | Role::Visitor => {}
        }
        self.advance();
    }

    fn synchronize_gateway(&mut self, connection: u64) {
        let shared: Vec<String> =
            self.sockets.iter().filter(|(_, held)| held.shared).map(|(name, _)| name.clone()).collect();
        for name in shared {
            self.share_with(connection, &name);
        }
        self.tell_tables(connection);
        self.tell_peer(connection, ToGateway::Synchronized);
    }

    fn tell_tables(&mut self, connection: u64) {
        let tables: Vec<(String, String)> = self.tables.clone().into_iter().collect();
        for (key, body) in tables {
            self.tell_peer(connection, ToGateway::Table { key, body });
        }
    }

    /// `None` if the answer comes when the rest of the instance's tree is gone.
    fn ordered_start(&mut self, waiter: Waiter, launch: &Launch, grant: Grant) -> Option<Answer> {
        let id = &launch.instance;
        match self.try_ordered_start(waiter, id, launch, grant) {
            Ok(answer) => answer,
            Err(refusal) => Some(Answer::Refused(refusal)),
        }
    }

    fn try_ordered_start(
        &mut self,
        waiter: Waiter,
        id: &InstanceId,
        launch: &Launch,
        grant: Grant,
    ) -> Result<Option<Answer>, Refusal> {
        if let Some(name) = &launch.socket
            && self.sockets.get(name).is_none()
        {
            return Err(Refusal::NoSuchSocket(name.clone()));
        }
        let instance = self.instances.get_mut(id);
        if let Some(Instance { phase: Phase::Stopping(_), .. }) = instance {
            return Err(Refusal::Stopping(id.clone()));
        }
        let has_it = instance
            .as_ref()
            .and_then(|instance| instance.launch.as_ref())
            .is_some_and(|known| known.digest() == launch.digest);
        let prepared = if has_it { None } else { Some(Prepared::new(&id.to_string(), launch)?) };
        self.watch_logs();
        let now = Instant::now();
        let Some(instance) = self.instances.get_mut(id) else {
            let fresh = Instance { launch: prepared, bucket: Bucket::new(grant, now), phase: Phase::Dead };
            self.instances.insert(id.clone(), fresh);
            return match self.restart(id, None) {
                Ok(process) => Ok(Some(Answer::Running { process, adopted: false, as_ordered: true })),
                Err(refusal) => {
                    self.instances.remove(id); // nothing has changed
                    Err(refusal)
                }
            };
        };
        let before = match prepared {
            Some(prepared) => instance.launch.replace(prepared),
            None => None,
        };
        match &mut instance.phase {
            Phase::Alive(live) => {
                instance.bucket.replace(grant, now);
                let as_ordered = live.digest.as_deref() == Some(launch.digest.as_str());
                Ok(Some(Answer::Running { process: live.process.clone(), adopted: true, as_ordered }))
            }
            Phase::Clearing(clearing) => {
                clearing.waiters.push(waiter);
                instance.bucket = Bucket::new(grant, now);
                Ok(None)
            }
            Phase::Dead | Phase::Stopping(_) => {
                instance.bucket = Bucket::new(grant, now); // a start on purpose begins with a full grant
                let started = self.restart(id, None);
                if started.is_err()
                    && let Some(before) = before
                    && let Some(instance) = self.instances.get_mut(id)
                {
                    instance.launch = Some(before);
                }
                started.map(|process| Some(Answer::Running { process, adopted: false, as_ordered: true }))
            }
        }
    }

    fn listen(&mut self, waiter: Waiter, name: &str, address: std::net::SocketAddr, share: bool) {
        let (address, change) = match self.sockets.listen(name, address, share) {
            Ok((held, change)) => {
                self.withdrawn.sockets.remove(name);
                (held.address, change)
            }
            Err(refusal) => {
                self.answer(waiter, Answer::Refused(refusal), None);
                return;
            }
        };
        match self.duplicate(name) {
            Ok(duplicate) => self.answer(waiter, Answer::Listening { address }, Some(duplicate)),
            Err(cause) => {
                let errno = cause.raw_os_error().unwrap_or(0);
                let refusal = Refusal::CannotListen { address, cause: cause.to_string(), errno };
                self.answer(waiter, Answer::Refused(refusal), None);
            }
        }
        match change {
            Change::Share => {
                self.share(name);
                // A socket that callers can connect to needs somebody who accepts.
                self.keep_up(RoleKind::Gateway, true);
            }
            Change::Withdraw => {
                self.tell_gateways(&ToGateway::Close { name: name.to_owned() });
            }
            Change::Nothing => {}
        }
    }

    fn take_back(
        &mut self,
        waiter: Waiter,
        name: String,
        socket: Option<OwnedFd>,
        address: std::net::SocketAddr,
        shared: bool,
    ) -> Answer {
        let Some(socket) = socket else {
            return Answer::Refused(Refusal::NotUnderstood("a returned socket has to come along".into()));
        };
        if self.is_gateway(waiter) && self.withdrawn.sockets.contains(&name) {
            self.tell_gateways(&ToGateway::Close { name });
            return Answer::Done;
        }
        match self.sockets.take_back(name.clone(), socket, address, shared) {
            Ok(to_share) => {
                if to_share {
                    self.share(&name);
                }
                Answer::Done
            }
            Err(refusal) => Answer::Refused(refusal),
        }
    }

    /// Sends a held socket to the gateway, if one is connected. One that is not gets it with its hello.
    fn share(&mut self, name: &str) {
        for gateway in self.gateways(false) {
            self.share_with(gateway, name);
        }
    }

    fn share_with(&mut self, gateway: u64, name: &str) {
        let Some((_, held)) = self.sockets.iter().find(|(held, _)| *held == name) else { return };
        let address = held.address;
        match self.duplicate(name) {
            Ok(duplicate) => {
                self.tell_peer_with(gateway, ToGateway::Socket { name: name.to_owned(), address }, Some(duplicate));
            }
            // No descriptor left: the gateway would miss the socket without knowing. It connects again.
            Err(_) => self.close(gateway),
        }
    }

    fn is_gateway(&self, waiter: Waiter) -> bool {
        self.gateways(true).contains(&waiter.connection)
    }

    fn table(&mut self, waiter: Waiter, key: String, body: String) -> Answer {
        if self.is_gateway(waiter) {
            // Offered back after a keeper's death. The manager's word is newer.
            if self.withdrawn.tables.contains(&key) {
                self.tell_gateways(&ToGateway::Table { key, body: String::new() });
            } else if !body.is_empty() && self.tables.len() < TABLES_MAX {
                self.tables.entry(key).or_insert(body);
            }
            return Answer::Done;
        }
        if body.is_empty() {
            self.tables.remove(&key);
            remember(&mut self.withdrawn.tables, &key);
        } else if self.tables.len() >= TABLES_MAX && !self.tables.contains_key(&key) {
            return Answer::Refused(Refusal::NotUnderstood(format!("the gateway's table is full ({TABLES_MAX})")));
        } else {
            self.withdrawn.tables.remove(&key);
            self.tables.insert(key.clone(), body.clone());
        }
        self.tell_gateways(&ToGateway::Table { key, body });
        Answer::Done
    }

    /// `None` if the answer comes at the end.
    fn shut_down(&mut self, waiter: Waiter, leave_running: bool) -> Option<Answer> {
        if leave_running {
            self.ending = Some(Ending { waiter: Some(waiter), now: true });
            return None;
        }
        match self.running() {
            0 => {
                self.end_with_gateway(Some(waiter));
                None
            }
            running => Some(Answer::Refused(Refusal::Busy(running))),
        }
    }

    fn survey(&self) -> Survey {
        let surveyed = |instance: &Instance| {
            let live = match &instance.phase {
                Phase::Alive(live) => Some(live),
                Phase::Stopping(stopping) => stopping.main.as_ref(),
                Phase::Dead | Phase::Clearing(_) => None,
            };
            Surveyed {
                process: live.map(|live| live.process.clone()),
                digest: live.and_then(|live| live.digest.as_deref().map(str::to_owned)),
                has_launch: instance.launch.is_some(),
            }
        };
        let pid = |kind: RoleKind| self.roles[kind].process.as_ref().map(|live| live.process.pid);
        Survey {
            instances: self.instances.iter().map(|(id, instance)| (id.clone(), surveyed(instance))).collect(),
            sockets: self.sockets.iter().map(|(name, held)| (name.clone(), held.address)).collect(),
            gateway_pid: pid(RoleKind::Gateway),
            manager_pid: pid(RoleKind::Manager),
            upgrade: self.replacing.state.upgrade.clone().map(Box::new),
        }
    }
}

/// Names beyond the limit are not remembered: at worst one of them comes back and has to be withdrawn again.
fn remember(withdrawn: &mut BTreeSet<String>, name: &str) {
    if withdrawn.len() < TABLES_MAX && name.len() <= NAME_BYTES_MAX {
        withdrawn.insert(name.to_owned());
    }
}

/// Whether the role may order this.
fn may(role: Option<Role>, order: &Order) -> Result<(), Refusal> {
    let allowed = match order {
        Order::Hello { .. } => role.is_none(),
        Order::Survey => role.is_some(),
        Order::KeepUp { .. } | Order::Shutdown { .. } | Order::TakeBack { .. } => {
            matches!(role, Some(Role::Manager | Role::Visitor))
        }
        Order::Start { .. }
        | Order::Stop { .. }
        | Order::Reflexes(_)
        | Order::Listen { .. }
        | Order::Unlisten { .. }
        | Order::GatewayTell { .. }
        | Order::Upgrade { .. }
        | Order::Acknowledge { .. } => role == Some(Role::Manager),
        Order::Return { .. } | Order::GatewayTable { .. } | Order::Confirm => {
            matches!(role, Some(Role::Manager | Role::Gateway))
        }
        Order::GatewaySays { .. } => matches!(role, Some(Role::Gateway | Role::FormerGateway)),
    };
    match (allowed, role) {
        (true, _) => Ok(()),
        (false, None) => Err(Refusal::NotUnderstood("the first message has to be a hello".into())),
        (false, Some(role)) => Err(Refusal::NotUnderstood(format!("the role {role:?} may not order this"))),
    }
}
