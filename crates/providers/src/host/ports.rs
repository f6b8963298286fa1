//! The ports that instances listen on: chosen once, then kept.
//!
//! Invariant: a port is given to one instance of this home only, and lies outside the kernel's ephemeral range, so that
//! no outgoing connection takes it while the instance is down.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::ops::RangeInclusive;

use ostler_model::outcome::Failure;

use super::failure::temporary;

/// Where instances listen: on this machine only.
pub(super) const HOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const RANGE: RangeInclusive<u16> = 21_000..=31_999;
/// Where endpoints are that nobody gave an address.
const ENDPOINT_RANGE: RangeInclusive<u16> = 15_000..=20_999;

/// A free port for whoever hashes to `hash`, none of `taken`.
pub(super) fn choose(hash: u64, taken: &BTreeSet<u16>) -> Result<u16, Failure> {
    choose_from(RANGE, hash, taken).ok_or_else(|| {
        temporary(
            format!("no port from {} to {} is free on {HOST}", RANGE.start(), RANGE.end()),
            "Stop programs that listen there, or delete instances that are no longer needed.",
        )
    })
}

/// A free port for the endpoint of whoever hashes to `hash`, none of `taken`; `None` if there is none. Endpoints are
/// kept for good: a port of the kernel's choice could be another program's by the next start, and consumers would hand
/// that one their credentials.
pub fn choose_for_endpoint(hash: u64, taken: &BTreeSet<u16>) -> Option<u16> {
    choose_from(ENDPOINT_RANGE, hash, taken)
}

fn choose_from(range: RangeInclusive<u16>, hash: u64, taken: &BTreeSet<u16>) -> Option<u16> {
    let ephemeral = ephemeral_range();
    let usable: Vec<u16> = range.clone().filter(|port| !ephemeral.contains(port)).collect();
    let usable = if usable.is_empty() { range.collect() } else { usable };
    // Homes begin at different places, so that two of them rarely choose a port that the other will want later.
    let start = usize::try_from(hash % usable.len() as u64).unwrap_or(0);
    let from_start = usable[start..].iter().chain(&usable[..start]).copied();
    from_start.filter(|port| !taken.contains(port)).find(|&port| is_free(port))
}

/// A free port of the kernel's choice, for a moment.
pub(super) fn any() -> std::io::Result<u16> {
    Ok(TcpListener::bind((HOST, 0))?.local_addr()?.port())
}

/// Whether the port could be listened on right now.
pub(super) fn is_free(port: u16) -> bool {
    match TcpListener::bind((HOST, port)) {
        Ok(_) => true,
        Err(error) => error.kind() != std::io::ErrorKind::AddrInUse,
    }
}

/// Who listens on the port, as far as /proc tells: `nginx (pid 4711)`.
pub(super) fn listener(port: u16) -> Option<String> {
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| std::fs::read_to_string(table).ok())
        .find_map(|table| listening_inode(&table, port))?;
    let link = format!("socket:[{inode}]");
    for process in std::fs::read_dir("/proc").ok()?.flatten() {
        let name = process.file_name();
        let Some(pid) = name.to_str().filter(|name| name.bytes().all(|b| b.is_ascii_digit())) else { continue };
        let Ok(descriptors) = std::fs::read_dir(process.path().join("fd")) else { continue };
        let holds =
            |fd: std::fs::DirEntry| std::fs::read_link(fd.path()).is_ok_and(|to| to.as_os_str() == link.as_str());
        if descriptors.flatten().any(holds) {
            let program = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (pid {pid})", program.trim()));
        }
    }
    None
}

/// The failure of an instance whose port a stranger holds.
pub(super) fn taken(operation: &str, port: u16) -> Failure {
    let address = SocketAddr::from((HOST, port));
    let who = listener(port).unwrap_or_else(|| "another program".to_owned());
    temporary(
        format!("cannot {operation}: its address {address} is in use by {who}"),
        format!("Stop {who}, which listens on {address}; the start is tried again."),
    )
}

fn ephemeral_range() -> RangeInclusive<u16> {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut numbers = text.split_whitespace().filter_map(|number| number.parse().ok());
    match (numbers.next(), numbers.next()) {
        (Some(first), Some(last)) => first..=last,
        _ => 32_768..=60_999,
    }
}

/// The inode of the socket that listens on `port`, from the text of `/proc/net/tcp`.
fn listening_inode(table: &str, port: u16) -> Option<String> {
    const LISTEN: &str = "0A";
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        let (_, number) = local.rsplit_once(':')?;
        (*state == LISTEN && u16::from_str_radix(number, 16).ok()? == port).then(|| (*inode).to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_port_is_not_chosen_and_its_holder_is_named() {
        let port = choose(7, &BTreeSet::new()).unwrap();
        let held = TcpListener::bind((HOST, port)).unwrap();
        assert!(!is_free(port));
        assert_ne!(choose(7, &BTreeSet::new()).unwrap(), port);
        assert!(listener(port).unwrap().contains(&format!("(pid {})", std::process::id())));
        assert!(taken("start", port).remedy.contains(&port.to_string()));
        drop(held);
    }

    #[test]
    fn endpoints_lie_outside_the_range_of_outgoing_connections() {
        let first = choose_for_endpoint(7, &BTreeSet::new()).unwrap();
        let second = choose_for_endpoint(7, &BTreeSet::from([first])).unwrap();
        assert_ne!(first, second);
        for port in [first, second] {
            assert!(ENDPOINT_RANGE.contains(&port) && !RANGE.contains(&port) && !ephemeral_range().contains(&port));
        }
    }

    #[test]
    fn ports_given_before_are_not_given_again() {
        let first = choose(7, &BTreeSet::new()).unwrap();
        let second = choose(7, &BTreeSet::from([first])).unwrap();
        assert_ne!(first, second);
        assert!(RANGE.contains(&second) && !ephemeral_range().contains(&second));
    }
}
