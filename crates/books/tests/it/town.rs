//! A small town of which the books are kept: its facts, one after the other.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use ostler_books::Ledger;
use ostler_manager::{Command, Fact, FactKind, Launch, Outcome};
use ostler_model::catalog::{Actions, Catalog, Cost, Offering, Placement, Plan, ProbePolicy};
use ostler_model::estate::{Check, parse};
use ostler_model::ids::{CommandId, InstanceId, Position};
use ostler_model::outcome::BackupMade;
use ostler_model::time::{Span, Timestamp};

pub(crate) fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap_or_else(|| panic!("{text} is no time"))
}

pub(crate) fn instance(service: &str, number: u32) -> InstanceId {
    InstanceId::new(service.parse().unwrap(), number)
}

fn placement(provider: &str, plan: &str) -> Placement {
    Placement {
        provider: provider.parse().unwrap(),
        offering: "postgresql".parse().unwrap(),
        plan: plan.parse().unwrap(),
        version: None,
        handle: None,
        maintenance: None,
    }
}

/// A plan, and what it costs.
pub(crate) type Sold<'a> = (&'a str, &'a [(&'a str, &'a str, &'a str)]);

/// What a provider sells: plans with their costs as (amount, currency, unit).
pub(crate) fn catalog(plans: &[Sold<'_>]) -> Catalog {
    let cost = |(amount, currency, per): &(&str, &str, &str)| Cost {
        amounts: BTreeMap::from([((*currency).to_owned(), amount.parse().unwrap())]),
        per: (*per).to_owned(),
    };
    let plan = |(name, costs): &Sold<'_>| Plan {
        name: name.parse().unwrap(),
        description: String::new(),
        limits: Default::default(),
        price: None,
        costs: costs.iter().map(cost).collect(),
        free: false,
        version: None,
        maintenance: None,
        handle: None,
        withdrawn: false,
    };
    let second = Span::seconds(1);
    let offering = Offering {
        name: "postgresql".parse().unwrap(),
        description: String::new(),
        versions: Vec::new(),
        series: 1,
        accepts: Vec::new(),
        plans: plans.iter().map(plan).collect(),
        runs_program: false,
        bindable: true,
        durable: true,
        instances_max: None,
        actions: Actions { unrepeatable: true, ..Actions::default() },
        probe: ProbePolicy { ready: Check::Tcp, deep: None, every: second, timeout: second, start_within: second },
        stop_grace: second,
        withdrawn: false,
    };
    Catalog { offerings: BTreeMap::from([(offering.name.clone(), offering)]), ..Catalog::default() }
}

/// The estate with this `[estate]`, and whatever else the file says.
pub(crate) fn estate(head: &str, rest: &str) -> String {
    let acme = "[provider.acme]\nkind = \"osb\"\nregion = \"eu-west\"\nurl = \"https://acme.example\"\n\
                auth = { username = \"u\", password = { env = \"P\" } }\n";
    format!("[estate]\nname = \"shop\"\n{head}\n\n[provider.here]\nkind = \"host\"\n\n{acme}\n{rest}\n")
}

/// Facts are told to it, and it keeps the books.
#[derive(Default)]
pub(crate) struct Town {
    pub(crate) ledger: Ledger,
    pub(crate) facts: Vec<Fact>,
    commands: u64,
}

impl Town {
    pub(crate) fn tell(&mut self, when: Timestamp, kind: FactKind) {
        let fact = Fact { at: when, kind };
        self.facts.push(fact.clone());
        self.ledger.fold(Position(self.facts.len() as u64), &fact);
    }

    pub(crate) fn declare(&mut self, when: &str, text: &str) {
        let parsed = parse("shop.toml", Path::new("/srv"), text).unwrap_or_else(|problems| panic!("{problems}"));
        self.tell(at(when), FactKind::EstateDeclared { estate: Arc::new(parsed.estate) });
    }

    pub(crate) fn list(&mut self, when: &str, plans: &[Sold<'_>]) {
        let catalog = Arc::new(catalog(plans));
        self.tell(at(when), FactKind::CatalogSeen { provider: "acme".parse().unwrap(), catalog });
    }

    fn done(&mut self, when: Timestamp, command: Command, outcome: Outcome) {
        self.commands += 1;
        let id = CommandId(self.commands);
        self.tell(when, FactKind::CommandIssued { id, command });
        self.tell(when, FactKind::CommandEnded { id, outcome });
    }

    pub(crate) fn buy(&mut self, when: Timestamp, service: &str, provider: &str, plan: &str) {
        self.buy_as(when, service, (provider, "postgresql", plan));
    }

    pub(crate) fn buy_as(&mut self, when: Timestamp, service: &str, (provider, offering, plan): (&str, &str, &str)) {
        let place = Placement { offering: offering.parse().unwrap(), ..placement(provider, plan) };
        self.tell(when, FactKind::ServicePlaced { service: service.parse().unwrap(), placement: place });
        self.done(when, Command::Provision { instance: instance(service, 1) }, Outcome::Done);
    }

    pub(crate) fn give_back(&mut self, when: Timestamp, service: &str) {
        self.done(when, Command::Deprovision { instance: instance(service, 1) }, Outcome::Done);
    }

    pub(crate) fn change(&mut self, when: &str, service: &str, generation: u32, plan: &str) {
        let launch = Arc::new(Launch {
            placement: placement("acme", plan),
            run: Vec::new(),
            before: Vec::new(),
            env: BTreeMap::new(),
            parameters: Default::default(),
            context: Default::default(),
            listen: Default::default(),
            limits: Default::default(),
            folder: "/srv".into(),
            needs: BTreeMap::new(),
        });
        let of = service.parse().unwrap();
        self.tell(at(when), FactKind::LaunchDefined { service: of, generation, launch });
        self.done(at(when), Command::Update { instance: instance(service, 1), generation }, Outcome::Done);
    }

    pub(crate) fn back_up(&mut self, when: &str, service: &str, name: &str, bytes: u64) -> BackupMade {
        let made = BackupMade { name: name.to_owned(), bytes, sha256: String::new(), place: None };
        let command = Command::Backup { instance: instance(service, 1), name: name.to_owned() };
        self.done(at(when), command, Outcome::BackedUp(made.clone()));
        made
    }

    pub(crate) fn drop_backup(&mut self, when: &str, service: &str, backup: BackupMade) {
        self.done(at(when), Command::DropBackup { service: service.parse().unwrap(), backup }, Outcome::Done);
    }
}
