//! What a month costs: every item, and what could not be counted.

use ostler_model::estate::Currency;
use ostler_model::ids::{InstanceId, OfferingName, PlanName, ProviderName, ServiceName};
use ostler_model::money::Amount;
use ostler_model::month::{Month, Zone};
use ostler_model::time::Timestamp;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::carried::CarriedBytes;
use crate::credits::Owed;
use crate::ledger::{Ledger, Needs};
use ostler_model::charge::Per;

/// What a month costs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// Whose books these are.
    pub estate: String,
    /// Which month.
    pub month: Month,
    /// By which calendar.
    pub zone: Zone,
    /// In what everything is counted.
    pub currency: Currency,
    /// What may be spent a month.
    pub budget: Option<Amount>,
    /// When the month began.
    pub from: Timestamp,
    /// When it ends, or ended.
    pub ends: Timestamp,
    /// Until when it is counted: its end, if it is over.
    pub until: Timestamp,
    /// What was used until then.
    pub so_far: Vec<Item>,
    /// What is used until the month ends, if everything stays as it is.
    pub forecast: Vec<Item>,
    /// What was used and is not in these figures, and why.
    pub not_counted: Vec<NotCounted>,
    /// What passed through the endpoints of services, whether it costs anything or not.
    #[serde(default)]
    pub carried: Vec<CarriedBytes>,
    /// What providers owe for it, what was claimed, and what was paid.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub credits: Vec<Owed>,
    /// Who needed whom, last in that month.
    pub(crate) needs: Needs,
}

/// What an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// An instance was held.
    Instance,
    /// Something was bought that is paid once.
    Purchase,
    /// A part of what a machine of one's own costs.
    Machine,
    /// What a machine costs while nothing is on it.
    Unused,
    /// Backups were kept.
    Backups,
    /// Bytes passed through a service's endpoint.
    Traffic,
}

/// So much of something, at a price.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// What it is.
    pub kind: Kind,
    /// Of which service; `None` if of none.
    pub service: Option<ServiceName>,
    /// Which instance.
    pub instance: Option<InstanceId>,
    /// From whom; `None` for backups, which are kept somewhere.
    pub provider: Option<ProviderName>,
    /// Where that is.
    pub region: Option<String>,
    /// What was bought.
    pub offering: Option<OfferingName>,
    /// Which plan.
    pub plan: Option<PlanName>,
    /// From when on.
    pub from: Timestamp,
    /// Until when.
    pub until: Timestamp,
    /// For what the price is.
    pub per: Per,
    /// How much, with at most 12 decimals.
    pub quantity: Decimal,
    /// What one costs, in the estate's currency.
    pub price: Decimal,
    /// What one costs, as it was stated, where that is in another currency.
    pub stated: Option<(Amount, Currency)>,
}

impl Item {
    /// What it costs, in the estate's currency, not rounded.
    pub fn cost(&self) -> Decimal {
        (self.quantity * self.price).normalize()
    }
}

/// Something that was used and is not in the figures.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NotCounted {
    /// Of which service; `None` if of none alone.
    pub service: Option<ServiceName>,
    /// From whom.
    pub provider: Option<ProviderName>,
    /// Which plan.
    pub plan: Option<PlanName>,
    /// What was stated, for people; empty if nothing was.
    pub said: String,
    /// Why it is not counted.
    pub why: String,
}

/// Why there is no statement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoBooks {
    /// There is no estate.
    #[error("nothing is declared yet")]
    NothingDeclared,
    /// It has not begun.
    #[error("{0} has not begun")]
    Future(Month),
}

impl Ledger {
    /// What `month` costs, as of `now`; the month that it is now if `None`.
    ///
    /// # Errors
    /// If nothing is declared, or the month has not begun.
    pub fn statement(&self, month: Option<Month>, now: Timestamp) -> Result<Statement, NoBooks> {
        let declared = self.declared.as_ref().ok_or(NoBooks::NothingDeclared)?;
        let zone = self.zone();
        let month = month.unwrap_or_else(|| Month::at(now, &zone));
        let (from, ends) = month.bounds(&zone);
        if from > now {
            return Err(NoBooks::Future(month));
        }
        let until = now.min(ends);
        let needs = self.needs.iter().rev().find(|(at, _)| *at < until).or(self.needs.first());
        Ok(Statement {
            estate: declared.estate.clone(),
            month,
            zone,
            currency: declared.currency.clone(),
            budget: declared.accounts.budget,
            from,
            ends,
            until,
            so_far: self.items(month, until),
            forecast: self.forecast(month, now),
            carried: self.carried_in(month),
            not_counted: self.not_counted(month, until),
            credits: self.owed(month, now),
            needs: needs.map(|(_, needs)| needs.clone()).unwrap_or_default(),
        })
    }
}
