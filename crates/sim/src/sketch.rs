//! Estates in a few words: small enough to be drawn by chance, shrunk, and kept in a story.
//!
//! Invariant: every sketch becomes an estate that the parser would accept: needs point backwards, so there is no cycle.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use ostler_model::catalog::{Actions, Catalog, Limits, Offering, Plan, ProbePolicy};
use ostler_model::estate::backups::Prove;
use ostler_model::estate::drills::Drills;
use ostler_model::estate::failover::Failover;
use ostler_model::estate::failures::Failures;
use ostler_model::estate::{
    Check, DataPolicy, Estate, Heal, HostProvider, Listen, ProbeOverride, Provider, ProviderKind, Service, StopPolicy,
};
use ostler_model::ids::{EstateName, OfferingName, PlanName, ProviderName, ServiceName};
use ostler_model::time::Span;
use ostler_model::version::{Version, VersionRange};
use ostler_model::window::Calendar;
use serde::{Deserialize, Serialize};

use crate::dice::{Concern, Dice, Stream};

/// An estate in a few words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sketch {
    /// Percent of its instances that may be under repair together.
    pub at_once: u8,
    /// From whom things are bought.
    pub providers: Vec<ProviderSketch>,
    /// What is declared at first.
    pub services: Vec<ServiceSketch>,
}

/// A provider in a few words: `p0`, `p1` and so on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderSketch {
    /// Where it is: `r0`, `r1` and so on.
    pub region: u32,
    /// Whose things run there.
    pub kind: Kind,
    /// How it goes about things, if it is a broker.
    #[serde(default, skip_serializing_if = "Manners::are_usual")]
    pub manners: Manners,
}

/// How a broker goes about things: what its catalog and its answers say of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Manners {
    /// What it has made can be fetched, so that it says of what is gone that it is.
    pub retrievable: bool,
    /// What takes long it agrees to do, and does it later.
    pub later: bool,
    /// Credentials end by themselves after so many minutes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ends_after: Option<u64>,
}

impl Default for Manners {
    /// As of most brokers.
    fn default() -> Self {
        Self { retrievable: true, later: true, ends_after: None }
    }
}

impl Manners {
    fn are_usual(&self) -> bool {
        *self == Self::default()
    }

    fn draw(draw: &mut Stream) -> Self {
        Self {
            retrievable: draw.chance(750),
            later: draw.chance(600),
            ends_after: [None, Some(90), Some(180)][draw.index(3)],
        }
    }
}

/// What stands behind a provider, in the simulated world. The manager never learns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A machine with a keeper: fast, it reports deaths, and its reflex starts again what died.
    Machine,
    /// An Open Service Broker: slow, silent about what it runs and heals by itself, with answers that can be wrong or
    /// lost, so that nothing can be asked for twice under one name.
    Broker,
}

/// A service in a few words: `s0`, `s1` and so on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceSketch {
    /// What it is.
    pub sort: Sort,
    /// Which provider it is bought from; a program, which no broker runs, from the last machine up to that one.
    pub provider: usize,
    /// How many instances.
    pub instances: u32,
    /// Which of the services before it it needs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<usize>,
    /// It has a one-off command.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub before: bool,
    /// It is backed up so often, in minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_every: Option<u64>,
    /// A restore of it is proven so often, in minutes, instead of every week.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prove_every: Option<u64>,
    /// The providers that it may be moved to, in this order; a program only to machines.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub standbys: Vec<usize>,
    /// How it may be moved, if that is declared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failover: Option<FailoverSketch>,
}

/// How a service may be moved, in a few words; times in minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailoverSketch {
    /// It may be moved without a person's asking.
    pub by_itself: bool,
    /// What was written within this time at most may be lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loses_at_most: Option<u64>,
    /// For so long what a move left is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_old: Option<u64>,
}

impl FailoverSketch {
    fn draw(draw: &mut Stream) -> Self {
        Self {
            by_itself: draw.chance(750),
            loses_at_most: [None, Some(10), Some(60), Some(600)][draw.index(4)],
            keep_old: [None, Some(60), Some(180)][draw.index(3)],
        }
    }

    fn declared(self) -> Failover {
        let minutes = |minutes: Option<u64>| minutes.map(|minutes| Span::seconds(minutes * 60));
        Failover {
            by_itself: self.by_itself,
            loses_at_most: minutes(self.loses_at_most),
            keep_old: minutes(self.keep_old),
        }
    }
}

