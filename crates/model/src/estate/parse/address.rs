//! Addresses of others' servers: what is said to them is not for everybody on the way.
//!
//! Invariant: an address that may hold a password is not shown; without TLS only this machine is spoken to, unless the
//! estate says that the way there is safe.

use std::net::IpAddr;

use super::reader::{Reader, Value};
use super::values::host_of_address;
use crate::diagnostics::shown;

/// A longer one is no address that anybody means.
const BYTES_MAX: usize = 2048;

/// What is expected of an address, and told where it is not so.
pub(super) struct Address {
    /// The key that holds it.
    pub(super) key: &'static str,
    /// The estate says that nobody else can listen on the way.
    pub(super) plaintext: bool,
    /// What everybody on the way would get without TLS: "passwords would go over the network as they are".
    pub(super) exposes: &'static str,
    /// What to do about a user name in it.
    pub(super) without_user: &'static str,
}

impl Address {
    /// The address, without a slash at its end; `None` if it is none, which is reported.
    pub(super) fn read(&self, reader: &mut Reader<'_>, value: Value<'_>) -> Option<String> {
        let key = self.key;
        let text = value.some_text(reader)?.trim_end_matches('/');
        let (is_plain, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (false, rest),
            (None, Some(rest)) => (true, rest),
            (None, None) => {
                value.reject(reader, format!("`{}` is not an `https://` address", shown(text)));
                return None;
            }
        };
        // Not shown: such an address may hold a password.
        if rest.contains(['@', '?', '#']) {
            reader.hide(value.span());
        }
        if rest.contains('@') {
            reader.report(value.span(), format!("`{key}` holds a user name"), self.without_user);
            return None;
        }
        let host = host_of_address(rest).filter(|_| text.len() <= BYTES_MAX && !rest.contains(['?', '#']));
        let Some(host) = host else {
            value.reject(reader, format!("`{key}` is not an address of a host, with a path at most"));
            return None;
        };
        let is_here =
            host == "localhost" || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        if is_plain && !is_here && !self.plaintext {
            let remedy = "use `https://`; or write `plaintext = true`, where nobody else can listen on the way there";
            reader.report(value.span(), self.exposes, remedy);
            return None;
        }
        Some(text.to_owned())
    }
}
