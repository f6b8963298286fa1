//! The connection to the keeper, again and again.
//!
//! Invariant: losing the keeper changes nothing for callers; a report that matters is repeated until a keeper has
//! answered it.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ostler_keeper::protocol::{
    Answer, GATEWAY_LEAVES_WITHIN, Message, Order, Refusal, Request, Role, ToGateway, VERSION,
};
use ostler_keeper::wire::unpack;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior, interval_at, sleep};

use crate::GatewayError;
use crate::hub::{Hub, Keeper};
use crate::messages::Says;
use crate::note;
use crate::wire::SeqPacket;

const RETRY_MIN: Duration = Duration::from_millis(5);
const RETRY_MAX: Duration = Duration::from_millis(250);
/// A gateway that holds nothing and finds no keeper for so long has no reason to exist.
const ALONE_MAX: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_secs(10);
/// Reports sent and not yet answered. More wait in their channel.
const UNANSWERED_MAX: usize = 64;

/// The state that outlives one connection.
pub(crate) struct Link<'a> {
    path: &'a Path,
    hub: Hub,
    says: mpsc::Receiver<Says>,
    tick: Interval,
    /// Reports that the last keeper did not answer.
    repeat: VecDeque<Says>,
    /// The keeper that was last welcomed by, as it names itself.
    keeper: Option<String>,
    last_id: u64,
    role: Role,
}

/// Why this gateway speaks to no keeper any more, or as somebody else.
pub(crate) enum Left {
    /// It was told to end.
    Stopped,
    /// Another gateway has taken over.
    Replaced {
        /// How long what it carries may go on.
        within: Duration,
    },
}

/// Why a connection ended.
enum End {
    Stop,
    Replaced { within: Duration },
    Lost(io::Error),
    OtherVersion(u32),
}

/// One connection.
struct Session {
    wire: SeqPacket,
    /// Still to be sent, in order.
    outbox: VecDeque<(Vec<u8>, Option<Arc<TcpListener>>)>,
    /// Sent (or in the outbox) and not answered.
    asked: BTreeMap<u64, Asked>,
    /// Unknown until the keeper has named itself.
    known: Option<Keeper>,
}

enum Asked {
    Hello,
    Says(Says),
    Offer(String),
    Confirm,
}

