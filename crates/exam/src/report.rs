//! What came of an examination: as text, as JSON, and as a certificate of one page.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ostler_model::time::Timestamp;
use serde::Serialize;

use crate::Verdict;
use crate::rules::{Matters, Rule};

/// For how long a certificate says something: brokers change.
const VALID_FOR: Duration = Duration::from_secs(90 * 86_400);

/// What came of an examination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Where the broker is.
    pub broker: String,
    /// What was bought and given back; `None` if it was only read.
    pub bought: Option<String>,
    /// When; RFC 3339.
    pub at: String,
    /// Until when it is to be believed; RFC 3339.
    pub valid_until: String,
    /// Every rule, in the order in which they are examined.
    pub rules: Vec<Finding>,
    /// What may have been left at the broker.
    pub left: Vec<String>,
}

/// What was found about one rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Its short name.
    pub rule: &'static str,
    /// Where it stands in the specification.
    pub section: &'static str,
    /// How much it matters.
    pub matters: Matters,
    /// What it says.
    pub says: &'static str,
    /// What was found.
    #[serde(flatten)]
    pub verdict: Verdict,
}

impl Report {
    pub(crate) fn new(
        broker: String,
        bought: Option<String>,
        found: BTreeMap<Rule, Verdict>,
        left: Vec<String>,
    ) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = Timestamp::default() + now;
        let finding = |(rule, verdict): (Rule, Verdict)| Finding {
            rule: rule.name(),
            section: rule.section(),
            matters: rule.matters(),
            says: rule.says(),
            verdict,
        };
        Self {
            broker,
            bought,
            at: now.to_seconds(),
            valid_until: (now + VALID_FOR).to_seconds(),
            rules: found.into_iter().map(finding).collect(),
            left,
        }
    }

    /// The rules that are broken.
    pub fn broken(&self) -> impl Iterator<Item = &Finding> {
        self.rules.iter().filter(|finding| matches!(finding.verdict, Verdict::Broken { .. }))
    }

    /// Whether nothing was found that breaks a buyer, and nothing was left behind.
    pub fn is_fit(&self) -> bool {
        self.left.is_empty() && self.broken().all(|finding| finding.matters != Matters::BreaksYou)
    }

    /// How many rules are kept, broken, and were not seen.
    pub fn counts(&self) -> (usize, usize, usize) {
        let of = |is: fn(&Verdict) -> bool| self.rules.iter().filter(|finding| is(&finding.verdict)).count();
        (
            of(|verdict| matches!(verdict, Verdict::Kept)),
            of(|verdict| matches!(verdict, Verdict::Broken { .. })),
            of(|verdict| matches!(verdict, Verdict::NotSeen { .. })),
        )
    }

    /// The result in one sentence.
    pub fn in_a_sentence(&self) -> String {
        let (kept, broken, not_seen) = self.counts();
        let worst = self.broken().map(|finding| finding.matters).min();
        let judged = match worst {
            None => "nothing is wrong".to_owned(),
            Some(matters) => format!(
                "the worst of what is wrong {}",
                match matters {
                    Matters::BreaksYou => "breaks you",
                    Matters::SurprisesYou => "surprises you",
                    Matters::Cosmetic => "is cosmetic",
                }
            ),
        };
        let rules = if kept == 1 { "rule is" } else { "rules are" };
        let were = if not_seen == 1 { "was" } else { "were" };
        format!("{kept} {rules} kept, {broken} broken, {not_seen} {were} not seen: {judged}")
    }
}

/// The certificate as a page of Markdown, for people.
pub struct Page<'a>(pub &'a Report);

impl std::fmt::Display for Page<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let report = self.0;
        writeln!(f, "# Open Service Broker: certificate of examination\n")?;
        writeln!(f, "| | |\n|---|---|")?;
        writeln!(f, "| Broker | `{}` |", report.broker)?;
        let bought = report.bought.as_deref().unwrap_or("nothing: it was only read");
        writeln!(f, "| Bought, used and given back | {bought} |")?;
        writeln!(f, "| Examined | {} |", report.at)?;
        writeln!(f, "| To be believed until | {} |", report.valid_until)?;
        writeln!(f, "| Digest of its JSON | `{}` |", report.digest())?;
        writeln!(f, "| By | ostler {}, against version 2.17 of the specification |", env!("CARGO_PKG_VERSION"))?;
        writeln!(
            f,
            "| Result | **{}**: {} |\n",
            if report.is_fit() { "fit" } else { "not fit" },
            report.in_a_sentence()
        )?;
        for matters in Matters::ALL {
            let of = |finding: &&Finding| finding.matters == matters;
            let broken: Vec<&Finding> = report.broken().filter(of).collect();
            let mut text = String::new();
            for finding in &broken {
                if let Verdict::Broken { why, .. } = &finding.verdict {
                    let _ =
                        writeln!(text, "- `{}` ({}): {}. Found: {why}.", finding.rule, finding.section, finding.says);
                }
            }
            if broken.is_empty() {
                text = "Nothing.\n".to_owned();
            }
            writeln!(
                f,
                "## What {}\n\n{text}",
                match matters {
                    Matters::BreaksYou => "breaks you",
                    Matters::SurprisesYou => "surprises you",
                    Matters::Cosmetic => "is cosmetic",
                }
            )?;
        }
        let kept: Vec<&str> = report
            .rules
            .iter()
            .filter(|finding| finding.verdict == Verdict::Kept)
            .map(|finding| finding.rule)
            .collect();
        writeln!(f, "## What is as it should be\n\n{}\n", listed(&kept))?;
        let not_seen = report.rules.iter().filter_map(|finding| match &finding.verdict {
            Verdict::NotSeen { why } => Some(format!("- `{}`: {why}", finding.rule)),
            Verdict::Kept | Verdict::Broken { .. } => None,
        });
        let not_seen: Vec<String> = not_seen.collect();
        let not_seen = if not_seen.is_empty() { "Nothing.".to_owned() } else { not_seen.join("\n") };
        writeln!(f, "## What was not seen\n\n{not_seen}")?;
        if !report.left.is_empty() {
            writeln!(f, "\n## What may have been left at the broker\n")?;
            for left in &report.left {
                writeln!(f, "- {left}")?;
            }
        }
        Ok(())
    }
}

fn listed(names: &[&str]) -> String {
    if names.is_empty() {
        return "Nothing.".to_owned();
    }
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
