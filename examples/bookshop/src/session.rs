//! A visitor's session: a random name in a cookie. What belongs to it lies in Redis (the cart) and PostgreSQL (orders).

use axum::http::{HeaderMap, HeaderValue, header};

const COOKIE: &str = "bookshop_session";
const LENGTH: usize = 32;

/// 128 random bits as hexadecimal digits: whoever knows them is the visitor.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Session(String);

impl Session {
    /// A new visitor's.
    pub(crate) fn new() -> Self {
        Self(random_name())
    }

    /// The one that the request's cookie names, if it has the right form.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut pairs = cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let (_, name) = pairs.find(|(cookie, _)| *cookie == COOKIE)?;
        let is_ours = name.len() == LENGTH && name.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        is_ours.then(|| Self(name.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Scripts cannot read it, and other sites cannot send forms with it.
    pub(crate) fn to_cookie(&self) -> HeaderValue {
        let cookie = format!("{COOKIE}={}; Path=/; Max-Age=604800; HttpOnly; SameSite=Lax", self.0);
        HeaderValue::try_from(cookie).expect("hexadecimal digits may stand in a header")
    }
}

/// A name that nobody can guess and nobody else will ever get.
pub(crate) fn random_name() -> String {
    let mut bits = [0; LENGTH / 2];
    getrandom::fill(&mut bits).expect("the kernel gives random bits to everybody");
    bits.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies() {
        let session = Session::new();
        let read = |cookie: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::COOKIE, cookie.parse().unwrap());
            Session::of(&headers)
        };
        let own = format!("{COOKIE}={}", session.as_str());
        assert!(read(&own).as_ref() == Some(&session));
        assert!(read(&format!("a=b; {own}; c")).as_ref() == Some(&session));
        for bad in
            ["", "x", "bookshop_session=", "bookshop_session=../../etc/passwd", &own.to_uppercase(), &format!("{own}0")]
        {
            assert!(read(bad).is_none(), "{bad}");
        }
        assert!(session.to_cookie().to_str().unwrap().starts_with(&format!("{own};")));
        assert!(Session::new() != session);
    }
}
