//! Trying out what a binding gives: not only whether it answers, but whether one can work with it.
//!
//! Invariant: what is written is written to a place of its own, and nothing of it stays: it goes with the end of a
//! transaction or a connection, or expires by itself if nobody comes to remove it.

use std::time::Duration;

use ostler_model::estate::Check;
use ostler_model::health::{Symptom, SymptomKind};

use crate::{Target, amqp, mysql, postgresql, redis, scheme, symptom, tcp};

/// What could be done with the credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exercised {
    /// The protocol in one word.
    pub protocol: &'static str,
    /// Something was written and read back. Otherwise one could only connect: the protocol is not known here, or it is
    /// encrypted.
    pub wrote: bool,
}

/// Connects, logs in, writes, reads back and removes, as the scheme of the credentials' URI has it. `word` is what is
/// written, and names the place: letters and digits that nobody else uses.
///
/// # Errors
/// What was found wrong.
pub async fn exercise(target: &Target, word: &str, timeout: Duration) -> Result<Exercised, Symptom> {
    let check = scheme::check(target);
    let tried = async {
        match check {
            Check::Postgresql => Box::pin(postgresql::exercise(target, word)).await.map(|()| true),
            Check::Redis => Box::pin(redis::exercise(target, word)).await.map(|()| true),
            Check::Mysql => Box::pin(mysql::exercise(target, word)).await.map(|()| true),
            Check::Amqp => Box::pin(amqp::exercise(target, word)).await.map(|()| true),
            Check::Tcp | Check::Http(_) | Check::Command(_) | Check::Scheme => {
                tcp::probe(target.address).await.map(|()| false)
            }
        }
    };
    match tokio::time::timeout(timeout, tried).await {
        Ok(Ok(wrote)) => Ok(Exercised { protocol: check.protocol(), wrote }),
        Ok(Err(symptom)) => Err(symptom),
        Err(_) => {
            let within = ostler_model::time::in_words(timeout);
            let text = format!("{} at {} did not do it within {within}", check.protocol(), target.address);
            Err(symptom::symptom(SymptomKind::TimedOut, text))
        }
    }
}
