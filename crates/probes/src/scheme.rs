//! Which check fits what was bought, by the scheme of its binding's URI.

use ostler_model::estate::Check;

use crate::Target;

/// The check for the target's credentials. What is encrypted, or speaks a protocol of its own, is asked for no more than
/// a connection: who cannot speak to it must not call it dead.
pub(crate) fn check(target: &Target) -> Check {
    let uri = target.credentials.as_ref().and_then(|credentials| credentials.uri()).unwrap_or_default();
    let Some((scheme, rest)) = uri.split_once("://") else { return Check::Tcp };
    let wants_tls = rest.split_once('?').is_some_and(|(_, query)| {
        query.split('&').any(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            name == "sslmode" && matches!(value, "require" | "verify-ca" | "verify-full")
        })
    });
    match scheme {
        "postgres" | "postgresql" if !wants_tls => Check::Postgresql,
        "redis" => Check::Redis,
        _ => Check::Tcp,
    }
}

#[cfg(test)]
mod tests {
    use ostler_model::binding::{Credentials, Secret};

    use super::*;

    #[test]
    fn the_scheme_says_how_to_ask() {
        let asked = |uri: &str| {
            let mut target = Target::at(([127, 0, 0, 1], 1).into());
            let fields = [("uri".to_owned(), Secret::new(uri))].into();
            target.credentials = Some(Credentials { fields, ..Credentials::default() });
            check(&target)
        };
        assert_eq!(asked("postgres://a:b@h:1/d"), Check::Postgresql);
        assert_eq!(asked("postgresql://a:b@h/d?sslmode=disable"), Check::Postgresql);
        assert_eq!(asked("postgres://a:b@h:1/d?x=y&sslmode=require"), Check::Tcp);
        assert_eq!(asked("redis://:x@h"), Check::Redis);
        assert_eq!((asked("rediss://:x@h"), asked("nonsense"), asked("")), (Check::Tcp, Check::Tcp, Check::Tcp));
        assert_eq!(check(&Target::at(([127, 0, 0, 1], 1).into())), Check::Tcp);
    }
}
