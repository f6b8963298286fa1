//! A server that takes leave as it should: answers `GET /N` with N bytes of one letter, and when it is told to end takes no
//! new connections, ends what it has begun, and closes the rest. Listens on `PORT` of loopback. The benchmarks replace it
//! under ostler and under others.

use std::error::Error;
use std::net::Ipv4Addr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let port = std::env::args().nth(1).or_else(|| std::env::var("PORT").ok());
    let port: u16 = port.ok_or("give it a port: as `PORT` or as its argument")?.parse()?;
    let mut end = signal(SignalKind::terminate())?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    let (stop, stopping) = watch::channel(false);
    let mut callers = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                callers.spawn(answer(stream, stopping.clone()));
            },
            _ = end.recv() => break,
            Some(_) = callers.join_next() => {}
        }
    }
    // Whoever waits to be accepted has been promised an answer by the kernel.
    while let Ok(accepted) = tokio::time::timeout(std::time::Duration::ZERO, listener.accept()).await {
        let Ok((stream, _)) = accepted else { break };
        callers.spawn(answer(stream, stopping.clone()));
    }
    drop(listener);
    stop.send_replace(true);
    callers.join_all().await;
    Ok(())
}

async fn answer(mut stream: TcpStream, mut stopping: watch::Receiver<bool>) {
    let _ = stream.set_nodelay(true);
    let (mut read, mut answer) = (Vec::new(), Vec::new());
    loop {
        while !read.ends_with(b"\r\n\r\n") {
            let may_leave = read.is_empty();
            tokio::select! {
                biased;
                got = stream.read_buf(&mut read) => if !matches!(got, Ok(1..)) { return },
                _ = stopping.wait_for(|it| *it), if may_leave => return,
            }
        }
        let path = String::from_utf8_lossy(&read[5..read.len().min(20)]).into_owned();
        let bytes: usize = path.split(' ').next().and_then(|bytes| bytes.parse().ok()).unwrap_or(0);
        read.clear();
        answer.clear();
        let last = *stopping.borrow();
        let close = if last { "connection: close\r\n" } else { "" };
        answer.extend_from_slice(format!("HTTP/1.1 200 OK\r\ncontent-length: {bytes}\r\n{close}\r\n").as_bytes());
        answer.resize(answer.len() + bytes, b'a' + (bytes % 26) as u8);
        if stream.write_all(&answer).await.is_err() || last {
            return;
        }
    }
}
