//! Which check fits what was bought, by the scheme of its binding's URI.

use ostler_model::estate::Check;
use ostler_model::health::{Symptom, SymptomKind};

use crate::{Target, symptom};

/// The check for the target's credentials. What is encrypted, or speaks a protocol of its own, is asked for no more than
/// a connection: who cannot speak to it must not call it dead.
pub(crate) fn check(target: &Target) -> Check {
    let Some(spoken) = Spoken::of(target) else { return Check::Tcp };
    match spoken.protocol {
        _ if spoken.encrypted => Check::Tcp,
        Protocol::Postgresql => Check::Postgresql,
        Protocol::Redis => Check::Redis,
        Protocol::Mysql => Check::Mysql,
        Protocol::Amqp => Check::Amqp,
    }
}

/// Whether statements of SQL are for MySQL. PostgreSQL is meant where nothing is said.
pub(crate) fn is_mysql(target: &Target) -> bool {
    Spoken::of(target).is_some_and(|spoken| spoken.protocol == Protocol::Mysql)
}

/// What is to be encrypted is not said in clear text: it cannot be asked.
pub(crate) fn refuse_encrypted(target: &Target) -> Result<(), Symptom> {
    if !Spoken::of(target).is_some_and(|spoken| spoken.encrypted) {
        return Ok(());
    }
    let problem = format!(
        "cannot ask {}: its binding wants an encrypted connection, for which there is no check yet; \
        `tcp = true` and `command` work",
        target.address
    );
    Err(symptom::symptom(SymptomKind::Unknown, problem))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Postgresql,
    Redis,
    Mysql,
    Amqp,
}

/// What a binding's URI says of how to talk.
struct Spoken {
    protocol: Protocol,
    encrypted: bool,
}

impl Spoken {
    /// `None` if there is no URI, or its scheme is not known here.
    fn of(target: &Target) -> Option<Self> {
        let uri = target.credentials.as_ref().and_then(|credentials| credentials.uri())?;
        let (scheme, rest) = uri.split_once("://")?;
        let (protocol, encrypted) = match scheme {
            "postgres" | "postgresql" => (Protocol::Postgresql, false),
            "redis" => (Protocol::Redis, false),
            "rediss" => (Protocol::Redis, true),
            "mysql" | "mysql2" | "mariadb" => (Protocol::Mysql, false),
            "mysqls" => (Protocol::Mysql, true),
            "amqp" => (Protocol::Amqp, false),
            "amqps" => (Protocol::Amqp, true),
            _ => return None,
        };
        let query = rest.split_once('?').map_or("", |(_, query)| query);
        Some(Self { protocol, encrypted: encrypted || query.split('&').any(asks_for_encryption) })
    }
}

/// Whether this part of a URI's query does. Each client has a name of its own for it.
fn asks_for_encryption(pair: &str) -> bool {
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    let plain = |text: &str| text.to_ascii_lowercase().replace(['-', '_'], "");
    match plain(name).as_str() {
        "sslmode" => {
            matches!(plain(value).as_str(), "require" | "required" | "verifyca" | "verifyfull" | "verifyidentity")
        }
        "ssl" | "tls" | "usessl" | "requiressl" => !matches!(plain(value).as_str(), "" | "0" | "false" | "preferred"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use ostler_model::binding::{Credentials, Secret};

    use super::*;

    fn target(uri: &str) -> Target {
        let mut target = Target::at(([127, 0, 0, 1], 1).into());
        let fields = [("uri".to_owned(), Secret::new(uri))].into();
        target.credentials = Some(Credentials { fields, ..Credentials::default() });
        target
    }

    #[test]
    fn the_scheme_says_how_to_ask() {
        for (uri, expected) in [
            ("postgres://a:b@h:1/d", Check::Postgresql),
            ("postgresql://a:b@h/d?sslmode=disable", Check::Postgresql),
            ("postgres://a:b@h:1/d?x=y&sslmode=require", Check::Tcp),
            ("redis://:x@h", Check::Redis),
            ("rediss://:x@h", Check::Tcp),
            ("mysql://a:b@h/d", Check::Mysql),
            ("mysql2://a:b@h/d?reconnect=true&ssl=false", Check::Mysql),
            ("mariadb://a:b@h/d?tls=preferred", Check::Mysql),
            ("mysql://a:b@h/d?ssl-mode=VERIFY_IDENTITY", Check::Tcp),
            ("mysql://a:b@h/d?useSSL=true", Check::Tcp),
            ("mysql://a:b@h/d?tls=skip-verify", Check::Tcp),
            ("mysqls://a:b@h/d", Check::Tcp),
            ("amqp://a:b@h/d", Check::Amqp),
            ("amqps://a:b@h/d", Check::Tcp),
            ("jdbc:mysql://h/d", Check::Tcp),
            ("nonsense", Check::Tcp),
            ("", Check::Tcp),
        ] {
            assert_eq!(check(&target(uri)), expected, "{uri}");
        }
        assert_eq!(check(&Target::at(([127, 0, 0, 1], 1).into())), Check::Tcp);
    }

    #[test]
    fn statements_are_for_whom_the_scheme_names_and_never_in_clear_text_where_it_forbids_that() {
        for (uri, mysql, encrypted) in [
            ("mysql://a:b@h/d", true, false),
            ("mysqls://a:b@h/d", true, true),
            ("mysql://a:b@h/d?ssl=true", true, true),
            ("postgres://a:b@h/d", false, false),
            ("", false, false),
        ] {
            let target = target(uri);
            assert_eq!((is_mysql(&target), refuse_encrypted(&target).is_err()), (mysql, encrypted), "{uri}");
        }
    }
}
