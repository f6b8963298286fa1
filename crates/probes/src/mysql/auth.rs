//! How MySQL is told a password: `mysql_native_password` and `caching_sha2_password`
//! (<https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase_authentication_methods.html>).
//!
//! Both answer a challenge, so that who listens learns nothing. A server that does not remember the user wants the
//! password itself once; then it is sealed by the server's key. Who can pose as the server has a key of his own, and
//! learns the password so: what is to be safe from that has a binding that asks for encryption, and is not logged in to
//! from here at all.

use aws_lc_rs::digest::{self, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use aws_lc_rs::rsa::{OAEP_SHA1_MGF1SHA1, OaepPublicEncryptingKey, PublicEncryptingKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::wire::SCRAMBLE;

/// A way to answer a challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plugin {
    NativePassword,
    CachingSha2Password,
}

impl Plugin {
    pub(super) fn named(name: &str) -> Option<Self> {
        [Self::NativePassword, Self::CachingSha2Password].into_iter().find(|plugin| plugin.name() == name)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::NativePassword => "mysql_native_password",
            Self::CachingSha2Password => "caching_sha2_password",
        }
    }

    /// 20 or 32 bytes; none where there is no password.
    pub(super) fn answer(self, password: &[u8], scramble: &[u8; SCRAMBLE]) -> Vec<u8> {
        if password.is_empty() {
            return Vec::new();
        }
        match self {
            // SHA1(password) xor SHA1(scramble, SHA1(SHA1(password)))
            Self::NativePassword => {
                let hash = |parts: &[&[u8]]| hashed(&SHA1_FOR_LEGACY_USE_ONLY, parts);
                let once = hash(&[password]);
                let twice = hash(&[once.as_ref()]);
                xor(once.as_ref(), hash(&[scramble, twice.as_ref()]).as_ref())
            }
            // SHA256(password) xor SHA256(SHA256(SHA256(password)), scramble)
            Self::CachingSha2Password => {
                let hash = |parts: &[&[u8]]| hashed(&SHA256, parts);
                let once = hash(&[password]);
                let twice = hash(&[once.as_ref()]);
                xor(once.as_ref(), hash(&[twice.as_ref(), scramble]).as_ref())
            }
        }
    }
}

/// The password with a zero behind it, hidden by the scramble, sealed for whoever has the other half of `key`, which is
/// PEM. `None` if it is no such key, or too short for the password.
pub(super) fn sealed(password: &[u8], scramble: &[u8; SCRAMBLE], key: &[u8]) -> Option<Vec<u8>> {
    let key = std::str::from_utf8(key).ok()?;
    let (_, key) = key.split_once("-----BEGIN PUBLIC KEY-----")?;
    let (key, _) = key.split_once("-----END PUBLIC KEY-----")?;
    let key: String = key.split_ascii_whitespace().collect();
    let key = PublicEncryptingKey::from_der(&STANDARD.decode(key).ok()?).ok()?;
    let key = OaepPublicEncryptingKey::new(key).ok()?;
    let hidden: Vec<u8> =
        password.iter().chain(&[0]).zip(scramble.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    let mut room = vec![0; key.ciphertext_size()];
    key.encrypt(&OAEP_SHA1_MGF1SHA1, &hidden, &mut room, None).ok().map(|sealed| sealed.to_vec())
}

fn hashed(algorithm: &'static digest::Algorithm, parts: &[&[u8]]) -> digest::Digest {
    let mut context = digest::Context::new(algorithm);
    for part in parts {
        context.update(part);
    }
    context.finish()
}

fn xor(one: &[u8], other: &[u8]) -> Vec<u8> {
    one.iter().zip(other).map(|(one, other)| one ^ other).collect()
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
    use aws_lc_rs::rsa::{KeySize, OaepPrivateDecryptingKey, PrivateDecryptingKey};

    use super::*;

    const SCRAMBLE_OF_TEST: [u8; SCRAMBLE] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20];

    /// What another client answers.
    #[test]
    fn challenges_are_answered_as_others_do() {
        let answered = |plugin: Plugin, password: &str| {
            let answer = plugin.answer(password.as_bytes(), &SCRAMBLE_OF_TEST);
            answer.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        };
        assert_eq!(answered(Plugin::NativePassword, "hunter2"), "be2cbec13fd268cf921774da8dde99447d699455");
        let expected = "04917479a40a673ae2388df86966d1b73768b4452df9a624881d93be865dc44c";
        assert_eq!(answered(Plugin::CachingSha2Password, "hunter2"), expected);
        assert_eq!(answered(Plugin::CachingSha2Password, ""), "");
    }

    #[test]
    fn only_who_has_the_key_opens_what_is_sealed() {
        let private = PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap();
        let public = AsDer::<PublicKeyX509Der<'_>>::as_der(&private.public_key()).unwrap();
        let text = STANDARD.encode(public.as_ref());
        let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        let key = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"));
        let sealed = sealed("hunter2, and more than the scramble has".as_bytes(), &SCRAMBLE_OF_TEST, key.as_bytes());
        let private = OaepPrivateDecryptingKey::new(private).unwrap();
        let mut room = vec![0; private.min_output_size()];
        let opened = private.decrypt(&OAEP_SHA1_MGF1SHA1, &sealed.unwrap(), &mut room, None).unwrap();
        let password: Vec<u8> =
            opened.iter().zip(SCRAMBLE_OF_TEST.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        assert_eq!(String::from_utf8(password).unwrap(), "hunter2, and more than the scramble has\0");
        assert_eq!(super::sealed(&[b'x'; 1000], &SCRAMBLE_OF_TEST, key.as_bytes()), None);
    }

    #[test]
    fn what_is_no_key_seals_nothing() {
        let no_key = format!("-----BEGIN PUBLIC KEY-----{}-----END PUBLIC KEY-----", STANDARD.encode([0x30; 294]));
        for key in ["", "-----BEGIN PUBLIC KEY-----", "-----BEGIN PUBLIC KEY-----ä-----END PUBLIC KEY-----", &no_key] {
            assert_eq!(sealed(b"x", &SCRAMBLE_OF_TEST, key.as_bytes()), None);
        }
    }
}
