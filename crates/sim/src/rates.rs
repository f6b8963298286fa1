//! How often what goes wrong, and the plan of a run: every act with its time, drawn before the run begins.
//!
//! Invariant: the acts of one kind on one target are a stream of their own. Two plans from the same seed for estates
//! that differ in one service agree in everything else, so estates can be compared under the same faults.

use std::collections::BTreeMap;
use std::time::Duration;

use ostler_model::estate::drills::Fault as DrillFault;
use ostler_model::time::Span;
use serde::{Deserialize, Serialize};

use crate::act::{Act, CutAt, Errand, Planned, Spoil};
use crate::dice::{Concern, Dice, Stream, key};
use crate::sketch::{Kind, Town};

/// The kinds of fault that a rate can be given for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// Per instance.
    Crash,
    /// Per instance.
    Hang,
    /// Per instance.
    Slow,
    /// Per instance.
    Leak,
    /// Per instance.
    CrashLoop,
    /// Per instance.
    NeverReady,
    /// Per instance.
    Lose,
    /// Per service with a one-off command.
    BeforeFails,
    /// Per service.
    AddressTaken,
    /// Per provider.
    Spoil,
    /// Per provider.
    ControlOut,
    /// Per provider.
    ProviderOut,
    /// Per provider.
    Partition,
    /// Per provider.
    Drops,
    /// Per region.
    RegionOut,
    /// Per estate.
    ManagerDies,
    /// Per estate.
    KeeperDies,
    /// Per estate.
    PowerLoss,
    /// Per estate.
    DiskFull,
    /// Per estate.
    ClockJumps,
    /// Per estate: people, whose doings are no fault, but come at bad moments.
    People,
    /// Per broker.
    PlanGone,
    /// Per broker.
    UnbindRefused,
    /// Per service: people have a fault caused on purpose.
    Drill,
    /// Per provider of an estate of which something may be moved: as [`Self::ProviderOut`], for so long that nobody waits.
    LongOut,
    /// Per service that may be moved: people move it, take that back, have what was left deleted.
    Move,
    /// Per service that may be moved and is backed up.
    RestoreFails,
    /// Per service that may be moved and is backed up.
    Corrupt,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 28] = [
        Self::Crash,
        Self::Hang,
        Self::Slow,
        Self::Leak,
        Self::CrashLoop,
        Self::NeverReady,
        Self::Lose,
        Self::BeforeFails,
        Self::AddressTaken,
        Self::Spoil,
        Self::ControlOut,
        Self::ProviderOut,
        Self::Partition,
        Self::Drops,
        Self::RegionOut,
        Self::ManagerDies,
        Self::KeeperDies,
        Self::PowerLoss,
        Self::DiskFull,
        Self::ClockJumps,
        Self::People,
        Self::PlanGone,
        Self::UnbindRefused,
        Self::Drill,
        Self::LongOut,
        Self::Move,
        Self::RestoreFails,
        Self::Corrupt,
    ];

    fn concern(self) -> Concern {
        match self {
            Self::Crash
            | Self::Hang
            | Self::Slow
            | Self::Leak
            | Self::CrashLoop
            | Self::NeverReady
            | Self::Lose
            | Self::BeforeFails => Concern::Processes,
            Self::Spoil
            | Self::ControlOut
            | Self::ProviderOut
            | Self::RegionOut
            | Self::PlanGone
            | Self::UnbindRefused
            | Self::LongOut
            | Self::RestoreFails
            | Self::Corrupt => Concern::Providers,
            Self::AddressTaken | Self::Partition | Self::Drops => Concern::Networks,
            Self::ManagerDies | Self::KeeperDies | Self::PowerLoss | Self::DiskFull | Self::ClockJumps => {
                Concern::Ostler
            }
            Self::People | Self::Drill | Self::Move => Concern::People,
        }
    }
}

/// How often one kind of fault comes to one target, and how long it lasts, on average.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// The mean time between two of them.
    pub every: Duration,
    /// How long one lasts at least and at most, where it lasts.
    pub lasts: (Duration, Duration),
}

/// What goes wrong how often: in general, and for single targets in other ways.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// For every target; a kind that is missing does not happen.
    pub general: BTreeMap<Fault, Rate>,
    /// For single services, providers and regions by name, in front of the general ones; `None` for never.
    pub special: BTreeMap<(Fault, String), Option<Rate>>,
}

