//! From single probes to changes of health: what a run of answers means, and when to ask again.
//!
//! Invariant: a change is reported once, and only changes are reported; the manager hears nothing of a thousand healthy
//! instances. Nothing here is random: the same answers lead to the same reports, the same instance to the same pauses.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Duration;

use ostler_model::catalog::ProbePolicy;
use ostler_model::estate::Check;
use ostler_model::health::{Health, Symptom, SymptomKind};
use ostler_model::ids::InstanceId;
use ostler_model::time::in_words;
use tokio::time::Instant;

use crate::{Target, probe};

/// So many failures in a row, and a working instance no longer counts as one (or its deep check as failed). One can be
/// a lost packet and two a long pause for collecting garbage; a dead process need not wait for this, because the
/// keeper sees it die.
pub const UNREADY_AFTER: u32 = 3;
/// So many probes in a row that nobody answered in time, which is enough of them: each is a time of silence, not a moment.
pub const UNREADY_AFTER_SILENCE: u32 = 2;
/// So many failures in a row from the start, and an instance that was never ready is reported, so that people learn
/// why. More than after it was ready, because programs refuse connections while they start, and that is no event: with
/// the pauses below it is about six seconds.
pub const UNREADY_AT_FIRST_AFTER: u32 = 30;

/// The first pause of a starting instance: a fast program is ready within milliseconds, and is to be seen then.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
/// The first pause where asking means to start a process.
const FIRST_PAUSE_COMMAND: Duration = Duration::from_millis(50);
/// Pauses of a starting instance grow by this, so that its being ready is seen at most a fifth later than it came.
const PAUSE_GROWTH: f64 = 1.25;
/// While something seems wrong, the next answer comes so soon: it confirms or clears.
const CONFIRM_EVERY: Duration = Duration::from_millis(200);
/// After a probe that nobody answered the next one comes at once: its own time is pause enough.
const CONFIRM_SILENCE: Duration = Duration::from_millis(10);
/// While something is wrong, the next answer comes at least so often.
const SUSPECT_EVERY: Duration = Duration::from_secs(1);
/// Shorter pauses are not taken from anybody, whatever an estate asks for.
const PAUSE_MIN: Duration = Duration::from_millis(2);
/// Calm instances are asked at common points in time, this part of the declared pause apart: probes that come together
/// share what it costs to wake this process up, which is more than what a probe costs.
const COMMON_PART: u32 = 64;
/// Where these points would be closer together than the runtime's timer can tell apart, there are none.
const COMMON_MIN: Duration = Duration::from_millis(2);

/// What a watch has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// The instance's health is another one.
    Health(Health),
    /// Its readiness probe was answered, and took so long.
    Answered(Duration),
}

/// What the probes of one instance have said so far.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    reported: Option<Health>,
    ready: Streak,
    deep: Streak,
}

impl Watch {
    /// Of an instance that counts as `before`; `None` for one that is just being started.
    pub fn new(before: Option<Health>) -> Self {
        Self { reported: before, ready: Streak::default(), deep: Streak::default() }
    }

    /// Takes what the readiness probe said, and gives the new health if it changed.
    pub fn observe_ready(&mut self, answer: Result<(), Symptom>) -> Option<Health> {
        let symptom = match answer {
            Ok(()) => {
                self.ready = Streak::default();
                return match self.reported {
                    None | Some(Health::Unready(_)) => {
                        self.deep = Streak::default();
                        self.report(Health::Ready)
                    }
                    Some(Health::Ready | Health::Shallow(_)) => None,
                };
            }
            Err(symptom) => symptom,
        };
        // A probe that could not be made says nothing about an instance that worked. Of one that never did, it is the
        // only thing there is to tell.
        if symptom.kind == SymptomKind::Unknown && self.reported.is_some() {
            return None;
        }
        self.ready.add(symptom.kind);
        let changed = match &self.reported {
            None => self.ready.failures >= UNREADY_AT_FIRST_AFTER,
            Some(Health::Ready | Health::Shallow(_)) => {
                let silent = symptom.kind == SymptomKind::TimedOut && self.ready.same_kind >= UNREADY_AFTER_SILENCE;
                silent || self.ready.failures >= UNREADY_AFTER
            }
            Some(Health::Unready(known)) => {
                let is_clear = known.kind == SymptomKind::TimedOut && waited_for_longer(symptom.kind);
                is_clear || (known.kind != symptom.kind && self.ready.same_kind >= UNREADY_AFTER)
            }
        };
        if changed { self.report(Health::Unready(symptom)) } else { None }
    }

