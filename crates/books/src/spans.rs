//! Sets of pieces of time.
//!
//! Invariant: what comes out is in order, without overlap and without empty pieces, as long as what comes in is.

use ostler_model::time::Timestamp;

/// From when until when.
pub(crate) type Piece = (Timestamp, Timestamp);

/// Its length in microseconds.
pub(crate) fn length((from, until): Piece) -> u64 {
    u64::try_from(i128::from(until.0) - i128::from(from.0)).unwrap_or(0)
}

/// The lengths of all of them together, in microseconds.
pub(crate) fn lengths(pieces: &[Piece]) -> u64 {
    pieces.iter().fold(0, |sum, piece| sum.saturating_add(length(*piece)))
}

/// What of `piece` lies in `bounds`.
pub(crate) fn clipped(piece: Piece, bounds: Piece) -> Option<Piece> {
    let (from, until) = (piece.0.max(bounds.0), piece.1.min(bounds.1));
    (from < until).then_some((from, until))
}

/// What of `pieces` lies in `bounds`.
pub(crate) fn within(pieces: &[Piece], bounds: Piece) -> Vec<Piece> {
    pieces.iter().filter_map(|piece| clipped(*piece, bounds)).collect()
}

/// `pieces`, in any order, as a set: what touches is one.
pub(crate) fn unified(mut pieces: Vec<Piece>) -> Vec<Piece> {
    pieces.retain(|(from, until)| from < until);
    pieces.sort_unstable();
    let mut apart: Vec<Piece> = Vec::with_capacity(pieces.len());
    for (from, until) in pieces {
        match apart.last_mut() {
            Some((_, end)) if from <= *end => *end = until.max(*end),
            _ => apart.push((from, until)),
        }
    }
    apart
}

/// What of `pieces` is not in `out`, which is in order.
pub(crate) fn without(pieces: &[Piece], out: &[Piece]) -> Vec<Piece> {
    let mut left = Vec::with_capacity(pieces.len());
    for (mut from, until) in pieces.iter().copied() {
        for (begins, ends) in out.iter().filter(|piece| piece.0 < piece.1) {
            if *begins >= until || *ends <= from {
                continue;
            }
            if from < *begins {
                left.push((from, *begins));
            }
            from = *ends;
        }
        if from < until {
            left.push((from, until));
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(of: &[(i64, i64)]) -> Vec<Piece> {
        of.iter().map(|(from, until)| (Timestamp(*from), Timestamp(*until))).collect()
    }

    #[test]
    fn what_is_taken_out_is_out_and_the_rest_stays() {
        let all = pieces(&[(0, 10), (20, 30)]);
        for (out, left) in [
            (pieces(&[]), pieces(&[(0, 10), (20, 30)])),
            (pieces(&[(2, 4), (8, 22)]), pieces(&[(0, 2), (4, 8), (22, 30)])),
            (pieces(&[(-5, 50)]), pieces(&[])),
            (pieces(&[(10, 20)]), pieces(&[(0, 10), (20, 30)])),
            (pieces(&[(25, 30)]), pieces(&[(0, 10), (20, 25)])),
        ] {
            assert_eq!(without(&all, &out), left);
        }
        assert_eq!(unified(pieces(&[(5, 7), (0, 2), (2, 3), (6, 9), (4, 4)])), pieces(&[(0, 3), (5, 9)]));
        assert_eq!(lengths(&within(&all, (Timestamp(5), Timestamp(21)))), 6);
    }
}
