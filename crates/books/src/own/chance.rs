//! Chance that can be repeated: figures drawn from ranges.
//!
//! Invariant: each thing that is drawn has a stream of its own, made of the seed and its name, so that one more assumption
//! changes no draw of another; the same seed gives the same draws.

use ostler_model::estate::own::Range;
use rust_decimal::prelude::ToPrimitive;

/// Draws of one thing.
pub(super) struct Stream {
    low: f64,
    likely: f64,
    high: f64,
    random: fastrand::Rng,
}

impl Stream {
    pub(super) fn new(seed: u64, name: &str, range: &Range) -> Self {
        // FNV-1a spreads short names well enough: the generator mixes its seed.
        let hash = name
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
        let [low, likely, high] =
            [range.low(), range.likely(), range.high()].map(|figure| figure.to_f64().unwrap_or_default());
        let random = fastrand::Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ hash);
        Self { low, likely, high, random }
    }

    /// From a triangular distribution: most often near what is most likely, never outside.
    pub(super) fn draw(&mut self) -> f64 {
        let chance = self.random.f64();
        let (low, likely, high) = (self.low, self.likely, self.high);
        let width = high - low;
        if width <= 0.0 {
            return likely;
        }
        let below = (likely - low) / width;
        if chance < below {
            low + (chance * width * (likely - low)).sqrt()
        } else {
            high - ((1.0 - chance) * width * (high - likely)).sqrt()
        }
    }
}

#[cfg(test)]
mod tests {
    use ostler_model::estate::own::Unit;

    use super::*;

    fn draws(text: &str, seed: u64, name: &str) -> Vec<f64> {
        let mut stream = Stream::new(seed, name, &Range::read(text, Unit::Number).unwrap());
        (0..10_000).map(|_| stream.draw()).collect()
    }

    #[test]
    fn what_is_drawn_lies_in_its_range_and_is_on_average_what_a_triangle_has() {
        for (text, mean) in [("3..4..8", 5.0), ("0..0..9", 3.0), ("-9..0..0", -3.0), ("-1..1", 0.0), ("7", 7.0)] {
            let drawn = draws(text, 1, "care");
            let range = Range::read(text, Unit::Number).unwrap();
            let (low, high) = (range.low().to_f64().unwrap(), range.high().to_f64().unwrap());
            assert!(drawn.iter().all(|figure| (low..=high).contains(figure)), "{text}");
            let found = drawn.iter().sum::<f64>() / 10_000.0;
            assert!((found - mean).abs() < 0.1, "{text}: {found}");
        }
    }

    #[test]
    fn a_seed_and_a_name_say_what_is_drawn() {
        assert_eq!(draws("3..8", 1, "care"), draws("3..8", 1, "care"));
        assert_ne!(draws("3..8", 1, "care"), draws("3..8", 2, "care"));
        assert_ne!(draws("3..8", 1, "care"), draws("3..8", 1, "heal"));
    }
}
