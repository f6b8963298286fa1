//! Connections: who may connect, what they have said, what they still have to be told.
//!
//! Invariant: no peer can make the keeper wait or grow without bound. Sends never block; what a slow peer has not read
//! is kept up to a limit, beyond which the peer is disconnected; and a peer gets a few orders carried out in a turn.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::epoll::EventFlags;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{SocketFlags, sockopt};
use serde::Deserialize;

use crate::keeper::Keeper;
use crate::poll::{Token, Watch};
use crate::protocol::{Answer, Message, Refusal, Request, Role, ToGateway};
use crate::roles::RoleKind;
use crate::wire::{self, Incoming, Packet};

/// How many peers at once: three processes, and as many people's commands as anybody runs side by side.
const CONNECTIONS_MAX: usize = 64;
/// What may wait for a manager or gateway that is busy: tables and surveys of large estates.
const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The same for visitors.
const VISITOR_QUEUE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Orders of one peer in one turn. A start takes about 0.2 ms, and deaths have to wait for it.
const ORDERS_IN_A_TURN: usize = 4;
/// Reports wait in their own queue, and only this many bytes of them in the connection's.
const REPORT_BYTES_AHEAD: usize = 64 * 1024;

/// One peer.
pub(crate) struct Connection {
    socket: OwnedFd,
    token: Token,
    pub(crate) role: Option<Role>,
    pub(crate) pid: u32,
    outgoing: VecDeque<Packet>,
    outgoing_bytes: usize,
    /// Its socket is watched for room.
    slow: bool,
    /// Up to which report it has been told.
    reported: u64,
}

/// Who waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waiter {
    pub(crate) connection: u64,
    pub(crate) request: u64,
}

/// What can be made out of a request that is not understood as a whole.
#[derive(Deserialize)]
struct OnlyId {
    id: u64,
}

/// Kept open, to be closed when no other descriptor is left.
pub(crate) fn spare_descriptor() -> Option<OwnedFd> {
    rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()
}

impl Keeper {
    /// Takes whoever waits at the door.
    pub(crate) fn accept(&mut self) {
        loop {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = match rustix::net::accept_with(&self.listener, flags) {
                Ok(socket) => socket,
                Err(Errno::INTR | Errno::CONNABORTED) => continue,
                // Left in the queue, it would wake the keeper for ever: it is let in and sent away.
                Err(Errno::MFILE | Errno::NFILE) if self.spare.take().is_some() => {
                    let sent_away = rustix::net::accept_with(&self.listener, flags).map(drop);
                    self.spare = spare_descriptor();
                    match sent_away {
                        Ok(()) => continue,
                        Err(_) => return,
                    }
                }
                Err(_) => return, // nobody more
            };
            let Ok(peer) = sockopt::socket_peercred(&socket) else { continue };
            let trusted = peer.uid.is_root() || peer.uid == rustix::process::geteuid();
            if !trusted || self.connections.len() >= CONNECTIONS_MAX {
                continue; // closed
            }
            self.last_connection += 1;
            let id = self.last_connection;
            let fitted = wire::fit_longest_packet(&socket);
            let Ok(token) = fitted.and_then(|()| self.poll.watch(&socket, Watch::Connection(id))) else { continue };
            let connection = Connection {
                socket,
                token,
                role: None,
                pid: peer.pid.as_raw_nonzero().get().cast_unsigned(),
                outgoing: VecDeque::new(),
                outgoing_bytes: 0,
                slow: false,
                reported: 0,
            };
            self.connections.insert(id, connection);
        }
    }

    /// A peer has said something, takes more, or has gone.
    pub(crate) fn peer_ready(&mut self, id: u64, flags: EventFlags) {
        if flags.contains(EventFlags::OUT) {
            self.flush(id);
        }
        if !flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            return;
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        for _ in 0..ORDERS_IN_A_TURN {
            let Some(connection) = self.connections.get(&id) else { break };
            match wire::receive(&connection.socket, &mut buffer) {
                Ok(Incoming::Packet { length, descriptors }) => self.heard(id, &buffer[..length], descriptors),
                Ok(Incoming::TooLong) => self.not_understood(id, 0, "the message is too long"),
                Ok(Incoming::Closed) => self.close(id),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.close(id),
            }
        }
        self.buffer = buffer;
    }

    fn heard(&mut self, connection: u64, text: &[u8], descriptors: Vec<OwnedFd>) {
        match serde_json::from_slice::<Request>(text) {
            Ok(Request { id, order }) => {
                let waiter = Waiter { connection, request: id };
                self.carry_out(waiter, order, descriptors.into_iter().next());
            }
            Err(error) => {
                // Not the parser's own words: they quote the message, which may have credentials.
                let id = serde_json::from_slice::<OnlyId>(text).map_or(0, |only| only.id);
                let text = format!("the message is wrong at byte {} ({:?})", error.column(), error.classify());
                self.not_understood(connection, id, &text);
            }
        }
    }

