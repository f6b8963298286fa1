//! The certificates that an estate file names: read when the file is given, and not again before.
//!
//! Invariant: what is not the certificate of the very broker that is declared is told as an error, never passed over.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use ostler_exam::{CERTIFICATE_BYTES_MAX, CertificateError, read_certificate};
use ostler_model::diagnostics::Problem;
use ostler_model::estate::certificate::Certificate;
use ostler_model::estate::{Parsed, ProviderKind};
use ostler_model::ids::ProviderName;

/// Reads them and puts what they say into the estate. Returns what is wrong with them; `file` is what the user calls the
/// estate file.
pub(crate) fn read_into(parsed: &mut Parsed, file: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (name, path) in &parsed.certificates {
        let Some(provider) = parsed.estate.providers.get_mut(name) else { continue };
        let ProviderKind::Osb(broker) = &provider.kind else { continue };
        match read(path, &broker.url) {
            Ok(says) => provider.certificate = Some(says),
            Err(wrong) => {
                let span = parsed.spans.get(&format!("provider.{name}.certificate")).cloned().unwrap_or_default();
                problems.push(Problem { span, cause: wrong.cause(path), remedy: wrong.remedy(name, path, file) });
            }
        }
    }
    problems
}

/// Why a certificate is none to rely on.
enum Wrong {
    Unreadable(io::Error),
    TooLong,
    Content(CertificateError),
    Foreign { broker: String, url: String },
}

fn read(path: &Path, url: &str) -> Result<Certificate, Wrong> {
    let text = read_text(path).map_err(Wrong::Unreadable)?.ok_or(Wrong::TooLong)?;
    let read = read_certificate(&text).map_err(Wrong::Content)?;
    if read.broker.trim_end_matches('/') != url {
        return Err(Wrong::Foreign { broker: read.broker, url: url.to_owned() });
    }
    Ok(read.says)
}

/// `None` if it is too long for a certificate.
fn read_text(path: &Path) -> io::Result<Option<String>> {
    // A pipe would keep everybody waiting.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut text = String::new();
    let read = File::open(path)?.take(CERTIFICATE_BYTES_MAX + 1).read_to_string(&mut text)?;
    Ok((read as u64 <= CERTIFICATE_BYTES_MAX).then_some(text))
}

impl Wrong {
    fn cause(&self, path: &Path) -> String {
        let path = path.display();
        match self {
            Self::Unreadable(error) => format!("cannot read the certificate {path}: {error}"),
            Self::TooLong => {
                format!("{path} is no certificate: it has more than {CERTIFICATE_BYTES_MAX} bytes")
            }
            Self::Content(error) => format!("cannot rely on the certificate {path}: {error}"),
            Self::Foreign { broker, url } => {
                format!("the certificate {path} is that of {broker}, and `url` is {url}")
            }
        }
    }

    fn remedy(&self, name: &ProviderName, path: &Path, file: &str) -> String {
        let path = path.display();
        let again = format!("`ostler provider check {name} {file} --certificate {path}`");
        match self {
            Self::Unreadable(_) => format!("examine the broker, which writes it: {again}; or remove `certificate`"),
            Self::TooLong | Self::Content(CertificateError::Form(_)) => {
                format!("name one that was written as JSON: {again}, with a name that ends in `.json`")
            }
            Self::Content(CertificateError::Altered) => {
                format!("put it back as it was; or examine the broker again: {again}")
            }
            Self::Foreign { .. } => format!("examine this one: {again}; or correct `url` or `certificate`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use ostler_model::diagnostics::Problems;
    use ostler_model::estate::parse;

    use super::*;

    const ESTATE: &str = "[estate]\nname = \"shop\"\n\n[provider.acme]\nkind = \"osb\"\nurl = \"https://acme.example/\"\ncertificate = \"c.json\"\n";

    /// What is said where the certificate holds `text`; nothing if it is relied on.
    fn told(text: Option<&str>) -> String {
        let folder = tempfile::tempdir().unwrap();
        if let Some(text) = text {
            std::fs::write(folder.path().join("c.json"), text).unwrap();
        }
        let mut parsed = parse("shop.toml", folder.path(), ESTATE).unwrap();
        let problems = read_into(&mut parsed, "shop.toml");
        let is_known = parsed.estate.providers.values().all(|provider| provider.certificate.is_some());
        assert_eq!(problems.is_empty(), is_known);
        match Problems::of("shop.toml", ESTATE, problems) {
            Some(problems) => problems.to_string().replace(&folder.path().display().to_string(), "FOLDER"),
            None => String::new(),
        }
    }

    #[test]
    fn what_cannot_be_relied_on_is_told_with_its_place() {
        let good = include_str!("../tests/certificate.json");
        assert_eq!(told(Some(good)), "");
        let altered = good.replace("broken", "kept");
        let foreign = include_str!("../tests/foreign-certificate.json");
        let cases = [
            ("absent", told(None)),
            ("a page for people", told(Some("# Open Service Broker: certificate of examination\n"))),
            ("without a digest", told(Some("{}"))),
            ("altered", told(Some(&altered))),
            ("of another broker", told(Some(foreign))),
            ("endless", told(Some(&" ".repeat(2 << 20)))),
        ];
        let text: String = cases.iter().map(|(what, told)| format!("=== {what}\n{told}\n\n")).collect();
        insta::assert_snapshot!(text);
    }

    #[test]
    fn what_is_no_file_keeps_nobody_waiting() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("c.json")).unwrap();
        let mut parsed = parse("shop.toml", folder.path(), ESTATE).unwrap();
        let problems = read_into(&mut parsed, "shop.toml");
        assert!(problems[0].cause.ends_with("c.json: it is not a file"), "{problems:?}");
    }
}
