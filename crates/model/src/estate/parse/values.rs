//! Values with a form of their own: commands, addresses, sizes, cores, health checks.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use toml::de::DeValue;

use super::reader::{Key, Reader, Value};
use crate::diagnostics::shown;
use crate::estate::Check;

/// At most this many bytes in a path of an HTTP check.
const PATH_MAX: usize = 1024;
/// The smallest memory limit: below it no program starts, so that a slip (`512` for `512MiB`) is likelier.
const MEMORY_MIN: u64 = 1 << 20;
const MEMORY_MAX: u64 = 1 << 50;
/// The least share of a core that the kernel can enforce: 1 ms of its usual period of 100 ms.
const MILLICORES_MIN: f64 = 10.0;
const MILLICORES_MAX: f64 = 4_096_000.0;

/// A program and its arguments.
pub(super) fn read_command(reader: &mut Reader<'_>, value: Value<'_>) -> Option<Vec<String>> {
    let entries = value.some_list(reader)?;
    let (program, arguments) = entries.split_first().expect("the list is not empty");
    let mut command = vec![program.some_text(reader).map(str::to_owned)];
    command.extend(arguments.iter().map(|entry| entry.text(reader).map(str::to_owned)));
    command.into_iter().collect()
}

/// An `http://` address.
pub(super) fn read_webhook(reader: &mut Reader<'_>, value: Value<'_>) -> Option<String> {
    let text = value.some_text(reader)?;
    if text.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("https://")) {
        let remedy = "let a program post it, with the address in place of the dots: \
                      `command = [\"curl\", \"--fail\", \"--data-binary\", \"@-\", \"https://…\"]`";
        reader.report(value.span(), "this build cannot post to `https://` addresses", remedy);
        return None;
    }
    if !is_http_address(text) {
        // Not quoted: such an address may hold a password or a token.
        value.reject(reader, "`webhook` is not an `http://` address of a host, without a user name or a fragment");
        return None;
    }
    Some(text.to_owned())
}

fn is_http_address(text: &str) -> bool {
    text.strip_prefix("http://").is_some_and(|rest| host_of_address(rest).is_some())
}

/// The host of an address that comes without its scheme; `None` if it is no address of a host.
pub(super) fn host_of_address(rest: &str) -> Option<&str> {
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let is_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_')),
    };
    let is_port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    (is_host && is_port && is_visible(path)).then_some(host)
}

/// Whether `path` can stand in the first line of an HTTP request as it is.
fn is_visible(path: &str) -> bool {
    path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#')
}

/// An IP address with a port.
pub(super) fn read_endpoint(reader: &mut Reader<'_>, value: Value<'_>) -> Option<SocketAddr> {
    if let DeValue::Integer(port) = value.raw()
        && let Ok(port) = port.as_str().parse::<u16>()
    {
        let cause = "an endpoint is an IP address with a port, and this is only a port";
        reader.report(value.span(), cause, format!("write `endpoint = \"127.0.0.1:{port}\"`"));
        return None;
    }
    let text = value.some_text(reader)?.trim();
    let (cause, remedy) = match SocketAddr::from_str(text) {
        Ok(endpoint) if endpoint.port() > 0 => return Some(endpoint),
        Ok(_) => (
            "a port is a number from 1 to 65535".to_owned(),
            "leave `endpoint` out to have a free port assigned".to_owned(),
        ),
        Err(_) => why_no_endpoint(text),
    };
    reader.report(value.span(), cause, remedy);
    None
}

fn why_no_endpoint(text: &str) -> (String, String) {
    let example = "write an IP address with a port, for example `endpoint = \"127.0.0.1:8080\"`".to_owned();
    let quoted = shown(text);
    if text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port > 0) {
        return (format!("`{quoted}` is only a port"), format!("write `endpoint = \"127.0.0.1:{text}\"`"));
    }
    if let Some((ip, port)) = text.rsplit_once(':')
        && let (Ok(IpAddr::V6(ip)), Ok(port @ 1..)) = (ip.parse(), port.parse::<u16>())
    {
        return ("an IPv6 address stands in brackets".to_owned(), format!("write `endpoint = \"[{ip}]:{port}\"`"));
    }
    match text.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => {
            return (
                format!("`{quoted}` has no port"),
                format!("write `endpoint = \"{ip}:8080\"` with the port you want"),
            );
        }
        Ok(IpAddr::V6(ip)) => {
            let remedy = format!("write `endpoint = \"[{ip}]:8080\"` with the port you want");
            return (format!("`{quoted}` is no IPv6 address in brackets with a port"), remedy);
        }
        Err(_) => {}
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return (format!("`{quoted}` is not an IP address with a port"), example);
    };
    let Some(port) = port.parse::<u16>().ok().filter(|port| *port > 0) else {
        return (format!("`{}` is not a port: a number from 1 to 65535", shown(port)), example);
    };
    match host {
        "localhost" | "" | "*" => {
            let ip = if host == "*" { "0.0.0.0" } else { "127.0.0.1" };
            (
                format!("`{quoted}` has no IP address: names are not looked up"),
                format!("write `endpoint = \"{ip}:{port}\"`"),
            )
        }
        _ => (
            format!("`{}` is not an IP address: names are not looked up", shown(host)),
            format!(
                "write the address of this machine that it stands for, for example `endpoint = \"127.0.0.1:{port}\"`"
            ),
        ),
    }
}

