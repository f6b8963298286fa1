//! What owning and what buying cost, year by year, as of today.
//!
//! Machines, setting up and fees are paid when a year begins; everything else is paid in its middle, on average. What is paid
//! later weighs less: an amount in `t` years is divided by (1 + discount)^t. A machine is worth the part of its price that
//! lies before it of its years, and that is taken off at the end of what is looked at.
//!
//! Invariant: a year's costs do not depend on how many years are looked at.

use ostler_model::estate::own::{Assumption as A, WORK_YEAR_HOURS};
use serde::{Deserialize, Serialize};

use super::YEARS_MAX;
use super::figures::{Figures, Number, power};

const MONTHS: u32 = 12;
pub(super) const HOURS: u32 = 8_760;
const YEARS: usize = YEARS_MAX as usize;

/// Of what a cost is made up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// Machines, when they are bought or replaced.
    Machines,
    /// What they are worth in the end: taken off.
    Worth,
    /// Setting it up.
    Setup,
    /// Power, with cooling.
    Power,
    /// Space and network.
    Space,
    /// Licences.
    Licences,
    /// People who look after it.
    Care,
    /// People who upgrade it.
    Upgrades,
    /// The plan's price.
    Plans,
    /// What passes through its endpoint, where the plan has a price for that.
    Traffic,
    /// What is paid once for a plan.
    Fees,
    /// Hours in which it is out.
    Outages,
}

impl Part {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 12] = [
        Self::Machines,
        Self::Worth,
        Self::Setup,
        Self::Power,
        Self::Space,
        Self::Licences,
        Self::Care,
        Self::Upgrades,
        Self::Plans,
        Self::Traffic,
        Self::Fees,
        Self::Outages,
    ];

    /// For people.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Machines => "machines, bought and replaced",
            Self::Worth => "what they are worth in the end",
            Self::Setup => "setting it up",
            Self::Power => "power and cooling",
            Self::Space => "space and network",
            Self::Licences => "licences",
            Self::Care => "people who look after it",
            Self::Upgrades => "upgrades",
            Self::Plans => "the plan",
            Self::Traffic => "bytes through its endpoint",
            Self::Fees => "paid once",
            Self::Outages => "outages",
        }
    }

    /// Whether it is paid when a year begins.
    fn at_once(self) -> bool {
        matches!(self, Self::Machines | Self::Setup | Self::Fees)
    }
}

/// What is paid for one way to have the service, by part and year, as of today.
#[derive(Clone, Debug)]
pub(super) struct Costs<N> {
    spent: [[N; YEARS]; Part::ALL.len()],
}

/// What a plan costs, beside what is assumed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Price<N> {
    /// An instance and month.
    pub(super) monthly: N,
    /// A gigabyte through the endpoint.
    pub(super) gigabyte: N,
    /// Once, when an instance is bought.
    pub(super) once: N,
    /// For how many hours a year it is out.
    pub(super) away: N,
}

impl<N: Number> Costs<N> {
    fn new() -> Self {
        Self { spent: [[N::whole(0); YEARS]; Part::ALL.len()] }
    }

    fn set(&mut self, part: Part, year: usize, amount: N) {
        self.spent[part as usize][year] = amount;
    }

    /// A part over so many years.
    pub(super) fn part(&self, part: Part, years: usize) -> N {
        let spent = &self.spent[part as usize];
        // What machines are worth counts only at the end.
        if part == Part::Worth {
            return N::whole(0) - spent[years - 1];
        }
        spent[..years].iter().fold(N::whole(0), |sum, amount| sum + *amount)
    }

    /// Everything over so many years, 1 to 7.
    pub(super) fn over(&self, years: usize) -> N {
        Part::ALL.iter().fold(N::whole(0), |sum, part| sum + self.part(*part, years))
    }

    /// Everything that is paid until so many months are over, 1 to 84; what machines are worth is not paid.
    pub(super) fn paid_until(&self, months: u32) -> N {
        let (years, into) = ((months - 1) / MONTHS, (months - 1) % MONTHS + 1);
        let mut sum = N::whole(0);
        for part in Part::ALL.into_iter().filter(|part| *part != Part::Worth) {
            let spent = &self.spent[part as usize];
            let (former, this) = spent.split_at(years as usize);
            sum = former.iter().fold(sum, |sum, amount| sum + *amount);
            let share = if part.at_once() { N::whole(1) } else { N::whole(into) / N::whole(MONTHS) };
            sum = sum + this[0] * share;
        }
        sum
    }
}

/// By what an amount is multiplied: one paid when each year begins, in its middle, and at its end.
struct Weights<N> {
    begins: [N; YEARS],
    middle: [N; YEARS],
    ends: [N; YEARS],
    /// How much dearer everything is then than today.
    dearer: [N; YEARS],
    /// How many instances are needed then.
    instances: [N; YEARS],
}