/// The sorts of services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sort {
    /// The buyer's own program.
    Program,
    /// A server whose data outlives it.
    Database,
    /// A server whose data does not.
    Cache,
}

impl Sort {
    /// The offering's name.
    fn offering(self) -> OfferingName {
        let name = match self {
            Self::Program => "program",
            Self::Database => "postgresql",
            Self::Cache => "redis",
        };
        name.parse().expect("the names of offerings above are labels")
    }
}

/// An estate and what its providers offer.
#[derive(Clone, Debug)]
pub struct Town {
    /// What is declared.
    pub estate: Arc<Estate>,
    /// What can be had.
    pub catalogs: BTreeMap<ProviderName, Arc<Catalog>>,
    /// What stands behind each provider.
    pub kinds: BTreeMap<ProviderName, Kind>,
    /// How brokers go about things; those that are missing as most do.
    pub manners: BTreeMap<ProviderName, Manners>,
}

impl Town {
    /// Where the provider is: its region, or a place of its own if it names none.
    pub fn region(&self, provider: &ProviderName) -> String {
        let region = self.estate.providers.get(provider).and_then(|provider| provider.region.clone());
        region.unwrap_or_else(|| provider.to_string())
    }
}

/// The name of the `index`-th service of a sketch.
pub fn service_name(index: usize) -> ServiceName {
    format!("s{index}").parse().expect("a letter and digits are a label")
}

/// The name of the `index`-th provider of a sketch.
pub fn provider_name(index: usize) -> ProviderName {
    format!("p{index}").parse().expect("a letter and digits are a label")
}

impl Sketch {
    /// An estate drawn by chance: up to `services` services at up to `providers` providers.
    pub fn draw(dice: Dice, services: usize, providers: usize) -> Self {
        let mut draw = dice.stream(Concern::Estate, 0);
        let regions = draw.between(1, 3);
        let mut manners = dice.stream(Concern::Estate, 1);
        let providers: Vec<ProviderSketch> = (0..=draw.index(providers))
            .map(|index| {
                let region = u32::try_from(draw.between(0, regions - 1)).expect("a few regions");
                let kind = if index == 0 || draw.chance(400) { Kind::Machine } else { Kind::Broker };
                let drawn = Manners::draw(&mut manners);
                let manners = if kind == Kind::Broker { drawn } else { Manners::default() };
                ProviderSketch { region, kind, manners }
            })
            .collect();
        let services =
            (0..=draw.index(services)).map(|index| ServiceSketch::draw(&mut draw, index, providers.len())).collect();
        let at_once = [5, 20, 20, 50][draw.index(4)];
        let mut sketch = Self { at_once, providers, services };
        sketch.draw_standbys(&mut dice.stream(Concern::Estate, 2), regions);
        sketch
    }

    /// In every other estate, most services may be moved; mostly there is a machine that nothing is bought of at first.
    fn draw_standbys(&mut self, draw: &mut Stream, regions: u64) {
        if draw.chance(500) {
            return;
        }
        if draw.chance(700) {
            let region = u32::try_from(draw.between(0, regions - 1)).expect("a few regions");
            self.providers.push(ProviderSketch { region, kind: Kind::Machine, manners: Manners::default() });
        }
        for service in &mut self.services {
            let mut others: Vec<usize> = (0..self.providers.len()).rev().filter(|_| draw.chance(700)).collect();
            others.retain(|other| *other != service.provider);
            let failover = draw.chance(600).then(|| FailoverSketch::draw(draw));
            if draw.chance(750) {
                (service.standbys, service.failover) = (others, failover);
            }
        }
    }

    /// An estate of a given size, evenly spread: `services` services with `instances` instances each at `providers`
    /// providers in `regions` regions. Every tenth is a database, every tenth a cache, and the eight programs between
    /// them need these two.
    pub fn even(services: usize, instances: u32, providers: usize, regions: u32, backup_every: Option<u64>) -> Self {
        let providers_made = (0..providers).map(|index| ProviderSketch {
            region: u32::try_from(index).unwrap_or(0) % regions,
            kind: if index % 4 == 3 { Kind::Broker } else { Kind::Machine },
            manners: Manners::default(),
        });
        let services_made = (0..services).map(|index| {
            let (sort, needs) = match index % 10 {
                0 => (Sort::Database, Vec::new()),
                1 => (Sort::Cache, Vec::new()),
                place => (Sort::Program, vec![index - place, index - place + 1]),
            };
            let provider = index / 10 % providers;
            let backup_every = backup_every.filter(|_| sort == Sort::Database);
            ServiceSketch {
                sort,
                provider,
                instances,
                needs,
                before: index % 50 == 2,
                backup_every,
                prove_every: None,
                standbys: Vec::new(),
                failover: None,
            }
        });
        Self { at_once: 20, providers: providers_made.collect(), services: services_made.collect() }
    }

