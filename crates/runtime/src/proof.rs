//! Certificates of drills: what was caused, what was measured, and up to when that proves anything, signed with a key
//! that the estate keeps sealed.
//!
//! Invariant: a certificate reads back as exactly the bytes that were written, or it is refused: there is one form of
//! each, and the signature is over all that it says.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use ostler_journal::Journal as _;
use ostler_manager::{Callers, Data, Diagnosed, DrillResult, Knowledge, Restored, Verdict};
use ostler_model::estate::drills::Fault;
use ostler_model::ids::{EstateName, EstateUuid, InstanceId, ProviderName, SecretId, ServiceName};
use ostler_model::time::{Timestamp, rfc3339};
use ostler_model::version::Version;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::daemon::Loop;

/// The form of what is signed. Another one is refused.
const FORM: u32 = 1;
/// A certificate has a few hundred bytes; what is longer is none.
pub const BYTES_MAX: u64 = 64 * 1024;

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// The form of all this.
    pub form: u32,
    /// Which estate.
    pub estate: EstateName,
    /// The estate's id.
    pub estate_id: EstateUuid,
    /// Which service recovered.
    pub service: ServiceName,
    /// What was bought.
    pub offering: String,
    /// Which version of it.
    pub version: Option<Version>,
    /// From whom.
    pub provider: Option<ProviderName>,
    /// The drill's number in its estate.
    pub drill: u32,
    /// What was caused.
    pub fault: Fault,
    /// Where.
    pub instances: Vec<InstanceId>,
    /// How long after the fault something of it was first seen, in milliseconds.
    pub noticed_ms: Option<u64>,
    /// What was concluded.
    pub diagnosed: Option<Diagnosed>,
    /// How long after the fault everything worked again, in milliseconds.
    pub healed_ms: Option<u64>,
    /// What callers saw, if it could be counted.
    pub callers: Option<Callers>,
    /// What became of what was written before, where that could be tried.
    pub data: Option<Data>,
    /// The backup that was restored on the side, and what was found in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored: Option<Restored>,
    /// When the fault was there; RFC 3339.
    #[serde(with = "rfc3339")]
    pub made: Timestamp,
    /// Up to when it proves anything; RFC 3339.
    #[serde(with = "rfc3339")]
    pub valid_until: Timestamp,
    /// With which build of ostler.
    pub ostler: String,
}

/// A certificate and who signed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    /// What it says.
    pub certificate: Certificate,
    /// The public key, Ed25519, in hexadecimal digits.
    pub key: String,
    /// The signature over the certificate as JSON without blanks, in hexadecimal digits.
    pub signature: String,
}

/// Why something is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum NoCertificate {
    /// It cannot be read at all.
    #[error("it is not a certificate of a drill")]
    Form(#[source] serde_json::Error),
    /// It is of a form that this program does not know.
    #[error("it is of form {0}, and this program knows form {FORM}")]
    OtherForm(u32),
    /// It is too long.
    #[error("it is longer than a certificate can be")]
    Long,
    /// It says something, and not in the one way in which that is written.
    #[error("it was changed after it had been written")]
    Changed,
    /// What it says is not what was signed.
    #[error("what it says is not what was signed")]
    Signature,
    /// It was signed by somebody else.
    #[error("it was signed with another key: {0}")]
    OtherKey(String),
}

/// A new key, for the sealed store; `None` if the system gives no random numbers.
pub(crate) fn new_key() -> Option<Vec<u8>> {
    let mut seed = vec![0; 32];
    getrandom::fill(&mut seed).ok()?;
    Some(seed)
}

/// Signs it, with a key of the sealed store's; `None` if that is no key.
pub fn sign(certificate: Certificate, seed: &[u8]) -> Option<Signed> {
    let pair = Ed25519KeyPair::from_seed_unchecked(seed).ok()?;
    let signature = to_hex(pair.sign(&body(&certificate)).as_ref());
    Some(Signed { certificate, key: to_hex(pair.public_key().as_ref()), signature })
}

/// As it is written to a file.
pub fn to_text(signed: &Signed) -> String {
    let mut text = serde_json::to_string_pretty(signed).expect("a certificate has only string keys");
    text.push('\n');
    text
}