    fn not_understood(&mut self, connection: u64, request: u64, text: &str) {
        let refusal = Refusal::NotUnderstood(text.to_owned());
        self.answer(Waiter { connection, request }, Answer::Refused(refusal), None);
    }

    /// Answers, if whoever asked is still there. What happened before comes before: an answer that shows the process
    /// which took a dead one's place would else make the report of that death old news to the manager. Only the welcome
    /// comes first: it says who counts the reports.
    pub(crate) fn answer(&mut self, waiter: Waiter, answer: Answer, descriptor: Option<OwnedFd>) {
        let of_manager = self.roles[RoleKind::Manager].connection == Some(waiter.connection);
        if of_manager && !matches!(answer, Answer::Welcome { .. }) {
            self.pump_reports();
        }
        self.send(waiter.connection, &Message::Answer { to: waiter.request, answer }, descriptor);
    }

    /// Tells every gateway that is connected: while one takes over from another there are several. Returns how many.
    pub(crate) fn tell_gateways(&mut self, message: &ToGateway) -> u32 {
        let gateways = self.gateways(true);
        for gateway in &gateways {
            self.tell_peer(*gateway, message.clone());
        }
        u32::try_from(gateways.len()).unwrap_or(u32::MAX)
    }

    /// Tells one gateway.
    pub(crate) fn tell_peer(&mut self, connection: u64, message: ToGateway) {
        self.tell_peer_with(connection, message, None);
    }

    /// The same, with a descriptor.
    pub(crate) fn tell_peer_with(&mut self, connection: u64, message: ToGateway, descriptor: Option<OwnedFd>) {
        self.send(connection, &Message::ToGateway(message), descriptor);
    }

    /// Connections of gateways that were replaced.
    pub(crate) fn former_connections(&self) -> impl Iterator<Item = u64> {
        let former = self.connections.iter().filter(|(_, connection)| connection.role == Some(Role::FormerGateway));
        former.map(|(id, _)| *id)
    }

    fn send(&mut self, id: u64, message: &Message, descriptor: Option<OwnedFd>) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let Ok(packet) = Packet::new(message, descriptor) else {
            self.close(id); // it can never be told: let it begin anew rather than wait for ever
            return;
        };
        connection.outgoing_bytes += packet.size();
        connection.outgoing.push_back(packet);
        if !connection.slow {
            self.flush(id); // else its socket is watched, and this packet's turn comes after the others
        }
        let too_slow = self.connections.get(&id).is_some_and(|connection| {
            let limit = match connection.role {
                Some(Role::Manager | Role::Gateway | Role::FormerGateway) => QUEUE_BYTES_MAX,
                Some(Role::Visitor) | None => VISITOR_QUEUE_BYTES_MAX,
            };
            connection.outgoing_bytes > limit
        });
        if too_slow {
            self.close(id);
        }
    }

    /// Sends what the peer takes.
    fn flush(&mut self, id: u64) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        while let Some(packet) = connection.outgoing.front() {
            match packet.send(&connection.socket) {
                Ok(()) => {
                    connection.outgoing_bytes -= packet.size();
                    connection.outgoing.pop_front();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    connection.slow = true;
                    if self.poll.also_writable(&connection.socket, connection.token, true).is_err() {
                        self.close(id);
                    }
                    return;
                }
                Err(_) => {
                    self.close(id);
                    return;
                }
            }
        }
        if !connection.slow {
            return;
        }
        connection.slow = false;
        connection.outgoing = VecDeque::new(); // gives back what the waiting packets took
        if self.poll.also_writable(&connection.socket, connection.token, false).is_err() {
            self.close(id);
        }
    }

    /// Ends a connection.
    pub(crate) fn close(&mut self, id: u64) {
        let role = self.connections.get(&id).and_then(|connection| connection.role);
        self.close_quietly(id);
        match role {
            Some(Role::Gateway) => self.role_disconnected(RoleKind::Gateway, id),
            Some(Role::Manager) => self.role_disconnected(RoleKind::Manager, id),
            Some(Role::Visitor | Role::FormerGateway) | None => {}
        }
    }

    /// Ends a connection whose role another one has taken over.
    pub(crate) fn close_quietly(&mut self, id: u64) {
        if let Some(connection) = self.connections.remove(&id) {
            self.poll.forget(connection.token);
        }
    }

    /// Tells the manager what it has not been told, as far as it takes it.
    pub(crate) fn pump_reports(&mut self) {
        let Some(id) = self.roles[RoleKind::Manager].connection else { return };
        loop {
            let Some(connection) = self.connections.get_mut(&id) else { return };
            if connection.outgoing_bytes > REPORT_BYTES_AHEAD {
                return;
            }
            let Some((number, message)) = self.reports.after(connection.reported) else { return };
            connection.reported = number;
            self.send(id, &message, None);
        }
    }

    /// A duplicate of a held socket, for a peer.
    pub(crate) fn duplicate(&self, name: &str) -> io::Result<OwnedFd> {
        let socket = self.sockets.get(name).ok_or(io::ErrorKind::NotFound)?;
        socket.as_fd().try_clone_to_owned()
    }
}