    /// The estate and what its providers offer.
    pub fn town(&self) -> Town {
        let providers: BTreeMap<ProviderName, Provider> = self
            .providers
            .iter()
            .enumerate()
            .map(|(index, sketch)| {
                let name = provider_name(index);
                let kind = ProviderKind::Host(HostProvider::default());
                let region = Some(format!("r{}", sketch.region));
                (
                    name.clone(),
                    Provider {
                        name,
                        region,
                        failures: Failures::default(),
                        terms: None,
                        certificate: None,
                        context: Default::default(),
                        pricing: Default::default(),
                        kind,
                    },
                )
            })
            .collect();
        let sketches = || self.providers.iter().enumerate().map(|(index, sketch)| (provider_name(index), sketch));
        let (machine, broker) = (Arc::new(catalog(Kind::Machine)), Arc::new(catalog(Kind::Broker)));
        let catalogs = sketches().map(|(name, sketch)| match sketch.kind {
            Kind::Machine => (name, machine.clone()),
            Kind::Broker => (name, broker.clone()),
        });
        let services = self.services.iter().enumerate();
        let estate = Estate {
            name: "simulated".parse::<EstateName>().expect("letters are a label"),
            currency: "EUR".to_owned().try_into().expect("EUR is a currency"),
            residency: Vec::new(),
            folder: PathBuf::from("/"),
            heal: Heal { at_once_percent: self.at_once },
            notify: Vec::new(),
            providers,
            services: services
                .map(|(index, sketch)| (service_name(index), Arc::new(self.service(index, sketch))))
                .collect(),
            failures: Failures::default(),
            provide: None,
            backups: Default::default(),
            drill: Some(Box::new(drills())),
            upgrade: None,
            accounts: Default::default(),
            own: Default::default(),
            audit: Default::default(),
        };
        Town {
            estate: Arc::new(estate),
            catalogs: catalogs.collect(),
            kinds: sketches().map(|(name, sketch)| (name, sketch.kind)).collect(),
            manners: sketches().map(|(name, sketch)| (name, sketch.manners)).collect(),
        }
    }

    fn kind(&self, provider: usize) -> Kind {
        self.providers.get(provider).map_or(Kind::Machine, |sketch| sketch.kind)
    }

    /// The service as it is declared, as the `index`-th of the estate.
    fn service(&self, index: usize, sketch: &ServiceSketch) -> Service {
        let is_program = sketch.sort == Sort::Program;
        let machine = (0..=sketch.provider).rev().find(|provider| self.kind(*provider) == Kind::Machine);
        let provider = if is_program { machine.unwrap_or(0) } else { sketch.provider };
        let can_be_at = |other: &usize| {
            *other != provider && *other < self.providers.len() && !(is_program && self.kind(*other) == Kind::Broker)
        };
        let places: Vec<usize> =
            [provider].into_iter().chain(sketch.standbys.iter().copied().filter(can_be_at)).collect();
        let bought = places.iter().any(|place| self.kind(*place) == Kind::Broker);
        sketch.service(index, &places, bought)
    }
}

/// People may make drills for three hours of each four.
fn drills() -> Drills {
    let window = ["00:00 - 03:00", "04:00 - 07:00", "08:00 - 11:00", "12:00 - 15:00", "16:00 - 19:00", "20:00 - 23:00"];
    let window = window.map(|text| text.parse().expect("times on one day are a window")).to_vec();
    Drills { calendar: Calendar { window, freeze: Vec::new() }, ..Drills::default() }
}

