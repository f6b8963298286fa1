//! What this gateway holds for its keeper: listening sockets and tables, by service.
//!
//! Invariant: nothing that a keeper sends breaks a service that is being served; what makes no sense is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ostler_keeper::protocol::{Order, ToGateway};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::Limits;
use crate::listen::{Common, accept_all, listener};
use crate::messages::{DRAIN_MS_MAX, Says, Table, Tell};
use crate::note;
use crate::service::Service;

/// The longest name of a service, in bytes.
const NAME_BYTES_MAX: usize = 256;
/// The most services. An estate on one machine has a tenth of it.
const SERVICES_MAX: usize = 10_000;

/// Everything that is held.
pub(crate) struct Hub {
    services: BTreeMap<String, Entry>,
    /// What the present keeper has sent since it was connected to.
    sent: Sent,
    limits: Limits,
    common: Common,
    says: mpsc::Sender<Says>,
}

struct Entry {
    service: Arc<Service>,
    listening: Option<Listening>,
    /// The numbers last reported.
    reported: [u64; 3],
}

/// A served socket. Dropping it ends accepting, not the connections.
struct Listening {
    address: SocketAddr,
    listener: Arc<TcpListener>,
    /// `None` once it ends by itself.
    task: Option<JoinHandle<()>>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

#[derive(Default)]
struct Sent {
    sockets: BTreeSet<String>,
    tables: BTreeSet<String>,
}

/// Something for a keeper that does not have it.
pub(crate) struct Offer {
    pub(crate) order: Order,
    /// Travels with the order.
    pub(crate) socket: Option<Arc<TcpListener>>,
}

/// Whether the keeper is the one that this gateway spoke to before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keeper {
    /// It has forgotten nothing: what it did not send is gone.
    Same,
    /// It started with nothing.
    Other,
}

impl Hub {
    pub(crate) fn new(limits: Limits, common: Common, says: mpsc::Sender<Says>) -> Self {
        Self { services: BTreeMap::new(), sent: Sent::default(), limits, common, says }
    }

    /// Whether nothing is held.
    pub(crate) fn is_empty(&self) -> bool {
        self.services.is_empty()
    }

    /// A keeper has been connected to, and sends what it holds.
    pub(crate) fn begin(&mut self) {
        self.sent = Sent::default();
    }

    /// Takes in a message; `Synchronized` is answered by [`Hub::synchronized`].
    pub(crate) fn apply(&mut self, message: ToGateway, descriptor: Option<OwnedFd>) {
        match message {
            ToGateway::Socket { name, address } => self.socket(name, address, descriptor),
            ToGateway::Close { name } => {
                self.sent.sockets.remove(&name);
                self.close(&name);
            }
            ToGateway::Table { key, body } => self.table(key, &body),
            ToGateway::Tell { body } => match serde_json::from_str(&body) {
                Ok(tell) => self.tell(tell),
                Err(_) => note("left out an order that was not understood"),
            },
            ToGateway::Synchronized | ToGateway::Retire { .. } => {} // the link's
        }
    }

    /// The keeper has sent all it holds. Returns what to offer to it; with the same keeper as before, removes instead
    /// what it no longer has.
    pub(crate) fn synchronized(&mut self, keeper: Keeper) -> Vec<Offer> {
        let mut offers = Vec::new();
        let mut gone = Vec::new();
        for (name, entry) in &mut self.services {
            if let Some(listening) = entry.listening.as_ref().filter(|_| !self.sent.sockets.contains(name)) {
                match keeper {
                    Keeper::Same => entry.listening = None,
                    Keeper::Other => offers.push(Offer {
                        order: Order::Return {
                            name: name.clone(),
                            address: listening.address,
                            share_with_gateway: true,
                        },
                        socket: Some(Arc::clone(&listening.listener)),
                    }),
                }
            }
            if let Some(table) = entry.service.table().filter(|_| !self.sent.tables.contains(name)) {
                match keeper {
                    Keeper::Same => {
                        let _ = entry.service.set_table(None);
                    }
                    Keeper::Other => offers.extend(offer_table(name, &table)),
                }
            }
            if entry.is_unused() {
                gone.push(name.clone());
            }
        }
        for name in gone {
            self.services.remove(&name);
        }
        offers
    }

