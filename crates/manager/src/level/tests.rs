use ostler_model::estate::slo::Exclusion;
use ostler_model::time::Span;
use proptest::prelude::*;

use super::*;

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
/// 2026-11-23, a Monday.
const START: i64 = 1_795_392_000 * SECOND;

fn at(after: i64) -> Timestamp {
    Timestamp(START + after)
}

fn slo(availability: &str) -> Slo {
    let availability = Some(availability.parse().unwrap());
    Slo { availability, latency_p99: Some(Span::millis(100)), over: Span::seconds(30 * 86_400), exclude: Vec::new() }
}

fn standing(level: &Level, slo: &Slo, now: i64) -> Standing {
    level.standing(slo, Objective::Availability, at(now)).unwrap()
}

/// Serving from the start, and away for each of these times.
fn away(spans: &[(i64, i64)]) -> Level {
    let mut level = Level::new(at(0));
    level.turn(Doing::Serving, at(0));
    for (from, until) in spans {
        level.turn(Doing::Away, at(*from));
        level.turn(Doing::Serving, at(*until));
    }
    level
}

fn traffic(from: i64, until: i64, asked: u64, failed: u64, late: u64) -> Traffic {
    Traffic { from: at(from), until: at(until), asked, failed, late }
}

#[test]
fn time_away_is_what_the_budget_is_for() {
    let level = away(&[(DAY, DAY + 30 * MINUTE)]);
    let month = standing(&level, &slo("99.9%"), 30 * DAY);
    assert_eq!(month.failed, Duration::from_secs(1800));
    assert_eq!(month.budget, 43 * MINUTE + 12 * SECOND, "a thousandth of 30 days");
    assert_eq!((month.left(), month.reached()), (305_555, 999_305));
    assert_eq!(month.left_in_words(), "30%");
    let later = standing(&level, &slo("99.9%"), 40 * DAY);
    assert_eq!((later.failed, later.left(), later.reached()), (Duration::ZERO, 1_000_000, 1_000_000));
    let half = standing(&level, &slo("99.9%"), 31 * DAY + 15 * MINUTE);
    assert_eq!(half.failed, Duration::from_secs(900), "half of it lies within the last 30 days");
    let strict = standing(&level, &slo("99.99%"), 30 * DAY);
    assert_eq!(strict.left(), -5_944_445);
    assert_eq!(strict.left_in_words(), "nothing");
}

#[test]
fn what_goes_on_counts_up_to_now() {
    let mut level = away(&[]);
    level.turn(Doing::Away, at(HOUR));
    for minutes in [0, 1, 10] {
        let failed = standing(&level, &slo("99.9%"), HOUR + minutes * MINUTE).failed;
        assert_eq!(failed, Duration::from_secs(minutes.unsigned_abs() * 60));
    }
    let late = level.standing(&slo("99.9%"), Objective::Latency, at(2 * HOUR)).unwrap();
    assert_eq!(late.failed, Duration::ZERO, "who is away is not late");
}

/// The pairs of the workbook: how long it has to be away, at which share, until people are told.
#[test]
fn it_burns_too_fast_in_both_windows_or_not() {
    for (what, bad, now, expected) in [
        ("nothing", vec![], DAY, None),
        ("50 seconds of the hour", vec![(DAY - 50 * SECOND, DAY)], DAY, None),
        ("52 seconds of the hour", vec![(DAY - 52 * SECOND, DAY)], DAY, Some((60, "14.4"))),
        ("the same, over for 5 minutes", vec![(DAY - 352 * SECOND, DAY - 300 * SECOND)], DAY, None),
        (
            "130 seconds, half an hour ago",
            vec![(DAY - 29 * MINUTE, DAY - 29 * MINUTE + 130 * SECOND)],
            DAY,
            Some((360, "6")),
        ),
        ("260 seconds, three hours ago", vec![(DAY - 3 * HOUR, DAY - 3 * HOUR + 260 * SECOND)], DAY, Some((4320, "1"))),
        ("the same, seven hours ago", vec![(DAY - 7 * HOUR, DAY - 7 * HOUR + 260 * SECOND)], DAY, None),
    ] {
        let standing = standing(&away(&bad), &slo("99.9%"), now);
        let found = standing.burns().map(|burn| (burn.pair.long.as_secs() / 60, burn.long.in_words()));
        assert_eq!(found, expected.map(|(minutes, rate)| (minutes, rate.to_owned())), "{what}");
    }
}