impl ServiceSketch {
    /// A service drawn by chance; its needs are some of those before it.
    fn draw(draw: &mut Stream, index: usize, providers: usize) -> Self {
        let sort = [Sort::Program, Sort::Program, Sort::Database, Sort::Cache][draw.index(4)];
        let mut sketch = Self {
            sort,
            provider: draw.index(providers),
            instances: u32::try_from(draw.between(1, 4)).expect("a few"),
            needs: (0..index).filter(|_| draw.chance(1000 / (index as u64 + 1))).collect(),
            before: draw.chance(200),
            backup_every: [None, Some(15), Some(240)][draw.index(3)].filter(|_| sort == Sort::Database),
            prove_every: None,
            standbys: Vec::new(),
            failover: None,
        };
        sketch.prove_every = sketch.backup_every.filter(|minutes| *minutes < 60).map(|minutes| minutes * 4);
        sketch
    }

    /// The service as it is declared, as the `index`-th of its estate. What may be bought at a broker runs no command of
    /// the buyer's.
    fn service(&self, index: usize, places: &[usize], bought: bool) -> Service {
        let command = |text: &str| vec![text.parse().expect("a word without braces is a template")];
        let is_program = self.sort == Sort::Program;
        Service {
            name: service_name(index),
            offering: self.sort.offering(),
            version: VersionRange::any(),
            plan: None,
            prefer: places.iter().map(|place| provider_name(*place)).collect(),
            run: if is_program { command("./run") } else { Vec::new() },
            before: if self.before && !bought { command("./migrate") } else { Vec::new() },
            env: BTreeMap::new(),
            parameters: Default::default(),
            adopt: Vec::new(),
            needs: self.needs.iter().map(|need| service_name(*need)).collect::<BTreeSet<_>>(),
            contracts: Vec::new(),
            instances: self.instances,
            endpoint: None::<SocketAddr>,
            protocol: None,
            probe: ProbeOverride::default(),
            data: DataPolicy {
                durable: None,
                backup_every: self.backup_every.map(|minutes| Span::seconds(minutes * 60)),
                prove_every: self.prove_every.map_or(Prove::Usual, |minutes| Prove::Every(Span::seconds(minutes * 60))),
            },
            listen: Listen::Port,
            limits: Limits::default(),
            stop: StopPolicy::default(),
            slo: None,
            failover: self.failover.map(FailoverSketch::declared).unwrap_or_default(),
            outage_cost: None,
            failures: Failures::default(),
            own: Default::default(),
        }
    }
}

/// What every provider of a sketch offers that is of this kind.
fn catalog(kind: Kind) -> Catalog {
    let offered: &[Sort] = match kind {
        Kind::Machine => &[Sort::Program, Sort::Database, Sort::Cache],
        Kind::Broker => &[Sort::Database, Sort::Cache],
    };
    let offerings = offered.iter().map(|sort| {
        let name = sort.offering();
        (name.clone(), offering(name, *sort, kind))
    });
    Catalog { offerings: offerings.collect(), ..Catalog::default() }
}

fn offering(name: OfferingName, sort: Sort, kind: Kind) -> Offering {
    let bought = kind == Kind::Broker;
    let versions: &[&str] = match sort {
        Sort::Program => &[],
        Sort::Database => &["15.8", "16.4"],
        Sort::Cache => &["7.2", "8.0"],
    };
    // Of one offering something is left to be had where a plan is gone, of the other nothing.
    let plans: &[&str] = if bought && sort == Sort::Database { &["small", "large"] } else { &["small"] };
    let plans = plans.iter().map(|name| Plan {
        name: name.parse::<PlanName>().expect("letters are a label"),
        description: "simulated".to_owned(),
        limits: Limits::default(),
        price: None,
        costs: Vec::new(),
        free: false,
        version: None,
        maintenance: None,
        handle: None,
        withdrawn: false,
    });
    Offering {
        description: format!("{name}, simulated"),
        name,
        versions: versions.iter().map(|text| text.parse::<Version>().expect("two numbers are a version")).collect(),
        series: 1,
        plans: plans.collect(),
        runs_program: sort == Sort::Program,
        bindable: true,
        durable: sort == Sort::Database,
        instances_max: None,
        actions: Actions {
            start_stop: !bought,
            backup: sort == Sort::Database && !bought,
            prove: sort == Sort::Database && !bought,
            unrepeatable: bought,
            rebind: !bought && sort != Sort::Program,
            hears_context: false,
        },
        probe: ProbePolicy {
            ready: Check::Tcp,
            deep: None,
            every: Span::seconds(5),
            timeout: Span::millis(500),
            start_within: Span::seconds(if bought { 300 } else { 60 }),
        },
        stop_grace: Span::seconds(10),
        withdrawn: false,
        accepts: Vec::new(),
    }
}
