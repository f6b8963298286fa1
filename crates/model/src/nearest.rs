//! The name that was probably meant.

/// Names longer than this, in bytes, are not compared: the time would grow with the square of their length.
const LENGTH_MAX: usize = 64;

/// Of `known` the name most like `name`, if one is so like it that a slip is likely: at most one letter in three is
/// wrong, missing, added or exchanged with its neighbour.
pub fn nearest<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    if name.len() > LENGTH_MAX {
        return None;
    }
    let name = name.to_lowercase();
    let tolerated = (name.chars().count() / 3).max(1);
    let likely = known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&name, candidate), candidate))
        .filter(|(distance, _)| *distance <= tolerated)
        .min();
    likely.map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_slips_are_corrected() {
        let known = ["web", "worker", "db", "cache"];
        for (given, meant) in
            [("wbe", Some("web")), ("Web", Some("web")), ("dbb", Some("db")), ("cahce", Some("cache")), ("mail", None)]
        {
            assert_eq!(nearest(given, known), meant, "{given}");
        }
        assert_eq!(nearest(&"w".repeat(65), ["w"]), None);
    }
}
