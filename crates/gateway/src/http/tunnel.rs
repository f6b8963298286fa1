//! A connection that has stopped speaking HTTP (`Upgrade`, above all WebSocket): from then on bytes are carried.

use std::sync::Arc;

use hyper::body::Bytes;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::ask::Caller;
use super::tap::Tapped;
use super::upstream::Upstream;
use super::{Counted, reset_both};
use crate::listen::pump_unless_fenced;
use crate::pump::Ended;
use crate::service::Lease;

/// Carries until both sides have ended. The place of the caller's connection is held for as long.
pub(crate) async fn carry(held: Arc<Caller>, on_upgrade: OnUpgrade, upstream: Upstream, lease: Lease) {
    let (mut target, from_target) = upstream.into_socket();
    // If the caller has gone before it was told, so does the connection to the instance.
    if let Ok(upgraded) = on_upgrade.await
        && let Ok(parts) = upgraded.downcast::<TokioIo<Tapped<Counted>>>()
    {
        let mut stream = parts.io.into_inner().stream;
        let begun = begin(&mut stream, &from_target, &mut target, &parts.read_buf).await;
        if begun.is_err() || pump_unless_fenced(&mut stream, &mut target, &lease).await == Ended::Broken {
            reset_both(&stream, &target);
        }
        drop(stream);
    }
    drop(target); // closed before the target counts as free of it
    drop(lease);
    drop(held);
}

/// What either side had said already behind its head.
async fn begin(
    caller: &mut TcpStream,
    from_target: &Bytes,
    target: &mut TcpStream,
    from_caller: &Bytes,
) -> std::io::Result<()> {
    caller.write_all(from_target).await?;
    target.write_all(from_caller).await
}