impl<'a> Link<'a> {
    pub(crate) fn new(path: &'a Path, hub: Hub, says: mpsc::Receiver<Says>) -> Self {
        let mut tick = interval_at(tokio::time::Instant::now() + TICK, TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { path, hub, says, tick, repeat: VecDeque::new(), keeper: None, last_id: 0, role: Role::Gateway }
    }

    /// What is held.
    pub(crate) fn into_hub(self) -> Hub {
        self.hub
    }

    /// Another gateway has taken over: accepts nobody more.
    pub(crate) async fn leave(&mut self) {
        self.role = Role::FormerGateway;
        self.hub.leave().await;
    }

    /// Says what was served and not said yet.
    pub(crate) async fn report_all(&mut self, within: Duration) {
        self.hub.tick();
        let said = pin!(sleep(within));
        let _ = self.run(said).await; // nobody is left to be told that it could not be said
    }

    /// Speaks to one keeper after the other until `stop`, or until another gateway has taken over.
    pub(crate) async fn run(&mut self, mut stop: Pin<&mut impl Future<Output = ()>>) -> Result<Left, GatewayError> {
        let mut retry = RETRY_MIN;
        let mut alone_since = Instant::now();
        loop {
            let end = match SeqPacket::connect(self.path) {
                Ok(wire) => {
                    let welcomed_before = self.keeper.clone();
                    let end = self.session(wire, stop.as_mut()).await;
                    if self.keeper != welcomed_before {
                        retry = RETRY_MIN;
                    }
                    end
                }
                Err(error) => End::Lost(error),
            };
            match end {
                End::Stop => return Ok(Left::Stopped),
                End::Replaced { within } if self.role == Role::Gateway => return Ok(Left::Replaced { within }),
                End::Replaced { .. } => {}
                End::OtherVersion(theirs) if self.hub.is_empty() => return Err(GatewayError::OtherVersion(theirs)),
                End::OtherVersion(_) => retry = RETRY_MAX,
                End::Lost(source) if self.hub.is_empty() && alone_since.elapsed() >= ALONE_MAX => {
                    return Err(GatewayError::NoKeeper { path: self.path.to_owned(), source });
                }
                End::Lost(_) => {}
            }
            if !self.hub.is_empty() {
                alone_since = Instant::now();
            }
            tokio::select! {
                () = sleep(retry) => retry = (retry * 2).min(RETRY_MAX),
                () = stop.as_mut() => return Ok(Left::Stopped),
            }
        }
    }

    async fn session(&mut self, wire: SeqPacket, mut stop: Pin<&mut impl Future<Output = ()>>) -> End {
        let mut session = Session { wire, outbox: VecDeque::new(), asked: BTreeMap::new(), known: None };
        self.hub.begin();
        self.ask(&mut session, Order::Hello { version: VERSION, role: self.role }, None, Asked::Hello);
        let end = loop {
            while session.asked.len() < UNANSWERED_MAX {
                let Some(says) = self.repeat.pop_front() else { break };
                self.report(&mut session, says);
            }
            let may_report = session.known.is_some() && session.asked.len() < UNANSWERED_MAX;
            tokio::select! {
                () = stop.as_mut() => break End::Stop,
                received = session.wire.recv() => {
                    let outcome = match received {
                        Ok((bytes, descriptors)) => self.receive(&mut session, &bytes, descriptors),
                        Err(error) => Err(End::Lost(error)),
                    };
                    if let Err(end) = outcome {
                        break end;
                    }
                }
                sent = session.send_first(), if !session.outbox.is_empty() => match sent {
                    Ok(()) => drop(session.outbox.pop_front()),
                    Err(error) => break End::Lost(error),
                },
                Some(says) = self.says.recv(), if may_report => self.report(&mut session, says),
                _ = self.tick.tick() => self.hub.tick(),
            }
        };
        self.keep_unanswered(session);
        end
    }

    fn receive(&mut self, session: &mut Session, bytes: &[u8], descriptors: Vec<OwnedFd>) -> Result<(), End> {
        let (text, descriptor) = unpack(bytes, descriptors).map_err(End::Lost)?;
        match serde_json::from_slice(&text) {
            Ok(Message::Answer { to, answer }) => return self.answered(session, to, answer),
            Ok(Message::ToGateway(ToGateway::Synchronized)) => {
                let keeper = session.known.unwrap_or(Keeper::Other);
                for offer in self.hub.synchronized(keeper) {
                    let what = match &offer.order {
                        Order::Return { name, .. } => format!("the socket of `{name}`"),
                        _ => "a table".to_owned(),
                    };
                    self.ask(session, offer.order, offer.socket, Asked::Offer(what));
                }
                self.ask(session, Order::Confirm, None, Asked::Confirm);
            }
            Ok(Message::ToGateway(ToGateway::Retire { within_ms })) => {
                return Err(End::Replaced { within: Duration::from_millis(within_ms).min(GATEWAY_LEAVES_WITHIN) });
            }
            Ok(Message::ToGateway(message)) => self.hub.apply(message, descriptor),
            Ok(Message::Report { .. }) => note("left out a report: it is for the manager"),
            Err(_) => note("left out a message of the keeper that was not understood"),
        }
        Ok(())
    }

    fn answered(&mut self, session: &mut Session, to: u64, answer: Answer) -> Result<(), End> {
        match (session.asked.remove(&to), answer) {
            (Some(Asked::Hello), Answer::Welcome { keeper, .. }) => {
                let same = self.keeper.as_ref() == Some(&keeper);
                session.known = Some(if same { Keeper::Same } else { Keeper::Other });
                self.keeper = Some(keeper);
            }
            (Some(Asked::Hello), Answer::Refused(Refusal::OtherVersion(theirs))) => {
                note(format_args!("the keeper speaks protocol version {theirs}, this gateway version {VERSION}"));
                return Err(End::OtherVersion(theirs));
            }
            (Some(Asked::Hello), _) => {
                let cause = "the keeper did not welcome this gateway";
                return Err(End::Lost(io::Error::new(io::ErrorKind::PermissionDenied, cause)));
            }
            (Some(Asked::Offer(what)), Answer::Refused(refusal)) => {
                note(format_args!("the keeper did not take {what}: {refusal}"));
            }
            (Some(Asked::Says(_)), Answer::Refused(refusal)) => {
                note(format_args!("the keeper did not take a report: {refusal}"));
            }
            (Some(Asked::Offer(_) | Asked::Says(_) | Asked::Confirm) | None, _) => {}
        }
        Ok(())
    }

    fn report(&mut self, session: &mut Session, says: Says) {
        if let Ok(body) = serde_json::to_string(&says) {
            self.ask(session, Order::GatewaySays { body }, None, Asked::Says(says));
        }
    }

    fn ask(&mut self, session: &mut Session, order: Order, socket: Option<Arc<TcpListener>>, asked: Asked) {
        self.last_id += 1;
        let request = Request { id: self.last_id, order };
        if let Ok(bytes) = serde_json::to_vec(&request) {
            session.outbox.push_back((bytes, socket));
            session.asked.insert(request.id, asked);
        }
    }

    /// Reports that got no answer are said again to the next keeper. Not traffic: newer numbers replace it. And not what
    /// was served: if this keeper did take it, it would be counted twice.
    fn keep_unanswered(&mut self, session: Session) {
        for asked in session.asked.into_values().rev() {
            if let Asked::Says(
                says @ (Says::Drained { .. } | Says::Fenced { .. } | Says::Trouble { .. } | Says::SetAside { .. }),
            ) = asked
            {
                self.repeat.push_front(says);
            }
        }
    }
}

impl Session {
    /// Sends the first packet of the outbox, which stays there: if this is cancelled, it has not been sent.
    async fn send_first(&self) -> io::Result<()> {
        let Some((bytes, socket)) = self.outbox.front() else { return Ok(()) };
        let descriptors: Vec<_> = socket.iter().map(|listener| listener.as_fd()).collect();
        self.wire.send(bytes, &descriptors).await
    }
}
