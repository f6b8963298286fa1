//! Whether to own a service or to buy it: what each costs over one to seven years, as of today.
//!
//! [`stated`] gathers what the answer rests on, [`offers`] the plans that it is weighed against, and [`weigh`] computes it: the
//! net present value of each way, its range over everything that is uncertain, from which volume and from when on owning is
//! cheaper, and what that hangs on.
//!
//! Invariants: what is shown to the cent is computed exactly, but for the root of the discount, which has 12 decimals; the
//! same question with the same seed has the same answer.

mod chance;
mod costs;
mod figures;
mod measured;
mod stated;

use ostler_model::estate::Currency;
use ostler_model::estate::own::{Assumption, Range};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

pub use self::costs::Part;
pub use self::measured::{Measured, OutagesSeen, TrafficSeen, WATCHED_DAYS_MIN, measured};
pub use self::stated::{LeftOut, Offer, Origin, Stated, offers, stated};

use self::chance::Stream;
use self::costs::{Costs, Price, bought, owned};
use self::figures::{Figures, Number};

/// So many years are looked at, at the most.
pub const YEARS_MAX: u32 = 7;
/// So many times everything uncertain is drawn.
pub const DRAWS: u32 = 2_000;
/// At most so many plans are weighed: the cheapest ones.
pub const OFFERS_MAX: usize = 20;
/// Up to so many instances it is looked for when owning becomes cheaper.
pub const VOLUME_MAX: u32 = 10_000;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotWeighed {
    /// Defaults are in EUR, and nobody says what that is.
    #[error("the defaults are in EUR, and the estate counts in {0:?} and does not say what a euro is worth")]
    NoRate(Currency),
}

/// What is weighed.
#[derive(Clone, Debug)]
pub struct Question {
    /// Every figure, once.
    pub stated: Vec<Stated>,
    /// The plans.
    pub offers: Vec<Offer>,
    /// Over how many years, 1 to [`YEARS_MAX`].
    pub years: u32,
    /// Of all that is left to chance.
    pub seed: u64,
}

/// From the least to the most, leaving out one of twenty draws at each end.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// One of twenty is less.
    pub low: f64,
    /// Half of them are less.
    pub middle: f64,
    /// One of twenty is more.
    pub high: f64,
}

/// What one way to have the service costs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Way {
    /// Net present value over one year, two, and so on, with what is most likely; not rounded.
    pub over: Vec<Decimal>,
    /// The same over the years that are looked at, by what it is made up of.
    pub parts: Vec<(Part, Decimal)>,
    /// In the draws, over one year, two, and so on.
    pub spread: Vec<Spread>,
}

/// A plan, weighed against owning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Weighed {
    /// Which.
    pub offer: Offer,
    /// What buying it costs.
    pub way: Way,
    /// In how many of all draws owning costs less.
    pub owning_wins: u32,
    /// From how many instances on owning costs no more; `None` if not up to [`VOLUME_MAX`].
    pub volume: Option<u32>,
    /// After how many months owning has cost no more, and goes on so up to seven years; `None` if that never comes.
    pub months: Option<u32>,
}

/// Something uncertain, and what the answer is at its ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hangs {
    /// What; `None` for how long the plan's provider is out.
    pub assumption: Option<Assumption>,
    /// Its range.
    pub range: Range,
    /// By how much owning is dearer than buying if it is least; negative if it is cheaper.
    pub at_low: Decimal,
    /// The same if it is most.
    pub at_high: Decimal,
}

impl Hangs {
    /// By how much the answer changes between its ends.
    pub fn swing(&self) -> Decimal {
        (self.at_high - self.at_low).abs()
    }

    /// Whether another way is cheaper at one end than at the other.
    pub fn turns(&self) -> bool {
        (self.at_low > Decimal::ZERO) != (self.at_high > Decimal::ZERO)
    }
}

/// Whether to own or to buy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Over how many years.
    pub years: u32,
    /// What owning costs.
    pub own: Way,
    /// What each plan costs: the cheapest first.
    pub plans: Vec<Weighed>,
    /// How many plans more there are that cost more.
    pub more: usize,
    /// What the answer hangs on, the most first; against the cheapest plan. Empty where nothing is offered.
    pub hangs: Vec<Hangs>,
}

/// The answer.
pub fn weigh(question: &Question) -> Answer {
    let years = question.years.clamp(1, YEARS_MAX) as usize;
    let likely: Figures<Decimal> = figures(&question.stated, Range::likely);
    let mut offers: Vec<(Decimal, &Offer)> = question
        .offers
        .iter()
        .map(|offer| (bought(&likely, price(offer, offer.away.likely())).over(years), offer))
        .collect();
    offers.sort_by(|(a, one), (b, other)| a.cmp(b).then_with(|| one.name().cmp(&other.name())));
    let more = offers.len().saturating_sub(OFFERS_MAX);
    let offers: Vec<&Offer> = offers.into_iter().map(|(_, offer)| offer).take(OFFERS_MAX).collect();
    let drawn = Drawn::new(question, &offers, years);
    let own = owned(&likely);
    let plans = offers.iter().enumerate().map(|(index, offer)| {
        let costs = bought(&likely, price(offer, offer.away.likely()));
        Weighed {
            offer: (*offer).clone(),
            way: way(&costs, years, &drawn.bought[index]),
            owning_wins: drawn.owning_wins[index],
            volume: volume(&question.stated, offer, years),
            months: months(&own, &costs),
        }
    });
    Answer {
        years: question.years,
        own: way(&own, years, &drawn.owned),
        plans: plans.collect(),
        more,
        hangs: offers.first().map(|best| hangs(question, &likely, best, years)).unwrap_or_default(),
    }
}

