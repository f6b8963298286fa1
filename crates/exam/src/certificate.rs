//! The certificate as JSON, which an estate file can name: the report with a digest of it, and back.
//!
//! Invariant: what is read back is what was written. The digest shows what was altered by accident or in passing. It is
//! no signature: whoever alters a certificate on purpose can make the digest fit.

use ostler_model::estate::certificate::Certificate;
use ostler_model::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::report::Report;
use crate::rules::Matters;

/// The most bytes of a certificate that are read: one of all rules, all broken, has about 60,000.
pub const CERTIFICATE_BYTES_MAX: u64 = 1 << 20;
/// The key of the digest.
const DIGEST: &str = "sha256";

/// A report with the digest of it, as JSON.
#[derive(Serialize)]
pub struct Sealed<'a> {
    #[serde(flatten)]
    report: &'a Report,
    /// Of everything else.
    sha256: String,
}

impl<'a> Sealed<'a> {
    /// The report with its digest.
    pub fn new(report: &'a Report) -> Self {
        Self { report, sha256: report.digest() }
    }

    /// As a file, for people too: one key a line.
    pub fn to_file(&self) -> String {
        serde_json::to_string_pretty(self).expect("a report has only string keys") + "\n"
    }
}

impl Report {
    /// SHA-256 in hexadecimal digits of what it says.
    pub fn digest(&self) -> String {
        digest(&serde_json::to_value(self).expect("a report has only string keys"))
    }
}

/// A certificate that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadCertificate {
    /// Where the broker is that was examined.
    pub broker: String,
    /// What it says.
    pub says: Certificate,
}

/// Why a text is no certificate to rely on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// It is something else.
    #[error("it is no certificate of an examination in JSON: {0}")]
    Form(String),
    /// Its digest is not that of its content.
    #[error("it was altered after it was written: its content does not fit its `sha256`")]
    Altered,
}

/// Reads what [`Sealed`] wrote; white space and the order of keys do not count.
///
/// # Errors
/// If it is something else, or was altered.
pub fn read_certificate(text: &str) -> Result<ReadCertificate, CertificateError> {
    let form = |error: serde_json::Error| CertificateError::Form(error.to_string());
    let mut value: Value = serde_json::from_str(text).map_err(form)?;
    let claimed = value.as_object_mut().and_then(|object| object.remove(DIGEST));
    let Some(Value::String(claimed)) = claimed else {
        return Err(CertificateError::Form(format!("it has no `{DIGEST}`")));
    };
    let actual = digest(&value);
    let said: Said = serde_json::from_value(value).map_err(form)?;
    if claimed != actual {
        return Err(CertificateError::Altered);
    }
    let time = |text: &str| {
        Timestamp::parse(text).ok_or_else(|| CertificateError::Form(format!("`{text}` is not a time of RFC 3339")))
    };
    let broken = |matters: Matters| {
        let of = said.rules.iter().filter(|found| found.verdict == Verdict::Broken && found.matters == matters);
        counted(of.count())
    };
    let says = Certificate {
        at: time(&said.at)?,
        valid_until: time(&said.valid_until)?,
        full: said.bought.is_some(),
        breaks_you: broken(Matters::BreaksYou),
        surprises_you: broken(Matters::SurprisesYou),
        cosmetic: broken(Matters::Cosmetic),
        left: counted(said.left.len()),
    };
    Ok(ReadCertificate { broker: said.broker, says })
}

/// What of a report counts for who reads it. Later versions of ostler may say more.
#[derive(Deserialize)]
struct Said {
    broker: String,
    bought: Option<String>,
    at: String,
    valid_until: String,
    rules: Vec<Found>,
    left: Vec<String>,
}

#[derive(Deserialize)]
struct Found {
    matters: Matters,
    verdict: Verdict,
}

#[derive(PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Verdict {
    Kept,
    Broken,
    NotSeen,
}

fn counted(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Of the JSON without white space, with the keys of each object in the order of their bytes.
fn digest(value: &Value) -> String {
    let mut text = String::new();
    write_sorted(value, &mut text);
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn write_sorted(value: &Value, out: &mut String) {
    match value {
        Value::Object(object) => {
            let mut entries: Vec<_> = object.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            out.push('{');
            for (index, (key, value)) in entries.into_iter().enumerate() {
                out.push_str(if index == 0 { "" } else { "," });
                out.push_str(&format!("{}:", Value::from(key.as_str())));
                write_sorted(value, out);
            }
            out.push('}');
        }
        Value::Array(values) => {
            out.push('[');
            for (index, value) in values.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { "," });
                write_sorted(value, out);
            }
            out.push(']');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => out.push_str(&value.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::Verdict as Was;
    use crate::rules::Rule;

    fn report(left: &[&str]) -> Report {
        let broken = || Was::Broken { why: "w \"é\"".to_owned(), sent: "GET /".to_owned(), got: "500".to_owned() };
        let found = BTreeMap::from([
            (Rule::Encrypted, broken()),
            (Rule::AuthRequired, Was::Kept),
            (Rule::Catalog, broken()),
            (Rule::Prices, Was::NotSeen { why: "none".to_owned() }),
        ]);
        let left = left.iter().map(|path| (*path).to_owned()).collect();
        Report::new("https://acme.example".to_owned(), Some("redis small".to_owned()), found, left)
    }

    #[test]
    fn what_is_written_is_read_back() {
        let report = report(&["an instance: /v2/service_instances/1"]);
        let read = read_certificate(&Sealed::new(&report).to_file()).unwrap();
        assert_eq!(read.broker, "https://acme.example");
        let Certificate { at, valid_until, full, breaks_you, surprises_you, cosmetic, left } = read.says;
        assert_eq!((at.to_seconds(), valid_until.to_seconds()), (report.at.clone(), report.valid_until.clone()));
        assert_eq!((full, breaks_you, surprises_you, cosmetic, left), (true, 1, 1, 0, 1));
        assert!(!read.says.is_fit());
        let compact = serde_json::to_string(&Sealed::new(&report)).unwrap();
        assert_eq!(read_certificate(&compact), Ok(read), "white space does not count");
    }

    #[test]
    fn every_altered_character_is_noticed() {
        let written = Sealed::new(&report(&[])).to_file();
        let read = read_certificate(&written).unwrap();
        for (at, former) in written.char_indices().filter(|(_, c)| c.is_ascii_alphanumeric()) {
            let other = if former == '7' { '8' } else { '7' };
            let altered = format!("{}{other}{}", &written[..at], &written[at + 1..]);
            assert!(read_certificate(&altered).is_err(), "{altered}");
        }
        let without_finding = written.replace("\"broken\"", "\"kept\"");
        assert_eq!(read_certificate(&without_finding), Err(CertificateError::Altered));
        assert_eq!(
            read_certificate(&written.replace('\n', "\r\n")),
            Ok(read),
            "line ends of another system do not count"
        );
    }

    #[test]
    fn what_is_no_certificate_is_told() {
        for text in
            ["", "# Open Service Broker: certificate", "[]", "{}", r#"{"sha256":7}"#, r#"{"sha256":"7"}"#, "null"]
        {
            let error = read_certificate(text).unwrap_err();
            assert!(matches!(error, CertificateError::Form(_)), "{text}: {error}");
        }
    }
}
