//! A look at an instance that nobody uses yet: whether it can be used, and is as its consumers rely on. What a move has
//! brought to another provider has to stand this before anybody gets at it.
//!
//! Invariant: a look changes nothing that stays. It goes to the instance itself, as no endpoint leads there.

use std::net::SocketAddr;
use std::time::Duration;

use ostler_manager::{Checked, Knowledge, ServiceKnowledge};
use ostler_model::binding::Credentials;
use ostler_model::estate::contract::{Contract, ContractCheck};
use ostler_model::health::{Symptom, SymptomKind};
use ostler_model::ids::{InstanceId, ServiceName};
use ostler_model::version::Version;
use ostler_probes::{Target, exercise, keeps};

use crate::verify::{CHECK_TIME, USABLE, right_version};

/// A look that is ready to be taken.
pub(crate) struct Look {
    address: SocketAddr,
    version: Option<Version>,
    contracts: Vec<(ServiceName, Contract)>,
}

/// What is to be looked at; `None` if the instance does not run.
pub(crate) fn prepare(known: &Knowledge, instance: &InstanceId) -> Option<Look> {
    let looked_at = known.instance(instance)?;
    let address = looked_at.address()?;
    let need = instance.service();
    let placement = known.services.get(need).and_then(|service| service.placement_of(looked_at));
    let version = placement.and_then(|placement| placement.version.clone());
    let consumers = known.consumers.get(need).into_iter().flatten();
    let consumers = consumers.filter_map(|consumer| known.services.get(consumer)).filter(|c| known.is_wanted(c));
    let contracts = consumers.flat_map(|consumer| {
        let relied_on = consumer.spec.contracts.iter().filter(move |contract| contract.need == *need);
        relied_on.filter(|contract| can_be_asked(consumer, contract)).map(|c| (consumer.spec.name.clone(), c.clone()))
    });
    Some(Look { address, version, contracts: contracts.collect() })
}

/// A program of the consumer's goes where the consumer goes, which is not there yet. And what was not so before the move
/// is no fault of it.
fn can_be_asked(consumer: &ServiceKnowledge, contract: &Contract) -> bool {
    let before = consumer.bindings.get(&contract.need).and_then(|binding| binding.verified.as_ref());
    let was_broken = before.into_iter().flat_map(|verified| &verified.checks).any(|checked| {
        let answer = checked.problem.as_ref().is_some_and(|problem| problem.kind == SymptomKind::WrongAnswer);
        checked.name == contract.name && answer
    });
    match contract.check {
        Some(ContractCheck::Command(_)) => false,
        Some(
            ContractCheck::Sql { .. }
            | ContractCheck::Redis { .. }
            | ContractCheck::Http { .. }
            | ContractCheck::Amqp(_)
            | ContractCheck::Tcp,
        )
        | None => !was_broken,
    }
}

/// Takes it, with these credentials.
pub(crate) async fn take(look: Look, credentials: Credentials) -> Vec<Checked> {
    let mut target = Target::at(look.address);
    target.credentials = Some(credentials);
    let usable = use_it(&target, CHECK_TIME).await.err();
    let mut checks = vec![Checked { name: USABLE.to_owned(), problem: usable }];
    for (consumer, contract) in look.contracts {
        // A provider that does not say its versions is not refused for that.
        let version = look.version.as_ref().and_then(|version| right_version(&contract, Some(version)));
        checks.extend(version.map(|checked| Checked { name: format!("{consumer}: {}", checked.name), ..checked }));
        if let Some(check) = &contract.check {
            let problem = keeps(check, &target, CHECK_TIME).await.err();
            checks.push(Checked { name: format!("{consumer}: {}", contract.name), problem });
        }
    }
    checks
}

/// Connects, writes, reads back and removes.
pub(crate) async fn use_it(target: &Target, within: Duration) -> Result<(), Symptom> {
    let mut bits = [0_u8; 8];
    let _ = getrandom::fill(&mut bits); // without randomness two looks at the same time may meet, and one of them fails
    let word: String = bits.iter().map(|byte| format!("{byte:02x}")).collect();
    exercise(target, &word, within).await.map(drop)
}