    /// What to report every ten seconds: troubles held back, what was served, and the traffic of services whose numbers
    /// have changed. And closes what is not needed any more.
    pub(crate) fn tick(&mut self) {
        for (name, entry) in &mut self.services {
            entry.service.flush_troubles();
            entry.service.report_served();
            entry.service.tidy_idle();
            let traffic = &entry.service.traffic;
            let numbers = [&traffic.connections, &traffic.bytes_in, &traffic.bytes_out];
            let numbers = numbers.map(|number| number.load(Ordering::Relaxed));
            if numbers != entry.reported {
                entry.reported = numbers;
                let [connections, bytes_in, bytes_out] = numbers;
                let since = Some(traffic.since);
                entry.service.say(Says::Traffic { service: name.clone(), since, connections, bytes_in, bytes_out });
            }
        }
    }

    /// Stops accepting on every socket.
    pub(crate) fn stop_accepting(&mut self) {
        for entry in self.services.values_mut() {
            entry.listening = None;
        }
    }

    /// Waits until nobody accepts any more, after all were told that this gateway leaves, and holds nothing from then on
    /// that only somebody who is connected should hold.
    pub(crate) async fn leave(&mut self) {
        for entry in self.services.values_mut() {
            if let Some(task) = entry.listening.as_mut().and_then(|listening| listening.task.take()) {
                let _ = task.await; // an error: it was ended by something else
            }
            entry.listening = None;
        }
        self.common.alive = mpsc::channel(1).0;
    }

    fn socket(&mut self, name: String, address: SocketAddr, descriptor: Option<OwnedFd>) {
        let Some(descriptor) = descriptor else {
            return note("left out a socket message without a socket");
        };
        let served = self.services.get(&name).and_then(|entry| entry.listening.as_ref());
        if served.is_some_and(|listening| listening.address == address) {
            self.sent.sockets.insert(name);
            return; // the same socket: two cannot listen on one address
        }
        let accepted = listener(descriptor).and_then(|listener| Ok((listener.local_addr()?, listener)));
        let listener = match accepted {
            Ok((local, listener)) if local == address => Arc::new(listener),
            Ok((local, _)) => {
                return note(format_args!("left out a socket on {local} that was said to be on {address}"));
            }
            Err(error) => return note(format_args!("left out a socket that was said to be on {address}: {error}")),
        };
        let common = self.common.clone();
        let Some(entry) = self.entry(&name) else { return };
        let accepting = accept_all(Arc::clone(&listener), Arc::clone(&entry.service), common);
        entry.listening = Some(Listening { address, listener, task: Some(tokio::spawn(accepting)) });
        self.sent.sockets.insert(name);
    }

    fn close(&mut self, name: &str) {
        if let Some(entry) = self.services.get_mut(name) {
            entry.listening = None;
            if entry.is_unused() {
                self.services.remove(name);
            }
        }
    }

    fn table(&mut self, key: String, body: &str) {
        if body.is_empty() {
            self.sent.tables.remove(&key);
            if let Some(entry) = self.services.get_mut(&key) {
                let _ = entry.service.set_table(None); // an end is of any epoch
                if entry.is_unused() {
                    self.services.remove(&key);
                }
            }
            return;
        }
        let Some(mut table) = Table::read(body) else {
            return note("left out a table that was not understood");
        };
        let Some(entry) = self.entry(&key) else { return };
        if let Some(listening) = &entry.listening {
            // A service in front of itself would call itself until nothing is left.
            table.targets.retain(|target| target.address != listening.address);
        }
        if !entry.service.set_table(Some(table)) {
            note(format_args!("left out a table of {key} that is of an epoch which is over"));
        }
        self.sent.tables.insert(key);
    }

    fn tell(&mut self, tell: Tell) {
        match tell {
            Tell::Drain { id, service, address, within_ms } => match self.services.get(&service) {
                Some(entry) => {
                    let within = Duration::from_millis(within_ms.min(DRAIN_MS_MAX));
                    tokio::spawn(Arc::clone(&entry.service).drain(id, address, within));
                }
                None => {
                    let _ = self.says.try_send(Says::Drained { id, left: 0 });
                }
            },
            Tell::Fence { id, service, epoch } => match self.services.get(&service) {
                Some(entry) => drop(tokio::spawn(Arc::clone(&entry.service).report_fenced(id))),
                None => {
                    // Nobody gets at anything of a service that is not here.
                    let _ = self.says.try_send(Says::Fenced { id, epoch, left: 0 });
                }
            },
            Tell::Count { id, service } => {
                if let Some(entry) = self.services.get(&service) {
                    entry.service.flush_troubles();
                    entry.service.report_served();
                }
                let _ = self.says.try_send(Says::Counted { id });
            }
        }
    }