#[test]
fn what_callers_got_counts_by_its_share() {
    let mut level = away(&[]);
    level.add_traffic(traffic(0, 10 * MINUTE, 1000, 100, 20));
    let slo = slo("99.9%");
    assert_eq!(standing(&level, &slo, HOUR).failed, Duration::from_secs(60));
    let late = level.standing(&slo, Objective::Latency, at(HOUR)).unwrap();
    assert_eq!((late.failed, late.budget), (Duration::from_secs(12), 25_920 * SECOND), "1% of 30 days");
    // Nobody asked, or everything was answered: nothing is to be remembered.
    let before = level.clone();
    level.add_traffic(traffic(HOUR, 2 * HOUR, 0, 0, 0));
    level.add_traffic(traffic(HOUR, 2 * HOUR, 1000, 0, 0));
    level.add_traffic(traffic(2 * HOUR, HOUR, 1000, 1000, 0));
    assert_eq!(level, before);
    // Callers who failed while it was away are not counted on top of that.
    let mut level = away(&[(0, 5 * MINUTE)]);
    level.add_traffic(traffic(0, 10 * MINUTE, 10, 10, 0));
    assert_eq!(standing(&level, &slo, HOUR).failed, Duration::from_secs(600));
}

#[test]
fn what_is_excluded_is_not_counted_and_what_nobody_saw_neither() {
    let mut level = away(&[(HOUR, 2 * HOUR)]);
    let mut slo = slo("99.9%");
    let window = |text: &str| text.parse().unwrap();
    let exclusion = |text| Exclusion { window: window(text), reason: "maintenance".to_owned() };
    slo.exclude = vec![exclusion("Mon 01:15 - 01:45"), exclusion("Mon 01:30 - 01:50"), exclusion("Tue 01:00 - 02:00")];
    let found = standing(&level, &slo, 10 * HOUR);
    assert_eq!(found.failed, Duration::from_secs(25 * 60), "an hour, without 35 minutes of it");
    assert_eq!((found.excluded, found.measured), (Duration::from_secs(35 * 60), Duration::from_secs(565 * 60)));
    level.turn(Doing::Unseen, at(10 * HOUR));
    let found = standing(&level, &slo, 12 * HOUR);
    assert_eq!((found.unseen, found.failed), (Duration::from_secs(7200), Duration::from_secs(25 * 60)));
    level.turn(Doing::Serving, at(13 * HOUR));
    assert_eq!(standing(&level, &slo, 14 * HOUR).unseen, Duration::from_secs(3 * 3600));
    // It turns out to have run on.
    level.turn(Doing::Unseen, at(15 * HOUR));
    level.served_meanwhile();
    level.turn(Doing::Serving, at(16 * HOUR));
    assert_eq!(standing(&level, &slo, 16 * HOUR).unseen, Duration::from_secs(3 * 3600));
}

/// Three drills, of which each takes it away, and a failure between two of them that is none.
#[test]
fn what_a_drill_did_is_not_counted_and_what_came_beside_it_is() {
    let mut level = Level::new(at(0));
    level.turn(Doing::Serving, at(0));
    for begin in [HOUR, HOUR + 12 * SECOND, HOUR + 24 * SECOND] {
        level.drill_begins(at(begin));
        level.turn(Doing::Away, at(begin + SECOND));
        level.add_traffic(traffic(begin, begin + 8 * SECOND, 100, 90, 0));
        level.turn(Doing::Serving, at(begin + 8 * SECOND));
        level.drill_ends(at(begin + 8 * SECOND));
        if begin == HOUR {
            level.turn(Doing::Away, at(begin + 9 * SECOND));
            level.turn(Doing::Serving, at(begin + 11 * SECOND));
        }
    }
    let found = standing(&level, &slo("99.9%"), 2 * HOUR);
    assert_eq!((found.failed, found.excluded), (Duration::from_secs(2), Duration::from_secs(24)));
    assert_eq!(level.drilled(&slo("99.9%"), at(0), at(2 * HOUR)), Duration::from_secs(24));
    // One that goes on takes all there is; what has not recovered when it is over is not counted up to a bound.
    level.drill_begins(at(2 * HOUR));
    level.turn(Doing::Away, at(2 * HOUR));
    assert_eq!(standing(&level, &slo("99.9%"), 3 * HOUR).failed, Duration::from_secs(2));
    level.drill_ends(at(2 * HOUR + 60 * SECOND));
    level.turn(Doing::Serving, at(2 * HOUR + 100 * SECOND));
    assert_eq!(standing(&level, &slo("99.9%"), 3 * HOUR).failed, Duration::from_secs(42));
}

