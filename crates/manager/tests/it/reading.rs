//! Estates and asks in the words of stories: `stories.rs` describes the language.

use std::collections::BTreeMap;

use ostler_manager::{Ask, Instruction, Settlement};
use ostler_model::catalog::Cost;
use ostler_model::estate::backups::Prove;
use ostler_model::estate::drills::Drills;
use ostler_model::estate::slo::Slo;
use ostler_model::estate::upgrade::Upgrade;
use ostler_model::estate::{Estate, Parameters, Service};
use ostler_model::time::Span;

use crate::support::{estate, instance, local, name, provide, service, with_provider};

pub(crate) fn read_estate(text: &str) -> Estate {
    let (mut at_once, mut selling, mut drill, mut upgrade) = (20, None, None, None);
    let mut context = Parameters::default();
    let mut providers = Vec::new();
    let mut prices = Vec::new();
    let mut services: Vec<Service> = Vec::new();
    for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
        if let Some(percent) = part.strip_prefix("at-once=") {
            at_once = percent.parse().unwrap();
            continue;
        }
        if let Some(at_most) = part.strip_prefix("selling=") {
            selling = Some(Box::new(provide(at_most.parse().unwrap())));
            continue;
        }
        if let Some(names) = part.strip_prefix("providers=") {
            providers = names.split(',').collect();
            continue;
        }
        if let Some(text) = part.strip_prefix("price ") {
            prices.push(text);
            continue;
        }
        if let Some(text) = part.strip_prefix("drill ") {
            drill = Some(Box::new(read_drills(text)));
            continue;
        }
        if let Some(text) = part.strip_prefix("upgrade ") {
            upgrade = Some(Box::new(read_upgrade(text)));
            continue;
        }
        if let Some(text) = part.strip_prefix("context=") {
            context.0.insert("cost_center".to_owned(), text.into());
            continue;
        }
        let mut words = part.split_whitespace();
        let called = words.next().expect("it has a name");
        let options: BTreeMap<&str, &str> = words.map(|word| word.split_once('=').unwrap_or((word, ""))).collect();
        let mut read = service(called, options.get("offering").copied().unwrap_or("program"));
        for (key, value) in options {
            match key {
                "offering" => {}
                "instances" => read.instances = value.parse().unwrap(),
                "needs" => read.needs = value.split(',').map(name).collect(),
                "endpoint" => read.endpoint = Some(local(value.parse().unwrap())),
                "env" => drop(read.env.insert("TEXT".to_owned(), value.parse().unwrap())),
                "prefer" => read.prefer = value.split(',').map(|provider| provider.parse().unwrap()).collect(),
                "adopt" => read.adopt = value.split(',').map(str::to_owned).collect(),
                "before" => read.before = vec!["./migrate".parse().unwrap()],
                "prove" => read.data.prove_every = Prove::Every(value.parse().unwrap()),
                "backup" => read.data.backup_every = Some(value.parse().unwrap()),
                "loses" => read.failover.loses_at_most = Some(value.parse().unwrap()),
                "outage" => read.outage_cost = Some(value.parse().unwrap()),
                "keep-old" => read.failover.keep_old = Some(value.parse().unwrap()),
                "slo" => {
                    let (availability, over) = (value.parse().unwrap(), Span::seconds(30 * 86_400));
                    read.slo =
                        Some(Slo { availability: Some(availability), latency_p99: None, over, exclude: Vec::new() });
                }
                "version" => read.version = value.parse().unwrap(),
                other => panic!("no such key: {other}"),
            }
        }
        services.push(read);
    }
    let mut estate = Estate { provide: selling, drill, upgrade, ..estate(at_once, services) };
    for provider in providers {
        estate = with_provider(estate, provider);
    }
    prices.into_iter().for_each(|price| read_price(&mut estate, price));
    estate.providers.values_mut().for_each(|provider| provider.context = context.clone());
    estate
}

/// `there redis small 12`: what a plan costs a month, in the estate's currency.
fn read_price(estate: &mut Estate, text: &str) {
    let [provider, offering, plan, amount] = text.split_whitespace().collect::<Vec<_>>()[..] else {
        panic!("a provider, an offering, a plan and an amount: {text}")
    };
    let amounts = BTreeMap::from([(estate.currency.as_str().to_owned(), amount.parse().unwrap())]);
    let pricing =
        &mut estate.providers.get_mut(&provider.parse().unwrap()).expect("it is a provider of the estate").pricing;
    let plans = pricing.prices.entry(offering.parse().unwrap()).or_default();
    plans.insert(plan.parse().unwrap(), vec![Cost { amounts, per: "month".to_owned() }]);
}

/// `every=7d window=Mon_13:00_-_15:00 freeze=… faults=kill,hang services=db at-most=2 keep=1 lasts=1m`
pub(crate) fn read_drills(text: &str) -> Drills {
    let mut drills = Drills::default();
    for (key, value) in text.split_whitespace().map(|word| word.split_once('=').expect("a key and a value")) {
        let window = || vec![value.replace('_', " ").parse().unwrap()];
        match key {
            "every" => drills.every = Some(value.parse().unwrap()),
            "window" => drills.calendar.window = window(),
            "freeze" => drills.calendar.freeze = window(),
            "faults" => drills.faults = value.split(',').map(|fault| fault.parse().unwrap()).collect(),
            "services" => drills.services = value.split(',').map(name).collect(),
            "at-most" => drills.at_most = value.parse().unwrap(),
            "keep" => drills.keep = value.parse().unwrap(),
            "lasts" => drills.lasts = value.parse().unwrap(),
            other => panic!("no such key: {other}"),
        }
    }
    drills
}

