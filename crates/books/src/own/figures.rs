//! The numbers that an answer is computed from: one set of figures for all assumptions, exact or drawn.
//!
//! Invariant: the formulas are written once ([`super::costs`]), over this trait, so that what is shown to the cent and what is
//! drawn by chance are the same answer.

use std::ops::{Add, Div, Mul, Sub};

use ostler_model::estate::own::Assumption;
use rust_decimal::Decimal;
use rust_decimal::prelude::{FromPrimitive, ToPrimitive};

/// A number that costs are computed with.
pub(super) trait Number:
    Copy + PartialOrd + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self>
{
    fn of(figure: Decimal) -> Self;
    fn whole(count: u32) -> Self {
        Self::of(Decimal::from(count))
    }
    /// The next whole number; what is a whole number but for an error of computing is that.
    fn up(self) -> Self;
    /// The nearest whole number, half up.
    fn nearest(self) -> u32;
    /// Of a number that is more than nothing; with 12 decimals at least.
    fn root(self) -> Self;
}

impl Number for Decimal {
    fn of(figure: Decimal) -> Self {
        figure
    }

    fn up(self) -> Self {
        self.ceil()
    }

    fn nearest(self) -> u32 {
        (self + Decimal::new(5, 1)).floor().to_u32().unwrap_or_default()
    }

    fn root(self) -> Self {
        // Binary fractions have 15 digits or more, and their roots are the same on every machine.
        let root = self.to_f64().unwrap_or(1.0).sqrt();
        Self::from_f64(root).map_or(Self::ONE, |root| root.round_dp(12))
    }
}

impl Number for f64 {
    fn of(figure: Decimal) -> Self {
        figure.to_f64().unwrap_or_default()
    }

    fn up(self) -> Self {
        (self - 1e-9).ceil()
    }

    fn nearest(self) -> u32 {
        (self + 0.5).floor().clamp(0.0, f64::from(u32::MAX)) as u32 // within u32: just bounded
    }

    fn root(self) -> Self {
        self.sqrt()
    }
}

/// One figure for each assumption.
#[derive(Clone, Debug)]
pub(super) struct Figures<N>(Vec<N>);

impl<N: Number> Figures<N> {
    pub(super) fn new(of: impl FnMut(Assumption) -> N) -> Self {
        Self(Assumption::ALL.iter().copied().map(of).collect())
    }

    pub(super) fn get(&self, assumption: Assumption) -> N {
        self.0[assumption as usize]
    }

    pub(super) fn set(&mut self, assumption: Assumption, figure: N) {
        self.0[assumption as usize] = figure;
    }

    /// What becomes of one if it grows by so many percent.
    pub(super) fn grown(&self, assumption: Assumption) -> N {
        N::whole(1) + self.get(assumption) / N::whole(100)
    }
}

/// `number` times itself, so often.
pub(super) fn power<N: Number>(number: N, times: u32) -> N {
    (0..times).fold(N::whole(1), |product, _| product * number)
}