impl<N: Number> Weights<N> {
    fn of(figures: &Figures<N>) -> Self {
        let discount = figures.grown(A::Discount);
        let root = discount.root();
        let each = |of: &dyn Fn(u32) -> N| std::array::from_fn(|year| of(year as u32)); // of seven years
        let one = N::whole(1);
        Self {
            begins: each(&|year| one / power(discount, year)),
            middle: each(&|year| root / power(discount, year + 1)),
            ends: each(&|year| one / power(discount, year + 1)),
            dearer: each(&|year| power(figures.grown(A::Inflation), year)),
            instances: each(&|year| (figures.get(A::Instances) * power(figures.grown(A::Growth), year)).up()),
        }
    }
}

/// What an hour of work costs.
fn hour<N: Number>(figures: &Figures<N>) -> N {
    figures.get(A::Salary) / N::whole(WORK_YEAR_HOURS)
}

/// What owning it costs.
pub(super) fn owned<N: Number>(figures: &Figures<N>) -> Costs<N> {
    let of = |assumption| figures.get(assumption);
    let (weights, hour, months) = (Weights::of(figures), hour(figures), N::whole(MONTHS));
    let lasts = of(A::Years).nearest().max(1) as usize;
    let mut costs = Costs::new();
    let mut bought = [N::whole(0); YEARS];
    for year in 0..YEARS {
        let needed = (weights.instances[year] / of(A::Holds) + of(A::Spare)).up();
        let sum = |from: usize| bought[from..year].iter().fold(N::whole(0), |sum, count| sum + *count);
        let there = sum((year + 1).saturating_sub(lasts));
        bought[year] = if needed > there { needed - there } else { N::whole(0) };
        let servers = there + bought[year];
        let (middle, dearer) = (weights.middle[year], weights.dearer[year]);
        let paid = |amount: N| amount * dearer * middle;
        costs.set(Part::Machines, year, bought[year] * of(A::Purchase) * weights.begins[year]);
        costs.set(Part::Worth, year, worth(&bought[..=year], lasts) * of(A::Purchase) * weights.ends[year]);
        let kilowatt_hours = servers * of(A::Watts) * of(A::Pue) * N::whole(HOURS) / N::whole(1_000);
        costs.set(Part::Power, year, paid(kilowatt_hours * of(A::Kwh)));
        costs.set(Part::Space, year, paid(servers * of(A::Space) * months));
        costs.set(Part::Licences, year, paid(servers * of(A::Licences)));
        costs.set(Part::Care, year, paid((of(A::Care) + servers * of(A::CareServer)) * months * hour));
        costs.set(Part::Upgrades, year, paid(of(A::Upgrades) * of(A::UpgradeHours) * hour));
        costs.set(Part::Outages, year, paid(of(A::Outages) * of(A::Heal) * of(A::OutageHour)));
    }
    costs.set(Part::Setup, 0, of(A::Setup) * hour);
    costs
}

/// How many machines' prices those are worth that were bought in these years, at the end of the last of them.
fn worth<N: Number>(bought: &[N], lasts: usize) -> N {
    bought.iter().rev().enumerate().fold(N::whole(0), |sum, (ago, count)| {
        let left = lasts.saturating_sub(ago + 1) as u32; // at most 30
        sum + *count * N::whole(left) / N::whole(lasts as u32)
    })
}

/// What buying it costs.
pub(super) fn bought<N: Number>(figures: &Figures<N>, price: Price<N>) -> Costs<N> {
    let (weights, hour, months) = (Weights::of(figures), hour(figures), N::whole(MONTHS));
    let mut costs = Costs::new();
    for year in 0..YEARS {
        let (middle, dearer) = (weights.middle[year], weights.dearer[year]);
        let paid = |amount: N| amount * dearer * middle;
        let instances = weights.instances[year];
        let former = if year == 0 { N::whole(0) } else { weights.instances[year - 1] };
        let more = if instances > former { instances - former } else { N::whole(0) };
        let plans_dearer = power(figures.grown(A::PriceRise), year as u32); // of seven years
        costs.set(Part::Plans, year, instances * price.monthly * months * plans_dearer * middle);
        let gigabytes = figures.get(A::Traffic) * power(figures.grown(A::Growth), year as u32); // of seven years
        costs.set(Part::Traffic, year, gigabytes * price.gigabyte * months * plans_dearer * middle);
        costs.set(Part::Fees, year, more * price.once * plans_dearer * weights.begins[year]);
        costs.set(Part::Care, year, paid(figures.get(A::CareBought) * months * hour));
        costs.set(Part::Outages, year, paid(price.away * figures.get(A::OutageHour)));
    }
    costs
}
