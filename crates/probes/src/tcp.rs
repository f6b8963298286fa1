//! TCP: it accepts a connection. Where the listening socket is held by somebody else than the instance (a program that
//! is handed its socket), this says nothing about the instance, and a deeper probe is better.
//!
//! What one costs is the kernel's work of making and breaking a connection, about 35 µs; going around the event loop
//! where a local connect is decided at once was tried, and made no measurable difference (`cargo bench`).

use std::net::SocketAddr;

use ostler_model::health::Symptom;
use tokio::net::TcpStream;

use crate::{Target, symptom};

pub(crate) async fn probe(address: SocketAddr) -> Result<(), Symptom> {
    match TcpStream::connect(address).await {
        Ok(stream) => {
            end(stream);
            Ok(())
        }
        Err(error) => Err(symptom::of_connect(&error, &Target::at(address))),
    }
}

/// A connection for the other probes to talk on.
pub(crate) async fn connect(target: &Target) -> Result<TcpStream, Symptom> {
    let stream = TcpStream::connect(target.address).await.map_err(|error| symptom::of_connect(&error, target))?;
    // Probes send one small message and wait for its answer: there is nothing to collect into bigger segments. Where
    // this cannot be set, the probe only gets slower.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// Closes with a reset instead of a farewell. Whoever says farewell first keeps the port in TIME_WAIT for a minute: a
/// thousand probes every second would hold sixty thousand, more than there are. Nothing is lost by it, because nothing
/// was sent, or all that was sent has been answered.
pub(crate) fn end(stream: TcpStream) {
    // Where it cannot be set, the port lingers, and that is all.
    let _ = stream.set_zero_linger();
    drop(stream);
}
