//! Rounding so that the parts add up to the whole.

use rust_decimal::{Decimal, RoundingStrategy};

/// The parts of `whole` with `decimals` decimals each: every part is rounded down, and what is missing of the whole goes,
/// one smallest unit each, to those that were rounded down by most; of equal ones, to the first. `whole` has no more
/// decimals than that, and is what the parts add up to, but for rounding.
pub fn apportion(whole: Decimal, parts: &[Decimal], decimals: u32) -> Vec<Decimal> {
    let unit = Decimal::new(1, decimals);
    let round = |part: &Decimal| part.round_dp_with_strategy(decimals, RoundingStrategy::ToNegativeInfinity);
    let mut rounded: Vec<Decimal> = parts.iter().map(round).collect();
    let missing = whole - rounded.iter().sum::<Decimal>();
    let mut order: Vec<usize> = (0..parts.len()).collect();
    order.sort_by(|a, b| (parts[*b] - rounded[*b]).cmp(&(parts[*a] - rounded[*a])).then(a.cmp(b)));
    let mut missing = missing;
    // More than one round only where the parts do not add up to the whole: then it is the whole that counts.
    while missing >= unit && !order.is_empty() {
        for index in &order {
            if missing < unit {
                break;
            }
            rounded[*index] += unit;
            missing -= unit;
        }
    }
    rounded.iter_mut().for_each(|part| part.rescale(decimals));
    rounded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decimal(text: &str) -> Decimal {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_missing_goes_to_those_that_lost_most() {
        let third = Decimal::TEN / Decimal::from(3);
        let parts = apportion(decimal("10.00"), &[third, third, third], 2);
        assert_eq!(parts.iter().map(ToString::to_string).collect::<Vec<_>>(), ["3.34", "3.33", "3.33"]);
        assert_eq!(
            apportion(decimal("0.01"), &[decimal("0.004"), decimal("0.006")], 2),
            [decimal("0"), decimal("0.01")]
        );
        assert_eq!(apportion(Decimal::ZERO, &[], 2), []);
    }

    proptest! {
        #[test]
        fn parts_add_up_to_the_whole_and_are_off_by_less_than_a_cent(
            parts in prop::collection::vec((0_i64..1_000_000_000_000, 0_u32..12), 1..60),
        ) {
            let parts: Vec<Decimal> = parts.into_iter().map(|(digits, scale)| Decimal::new(digits, scale)).collect();
            let sum: Decimal = parts.iter().sum();
            let whole = sum.round_dp_with_strategy(2, RoundingStrategy::MidpointNearestEven);
            let rounded = apportion(whole, &parts, 2);
            prop_assert_eq!(rounded.iter().sum::<Decimal>(), whole);
            for (part, rounded) in parts.iter().zip(&rounded) {
                prop_assert!((part - rounded).abs() < Decimal::new(1, 2));
            }
        }
    }
}