    /// The entry of this name, made if there is room.
    fn entry(&mut self, name: &str) -> Option<&mut Entry> {
        if !self.services.contains_key(name) {
            if name.is_empty() || name.len() > NAME_BYTES_MAX || self.services.len() >= SERVICES_MAX {
                note("left out a service: its name is empty or too long, or there are too many");
                return None;
            }
            let service = Service::new(name.to_owned(), self.limits.connections_of_a_service, self.says.clone());
            let entry = Entry { service: Arc::new(service), listening: None, reported: [0; 3] };
            self.services.insert(name.to_owned(), entry);
        }
        self.services.get_mut(name)
    }
}

impl Entry {
    fn is_unused(&self) -> bool {
        self.listening.is_none() && self.service.table().is_none()
    }
}

fn offer_table(key: &str, table: &Table) -> Option<Offer> {
    let body = serde_json::to_string(table).ok()?;
    Some(Offer { order: Order::GatewayTable { key: key.to_owned(), body }, socket: None })
}

#[cfg(test)]
mod tests {
    use ostler_model::estate::Protocol;
    use ostler_model::ids::InstanceId;
    use ostler_model::time::Timestamp;
    use tokio::sync::{Semaphore, watch};

    use super::*;
    use crate::Patience;
    use crate::tally::Went;

    fn hub(room_for_reports: usize) -> (Hub, mpsc::Receiver<Says>) {
        let (says, said) = mpsc::channel(room_for_reports);
        let (_end, ending) = watch::channel(crate::Ending::Not);
        let patience = Patience::default();
        let room = Arc::new(Semaphore::new(1));
        let common = Common { room, alive: mpsc::channel(1).0, ending, shelf: crate::http::Shelf::default(), patience };
        let mut hub = Hub::new(Limits { connections_of_a_service: 1, connections: 1, patience }, common, says);
        for key in ["db", "web"] {
            hub.apply(ToGateway::Table { key: key.into(), body: r#"{"targets":[],"hold_ms":0}"#.into() }, None);
        }
        (hub, said)
    }

    #[tokio::test]
    async fn traffic_is_reported_when_it_has_changed() {
        let (mut hub, mut said) = hub(8);
        hub.tick();
        assert!(said.try_recv().is_err(), "nothing was carried");
        hub.services["web"].service.traffic.bytes_out.fetch_add(7, Ordering::Relaxed);
        hub.tick();
        let since = Some(hub.services["web"].service.traffic.since);
        assert!(since > Some(Timestamp::default()));
        let report = Says::Traffic { service: "web".into(), since, connections: 0, bytes_in: 0, bytes_out: 7 };
        assert_eq!(said.try_recv().unwrap(), report);
        hub.tick();
        assert!(said.try_recv().is_err(), "nothing has changed");
    }

    #[tokio::test]
    async fn what_was_served_is_reported_once_and_waits_while_there_is_no_room() {
        let (mut hub, mut said) = hub(4);
        let web = Arc::clone(&hub.services["web"].service);
        let instances = [1, 2, 3].map(|number| InstanceId::new("web".parse().unwrap(), number));
        let ms = |count| Went::Well(Duration::from_millis(count));
        for instance in &instances {
            web.served(Protocol::Http, Some(instance), ms(5));
        }
        web.served(Protocol::Http, Some(&instances[0]), Went::Wrong);
        web.served(Protocol::Tcp, Some(&instances[0]), ms(1));
        web.served(Protocol::Http, None, Went::BrokenOff);
        let mut told = Vec::new();
        for _ in 0..6 {
            hub.tick(); // half of the room is left to what matters more
            let before = told.len();
            while let Ok(Says::Served { service, instance, protocol, from, until, asked, failed, times }) =
                said.try_recv()
            {
                assert!(service == "web" && from <= until);
                let times: Vec<u64> = times.into_iter().flat_map(|(us, count)| [us, count]).collect();
                told.push((instance.map(|instance| instance.to_string()), protocol.as_str(), asked, failed, times));
            }
            assert!(told.len() - before <= 2);
        }
        let web = |number: u32| Some(format!("web-{number}"));
        assert_eq!(
            told,
            [
                (None, "http", 1, 0, vec![]),
                (web(1), "tcp", 1, 0, vec![1023, 1]),
                (web(1), "http", 2, 1, vec![5119, 1]),
                (web(2), "http", 1, 0, vec![5119, 1]),
                (web(3), "http", 1, 0, vec![5119, 1]),
            ]
        );
    }
}
