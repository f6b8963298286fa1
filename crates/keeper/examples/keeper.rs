//! A keeper by itself, with two companions to try it with. The integration tests run it.
//!
//! - `keeper run HOME [GATEWAY_LOG]`: a keeper; with a second argument it knows how to start the gateway below.
//! - `keeper gateway HOME LOG`: stands in for the gateway. Writes each message it gets to LOG, one JSON text a line, and
//!   offers what it holds back to a keeper that has nothing, tables first.
//! - `keeper manager HOME`: stands in for the manager, whom every keeper here knows how to start. Connects and waits.
//! - `keeper serve`: a program that answers each connection on the socket handed over as descriptor 3 with its own
//!   process id and `LISTEN_PID`.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ostler_keeper::client::{Client, ClientError};
use ostler_keeper::protocol::{Order, Role, ToGateway};
use ostler_keeper::{CommandLine, Config, socket_path};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["run", home] => Ok(ostler_keeper::run(config(Path::new(home), None)?)?),
        ["run", home, log] => Ok(ostler_keeper::run(config(Path::new(home), Some(log))?)?),
        ["gateway", home, log] => gateway(Path::new(home), Path::new(log)),
        ["manager", home] => manager(Path::new(home)),
        ["serve"] => serve(),
        _ => Err("usage: keeper run HOME [GATEWAY_LOG] | gateway HOME LOG | manager HOME | serve".into()),
    }
}

fn config(home: &Path, gateway_log: Option<&str>) -> Result<Config, Box<dyn Error>> {
    let program = std::env::current_exe()?;
    let command = |arguments: &[&str], log: &str| CommandLine {
        program: program.clone(),
        arguments: arguments.iter().copied().map(str::to_owned).collect(),
        environment: BTreeMap::new(),
        log: home.join(log),
        log_bytes_max: 1024 * 1024,
    };
    let place = home.to_string_lossy();
    let gateway = gateway_log.map(|log| command(&["keeper", "gateway", &place, log], "gateway.log"));
    let manager = Some(command(&["keeper", "manager", &place], "manager.log"));
    Ok(Config { home: home.to_owned(), manager, gateway, build: "example".into(), handover: Vec::new(), resume: None })
}

fn gateway(home: &Path, log: &Path) -> Result<(), Box<dyn Error>> {
    let mut sockets: BTreeMap<String, (std::net::SocketAddr, OwnedFd)> = BTreeMap::new();
    let mut tables: BTreeMap<String, String> = BTreeMap::new();
    let mut log = OpenOptions::new().create(true).append(true).open(log)?;
    loop {
        let Ok(mut keeper) = Client::connect(&socket_path(home), Role::Gateway, Duration::from_secs(10)) else {
            std::thread::sleep(Duration::from_millis(2)); // a new keeper will come
            continue;
        };
        loop {
            match keeper.for_gateway(Duration::from_secs(60)) {
                Ok(None) => {}
                Ok(Some((message, descriptor))) => {
                    writeln!(log, "{}", serde_json::to_string(&message)?)?;
                    match message {
                        ToGateway::Socket { name, address } => {
                            sockets.insert(name, (address, descriptor.ok_or("a socket without a descriptor")?));
                        }
                        ToGateway::Close { name } => drop(sockets.remove(&name)),
                        ToGateway::Table { key, body } => drop(tables.insert(key, body)),
                        // If this keeper dies meanwhile, the next look at the connection tells.
                        ToGateway::Tell { body } => drop(keeper.ask(Order::GatewaySays { body })),
                        ToGateway::Synchronized => {
                            drop(offer_back(&mut keeper, &sockets, &tables));
                            drop(keeper.ask(Order::Confirm));
                        }
                        ToGateway::Retire { .. } => return Ok(()),
                    }
                }
                Err(_) => break,
            }
        }
    }
}

fn manager(home: &Path) -> Result<(), Box<dyn Error>> {
    let mut keeper = Client::connect(&socket_path(home), Role::Manager, Duration::from_secs(10))?;
    while keeper.report(Duration::from_secs(60)).is_ok() {}
    Ok(())
}

fn offer_back(
    keeper: &mut Client,
    sockets: &BTreeMap<String, (std::net::SocketAddr, OwnedFd)>,
    tables: &BTreeMap<String, String>,
) -> Result<(), ClientError> {
    for (key, body) in tables {
        keeper.ask(Order::GatewayTable { key: key.clone(), body: body.clone() })?;
    }
    for (name, (address, socket)) in sockets {
        let order = Order::Return { name: name.clone(), address: *address, share_with_gateway: true };
        keeper.ask_with(order, Some(socket.try_clone().map_err(ClientError::Broken)?))?;
    }
    Ok(())
}

fn serve() -> Result<(), Box<dyn Error>> {
    // By its path: taking a raw descriptor needs unsafe code, which an example of this crate does not deserve.
    let handed_over = rustix::fs::readlink(PathBuf::from("/proc/self/fd/3"), Vec::new())?;
    if !handed_over.to_string_lossy().starts_with("socket:") {
        return Err("descriptor 3 is no socket".into());
    }
    let listen_pid = std::env::var("LISTEN_PID")?;
    let own = rustix::process::getpid();
    let handle = rustix::process::pidfd_open(own, rustix::process::PidfdFlags::empty())?;
    let socket = rustix::process::pidfd_getfd(&handle, 3, rustix::process::PidfdGetfdFlags::empty())?;
    let listener = std::net::TcpListener::from(socket);
    for connection in listener.incoming() {
        let _ = write!(connection?, "{} {listen_pid}", own.as_raw_nonzero()); // a caller that has gone is no matter
    }
    Ok(())
}