    /// Takes what the deep probe said, and gives the new health if it changed. Without effect unless the instance is
    /// ready: a deep check cannot say more of one that is not.
    pub fn observe_deep(&mut self, answer: Result<(), Symptom>) -> Option<Health> {
        match (&self.reported, answer) {
            (None | Some(Health::Unready(_)), Ok(()) | Err(_)) => None,
            (Some(Health::Ready), Ok(())) => {
                self.deep = Streak::default();
                None
            }
            (Some(Health::Shallow(_)), Ok(())) => {
                self.deep = Streak::default();
                self.report(Health::Ready)
            }
            (Some(Health::Ready | Health::Shallow(_)), Err(symptom)) if symptom.kind == SymptomKind::Unknown => None,
            (Some(Health::Ready), Err(symptom)) => {
                self.deep.add(symptom.kind);
                if self.deep.failures >= UNREADY_AFTER { self.report(Health::Shallow(symptom)) } else { None }
            }
            (Some(Health::Shallow(known)), Err(symptom)) => {
                self.deep.add(symptom.kind);
                let changed = known.kind != symptom.kind && self.deep.same_kind >= UNREADY_AFTER;
                if changed { self.report(Health::Shallow(symptom)) } else { None }
            }
        }
    }

    /// How urgent the next answer is.
    fn mood(&self) -> Mood {
        match &self.reported {
            None => Mood::Starting,
            Some(Health::Ready) if self.ready.failures == 0 && self.deep.failures == 0 => Mood::Calm,
            Some(Health::Ready | Health::Shallow(_)) if self.ready.failures > 0 => match self.ready.kind {
                Some(SymptomKind::TimedOut) => Mood::Silent,
                Some(_) | None => Mood::Confirming,
            },
            Some(Health::Ready | Health::Shallow(_) | Health::Unready(_)) => Mood::Suspicious,
        }
    }

    /// Whether the next probe is to wait for longer: it shows whether the instance hangs or is only slow.
    fn is_patient(&self) -> bool {
        let waits = |symptom: &Symptom| symptom.kind == SymptomKind::TimedOut || waited_for_longer(symptom.kind);
        matches!(&self.reported, Some(Health::Unready(symptom)) if waits(symptom))
    }

    fn report(&mut self, health: Health) -> Option<Health> {
        self.reported = Some(health.clone());
        Some(health)
    }
}

/// Whether this is what a patient probe says.
fn waited_for_longer(kind: SymptomKind) -> bool {
    matches!(kind, SymptomKind::Hung | SymptomKind::Slow)
}

/// What an answer means to a patient probe: one that came too late is slowness, and none is a hang.
fn judged(answer: Result<Duration, Symptom>, policy: &ProbePolicy, address: SocketAddr) -> Result<Duration, Symptom> {
    let limit = policy.timeout.get();
    match answer {
        Ok(took) if took > limit => {
            let detail =
                format!("{address} answers too late: after {}, not within {}", in_words(took), in_words(limit));
            Err(Symptom { kind: SymptomKind::Slow, detail })
        }
        Err(symptom) if symptom.kind == SymptomKind::TimedOut => Err(Symptom { kind: SymptomKind::Hung, ..symptom }),
        answer => answer,
    }
}