#[derive(Clone, Debug)]
enum Step {
    Turn(Doing, i64),
    Traffic(i64, u64, u64, u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let doing = prop::sample::select(vec![Doing::Serving, Doing::Away, Doing::Unseen]);
    let step = prop_oneof![
        (doing, 0..4 * HOUR).prop_map(|(doing, after)| Step::Turn(doing, after)),
        (0..HOUR, 0..1000_u64, 0..1000_u64, 0..1000_u64).prop_map(|(l, a, f, s)| Step::Traffic(l, a, f, s)),
    ];
    prop::collection::vec(step, 0..60)
}

fn play(steps: &[Step]) -> (Level, i64) {
    let (mut level, mut now) = (Level::new(at(0)), 0);
    for step in steps {
        match step {
            Step::Turn(doing, after) => {
                now += after;
                level.turn(*doing, at(now));
            }
            Step::Traffic(length, asked, failed, late) => {
                level.add_traffic(traffic(now - length, now, *asked, *failed, *late));
            }
        }
    }
    (level, now)
}

proptest! {
    #[test]
    fn what_was_bad_is_never_more_than_the_time(steps in steps(), back in 1..40 * DAY) {
        let (level, now) = play(&steps);
        let (from, until) = (at(now - back), at(now));
        for of in [|bad: &Bad| bad.away, |bad: &Bad| bad.late] {
            let bad = level.sum(of, from, until);
            prop_assert!((0..=back).contains(&bad));
        }
        let standing = standing(&level, &slo("99.9%"), now);
        prop_assert!(standing.measured + standing.unseen <= Duration::from_secs(30 * 86_400));
        prop_assert!(standing.left() <= 1_000_000 && standing.reached() <= 1_000_000);
    }

    /// More time that was bad never leaves more of the budget.
    #[test]
    fn nothing_bad_makes_it_look_better(steps in steps(), from in 0..HOUR, length in 1..HOUR) {
        let (mut level, now) = play(&steps);
        let before = standing(&level, &slo("99.9%"), now + 2 * HOUR).failed;
        level.add_traffic(traffic(now + from, now + from + length, 10, 10, 0));
        let after = standing(&level, &slo("99.9%"), now + 2 * HOUR).failed;
        prop_assert!(after >= before, "{before:?} {after:?}");
    }
}

#[test]
fn it_takes_no_more_than_its_share_of_memory() {
    let spans: Vec<(i64, i64)> = (0..5000).map(|n| (n * 10 * MINUTE, n * 10 * MINUTE + 2 * MINUTE)).collect();
    let mut level = away(&spans);
    assert_eq!(level.bad.len(), SPANS_MAX);
    // The oldest have become one, of which some lies before the 30 days.
    let failed = standing(&level, &slo("99.9%"), 5000 * 10 * MINUTE).failed.as_secs();
    assert!((30 * 24 * 6 * 120 - 60..=30 * 24 * 6 * 120).contains(&failed), "{failed}");
    for n in 0..5000 {
        level.turn(if n % 2 == 0 { Doing::Unseen } else { Doing::Serving }, at(60_000 * MINUTE + n * MINUTE));
    }
    assert!(level.unseen.len() <= SPANS_MAX);
    level.forget_before(at(60_000 * MINUTE + 6000 * MINUTE));
    assert!(level.bad.is_empty() && level.unseen.is_empty());
    // A storm of failures of a second each is a few spans, and nothing of them is lost.
    let spans: Vec<(i64, i64)> = (0..1000).map(|n| (n * 5 * SECOND, n * 5 * SECOND + SECOND)).collect();
    let level = away(&spans);
    assert!(level.bad.len() < 100, "{}", level.bad.len());
    assert_eq!(standing(&level, &slo("99.9%"), DAY).failed.as_secs(), 1000);
}
