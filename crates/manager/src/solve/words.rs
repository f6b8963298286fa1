//! What is told of a conflict, and of what stays below its newest version: which reasons there are, in whose words, and
//! what a person can change.

use std::collections::BTreeSet;

use ostler_model::ids::ServiceName;

use super::Blocked;
use super::order::Stuck;
use super::problem::{Item, Problem};
use super::reason::{Kind, Reason};

/// So many versions of a service are listed.
const VERSIONS_SHOWN: usize = 6;
/// So many reasons are told of one thing.
const REASONS_SHOWN: usize = 8;

/// Why no versions satisfy these reasons together.
pub(super) fn no_versions(problem: &Problem, core: &[usize]) -> String {
    let reasons = in_order(problem, core);
    let told: Vec<String> = reasons.iter().map(|reason| in_words(problem, &problem.reasons[*reason])).collect();
    let items = problem.items_of(core);
    let names = listed(items.iter().map(|item| problem.items[*item].name.as_str()), "and");
    let together = match (items.len(), told.len()) {
        (1, 1) => format!("There is no such version of {names}"),
        (1, 2) => format!("No version of {names} is both"),
        (1, _) => format!("No version of {names} is all of that"),
        _ => format!("No versions of {names} satisfy all of that together"),
    };
    let come_in: Vec<String> = items.iter().map(|item| offered(&problem.items[*item])).collect();
    let stay = match items.len() {
        _ if problem.buys => "nothing is bought",
        1 => "it stays as it is",
        _ => "they stay as they are",
    };
    format!(
        "{}. {together}: {}. Until that is changed, {stay}.\n\n{}",
        bounded(told),
        bounded(come_in),
        remedy(problem, &reasons)
    )
}

/// Why nobody can change first.
pub(super) fn same_moment(problem: &Problem, target: &[u32], stuck: &Stuck) -> String {
    let waits = |link: &super::order::Link| {
        let (item, other) = (&problem.items[link.item], &problem.items[link.waits_for]);
        format!(
            "`{}` cannot go to {} while `{}` is {}, because {}",
            item.name,
            item.versions[target[link.item] as usize],
            other.name,
            other.versions[other.current as usize],
            in_words(problem, &problem.reasons[link.reason])
        )
    };
    let told: Vec<String> = stuck.circle.iter().map(waits).collect();
    let names = listed(stuck.circle.iter().map(|link| problem.items[link.item].name.as_str()), "and");
    let between = if stuck.given_up {
        "and no way by versions between was found before the search was given up"
    } else {
        "and no version between helps"
    };
    // What was taken back may have been a version between.
    let taken_back = stuck
        .circle
        .iter()
        .flat_map(|link| &problem.of_item[link.item])
        .filter(|reason| matches!(problem.reasons[**reason].kind, Kind::Rejected(_)));
    let reasons: Vec<usize> = stuck.circle.iter().map(|link| &link.reason).chain(taken_back).copied().collect();
    format!(
        "{}. So {names} would have to change at the same moment, {between}. Nothing of them is touched.\n\n{}; or have a \
         version offered that works with both.",
        bounded(told),
        remedy(problem, &reasons).trim_end_matches('.')
    )
}