/// Probes `target` for ever, and calls `report` with each change of its health. To stop, drop it.
///
/// `before` is what the instance counts as: `None` for one that is just being started, so that it is asked at short
/// intervals until it is ready. Readiness is reported before the deep check is even asked. Pauses are shorter than declared by up
/// to a seventh, from instance to instance and from time to time, so that a thousand probes do not come at once; but those that
/// come within a 64th of a pause come together.
pub async fn watch(
    instance: &InstanceId,
    policy: &ProbePolicy,
    target: &Target,
    before: Option<Health>,
    mut report: impl FnMut(Word),
) -> Infallible {
    let timeout = policy.timeout.get();
    let mut watch = Watch::new(before);
    let mut rhythm = Rhythm::new(instance, policy);
    loop {
        let begin = Instant::now();
        // In a box for as long as it takes: nearly all watchers sleep nearly always, and a thousand of them stay small.
        let patient = watch.is_patient();
        let limit = if patient { policy.patience() } else { timeout };
        let answer = Box::pin(probe(&policy.ready, target, limit)).await;
        let answer = if patient { judged(answer, policy, target.address) } else { answer };
        let is_ready = answer.is_ok();
        if let Ok(took) = &answer {
            report(Word::Answered(*took));
        }
        if let Some(health) = watch.observe_ready(answer.map(drop)) {
            report(Word::Health(health));
        }
        if is_ready
            && let Some(check) = &policy.deep
            && let Some(health) = watch.observe_deep(Box::pin(probe(check, target, timeout)).await.map(drop))
        {
            report(Word::Health(health));
        }
        let mood = watch.mood();
        let pause = rhythm.next(mood);
        // From begin to begin, so that slow answers do not make the probes rarer; but never without a rest.
        let at = (begin + pause).max(Instant::now() + pause / 4);
        tokio::time::sleep_until(if mood == Mood::Calm { common(at, rhythm.every) } else { at }).await;
    }
}

/// The first common point in time of all watchers with this pause that is not before `at`.
fn common(at: Instant, every: Duration) -> Instant {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    let apart = every / COMMON_PART;
    if apart < COMMON_MIN {
        return at;
    }
    let since = at.saturating_duration_since(*ORIGIN.get_or_init(Instant::now));
    let over = since.as_nanos() % apart.as_nanos();
    match u64::try_from(over) {
        Ok(1..) => at + apart - Duration::from_nanos_u128(over),
        Ok(0) | Err(_) => at,
    }
}

/// Failures in a row.
#[derive(Clone, Copy, Debug, Default)]
struct Streak {
    failures: u32,
    kind: Option<SymptomKind>,
    same_kind: u32,
}

impl Streak {
    fn add(&mut self, kind: SymptomKind) {
        self.same_kind = if self.kind == Some(kind) { self.same_kind.saturating_add(1) } else { 1 };
        self.kind = Some(kind);
        self.failures = self.failures.saturating_add(1);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    /// Never ready yet: soon, then ever later.
    Starting,
    /// All is well: as declared.
    Calm,
    /// Something failed that worked: very soon.
    Confirming,
    /// Nobody answered: at once.
    Silent,
    /// Something is wrong: soon.
    Suspicious,
}

/// When to ask again.
#[derive(Debug)]
struct Rhythm {
    every: Duration,
    starting: Duration,
    state: u64,
}

impl Rhythm {
    fn new(instance: &InstanceId, policy: &ProbePolicy) -> Self {
        let starting = match policy.ready {
            Check::Command(_) => FIRST_PAUSE_COMMAND,
            Check::Tcp
            | Check::Http(_)
            | Check::Postgresql
            | Check::Redis
            | Check::Mysql
            | Check::Amqp
            | Check::Scheme => FIRST_PAUSE,
        };
        // FNV-1a: any hash that spreads instances will do, as long as it is the same in every build.
        let state = instance
            .to_string()
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        Self { every: policy.every.get().max(PAUSE_MIN), starting, state }
    }

    fn next(&mut self, mood: Mood) -> Duration {
        let pause = match mood {
            Mood::Starting => {
                let pause = self.starting.min(self.every);
                self.starting = pause.mul_f64(PAUSE_GROWTH);
                pause
            }
            Mood::Calm => self.every,
            Mood::Confirming => self.every.min(CONFIRM_EVERY),
            Mood::Silent => self.every.min(CONFIRM_SILENCE),
            Mood::Suspicious => self.every.min(SUSPECT_EVERY),
        };
        pause.mul_f64(0.85 + 0.15 * self.fraction())
    }

    /// The next of a fixed sequence of fractions, from 0 up to but not 1 (SplitMix64).
    fn fraction(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        f64::from((mixed >> 40) as u32) / f64::from(1_u32 << 24)
    }
}

#[cfg(test)]
mod tests {
    use ostler_model::time::Span;
    use proptest::prelude::*;

    use super::*;

    fn failing(kind: SymptomKind) -> Result<(), Symptom> {
        Err(Symptom { kind, detail: format!("{kind:?}") })
    }

