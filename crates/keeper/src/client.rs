//! A client of the keeper that blocks, for the command line and for tests.
//!
//! Invariant: what arrives while an answer is awaited is kept, in order, for [`Client::report`] and
//! [`Client::for_gateway`].

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use ostler_model::time::Timestamp;
use rustix::event::{PollFd, PollFlags};

use crate::protocol::{Answer, Message, Order, Refusal, Report, Request, Role, ToGateway, VERSION};
use crate::wire::{self, Incoming, Packet};

/// Why the keeper could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("cannot reach the keeper at {path}")]
    Unreachable {
        /// The socket.
        path: String,
        /// The system's words.
        #[source]
        cause: io::Error,
    },
    /// The connection broke.
    #[error("the connection to the keeper broke")]
    Broken(#[source] io::Error),
    /// The keeper closed the connection.
    #[error("the keeper closed the connection")]
    Closed,
    /// No answer in time.
    #[error("the keeper did not answer within {0:?}")]
    TimedOut(Duration),
    /// The answer makes no sense.
    #[error("the keeper's message was not understood")]
    NotUnderstood(#[source] serde_json::Error),
    /// It refused.
    #[error("the keeper refused")]
    Refused(#[source] Refusal),
}

impl ClientError {
    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::Unreachable { .. } => "Start ostler for this home with `ostler up`.".into(),
            Self::Broken(_) | Self::Closed => "Try again: the keeper may just be starting anew.".into(),
            Self::TimedOut(_) => "Look at the keeper's log in the home; try again.".into(),
            Self::NotUnderstood(_) | Self::Refused(Refusal::OtherVersion(_)) => {
                "Another version of ostler is running: restart it with this one (`ostler up`).".into()
            }
            Self::Refused(Refusal::Busy(_)) => {
                "Stop the instances first (`ostler down`), or leave them running.".into()
            }
            Self::Refused(_) => "Correct what the keeper names, and try again.".into(),
        }
    }
}

/// A connection.
pub struct Client {
    socket: OwnedFd,
    buffer: Box<[u8]>,
    last: u64,
    timeout: Duration,
    welcome: Answer,
    reports: VecDeque<(u64, Timestamp, Report)>,
    for_gateway: VecDeque<(ToGateway, Option<OwnedFd>)>,
    answers: Vec<(u64, Answer, Option<OwnedFd>)>,
}

impl Client {
    /// Connects and says hello. `timeout` bounds every wait for an answer.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn connect(path: &Path, role: Role, timeout: Duration) -> Result<Self, ClientError> {
        let unreachable = |cause| ClientError::Unreachable { path: path.display().to_string(), cause };
        let socket = wire::connect(path).map_err(unreachable)?;
        let mut client = Self {
            socket,
            buffer: wire::buffer(),
            last: 0,
            timeout,
            welcome: Answer::Done,
            reports: VecDeque::new(),
            for_gateway: VecDeque::new(),
            answers: Vec::new(),
        };
        client.welcome = client.ask(Order::Hello { version: VERSION, role })?;
        Ok(client)
    }

    /// The keeper's [`Answer::Welcome`].
    pub fn welcome(&self) -> &Answer {
        &self.welcome
    }

    /// Asks, and waits for the answer. A refusal is an error.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn ask(&mut self, order: Order) -> Result<Answer, ClientError> {
        self.ask_with(order, None).map(|(answer, _)| answer)
    }

    /// The same, with a descriptor on the way there and perhaps one on the way back.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn ask_with(
        &mut self,
        order: Order,
        descriptor: Option<OwnedFd>,
    ) -> Result<(Answer, Option<OwnedFd>), ClientError> {
        let id = self.send(order, descriptor)?;
        self.answer(id)
    }

    /// Sends an order without waiting. Returns its id, for [`Client::answer`].
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn send(&mut self, order: Order, descriptor: Option<OwnedFd>) -> Result<u64, ClientError> {
        self.last += 1;
        let packet = Packet::new(&Request { id: self.last, order }, descriptor).map_err(ClientError::Broken)?;
        if packet.is_beyond() {
            let cause = io::Error::new(io::ErrorKind::InvalidInput, "the order is longer than a packet");
            return Err(ClientError::Broken(cause));
        }
        packet.send(&self.socket).map_err(ClientError::Broken)?;
        Ok(self.last)
    }

    /// Waits for the answer to the order of this id.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn answer(&mut self, id: u64) -> Result<(Answer, Option<OwnedFd>), ClientError> {
        let until = Instant::now() + self.timeout;
        loop {
            if let Some(place) = self.answers.iter().position(|(to, ..)| *to == id) {
                return match self.answers.swap_remove(place) {
                    (_, Answer::Refused(refusal), _) => Err(ClientError::Refused(refusal)),
                    (_, answer, descriptor) => Ok((answer, descriptor)),
                };
            }
            if !self.receive(until)? {
                return Err(ClientError::TimedOut(self.timeout));
            }
        }
    }

    /// The next report, or `None` if none comes in time.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn report(&mut self, within: Duration) -> Result<Option<(u64, Timestamp, Report)>, ClientError> {
        let until = Instant::now() + within;
        while self.reports.is_empty() && self.receive(until)? {}
        Ok(self.reports.pop_front())
    }

    /// The next message for the gateway, or `None` if none comes in time.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn for_gateway(&mut self, within: Duration) -> Result<Option<(ToGateway, Option<OwnedFd>)>, ClientError> {
        let until = Instant::now() + within;
        while self.for_gateway.is_empty() && self.receive(until)? {}
        Ok(self.for_gateway.pop_front())
    }

    /// Receives one message; false if none comes in time.
    fn receive(&mut self, until: Instant) -> Result<bool, ClientError> {
        if !wait_readable(self.socket.as_fd(), until).map_err(ClientError::Broken)? {
            return Ok(false);
        }
        let (length, descriptors) = match wire::receive(&self.socket, &mut self.buffer).map_err(ClientError::Broken)? {
            Incoming::Packet { length, descriptors } => (length, descriptors),
            Incoming::TooLong => return Err(ClientError::Broken(io::ErrorKind::InvalidData.into())),
            Incoming::Closed => return Err(ClientError::Closed),
        };
        let (text, descriptor) = wire::unpack(&self.buffer[..length], descriptors).map_err(ClientError::Broken)?;
        match serde_json::from_slice(&text).map_err(ClientError::NotUnderstood)? {
            Message::Answer { to, answer } => self.answers.push((to, answer, descriptor)),
            Message::Report { number, at, report } => self.reports.push_back((number, at, report)),
            Message::ToGateway(message) => self.for_gateway.push_back((message, descriptor)),
        }
        Ok(true)
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn wait_readable(socket: BorrowedFd<'_>, until: Instant) -> io::Result<bool> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = left.try_into().map_err(|_| io::ErrorKind::InvalidInput)?;
        match rustix::event::poll(&mut [PollFd::from_borrowed_fd(socket, PollFlags::IN)], Some(&timeout)) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
