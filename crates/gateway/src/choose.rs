//! Which target gets the next connection. Pure.
//!
//! Invariant: a target is chosen whenever there is one, and no better one is passed over.

/// What matters of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Candidate {
    /// A connect to it failed a moment ago. Such a target is the last choice, but a choice: it may be the only one.
    pub suspect: bool,
    /// It does much worse than its peers. Also a choice, and a better one: it can at least be reached.
    pub aside: bool,
    /// Its open connections.
    pub active: u32,
}

/// The index of the target to use: one not suspect before one that is, one not set aside
/// before one that is, then the one with the fewest connections, then
/// the first at or after `turn` (counted round). Items that are `None` must not be chosen. `None` if nothing is left.
pub fn choose<I>(candidates: I, turn: usize) -> Option<usize>
where
    I: ExactSizeIterator<Item = Option<Candidate>>,
{
    let count = candidates.len();
    candidates
        .enumerate()
        .filter_map(|(index, candidate)| Some((candidate?, (index + count - turn % count) % count, index)))
        .min()
        .map(|(_, _, index)| index)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidate() -> impl Strategy<Value = Option<Candidate>> {
        proptest::option::weighted(
            0.8,
            (any::<bool>(), any::<bool>(), 0..4_u32).prop_map(|(suspect, aside, active)| Candidate {
                suspect,
                aside,
                active,
            }),
        )
    }

    proptest! {
        #[test]
        fn nothing_better_is_passed_over(list in prop::collection::vec(candidate(), 0..12), turn in any::<usize>()) {
            match choose(list.iter().copied(), turn) {
                None => prop_assert!(list.iter().all(Option::is_none)),
                Some(index) => {
                    let chosen = list[index].expect("only a candidate can be chosen");
                    prop_assert!(list.iter().flatten().all(|other| chosen <= *other));
                }
            }
        }

        #[test]
        fn equals_take_turns(count in 1..12_usize, from in 0..1_000_000_usize) {
            let even = vec![Some(Candidate { suspect: false, aside: false, active: 3 }); count];
            let mut chosen: Vec<_> = (from..from + count).filter_map(|turn| choose(even.iter().copied(), turn)).collect();
            chosen.sort_unstable();
            prop_assert_eq!(chosen, (0..count).collect::<Vec<_>>());
        }

        #[test]
        fn connections_that_stay_are_spread_evenly(count in 1..12_usize, connections in 0..200_u32) {
            let mut active = vec![0_u32; count];
            for turn in 0..connections {
                let list: Vec<_> = active.iter().map(|&active| Some(Candidate { suspect: false, aside: false, active })).collect();
                active[choose(list.into_iter(), turn as usize).expect("there are targets")] += 1;
            }
            prop_assert!(active.iter().max().expect("not empty") - active.iter().min().expect("not empty") <= 1);
        }
    }
}