    /// A script of answers, one character each, and what comes out of it. Ready: `+` good, `r` refused, `t` timed out,
    /// `h` hung, `s` slow, `?` unknown. Deep: `D` good, `x` wrong answer, `o` timed out, `u` unknown.
    fn check(before: Option<Health>, answers: &str, expected: &str) {
        let mut watch = Watch::new(before);
        let mut reports = Vec::new();
        for (index, answer) in answers.chars().enumerate() {
            let report = match answer {
                '+' => watch.observe_ready(Ok(())),
                'r' => watch.observe_ready(failing(SymptomKind::Refused)),
                't' => watch.observe_ready(failing(SymptomKind::TimedOut)),
                'h' => watch.observe_ready(failing(SymptomKind::Hung)),
                's' => watch.observe_ready(failing(SymptomKind::Slow)),
                '?' => watch.observe_ready(failing(SymptomKind::Unknown)),
                'D' => watch.observe_deep(Ok(())),
                'x' => watch.observe_deep(failing(SymptomKind::WrongAnswer)),
                'o' => watch.observe_deep(failing(SymptomKind::TimedOut)),
                'u' => watch.observe_deep(failing(SymptomKind::Unknown)),
                other => panic!("no such answer: {other}"),
            };
            reports.extend(report.map(|health| match health {
                Health::Ready => format!("{}:ready", index + 1),
                Health::Shallow(symptom) => format!("{}:shallow-{symptom}", index + 1),
                Health::Unready(symptom) => format!("{}:unready-{symptom}", index + 1),
            }));
        }
        assert_eq!(reports.join(" "), expected, "{answers}");
    }

    #[test]
    fn changes_and_nothing_else() {
        let ready = || Some(Health::Ready);
        let unready = || failing(SymptomKind::Refused).err().map(Health::Unready);
        check(None, "+++", "1:ready");
        check(None, "rrrr+", "5:ready");
        check(None, &"r".repeat(31), "30:unready-Refused");
        check(None, &"?".repeat(31), "30:unready-Unknown");
        check(ready(), "+r+rr+rrr", "9:unready-Refused");
        check(ready(), "rtr", "3:unready-Refused");
        check(ready(), "rr?r", "4:unready-Refused");
        check(ready(), "????????", "");
        check(ready(), "rrrrrtttt", "3:unready-Refused 8:unready-TimedOut");
        check(ready(), "t+t+tt", "6:unready-TimedOut");
        check(ready(), "tthhhh", "2:unready-TimedOut 3:unready-Hung");
        check(ready(), "ttsssh+", "2:unready-TimedOut 3:unready-Slow 7:ready");
        check(ready(), "ttshhh", "2:unready-TimedOut 3:unready-Slow 6:unready-Hung");
        check(ready(), "rrrtrtrtt", "3:unready-Refused");
        check(unready(), "rrrr+", "5:ready");
        check(unready(), "ttt", "3:unready-TimedOut");
        check(ready(), "rtt", "3:unready-TimedOut");
        check(None, "+x+x+x+D", "1:ready 6:shallow-WrongAnswer 8:ready");
        check(None, "+x+x+D+x+x", "1:ready");
        check(ready(), "xxxooo", "3:shallow-WrongAnswer 6:shallow-TimedOut");
        check(ready(), "uuuu", "");
        check(ready(), "xxxrrrxxx+xx", "3:shallow-WrongAnswer 6:unready-Refused 10:ready");
        check(None, "xxxxD", "");
    }

    fn policy(ready: Check, every_millis: u64) -> ProbePolicy {
        ProbePolicy {
            ready,
            deep: None,
            every: Span::millis(every_millis),
            timeout: Span::millis(500),
            start_within: Span::seconds(30),
        }
    }

    #[test]
    fn pauses_grow_until_the_declared_one() {
        let instance: InstanceId = "web-1".parse().unwrap();
        let mut rhythm = Rhythm::new(&instance, &policy(Check::Tcp, 1000));
        let starting: Vec<Duration> = (0..UNREADY_AT_FIRST_AFTER).map(|_| rhythm.next(Mood::Starting)).collect();
        assert!(starting[0] <= Duration::from_micros(2000) && starting[0] >= Duration::from_micros(1700));
        assert!(starting.iter().all(|pause| *pause <= Duration::from_millis(1000)));
        let until_told: Duration = starting.iter().sum();
        assert!(until_told > Duration::from_secs(4) && until_told < Duration::from_secs(8), "{until_told:?}");
        let mut slow = Rhythm::new(&instance, &policy(Check::Tcp, 10_000));
        assert!(slow.next(Mood::Calm) >= Duration::from_millis(8500));
        assert!(slow.next(Mood::Suspicious) <= Duration::from_millis(1000));
        let mut greedy = Rhythm::new(&instance, &policy(Check::Tcp, 0));
        assert!(greedy.next(Mood::Calm) > Duration::from_millis(1));
    }

