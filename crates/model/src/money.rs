//! Money: exact decimal amounts, and whose they are.
//!
//! Invariant: an amount is read from decimal digits and is never a binary fraction on its way. Amounts of different
//! currencies are never added: whoever has two of them has to state a rate.

use std::fmt;
use std::ops::Add;
use std::str::FromStr;

use rust_decimal::{Decimal, RoundingStrategy};
use serde::{Deserialize, Serialize};

use crate::estate::Currency;

/// The most digits before the point of an amount that is read: nobody's price is a trillion.
const WHOLE_DIGITS_MAX: usize = 12;
/// The most digits behind it: prices of single requests have nine or ten.
const DECIMALS_MAX: u32 = 12;

/// A stated price, or a stated rate: zero or more, at most 12 digits before the point and 12 behind it. In JSON it is a
/// text, because readers of JSON take numbers for binary fractions.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Amount(Decimal);

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(Decimal::ZERO);
    /// The rate between a currency and itself.
    pub const ONE: Self = Self(Decimal::ONE);

    /// For arithmetic.
    pub fn get(self) -> Decimal {
        self.0
    }
}

/// Why a text is not an amount.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an amount: write digits with a point, as in `12.50`: at most 12 before it and 12 behind it")]
pub struct AmountError(String);

impl FromStr for Amount {
    type Err = AmountError;

    /// Also as JSON writes numbers: `1.25e1`.
    fn from_str(text: &str) -> Result<Self, AmountError> {
        let wrong = || AmountError(text.chars().take(40).collect());
        let has_exponent = text.contains(['e', 'E']);
        let allowed = |byte: u8| byte.is_ascii_digit() || byte == b'.' || (has_exponent && b"eE+-".contains(&byte));
        // A longer one would be rounded while it is read.
        if text.len() > 40 || !text.starts_with(|c: char| c.is_ascii_digit()) || !text.bytes().all(allowed) {
            return Err(wrong());
        }
        let mantissa = text.split(['e', 'E']).next().unwrap_or_default();
        if mantissa.ends_with('.') || mantissa.bytes().filter(u8::is_ascii_digit).count() > 28 {
            return Err(wrong());
        }
        let read = if has_exponent { Decimal::from_scientific(text) } else { Decimal::from_str_exact(text) };
        let amount = read.map_err(|_| wrong())?.normalize();
        let whole = amount.trunc().to_string();
        if amount.is_sign_negative() && !amount.is_zero() {
            return Err(wrong());
        }
        if whole.len() > WHOLE_DIGITS_MAX || amount.scale() > DECIMALS_MAX {
            return Err(wrong());
        }
        Ok(Self(amount))
    }
}

impl TryFrom<String> for Amount {
    type Error = AmountError;

    fn try_from(text: String) -> Result<Self, AmountError> {
        text.parse()
    }
}

impl From<Amount> for String {
    fn from(amount: Amount) -> Self {
        amount.to_string()
    }
}

impl fmt::Display for Amount {
    /// Without needless zeros: `12.5`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// So much of a currency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Money {
    /// How much.
    pub amount: Decimal,
    /// Of what.
    pub currency: Currency,
}

/// Amounts of two currencies cannot be added.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} and {1:?} cannot be added without a rate")]
pub struct MixedCurrencies(pub Currency, pub Currency);

impl Money {
    /// Both together.
    ///
    /// # Errors
    /// If they are of different currencies.
    pub fn plus(self, other: &Self) -> Result<Self, MixedCurrencies> {
        if self.currency != other.currency {
            return Err(MixedCurrencies(self.currency, other.currency.clone()));
        }
        Ok(Self { amount: self.amount.add(other.amount), currency: self.currency })
    }

    /// The same in another currency, of which one unit of this one is worth `rate`.
    pub fn at(&self, rate: Amount, currency: &Currency) -> Self {
        Self { amount: self.amount * rate.get(), currency: currency.clone() }
    }
}

impl fmt::Display for Money {
    /// To the cent, half to even: `12.50 EUR`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.currency.to_the_cent(self.amount), self.currency.as_str())
    }
}

impl Currency {
    /// How many decimals its smallest unit has (ISO 4217).
    pub fn decimals(&self) -> u32 {
        match self.as_str() {
            "BIF" | "CLP" | "DJF" | "GNF" | "ISK" | "JPY" | "KMF" | "KRW" | "PYG" | "RWF" | "UGX" | "UYI" | "VND"
            | "VUV" | "XAF" | "XOF" | "XPF" => 0,
            "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => 3,
            _ => 2,
        }
    }

    /// Rounded to its smallest unit, half to even, and with as many decimals as that has.
    pub fn to_the_cent(&self, amount: Decimal) -> Decimal {
        let mut rounded = amount.round_dp_with_strategy(self.decimals(), RoundingStrategy::MidpointNearestEven);
        rounded.rescale(self.decimals());
        if rounded.is_zero() { rounded.abs() } else { rounded }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn currency(code: &str) -> Currency {
        Currency::try_from(code.to_owned()).unwrap()
    }

    #[test]
    fn amounts_are_read_digit_by_digit() {
        for (text, shown) in [
            ("0", "0"),
            ("12.50", "12.5"),
            ("0.1", "0.1"),
            ("0.000000000001", "0.000000000001"),
            ("999999999999.999999999999", "999999999999.999999999999"),
            ("1.25e1", "12.5"),
            ("4E-7", "0.0000004"),
            ("007", "7"),
        ] {
            assert_eq!(text.parse::<Amount>().unwrap().to_string(), shown, "{text}");
        }
        for wrong in [
            "",
            ".",
            "1.",
            ".5",
            "-1",
            "+1",
            "1,50",
            "1_000",
            " 1",
            "1 ",
            "1e",
            "1e99",
            "0.0000000000001",
            "NaN",
            "inf",
            "1000000000000",
            "1.2.3",
            "0x10",
            "99999999999999999999999999999999999999999999",
        ] {
            assert!(wrong.parse::<Amount>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn cents_are_rounded_half_to_even() {
        let cases = [("EUR", "0.125", "0.12"), ("EUR", "0.135", "0.14"), ("EUR", "7", "7.00"), ("JPY", "2.5", "2")];
        for (code, amount, expected) in cases {
            let amount: Decimal = amount.parse().unwrap();
            assert_eq!(currency(code).to_the_cent(amount).to_string(), expected, "{amount} {code}");
        }
        assert_eq!(currency("KWD").to_the_cent("1.2345".parse().unwrap()).to_string(), "1.234");
    }

    #[test]
    fn currencies_are_not_mixed() {
        let of = |amount: &str, code| Money { amount: amount.parse().unwrap(), currency: currency(code) };
        let error = of("1", "EUR").plus(&of("1", "USD")).unwrap_err();
        assert_eq!(error.to_string(), "EUR and USD cannot be added without a rate");
        let worth = of("10", "USD").at("0.92".parse().unwrap(), &currency("EUR"));
        assert_eq!(of("1", "EUR").plus(&worth).unwrap().to_string(), "10.20 EUR");
    }
}