/// How long the provider of what was bought takes to have it running again after a crash, at least and at most, where
/// nobody says otherwise: one to two minutes are usual for a failover to a standby that is paid for, and up to ten for
/// what has none and is started again, or moved to another machine, with its disk.
pub(crate) const HEALED_BY_PROVIDER: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(600));
/// What a provider does not find out by itself lasts until a person tells it.
pub(crate) const UNNOTICED: (Duration, Duration) = (Duration::ZERO, Duration::ZERO);

const MINUTE: Duration = Duration::from_secs(60);
/// An outage in which a standby is chosen in the end, whatever is lost by that.
const LONG_OUT: (Duration, Duration) = (Duration::from_secs(5 * 60), Duration::from_secs(80 * 60));
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

impl Rates {
    /// Drawn by chance for a storm of `length` over `town`: half of the kinds do not happen; of the others there are
    /// one to a dozen in all.
    pub fn draw(dice: Dice, town: &Town, length: Duration) -> Self {
        let mut draw = dice.stream(Concern::Rates, 0);
        let mut general = BTreeMap::new();
        for fault in Fault::ALL {
            let happens = draw.chance(500);
            let times = u32::try_from(draw.between(1, 12)).expect("at most a dozen");
            let longest = [2 * MINUTE, 10 * MINUTE, HOUR / 2][draw.index(3)];
            let count = u32::try_from(targets(fault, town).len()).unwrap_or(u32::MAX);
            if happens && count > 0 {
                let times = if fault == Fault::LongOut { times.min(3) } else { times };
                let every = (length * count / times).max(Duration::from_millis(1));
                // Every other storm has hangs that no provider finds out about by itself.
                let unnoticed = fault == Fault::Hang && times.is_multiple_of(2);
                let lasts = match fault {
                    Fault::LongOut => LONG_OUT,
                    _ if unnoticed => UNNOTICED,
                    _ => (Duration::from_millis(200), longest),
                };
                general.insert(fault, Rate { every, lasts });
            }
        }
        Self { general, special: BTreeMap::new() }
    }

    /// All kinds of fault, as often as a large estate that is not well off may see them: for the benchmark of a year.
    pub fn harsh() -> Self {
        let second = Duration::from_secs(1);
        let of = |fault, every, least, most| (fault, Rate { every, lasts: (least, most) });
        let general = [
            of(Fault::Crash, 60 * DAY, HEALED_BY_PROVIDER.0, HEALED_BY_PROVIDER.1),
            of(Fault::Hang, 180 * DAY, UNNOTICED.0, UNNOTICED.1),
            of(Fault::Slow, 365 * DAY, MINUTE, 20 * MINUTE),
            of(Fault::Leak, 365 * DAY, HOUR, DAY),
            of(Fault::CrashLoop, 730 * DAY, MINUTE, HOUR),
            of(Fault::NeverReady, 730 * DAY, MINUTE, HOUR),
            of(Fault::Lose, 3650 * DAY, second, second),
            of(Fault::BeforeFails, 365 * DAY, MINUTE, HOUR),
            of(Fault::AddressTaken, 365 * DAY, MINUTE, HOUR),
            of(Fault::Spoil, 7 * DAY, second, second),
            of(Fault::ControlOut, 30 * DAY, MINUTE, 2 * HOUR),
            of(Fault::ProviderOut, 90 * DAY, MINUTE, 2 * HOUR),
            of(Fault::Partition, 30 * DAY, second, 10 * MINUTE),
            of(Fault::Drops, 7 * DAY, second, 10 * MINUTE),
            of(Fault::RegionOut, 180 * DAY, 10 * MINUTE, 4 * HOUR),
            of(Fault::ManagerDies, 14 * DAY, second, MINUTE),
            of(Fault::KeeperDies, 60 * DAY, second / 10, 10 * second),
            of(Fault::PowerLoss, 180 * DAY, MINUTE, HOUR),
            of(Fault::DiskFull, 60 * DAY, MINUTE, HOUR),
            of(Fault::ClockJumps, 30 * DAY, second, second),
            of(Fault::People, DAY, second, second),
            of(Fault::PlanGone, 60 * DAY, HOUR, DAY),
            of(Fault::UnbindRefused, 60 * DAY, MINUTE, 2 * HOUR),
        ];
        Self { general: general.into_iter().collect(), special: BTreeMap::new() }
    }

