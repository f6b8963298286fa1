//! Contract checks: what a consumer relies on, asked with the consumer's own credentials.

use std::time::Duration;

use ostler_model::estate::contract::ContractCheck;
use ostler_model::health::{Symptom, SymptomKind};

use crate::{Target, amqp, command, http, mysql, postgresql, redis, scheme, symptom, tcp};

/// Checks it once.
///
/// # Errors
/// What was found instead. [`SymptomKind::Unknown`] says nothing about the need: the check itself could not be made.
pub async fn keeps(check: &ContractCheck, target: &Target, timeout: Duration) -> Result<(), Symptom> {
    let checked = async {
        match check {
            ContractCheck::Sql { query, expect } if scheme::is_mysql(target) => {
                scheme::refuse_encrypted(target)?;
                Box::pin(mysql::expect(target, query, expect, "the statement")).await
            }
            ContractCheck::Sql { query, expect } => {
                Box::pin(postgresql::expect(target, query, expect, "the statement")).await
            }
            ContractCheck::Amqp(check) => {
                scheme::refuse_encrypted(target)?;
                Box::pin(amqp::keeps(target, check)).await
            }
            ContractCheck::Redis { command, expect } => Box::pin(redis::expects(target, command, expect)).await,
            ContractCheck::Http { path, status, contains } => {
                Box::pin(http::expects(path, *status, contains.as_deref(), target)).await
            }
            ContractCheck::Tcp => tcp::probe(target.address).await,
            ContractCheck::Command(words) => Box::pin(command::probe(words, target)).await,
        }
    };
    match tokio::time::timeout(timeout, checked).await {
        Ok(checked) => checked,
        Err(_) => {
            let within = ostler_model::time::in_words(timeout);
            Err(symptom::symptom(SymptomKind::TimedOut, format!("there was no answer within {within}")))
        }
    }
}