/// Reads a certificate, and finds out whether it is what was signed; with `key`, by that key.
///
/// # Errors
/// Why it is none.
pub fn read(text: &[u8], key: Option<&str>) -> Result<Signed, NoCertificate> {
    if text.len() as u64 > BYTES_MAX {
        return Err(NoCertificate::Long);
    }
    let signed: Signed = serde_json::from_slice(text).map_err(NoCertificate::Form)?;
    if signed.certificate.form != FORM {
        return Err(NoCertificate::OtherForm(signed.certificate.form));
    }
    if to_text(&signed).as_bytes() != text {
        return Err(NoCertificate::Changed);
    }
    if key.is_some_and(|key| !key.eq_ignore_ascii_case(&signed.key)) {
        return Err(NoCertificate::OtherKey(signed.key));
    }
    let (public, signature) = (from_hex(&signed.key), from_hex(&signed.signature));
    let (Some(public), Some(signature)) = (public, signature) else { return Err(NoCertificate::Signature) };
    let verified = UnparsedPublicKey::new(&ED25519, public).verify(&body(&signed.certificate), &signature);
    verified.map(|()| signed).map_err(|_| NoCertificate::Signature)
}

/// Writes a certificate for each drill that has shown that its service recovers, now and from now on.
pub(crate) async fn follow(handle: Loop, folder: PathBuf, build: String, note: Arc<dyn Fn(String) + Send + Sync>) {
    let mut changes = handle.changes();
    let mut last = 0;
    loop {
        changes.mark_unchanged();
        let build = build.clone();
        let due = handle.ask(move |engine, _| {
            let known = engine.knowledge();
            let newest = newest(known);
            if newest <= last {
                return None;
            }
            let key = engine.journal().secret(&SecretId::of_drills()).ok().flatten()?;
            Some((newest, certificates(known, last, &build), Zeroizing::new(key.bytes().to_vec())))
        });
        if let Some((newest, due, key)) = due.await {
            last = newest;
            for certificate in due {
                let path = folder.join(file_name(&certificate));
                let Some(signed) = sign(certificate, &key) else { continue };
                if let Err(error) = write(&path, &to_text(&signed)) {
                    note(format!("cannot write the certificate {}: {error}", path.display()));
                }
            }
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// The number of the newest drill that is over.
fn newest(known: &Knowledge) -> u32 {
    let results = known.services.values().filter_map(|service| service.drilled.as_ref());
    results.flat_map(|drilled| drilled.results.values()).map(|result| result.drill.number).max().unwrap_or(0)
}

/// What is to be written of drills with a higher number than `after`.
fn certificates(known: &Knowledge, after: u32, build: &str) -> Vec<Certificate> {
    let results = known.services.values().filter_map(|service| service.drilled.as_ref());
    let due = |result: &&DrillResult| result.drill.number > after && result.verdict == Verdict::Proven;
    results.flat_map(|drilled| drilled.results.values()).filter(due).filter_map(|r| of(known, r, build)).collect()
}

/// What a drill has proven.
fn of(known: &Knowledge, result: &DrillResult, build: &str) -> Option<Certificate> {
    let estate = known.estate.as_ref()?;
    let service = known.services.get(&result.drill.service)?;
    let placement = service.placement.as_ref();
    let valid = estate.drill.as_deref().cloned().unwrap_or_default().valid;
    Some(Certificate {
        form: FORM,
        estate: estate.name.clone(),
        estate_id: known.uuid?,
        service: result.drill.service.clone(),
        offering: service.spec.offering.to_string(),
        version: placement.and_then(|placement| placement.version.clone()),
        provider: placement.map(|placement| placement.provider.clone()),
        drill: result.drill.number,
        fault: result.drill.fault,
        instances: result.drill.hits.iter().map(|hit| hit.instance.clone()).collect(),
        noticed_ms: result.noticed_ms,
        diagnosed: result.diagnosed.clone(),
        healed_ms: result.healed_ms,
        callers: result.measured.callers,
        data: result.measured.data,
        restored: result.measured.restored.clone(),
        made: result.caused?,
        valid_until: result.ended + valid.get(),
        ostler: build.to_owned(),
    })
}

/// Under which name a certificate lies in its folder.
pub fn file_name(certificate: &Certificate) -> String {
    format!("{}-{}-{}.json", certificate.service, certificate.drill, certificate.fault)
}

/// It is there as a whole or not at all, and one that is there is left as it is.
fn write(path: &Path, text: &str) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let new = path.with_extension("new");
    let mut file = File::options().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)
}

fn body(certificate: &Certificate) -> Vec<u8> {
    serde_json::to_vec(certificate).expect("a certificate has only string keys")
}

pub(crate) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Only what [`to_hex`] writes.
pub(crate) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Vec<u8> = text.as_bytes().chunks(2).map(byte).collect::<Option<_>>()?;
    (to_hex(&bytes) == text).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate() -> Certificate {
        Certificate {
            form: FORM,
            estate: "bookshop".parse().unwrap(),
            estate_id: EstateUuid::from_random([7; 16]),
            service: "db".parse().unwrap(),
            offering: "postgresql".to_owned(),
            version: Some("16.4".parse().unwrap()),
            provider: Some("here".parse().unwrap()),
            drill: 3,
            fault: Fault::Kill,
            instances: vec!["db-1".parse().unwrap()],
            noticed_ms: Some(2),
            diagnosed: Some(Diagnosed { words: "it crashed".to_owned(), right: true }),
            healed_ms: Some(412),
            callers: Some(Callers { asked: 100, failed: 0, waited: 3, longest_ms: 380 }),
            data: Some(Data { written: 1, lost: 0 }),
            restored: None,
            made: Timestamp(1_795_392_000_000_000),
            valid_until: Timestamp(1_797_984_000_000_000),
            ostler: "ostler 0.1.0".to_owned(),
        }
    }

    fn signed() -> Signed {
        sign(certificate(), &new_key().unwrap()).unwrap()
    }

    #[test]
    fn what_is_signed_reads_back() {
        let signed = signed();
        let text = to_text(&signed);
        assert_eq!(read(text.as_bytes(), None).unwrap(), signed);
        assert_eq!(read(text.as_bytes(), Some(&signed.key)).unwrap(), signed);
        let other = self::signed().key;
        assert!(matches!(read(text.as_bytes(), Some(&other)), Err(NoCertificate::OtherKey(_))));
        assert!(signed.certificate.version.is_some() && file_name(&signed.certificate) == "db-3-kill.json");
    }

    #[test]
    fn a_flipped_bit_anywhere_is_found() {
        let text = to_text(&signed()).into_bytes();
        for at in 0..text.len() {
            for bit in 0..8 {
                let mut flipped = text.clone();
                flipped[at] ^= 1 << bit;
                assert!(read(&flipped, None).is_err(), "bit {bit} of byte {at}");
            }
        }
        for length in 0..text.len() {
            assert!(read(&text[..length], None).is_err(), "{length}");
        }
        assert!(read(&[&text[..], b" "].concat(), None).is_err());
    }

    #[test]
    fn rubbish_is_refused() {
        let long = " ".repeat(usize::try_from(BYTES_MAX).unwrap() + 1);
        for rubbish in ["", "null", "{}", "[]", "\u{0}", "{\"certificate\":{},\"key\":\"\",\"signature\":\"\"}", &long]
        {
            assert!(read(rubbish.as_bytes(), None).is_err());
        }
        // Signed well, and of a form that nobody here knows.
        let future = sign(Certificate { form: 2, ..certificate() }, &new_key().unwrap()).unwrap();
        assert!(matches!(read(to_text(&future).as_bytes(), None), Err(NoCertificate::OtherForm(2))));
        // Another's signature, or none.
        let (mine, theirs) = (signed(), signed());
        for signature in [theirs.signature.clone(), String::new(), "zz".to_owned(), "0".to_owned(), "é".to_owned()] {
            let forged = Signed { signature, ..mine.clone() };
            assert!(matches!(read(to_text(&forged).as_bytes(), None), Err(NoCertificate::Signature)));
        }
        assert!(sign(certificate(), b"no key").is_none());
    }
}
