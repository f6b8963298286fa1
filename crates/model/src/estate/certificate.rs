//! What the certificate of a provider's examination says, as far as it matters to who buys there.
//!
//! Invariant: praise ends with its date, blame does not. What broke a buyer once counts until a newer certificate says
//! otherwise.

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// What the certificate of a provider's examination says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// When it was examined.
    pub at: Timestamp,
    /// Until when it is to be believed that nothing is wrong.
    pub valid_until: Timestamp,
    /// Something was bought, used and given back; otherwise the examination only read.
    pub full: bool,
    /// How many rules are broken that break a buyer.
    pub breaks_you: u32,
    /// How many rules are broken that surprise one.
    pub surprises_you: u32,
    /// How many rules are broken that hurt nobody.
    pub cosmetic: u32,
    /// How many things may have been left at the provider by the examination.
    pub left: u32,
}

/// What speaks for a provider, or against it, by its certificate: the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Nothing was found that breaks a buyer, and that is to be believed still.
    Fit,
    /// Nobody has examined it.
    Unexamined,
    /// Nothing was found that breaks a buyer, too long ago.
    Expired,
    /// Something was found that breaks a buyer.
    Unfit,
}

impl Certificate {
    /// Whether nothing was found that breaks a buyer, and nothing was left behind.
    pub fn is_fit(&self) -> bool {
        self.breaks_you == 0 && self.left == 0
    }

    /// What it says of its provider at `now`.
    pub fn standing(&self, now: Timestamp) -> Standing {
        match self.is_fit() {
            false => Standing::Unfit,
            true if now < self.valid_until => Standing::Fit,
            true => Standing::Expired,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn praise_ends_and_blame_does_not() {
        let fit = Certificate {
            at: Timestamp(0),
            valid_until: Timestamp(10),
            full: true,
            breaks_you: 0,
            surprises_you: 3,
            cosmetic: 2,
            left: 0,
        };
        let broken = Certificate { breaks_you: 1, ..fit };
        let left = Certificate { left: 1, ..fit };
        for (certificate, now, standing) in [
            (fit, 9, Standing::Fit),
            (fit, 10, Standing::Expired),
            (broken, 9, Standing::Unfit),
            (broken, 10, Standing::Unfit),
            (left, 9, Standing::Unfit),
        ] {
            assert_eq!(certificate.standing(Timestamp(now)), standing, "{certificate:?} at {now}");
        }
    }
}
