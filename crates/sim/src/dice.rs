//! Chance that can be repeated: every draw follows from the run's seed and from what it is drawn for.
//!
//! Invariant: no two concerns share a stream, so that leaving out one fault (to shrink a story, or to compare two
//! estates under the same faults) changes no other draw. The same seed gives the same draws on every machine: all of
//! it is integer arithmetic.

use std::time::Duration;

/// The run's seed, as a source of streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dice(u64);

/// What a draw is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Concern {
    /// How likely each kind of fault is in this run.
    Rates = 1,
    /// What is declared.
    Estate,
    /// Processes that crash, hang, leak, slow down, loop.
    Processes,
    /// Providers and regions that are out, and answers that are wrong.
    Providers,
    /// Networks.
    Networks,
    /// Ostler's own crashes, its disk, its clock.
    Ostler,
    /// What people do.
    People,
    /// How long things take.
    Latency,
    /// When probes look.
    Probes,
    /// What became of what was under way in a crash.
    Leftovers,
}

impl Dice {
    /// From a run's seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A stream of its own for `concern` and `key`.
    pub fn stream(self, concern: Concern, key: u64) -> Stream {
        Stream(fastrand::Rng::with_seed(mix(mix(self.0 ^ mix(concern as u64)) ^ key)))
    }
}

/// A key made of what a draw is for: bytes and numbers.
pub fn key(parts: &[&str], number: u64) -> u64 {
    // FNV-1a: short names, spread well enough because `mix` follows.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts {
        for byte in part.bytes().chain([0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    mix(hash ^ mix(number))
}

/// SplitMix64's finalizer (Steele, Lea, Flood 2014): every bit of the input moves about half the bits of the output.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// One stream of draws.
#[derive(Clone, Debug)]
pub struct Stream(fastrand::Rng);

impl Stream {
    /// A whole number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        self.0.u64(low..=high.max(low))
    }

    /// An index below `count`, which is not 0.
    pub fn index(&mut self, count: usize) -> usize {
        self.0.usize(..count)
    }

    /// True `per_mille` times in a thousand.
    pub fn chance(&mut self, per_mille: u64) -> bool {
        self.0.u64(..1000) < per_mille
    }

    /// A length of time from `low` to `high`, each as likely as the others, to the microsecond.
    pub fn duration(&mut self, low: Duration, high: Duration) -> Duration {
        Duration::from_micros(self.between(micros(low), micros(high)))
    }

    /// The time until something that happens by chance, on average every `mean`: exponentially distributed, by von
    /// Neumann's comparison of uniform draws (1951), which needs no logarithm and so gives the same everywhere.
    pub fn exponential(&mut self, mean: Duration) -> Duration {
        let mut whole = 0_u64;
        loop {
            let first = self.0.u64(..);
            let (mut last, mut length) = (first, 1_u64);
            loop {
                let next = self.0.u64(..);
                if next >= last {
                    break;
                }
                last = next;
                length += 1;
            }
            if length % 2 == 1 {
                let mean = u128::from(micros(mean));
                let fraction = (mean * u128::from(first)) >> 64;
                let length = u128::from(whole) * mean + fraction;
                return Duration::from_micros(u64::try_from(length).unwrap_or(u64::MAX));
            }
            whole += 1;
        }
    }
}

fn micros(length: Duration) -> u64 {
    u64::try_from(length.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_the_same_everywhere_and_for_ever() {
        let mut stream = Dice::new(7).stream(Concern::Processes, key(&["web"], 1));
        let drawn: Vec<u64> = (0..4).map(|_| stream.between(0, 999)).collect();
        let again: Vec<u64> = {
            let mut stream = Dice::new(7).stream(Concern::Processes, key(&["web"], 1));
            (0..4).map(|_| stream.between(0, 999)).collect()
        };
        assert_eq!(drawn, again);
        let mut other = Dice::new(7).stream(Concern::Networks, key(&["web"], 1));
        assert_ne!(drawn, (0..4).map(|_| other.between(0, 999)).collect::<Vec<_>>());
    }

    #[test]
    fn exponential_draws_have_their_mean_and_their_tail() {
        let mut stream = Dice::new(1).stream(Concern::Rates, 0);
        let mean = Duration::from_secs(1000);
        let draws: Vec<u64> = (0..100_000).map(|_| stream.exponential(mean).as_secs()).collect();
        let average = draws.iter().sum::<u64>() / draws.len() as u64;
        assert!((985..=1015).contains(&average), "{average}");
        // exp(-2) = 13.5 % lie beyond twice the mean.
        let beyond = draws.iter().filter(|draw| **draw > 2000).count();
        assert!((13_000..=14_100).contains(&beyond), "{beyond}");
    }
}