    #[test]
    fn instances_spread_out_and_repeat_themselves() {
        let pauses = |id: &str| {
            let mut rhythm = Rhythm::new(&id.parse().unwrap(), &policy(Check::Tcp, 1000));
            (0..100).map(|_| rhythm.next(Mood::Calm)).collect::<Vec<_>>()
        };
        assert_eq!(pauses("web-1"), pauses("web-1"));
        assert_ne!(pauses("web-1"), pauses("web-2"));
        let all = pauses("web-3");
        assert!(all.iter().all(|p| (850..=1000).contains(&p.as_millis())));
        assert!(all.iter().any(|p| p.as_millis() < 880) && all.iter().any(|p| p.as_millis() > 970));
    }

    #[test]
    fn calm_instances_are_asked_together() {
        let (every, begin) = (Duration::from_secs(10), Instant::now());
        let points: std::collections::BTreeSet<Instant> = (0..1000)
            .map(|number| {
                let at = begin + Duration::from_millis(number);
                let point = common(at, every);
                assert!(at <= point && point < at + every / COMMON_PART && common(point, every) == point);
                point
            })
            .collect();
        assert!((6..=8).contains(&points.len()), "1 s of 10 s in steps of a 64th: {}", points.len());
        assert_eq!(common(begin, Duration::from_millis(10)), begin);
    }

    fn state(health: &Health) -> (u8, Option<SymptomKind>) {
        match health {
            Health::Ready => (0, None),
            Health::Shallow(symptom) => (1, Some(symptom.kind)),
            Health::Unready(symptom) => (2, Some(symptom.kind)),
        }
    }

    fn kinds() -> impl Strategy<Value = SymptomKind> {
        prop_oneof![
            Just(SymptomKind::Refused),
            Just(SymptomKind::TimedOut),
            Just(SymptomKind::WrongAnswer),
            Just(SymptomKind::Unknown),
        ]
    }

    fn answers() -> impl Strategy<Value = Vec<(bool, Result<(), SymptomKind>)>> {
        let answer = prop_oneof![Just(Ok(())), kinds().prop_map(Err)];
        proptest::collection::vec((any::<bool>(), answer), 0..200)
    }

    fn feed(watch: &mut Watch, (deep, answer): (bool, Result<(), SymptomKind>)) -> Option<Health> {
        let answer = answer.map_err(|kind| Symptom { kind, detail: String::new() });
        if deep { watch.observe_deep(answer) } else { watch.observe_ready(answer) }
    }

    proptest! {
        #[test]
        fn never_the_same_state_twice_in_a_row(answers in answers()) {
            let mut watch = Watch::default();
            let mut last = None;
            for answer in answers {
                if let Some(health) = feed(&mut watch, answer) {
                    prop_assert_ne!(Some(state(&health)), last);
                    last = Some(state(&health));
                }
            }
        }

        #[test]
        fn never_unready_after_fewer_failures_than_stated(answers in answers()) {
            let mut watch = Watch::new(Some(Health::Ready));
            let mut failures = 0;
            for (deep, answer) in answers {
                if !deep {
                    failures = if answer.is_ok() { 0 } else { failures + 1 };
                }
                if let Some(Health::Unready(_)) = feed(&mut watch, (deep, answer)) {
                    prop_assert!(failures >= UNREADY_AFTER_SILENCE);
                }
            }
        }

        #[test]
        fn eventually_unready_and_eventually_ready(answers in answers(), kind in kinds()) {
            prop_assume!(kind != SymptomKind::Unknown);
            let mut watch = Watch::default();
            for answer in answers {
                feed(&mut watch, answer);
            }
            for _ in 0..UNREADY_AT_FIRST_AFTER {
                feed(&mut watch, (false, Err(kind)));
            }
            prop_assert!(matches!(&watch.reported, Some(Health::Unready(symptom)) if symptom.kind == kind));
            feed(&mut watch, (false, Ok(())));
            prop_assert_eq!(&watch.reported, &Some(Health::Ready));
        }
    }
}
