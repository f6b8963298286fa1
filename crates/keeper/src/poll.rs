//! Waiting: which descriptors and points in time the keeper waits for, and on whose behalf.
//!
//! Invariant: tokens are never used twice, so an event that was on its way when its watch ended finds nothing.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use ostler_model::ids::InstanceId;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

use crate::ledger::Who;
use crate::roles::RoleKind;

/// Names a watch.
pub(crate) type Token = u64;

/// On whose behalf a descriptor is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Watch {
    /// Somebody connects.
    Listener,
    /// A signal to the keeper itself.
    Signals,
    /// A peer has said something, or takes more.
    Connection(u64),
    /// A main process ended.
    Main(Who),
    /// Another process of an instance's tree ended.
    Member(InstanceId),
}

/// What to do at a point in time. Whoever handles it looks whether it still applies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// The grace of a stop, or the patience with a tree that does not go, is over.
    Firm(InstanceId),
    /// Look for the rest of a tree again, as the last look failed.
    Rescan(InstanceId),
    /// The pause before the gateway or the manager is started again is over.
    Role(RoleKind),
    /// Reap orphans.
    Orphans,
    /// Look at the sizes of the logs.
    Logs,
    /// The gateway was told to end with the keeper, and has not.
    End,
    /// A build that is being brought in has had its time.
    Upgrade,
}

/// All watches and timers.
pub(crate) struct Poll {
    epoll: OwnedFd,
    watches: HashMap<Token, Watch>,
    timers: BTreeMap<(Instant, Token), Timer>,
    next: Token,
}

impl Poll {
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        Ok(Self { epoll, watches: HashMap::new(), timers: BTreeMap::new(), next: 1 })
    }

    /// Watches a descriptor for reading (for a pidfd: for the end of its process).
    pub(crate) fn watch(&mut self, descriptor: impl AsFd, watch: Watch) -> io::Result<Token> {
        let token = self.token();
        epoll::add(&self.epoll, descriptor, EventData::new_u64(token), EventFlags::IN)?;
        self.watches.insert(token, watch);
        Ok(token)
    }

    /// Also watches it for writing, or no longer.
    pub(crate) fn also_writable(&self, descriptor: impl AsFd, token: Token, writable: bool) -> io::Result<()> {
        let flags = if writable { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
        Ok(epoll::modify(&self.epoll, descriptor, EventData::new_u64(token), flags)?)
    }

    /// Ends a watch. The caller closes the descriptor, by which the kernel forgets it.
    pub(crate) fn forget(&mut self, token: Token) {
        self.watches.remove(&token);
    }

    /// Whose event this is, if the watch is still on.
    pub(crate) fn whose(&self, token: Token) -> Option<&Watch> {
        self.watches.get(&token)
    }

    /// Sets a timer.
    pub(crate) fn at(&mut self, time: Instant, timer: Timer) {
        let token = self.token();
        self.timers.insert((time, token), timer);
    }

    /// The next timer that is due.
    pub(crate) fn due(&mut self, now: Instant) -> Option<Timer> {
        let entry = self.timers.first_entry()?;
        (entry.key().0 <= now).then(|| entry.remove())
    }

    /// Waits for events, until the next timer, or not at all if there is `work` left. Tokens go to `events`.
    pub(crate) fn wait(&self, work: bool, events: &mut Vec<(Token, EventFlags)>) -> io::Result<()> {
        let until_timer =
            self.timers.first_key_value().map(|((time, _), _)| time.saturating_duration_since(Instant::now()));
        let timeout = if work { Some(Duration::ZERO) } else { until_timer };
        let timeout = timeout.map(|length| length.try_into().expect("timers are at most minutes away"));
        let mut space = [Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; 64];
        events.clear();
        let count = match epoll::wait(&self.epoll, &mut space, timeout.as_ref()) {
            Ok(count) => count,
            Err(rustix::io::Errno::INTR) => 0,
            Err(error) => return Err(error.into()),
        };
        events.extend(space[..count].iter().map(|event| {
            let Event { flags, data } = *event; // packed: no references into it
            (data.u64(), flags)
        }));
        Ok(())
    }

    fn token(&mut self) -> Token {
        self.next += 1;
        self.next
    }
}