    fn of(&self, fault: Fault, target: &str) -> Option<Rate> {
        match self.special.get(&(fault, target.to_owned())) {
            Some(special) => *special,
            None => self.general.get(&fault).copied(),
        }
    }

    /// Everything that is to happen between `from` and `until`, in the order of its time.
    pub fn plan(&self, dice: Dice, town: &Town, from: Duration, until: Duration) -> Vec<Planned> {
        let mut planned = Vec::new();
        for fault in Fault::ALL {
            for (target, nth) in targets(fault, town) {
                let Some(rate) = self.of(fault, &target) else { continue };
                let mut draw = dice.stream(fault.concern(), key(&[&target], fault as u64 * 1_000_003 + nth));
                let mut at = from + draw.exponential(rate.every);
                while at < until {
                    let lasts = Span::millis(millis(draw.duration(rate.lasts.0, rate.lasts.1)));
                    let act = act(fault, &target, nth, lasts, &mut draw, town);
                    planned.push(Planned { at: Span::millis(millis(at)), act });
                    at += draw.exponential(rate.every);
                }
            }
        }
        planned.sort_by_key(|planned| planned.at);
        planned
    }
}

fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}

/// What a kind of fault can come to, by name, and for instances their place among those of their service.
fn targets(fault: Fault, town: &Town) -> Vec<(String, u64)> {
    let services = || town.estate.services.values();
    let providers = || town.estate.providers.keys().map(|name| (name.to_string(), 0));
    let movable = || services().filter(|service| service.prefer.len() > 1);
    match fault {
        Fault::Crash | Fault::Hang | Fault::Slow | Fault::Leak | Fault::CrashLoop | Fault::NeverReady | Fault::Lose => {
            services()
                .flat_map(|service| (0..u64::from(service.instances)).map(|nth| (service.name.to_string(), nth)))
                .collect()
        }
        Fault::BeforeFails => services()
            .filter(|service| !service.before.is_empty())
            .map(|service| (service.name.to_string(), 0))
            .collect(),
        Fault::AddressTaken | Fault::Drill => services().map(|service| (service.name.to_string(), 0)).collect(),
        Fault::Spoil | Fault::ControlOut | Fault::ProviderOut | Fault::Drops => providers().collect(),
        Fault::LongOut if movable().next().is_none() => Vec::new(),
        Fault::LongOut => providers().collect(),
        Fault::Move => movable().map(|service| (service.name.to_string(), 0)).collect(),
        Fault::RestoreFails | Fault::Corrupt => {
            let kept = movable().filter(|service| service.data.backup_every.is_some());
            kept.map(|service| (service.name.to_string(), 0)).collect()
        }
        // Nothing lies between ostler and its own machine, and it is no broker.
        Fault::Partition | Fault::PlanGone | Fault::UnbindRefused => town
            .kinds
            .iter()
            .filter(|(_, kind)| **kind == Kind::Broker)
            .map(|(name, _)| (name.to_string(), 0))
            .collect(),
        Fault::RegionOut => {
            let regions = town.estate.providers.keys().map(|name| town.region(name));
            let regions: std::collections::BTreeSet<String> = regions.collect();
            regions.into_iter().map(|region| (region, 0)).collect()
        }
        Fault::ManagerDies
        | Fault::KeeperDies
        | Fault::PowerLoss
        | Fault::DiskFull
        | Fault::ClockJumps
        | Fault::People => vec![(String::new(), 0)],
    }
}