fn figures<N: Number>(stated: &[Stated], of: impl Fn(&Range) -> Decimal) -> Figures<N> {
    Figures::new(|assumption| {
        let found = stated.iter().find(|stated| stated.assumption == assumption);
        N::of(found.map(|stated| of(&stated.range)).unwrap_or_default())
    })
}

fn price<N: Number>(offer: &Offer, away: Decimal) -> Price<N> {
    let of = N::of;
    Price { monthly: of(offer.monthly), gigabyte: of(offer.gigabyte), once: of(offer.once), away: of(away) }
}

fn way(costs: &Costs<Decimal>, years: usize, drawn: &[Vec<f64>]) -> Way {
    let parts = Part::ALL.into_iter().map(|part| (part, costs.part(part, years).normalize()));
    Way {
        over: (1..=years).map(|years| costs.over(years).normalize()).collect(),
        parts: parts.filter(|(_, amount)| !amount.is_zero()).collect(),
        spread: drawn.iter().map(|drawn| spread(drawn)).collect(),
    }
}

/// By year, what each draw costs.
type ByYear = Vec<Vec<f64>>;

/// What came of all draws.
struct Drawn {
    owned: ByYear,
    bought: Vec<ByYear>,
    owning_wins: Vec<u32>,
}

impl Drawn {
    fn new(question: &Question, offers: &[&Offer], years: usize) -> Self {
        let empty = || vec![Vec::with_capacity(DRAWS as usize); years];
        let mut drawn =
            Self { owned: empty(), bought: vec![empty(); offers.len()], owning_wins: vec![0; offers.len()] };
        let mut streams: Vec<(Assumption, Stream)> = question
            .stated
            .iter()
            .map(|stated| (stated.assumption, Stream::new(question.seed, stated.assumption.as_str(), &stated.range)))
            .collect();
        let mut away: Vec<Stream> = offers
            .iter()
            // What is at one provider is out together.
            .map(|offer| Stream::new(question.seed, &format!("away {}", offer.provider), &offer.away))
            .collect();
        let mut figures: Figures<f64> = Figures::new(|_| 0.0);
        for _ in 0..DRAWS {
            for (assumption, stream) in &mut streams {
                figures.set(*assumption, stream.draw());
            }
            let own = owned(&figures);
            for (year, all) in drawn.owned.iter_mut().enumerate() {
                all.push(own.over(year + 1));
            }
            for (index, offer) in offers.iter().enumerate() {
                let price = Price { away: away[index].draw(), ..price(offer, Decimal::ZERO) };
                let costs = bought(&figures, price);
                for (year, all) in drawn.bought[index].iter_mut().enumerate() {
                    all.push(costs.over(year + 1));
                }
                drawn.owning_wins[index] += u32::from(own.over(years) < costs.over(years));
            }
        }
        drawn
    }
}

fn spread(drawn: &[f64]) -> Spread {
    let mut sorted = drawn.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let at = |part: usize| sorted.get(sorted.len() * part / 20).or(sorted.last()).copied().unwrap_or_default();
    Spread { low: at(1), middle: at(10), high: at(19) }
}

/// From how many instances on owning costs no more, whatever else is as is most likely.
fn volume(stated: &[Stated], offer: &Offer, years: usize) -> Option<u32> {
    let mut figures: Figures<f64> = figures(stated, Range::likely);
    let price = price(offer, offer.away.likely());
    // With more instances more passes through them.
    let traffic_of_one = figures.get(Assumption::Traffic) / figures.get(Assumption::Instances).max(1.0);
    (1..=VOLUME_MAX).find(|count| {
        figures.set(Assumption::Instances, f64::from(*count));
        figures.set(Assumption::Traffic, traffic_of_one * f64::from(*count));
        // A ten-thousandth of a cent is an error of computing.
        owned(&figures).over(years) <= bought(&figures, price).over(years) + 1e-6
    })
}

/// After how many months owning has cost no more, for good.
fn months(own: &Costs<Decimal>, bought: &Costs<Decimal>) -> Option<u32> {
    let last = YEARS_MAX * 12;
    let dearer = (1..=last).rev().find(|month| own.paid_until(*month) > bought.paid_until(*month));
    match dearer {
        None => Some(1),
        Some(month) => (month < last).then_some(month + 1),
    }
}

fn hangs(question: &Question, likely: &Figures<Decimal>, best: &Offer, years: usize) -> Vec<Hangs> {
    let dearer = |figures: &Figures<Decimal>, away: Decimal| {
        owned(figures).over(years) - bought(figures, price(best, away)).over(years)
    };
    let mut all: Vec<Hangs> = question
        .stated
        .iter()
        .filter(|stated| !stated.range.is_certain())
        .map(|stated| {
            let at = |figure| {
                let mut figures = likely.clone();
                figures.set(stated.assumption, figure);
                dearer(&figures, best.away.likely())
            };
            let range = stated.range;
            Hangs { assumption: Some(stated.assumption), range, at_low: at(range.low()), at_high: at(range.high()) }
        })
        .collect();
    if !best.away.is_certain() {
        let (at_low, at_high) = (dearer(likely, best.away.low()), dearer(likely, best.away.high()));
        all.push(Hangs { assumption: None, range: best.away, at_low, at_high });
    }
    all.retain(|hangs| !hangs.swing().is_zero());
    all.sort_by(|a, b| b.swing().cmp(&a.swing()).then_with(|| a.assumption.cmp(&b.assumption)));
    all
}