/// Bytes of memory: a number of them, or a text with a unit.
pub(super) fn read_memory(reader: &mut Reader<'_>, value: Value<'_>) -> Option<u64> {
    let bytes = match value.raw() {
        DeValue::Integer(_) => value.integer(reader, 0..=u64::MAX)?,
        DeValue::String(text) => match parse_bytes(text) {
            Some(bytes) => bytes,
            None => {
                value.reject(
                    reader,
                    format!("`{}` is not a size: a whole number and a unit such as MiB or GiB", shown(text)),
                );
                return None;
            }
        },
        _ => {
            value.text(reader)?;
            return None;
        }
    };
    if !(MEMORY_MIN..=MEMORY_MAX).contains(&bytes) {
        value.reject(reader, "`memory` is not between 1 MiB and 1024 TiB");
        return None;
    }
    Some(bytes)
}

fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let factor: u64 = match unit.trim_start() {
        "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return None,
    };
    Some(number.parse::<u64>().ok()?.saturating_mul(factor))
}

/// Cores, as thousandths of one.
pub(super) fn read_cpu(reader: &mut Reader<'_>, value: Value<'_>) -> Option<u32> {
    let cores = match value.raw() {
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).ok().map(|cores| cores as f64),
        DeValue::Float(number) => number.as_str().parse::<f64>().ok(),
        _ => None,
    };
    let Some(cores) = cores else {
        value.reject(reader, "`cpu` should be a number of cores");
        return None;
    };
    let millicores = (cores * 1000.0).round();
    if !(MILLICORES_MIN..=MILLICORES_MAX).contains(&millicores) {
        value.reject(reader, "`cpu` is not between 0.01 and 4096 cores");
        return None;
    }
    Some(millicores as u32) // exact: a whole number within the range just checked
}

const CHECK: &[Key] = &[("http", r#"{ http = "/readyz" }"#), ("command", r#"{ command = ["./check"] }"#)];

/// A way to ask for health; `what` names it in messages.
pub(super) fn read_check(reader: &mut Reader<'_>, what: String, value: Value<'_>) -> Option<Check> {
    const FORMS: &str = "write \"tcp\", \"postgresql\", \"redis\", \"mysql\", \"amqp\", { http = \"/path\" } or \
        { command = [\"./check\"] }";
    if !matches!(value.raw(), DeValue::Table(_)) {
        return match value.text(reader)? {
            "tcp" => Some(Check::Tcp),
            "postgresql" => Some(Check::Postgresql),
            "redis" => Some(Check::Redis),
            "mysql" => Some(Check::Mysql),
            "amqp" => Some(Check::Amqp),
            other => {
                let remedy = reader.advise(other, ["tcp", "postgresql", "redis", "mysql", "amqp"], FORMS);
                reader.report(value.span(), format!("there is no check `{}`", shown(other)), remedy);
                None
            }
        };
    }
    let fields = value.fields(reader, what, CHECK)?;
    match (fields.optional("http"), fields.optional("command")) {
        (Some(path), None) => read_http_path(reader, path).map(Check::Http),
        (None, Some(command)) => read_command(reader, command).map(Check::Command),
        (Some(_), Some(command)) => {
            reader.report(command.span(), "a check is either `http` or `command`, not both", "keep one of the two");
            None
        }
        (None, None) if fields.has_unknown() => None,
        (None, None) => {
            reader.report(value.span(), "a check needs `http` or `command`", FORMS);
            None
        }
    }
}

fn read_http_path(reader: &mut Reader<'_>, value: Value<'_>) -> Option<String> {
    let path = value.text(reader)?;
    let quoted = shown(path);
    if !path.starts_with('/') {
        let remedy = format!("write `{{ http = \"/{}\" }}`", shown(path.rsplit('/').next().unwrap_or_default()));
        reader.report(
            value.span(),
            format!("`{quoted}` is not a path on the instance: it does not begin with `/`"),
            remedy,
        );
        return None;
    }
    if path.len() > PATH_MAX || !is_visible(path) {
        let remedy = format!("use at most {PATH_MAX} visible ASCII characters, and %20 and the like for others");
        reader.report(value.span(), format!("`{quoted}` cannot be asked for as a path"), remedy);
        return None;
    }
    Some(path.to_owned())
}