fn act(fault: Fault, target: &str, nth: u64, lasts: Span, draw: &mut Stream, town: &Town) -> Act {
    let (service, provider) = (target.to_owned(), target.to_owned());
    let nth = usize::try_from(nth).unwrap_or(usize::MAX);
    match fault {
        Fault::Crash => Act::Crash { service, nth, lasts },
        Fault::Hang => Act::Hang { service, nth, lasts },
        Fault::Slow => Act::Slow { service, nth, lasts },
        Fault::Leak => Act::Leak { service, nth, lasts },
        Fault::CrashLoop => Act::CrashLoop { service, nth, lasts },
        Fault::NeverReady => Act::NeverReady { service, nth, lasts },
        Fault::Lose => Act::Lose { service, nth },
        Fault::BeforeFails => Act::BeforeFails { service, lasts },
        Fault::AddressTaken => Act::AddressTaken { service, lasts },
        Fault::Spoil => {
            let how = Spoil::ALL[draw.index(Spoil::ALL.len())];
            Act::Spoil { provider, how, times: u32::try_from(draw.between(1, 3)).expect("a few") }
        }
        Fault::ControlOut => Act::ControlOut { provider, lasts },
        Fault::ProviderOut => Act::ProviderOut { provider, lasts },
        Fault::Partition => Act::Partition { provider, lasts },
        Fault::Drops => Act::Drops { provider, lasts },
        Fault::RegionOut => Act::RegionOut { region: target.to_owned(), lasts },
        Fault::ManagerDies => {
            let mid = CutAt::HandingOver(draw.index(6));
            let at = [CutAt::Rest, CutAt::BeforeStoring, CutAt::MidStoring, CutAt::AfterStoring, mid][draw.index(5)];
            Act::ManagerDies { at, away: lasts }
        }
        Fault::KeeperDies => Act::KeeperDies { away: lasts },
        Fault::PowerLoss => Act::PowerLoss { away: lasts },
        Fault::DiskFull => Act::DiskFull { lasts },
        Fault::ClockJumps => {
            let by = i64::try_from(draw.between(1_000, 7_200_000_000)).expect("two hours at most");
            Act::ClockJumps { by: if draw.chance(500) { by } else { -by } }
        }
        Fault::People => Act::Person(errand(draw, town)),
        Fault::PlanGone => Act::PlanGone { provider, lasts },
        Fault::UnbindRefused => Act::UnbindRefused { provider, lasts },
        Fault::LongOut => Act::ProviderOut { provider, lasts },
        Fault::RestoreFails => Act::RestoreFails { service, lasts },
        Fault::Corrupt => Act::Corrupt { service },
        Fault::Move => Act::Person(move_errand(service, draw, town)),
        Fault::Drill => {
            let fault = DrillFault::ALL[draw.index(DrillFault::ALL.len())];
            Act::Person(Errand::Drill { service, fault })
        }
    }
}

/// What a person does about moves of the service.
fn move_errand(service: String, draw: &mut Stream, town: &Town) -> Errand {
    let declared = service.parse().ok().and_then(|name| town.estate.services.get(&name));
    let places = declared.map_or(&[] as &[_], |service| &service.prefer);
    let named = draw.index(places.len().max(1) * 2);
    let accept_loss = draw.chance(200);
    match draw.between(0, 99) {
        0..70 => Errand::FailOver { service, to: places.get(named).map(ToString::to_string), accept_loss },
        70..85 => Errand::FailBack { service },
        _ => Errand::Discard { service },
    }
}

fn errand(draw: &mut Stream, town: &Town) -> Errand {
    let services = &town.estate.services;
    let index = draw.index(services.len().max(1));
    let service = services.keys().nth(index).map_or_else(String::new, ToString::to_string);
    let instances = u32::try_from(draw.between(0, 5)).expect("a few");
    let nth = draw.index(4);
    let providers = &town.estate.providers;
    let provider = providers.keys().nth(index % providers.len().max(1)).map_or_else(String::new, ToString::to_string);
    match draw.between(0, 99) {
        0..16 => Errand::Restart { service },
        16..28 => Errand::Scale { service, instances },
        28..36 => Errand::Backup { service },
        36..40 => Errand::Restore { service },
        40..43 => Errand::Down,
        43..53 => Errand::Apply,
        53..63 => Errand::Edit { service },
        63..69 => Errand::Remove { service },
        69..74 => Errand::PutBack { service },
        74..77 => Errand::Delete { service },
        77..84 => Errand::Release { service },
        84..90 => Errand::RemoveProvider { provider },
        90..91 => Errand::Settle { release: nth == 0 },
        91..96 => Errand::Kill { service, nth },
        _ => Errand::Answer,
    }
}
