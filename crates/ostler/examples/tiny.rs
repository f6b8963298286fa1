//! The smallest server there is to look after: answers every connection with its process id and closes it. Listens on
//! `PORT` of loopback, or on the socket that it was handed (`LISTEN_FDS`). The benchmarks run it under ostler and under
//! every other supervisor.
//!
//! The process id tells an answer of the next process from a last one of the killed process.

use std::error::Error;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};

use listenfd::ListenFd;

fn main() -> Result<(), Box<dyn Error>> {
    let listener = match ListenFd::from_env().take_tcp_listener(0)? {
        Some(handed) => handed,
        None => {
            // As the first argument for supervisors that cannot give each of a thousand programs its own environment.
            let port = std::env::args().nth(1).or_else(|| std::env::var("PORT").ok());
            let port: u16 = port.ok_or("give it a port: as `PORT` or as its argument")?.parse()?;
            TcpListener::bind((Ipv4Addr::LOCALHOST, port))?
        }
    };
    let answer = format!("{}\n", std::process::id());
    loop {
        // A caller that is gone again, before or while it is answered, is nobody's trouble.
        if let Ok((mut caller, _)) = listener.accept() {
            let _ = caller.write_all(answer.as_bytes());
        }
    }
}
