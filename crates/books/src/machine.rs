//! What a machine of one's own costs in a month.

use ostler_model::estate::accounts::MachineCost;
use rust_decimal::{Decimal, RoundingStrategy};

/// Decimals of quantities and of prices that follow from others.
pub(crate) const DECIMALS: u32 = 12;

/// Half to even.
pub(crate) fn rounded(amount: Decimal) -> Decimal {
    amount.round_dp_with_strategy(DECIMALS, RoundingStrategy::MidpointNearestEven).normalize()
}

/// Of a whole month with so many hours: the same part of the purchase in each month of its use, the power of all its
/// hours, and the hours of care.
pub(crate) fn a_month(cost: &MachineCost, hours: Decimal) -> Decimal {
    let months = Decimal::from(cost.years.max(1)) * Decimal::from(12);
    let purchase = cost.purchase.get() / months;
    let power = cost.watts.get() * hours / Decimal::ONE_THOUSAND * cost.kwh.get();
    rounded(purchase + power + cost.care.get() * cost.care_rate.get())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn purchase_power_and_care_add_up() {
        let amount = |text: &str| text.parse().unwrap();
        let cost = MachineCost {
            purchase: amount("2400"),
            years: 4,
            watts: amount("60"),
            kwh: amount("0.30"),
            care: amount("2"),
            care_rate: amount("60"),
        };
        // 2400 over 48 months; 60 W over 720 hours are 43.2 kWh at 0.30; two hours at 60.
        assert_eq!(a_month(&cost, Decimal::from(720)).to_string(), "182.96");
        assert_eq!(a_month(&MachineCost::default(), Decimal::from(720)), Decimal::ZERO);
    }
}