/// `window=Mon_22:00_-_23:00 freeze=… soak=5m by-itself major`
fn read_upgrade(text: &str) -> Upgrade {
    let mut upgrade = Upgrade::default();
    for (key, value) in text.split_whitespace().map(|word| word.split_once('=').unwrap_or((word, ""))) {
        let window = || vec![value.replace('_', " ").parse().unwrap()];
        match key {
            "window" => {
                upgrade.calendar.window = window();
                upgrade.by_itself = true;
            }
            "freeze" => upgrade.calendar.freeze = window(),
            "soak" => upgrade.soak = value.parse().unwrap(),
            "by-itself" => upgrade.by_itself = true,
            "major" => upgrade.major = true,
            other => panic!("no such key: {other}"),
        }
    }
    upgrade
}

/// `pin db there [plan]`, `hold db`, `forbid there`, `skip db [16.4]`, `freeze [db]`, `force db restart`; then `by NAME`,
/// `for 2h`. Without `by` nobody answers for it, and without `for` it has no end.
fn read_override(words: &[&str]) -> Ask {
    let at = |word: &str| words.iter().position(|other| *other == word);
    let after = |word: &str| at(word).and_then(|at| words.get(at + 1)).map(|text| (*text).to_owned());
    let said = &words[..at("by").or(at("for")).unwrap_or(words.len())];
    let instruction = match said {
        ["pin", service, provider, plan @ ..] => Instruction::Pin {
            service: name(service),
            provider: provider.parse().unwrap(),
            plan: plan.first().map(|plan| plan.parse().unwrap()),
        },
        ["hold", service] => Instruction::Hold { service: name(service) },
        ["forbid", provider] => Instruction::ForbidProvider { provider: provider.parse().unwrap() },
        ["skip", service, version @ ..] => Instruction::SkipUpgrade {
            service: name(service),
            version: version.first().map(|version| version.parse().unwrap()),
        },
        ["freeze", service @ ..] => Instruction::Freeze { service: service.first().map(|service| name(service)) },
        ["force", service, remedy] => {
            let remedy = serde_json::from_value((*remedy).into()).unwrap();
            Instruction::ForceRemedy { service: name(service), remedy }
        }
        other => panic!("not an override: {other:?}"),
    };
    let owner = after("by").unwrap_or_default();
    let reason = if owner.is_empty() { String::new() } else { "so it is".to_owned() };
    Ask::Override { instruction, owner, reason, until: after("for").map(|until| until.parse().unwrap()) }
}

pub(crate) fn read_ask(words: &[&str]) -> Ask {
    match words {
        ["drill", service, fault, reason @ ..] => Ask::Drill {
            service: name(service),
            fault: fault.parse().unwrap(),
            lasts: None,
            despite: (!reason.is_empty()).then(|| reason.join(" ")),
        },
        ["upgrade", words @ ..] => {
            let after = |word: &str| words.iter().position(|other| *other == word).map(|at| at + 1);
            Ask::Upgrade {
                service: words.first().filter(|word| !["to", "despite"].contains(word)).map(|word| name(word)),
                to: after("to").map(|at| words[at].parse().unwrap()),
                despite: after("despite").map(|at| words[at..].join(" ")),
            }
        }
        ["rollback", service, terms @ ..] => {
            Ask::Rollback { service: name(service), accept_loss: terms.contains(&"accept-loss") }
        }
        ["override", "end", id] => {
            Ask::EndOverride { id: id.parse().unwrap(), owner: "Eve".to_owned(), reason: "it is over".to_owned() }
        }
        ["override", words @ ..] => read_override(words),
        ["down"] => Ask::Down,
        ["restart", service] => Ask::Restart { service: name(service) },
        ["delete", service] => Ask::Delete { service: name(service) },
        ["scale", service, instances] => Ask::Scale { service: name(service), instances: instances.parse().unwrap() },
        ["adopt", service, provider, adopted] => {
            Ask::Adopt { service: name(service), provider: provider.parse().unwrap(), name: (*adopted).to_owned() }
        }
        ["failover", service, terms @ ..] => Ask::FailOver {
            service: name(service),
            to: terms.iter().position(|word| *word == "to").map(|at| terms[at + 1].parse().unwrap()),
            accept_loss: terms.contains(&"accept-loss"),
        },
        ["back", service] => Ask::FailBack { service: name(service) },
        ["discard", id] => Ask::Discard { instance: instance(id) },
        ["release", service] => Ask::Release { service: name(service) },
        ["settle", leftover, how] => Ask::Settle {
            leftover: leftover.parse().unwrap(),
            how: if *how == "delete" { Settlement::Delete } else { Settlement::Release },
        },
        ["backup", service, backup] => Ask::Backup { service: name(service), name: (*backup).to_owned() },
        ["prove", service] => Ask::Prove { service: name(service), name: None },
        ["prove", service, backup] => Ask::Prove { service: name(service), name: Some((*backup).to_owned()) },
        ["drop", service, backup] => Ask::DropBackup { service: name(service), name: (*backup).to_owned() },
        ["restore", service, backup] => Ask::Restore { service: name(service), name: (*backup).to_owned() },
        other => panic!("not an ask: {other:?}"),
    }
}