/// That it was not found out.
pub(super) fn too_many(names: &[ServiceName], buys: bool) -> String {
    let few = listed(names.iter().take(VERSIONS_SHOWN).map(ServiceName::as_str), "and");
    let more = match names.len().saturating_sub(VERSIONS_SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let (stay, do_less) = match buys {
        true => ("Nothing is bought", "Declare fewer new services at once"),
        false => ("They stay as they are", "Upgrade fewer services at once"),
    };
    format!(
        "There are too many combinations of the versions of {few}{more}: it was not found out whether any satisfies all \
         ranges. {stay}.\n\n{do_less}, or narrow their `version` in the estate file."
    )
}

/// Everything that was asked for and stays below its newest version.
pub(super) fn blocked(problem: &Problem, at: &[u32]) -> Vec<Blocked> {
    let below = problem.items.iter().enumerate().filter(|(place, item)| item.asked && at[*place] < item.newest);
    below
        .map(|(place, item)| Blocked {
            service: item.name.clone(),
            at: item.versions[at[place] as usize].clone(),
            newest: item.versions[item.newest as usize].clone(),
            because: because(problem, at, place),
        })
        .collect()
}

/// What is in the way of the newest version, and what of those that are in the way.
fn because(problem: &Problem, at: &[u32], item: usize) -> String {
    let is_held = |item: usize| problem.of_item[item].iter().any(|reason| problem.reasons[*reason].kind == Kind::Held);
    if is_held(item) {
        return "it is held by a conflict".to_owned();
    }
    let mut then = at.to_vec();
    then[item] = problem.items[item].newest;
    let mut told: Vec<String> = Vec::new();
    let mut seen = BTreeSet::from([item]);
    let mut waiting = vec![item];
    while let Some(item) = waiting.pop() {
        let reasons = problem.of_item[item].iter().filter(|reason| !problem.dropped.contains(reason));
        let broken = reasons.map(|reason| &problem.reasons[*reason]).filter(|reason| !reason.holds(&then));
        for reason in broken.collect::<Vec<_>>() {
            let words = in_words(problem, reason);
            if !told.contains(&words) {
                told.push(words);
            }
            // Could the other one follow, nothing would be in the way: so what keeps it is one more reason.
            let Some(other) = reason.other(item).filter(|other| seen.insert(*other)) else { continue };
            let count = u32::try_from(problem.items[other].versions.len()).unwrap_or(u32::MAX);
            let now = then[other];
            let fits = (0..count).rev().find(|version| {
                then[other] = *version;
                reason.holds(&then)
            });
            then[other] = fits.unwrap_or(now);
            match fits {
                Some(_) => waiting.push(other),
                None if other == reason.item => {
                    told.push(format!("no such version of `{}` is offered", problem.items[other].name));
                }
                None => {} // whichever version the consumer is of, it says so
            }
        }
    }
    if told.is_empty() {
        return "it was not weighed to the end: there are too many combinations".to_owned();
    }
    bounded(told)
}

/// What is told, up to a bound, and how much more there is.
fn bounded(mut told: Vec<String>) -> String {
    let more = told.len().saturating_sub(REASONS_SHOWN);
    told.truncate(REASONS_SHOWN);
    if more > 0 {
        told.push(format!("and {more} more like these"));
    }
    told.join("; ")
}

/// So that each reason but the first is about something that was named before it, as far as there is one.
fn in_order(problem: &Problem, core: &[usize]) -> Vec<usize> {
    let mut left = core.to_vec();
    left.sort_by(|a, b| {
        let key = |reason: &usize| {
            let it = &problem.reasons[*reason];
            (std::cmp::Reverse(&it.kind), &it.consumer, it.item)
        };
        key(a).cmp(&key(b))
    });
    let (mut order, mut named) = (Vec::new(), BTreeSet::new());
    while !left.is_empty() {
        let next = left.iter().position(|reason| problem.reasons[*reason].items().any(|item| named.contains(&item)));
        let next = left.remove(next.unwrap_or_default());
        named.extend(problem.reasons[next].items());
        order.push(next);
    }
    order
}

/// "`web` relies on `db` `>=15, <17`, by its contract".
fn in_words(problem: &Problem, reason: &Reason) -> String {
    let item = &problem.items[reason.item];
    let (name, in_use) = (&item.name, &item.versions[item.current as usize]);
    let consumer = reason.consumer.as_ref().map(ServiceName::as_str).unwrap_or_default();
    match &reason.kind {
        Kind::Declared(range) if range == "*" => format!("`{name}` is to be of a version that is finished"),
        Kind::Declared(range) => format!("`{name}` is declared as `{range}`"),
        Kind::Contract { name: None, range } => format!("`{consumer}` relies on `{name}` `{range}` by its contract"),
        Kind::Contract { name: Some(called), range } => {
            format!("`{consumer}` relies on `{name}` `{range}` by its contract \"{called}\"")
        }
        Kind::Accepts { versions, by, range } if versions == "*" => {
            format!("`{consumer}` works only with `{name}` `{range}` (offering `{by}`)")
        }
        Kind::Accepts { versions, by, range } => {
            format!("`{consumer}` `{versions}` works only with `{name}` `{range}` (offering `{by}`)")
        }
        Kind::Kept => format!("`{name}` does not go back from {in_use}"),
        Kind::Series => format!("`{name}` holds data of {in_use}, and stays in that series of versions"),
        Kind::Rejected(versions) => {
            let versions: Vec<String> = versions.iter().map(ToString::to_string).collect();
            format!("{} of `{name}` was tried and taken back", versions.join(", "))
        }
        Kind::NotAsked => format!("`{name}` was not asked to change, and stays at {in_use}"),
        Kind::Held => format!("`{name}` is held at {in_use} by a conflict"),
    }
}

/// "Widen …, or …."
fn remedy(problem: &Problem, reasons: &[usize]) -> String {
    let (mut widen, mut others) = (Vec::new(), Vec::new());
    for reason in reasons.iter().map(|reason| &problem.reasons[*reason]) {
        let name = &problem.items[reason.item].name;
        let consumer = reason.consumer.as_ref().map(ServiceName::as_str).unwrap_or_default();
        let (list, words) = match &reason.kind {
            Kind::Declared(_) => (&mut widen, format!("`version` of `{name}` in the estate file")),
            Kind::Contract { .. } => (&mut widen, format!("`version` in the contract of `{consumer}` about `{name}`")),
            Kind::Accepts { by, .. } => (&mut widen, format!("what the offering `{by}` accepts, if that works")),
            Kind::Series => (&mut others, format!("let `{name}` go to another series of versions")),
            Kind::Rejected(_) => (&mut others, format!("have `{name}` try again what was taken back")),
            Kind::NotAsked if problem.buys => (&mut others, format!("upgrade `{name}` first: `ostler upgrade {name}`")),
            Kind::NotAsked => (&mut others, format!("upgrade `{name}` together with them")),
            Kind::Held => (&mut others, format!("solve the other conflict about `{name}`")),
            Kind::Kept => continue,
        };
        if !list.contains(&words) {
            list.push(words);
        }
    }
    let widen = match widen.as_slice() {
        [] => None,
        [one] => Some(format!("widen {one}")),
        several => Some(format!("widen one of: {}", several.join("; "))),
    };
    let all: Vec<String> = widen.into_iter().chain(others).collect();
    let mut text = all.join("; or ");
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    text.push('.');
    text
}

/// "`db` comes in 15.18 (in use), 16.4".
fn offered(item: &Item) -> String {
    let all = item.versions.iter().enumerate().rev().map(|(place, version)| {
        let in_use = if !item.fresh && place == item.current as usize { " (in use)" } else { "" };
        format!("{version}{in_use}")
    });
    let mut shown: Vec<String> = all.clone().take(VERSIONS_SHOWN).collect();
    // The one in use is always told.
    shown.extend(all.skip(VERSIONS_SHOWN).filter(|text| text.ends_with(')')));
    let more = item.versions.len() - shown.len();
    shown.reverse();
    let older = if more > 0 { format!(", and {more} others") } else { String::new() };
    format!("`{}` comes in {}{older}", item.name, shown.join(", "))
}

/// "`a`, `b` and `c`".
fn listed<'a>(names: impl Iterator<Item = &'a str>, word: &str) -> String {
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    match names.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} {word} {last}", first.join(", ")),
    }
}
