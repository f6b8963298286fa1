//! `terms` of a provider: what it promises and what it pays back.

use std::ops::Range;

use super::accounts::{self, Prices};
use super::claims;
use super::reader::{Key, Reader, Value};
use super::settings::Head;
use crate::estate::terms::{Credit, Percent, Terms};

const TERMS: &[Key] = &[
    ("availability", r#"availability = "99.95%""#),
    ("credits", r#"credits = [{ below = "99.95%", refund = "10%" }]"#),
    ("prices", r#"prices = { postgresql = { small = "19.00" } }"#),
    ("zone", r#"zone = "Europe/Berlin""#),
    ("over", r#"over = "month""#),
    ("outage", r#"outage = { from = "1m", step = "1m", failed = "10%" }"#),
    ("maintenance", r#"maintenance = { window = ["Sun 02:00 - Sun 04:00 UTC"], at_most = "4h" }"#),
    ("claim", r#"claim = { within = "30d", at_least = "1.00", at_most = "50%" }"#),
];
const CREDIT: &[Key] = &[("below", r#"below = "99.95%""#), ("refund", r#"refund = "10%""#)];

/// A credit with where its parts stand.
struct Draft {
    credit: Credit,
    below: Range<usize>,
    refund: Range<usize>,
}

/// What is promised, if anything is, and what plans cost. `what` names it in messages: `provider.acme.terms`.
pub(super) fn read(
    reader: &mut Reader<'_>,
    what: &str,
    head: Option<&Head>,
    value: Value<'_>,
) -> Option<(Option<Terms>, Prices)> {
    let fields = value.fields(reader, what, TERMS)?;
    let (availability, credits) = (fields.optional("availability"), fields.optional("credits"));
    let (promises, priced) = (availability.is_some() || credits.is_some(), fields.optional("prices"));
    let (counting, claims) = claims::read(reader, what, &fields);
    if !promises && priced.is_none() && !fields.has_unknown() {
        let remedy = "add what is promised, for example `availability = \"99.95%\"`, or remove `terms`";
        reader.report_missing(
            fields.span.clone(),
            format!("`{what}` has neither `availability` nor `credits` nor `prices`"),
            remedy,
        );
    }
    // Without a currency of the estate's there is nothing to compare a price with, and that was told.
    let prices = priced
        .zip(head)
        .map(|(value, head)| accounts::read_prices(reader, what, value, (&head.currency, &head.accounts)));
    let availability = availability.and_then(|value| {
        let share: Percent = value.parsed(reader)?;
        if share == Percent::ZERO {
            let remedy = "write what is promised, or leave `availability` out if nothing is";
            reader.report(value.span(), "an availability of 0% promises nothing", remedy);
        }
        Some(share)
    });
    let entries = credits.and_then(|value| value.list(reader)).unwrap_or_default();
    let mut drafts: Vec<Draft> = entries
        .into_iter()
        .enumerate()
        .filter_map(|(index, entry)| read_credit(reader, format!("{what}.credits.{index}"), entry))
        .collect();
    drafts.sort_by_key(|draft| std::cmp::Reverse(draft.credit.below)); // the same ones stay in the order of the file
    check_credits(reader, &drafts);
    let credits = drafts.into_iter().map(|draft| draft.credit).collect();
    let terms = Terms { availability, credits, counting, claims };
    Some((promises.then_some(terms), prices.unwrap_or_default()))
}

fn read_credit(reader: &mut Reader<'_>, what: String, entry: Value<'_>) -> Option<Draft> {
    let fields = entry.fields(reader, what, CREDIT)?;
    let mut read = |key| {
        let value = fields.required(reader, key)?;
        Some((value.parsed::<Percent>(reader)?, value.span()))
    };
    let (below, refund) = (read("below"), read("refund"));
    if let Some((Percent::ZERO, span)) = &below {
        reader.report(span.clone(), "nothing is below 0%", "write the availability below which the refund is due");
    }
    let ((below, below_span), (refund, refund_span)) = (below?, refund?);
    Some(Draft { credit: Credit { below, refund }, below: below_span, refund: refund_span })
}

/// `drafts` go from the highest `below` down.
fn check_credits(reader: &mut Reader<'_>, drafts: &[Draft]) {
    let Some((first, others)) = drafts.split_first() else { return };
    let (mut former, mut most) = (first, first);
    for draft in others {
        let Credit { below, refund } = draft.credit;
        if below == former.credit.below {
            let cause = format!("two credits are for an availability below {below}");
            reader.report(draft.below.clone(), cause, "remove one of the two, or write another `below`");
        } else if refund < most.credit.refund {
            let cause = format!(
                "below {below} only {refund} is paid back, and already below {} it is {}",
                most.credit.below, most.credit.refund
            );
            let remedy = "pay back as much or more, the less was available: correct one of the two credits";
            reader.report(draft.refund.clone(), cause, remedy);
        }
        if refund > most.credit.refund {
            most = draft;
        }
        former = draft;
    }
}
