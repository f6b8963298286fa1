//! What happened, kept until the manager has stored it.
//!
//! Invariant: the newest report of each subject is never dropped before older ones. When the queue is full it is cut to
//! half: of each subject (an instance; the gateway's presence; what the gateway says) as many of the newest are kept as
//! fit for all, and if there are too many subjects even for one each, the oldest go.

use std::collections::{HashMap, VecDeque};

use ostler_model::ids::InstanceId;
use ostler_model::time::Timestamp;

use crate::protocol::{Message, Report};

/// How many reports wait at most.
const REPORTS_MAX: usize = 65_536;
/// How many bytes the gateway's own texts may take: one of them can be as long as a packet.
const TEXT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// As many of the newest of each subject are tried first.
const OF_EACH_MAX: usize = 1024;

/// The queue.
pub(crate) struct Reports {
    waiting: VecDeque<Waiting>,
    last: u64,
    text_bytes: usize,
    count_max: usize,
    text_bytes_max: usize,
}

struct Waiting {
    number: u64,
    at: Timestamp,
    report: Report,
}

#[derive(PartialEq, Eq, Hash)]
enum Subject {
    Instance(InstanceId),
    Gateway,
    FromGateway,
    Upgrade,
}

impl Reports {
    pub(crate) fn new() -> Self {
        Self::with_limits(REPORTS_MAX, TEXT_BYTES_MAX)
    }

    fn with_limits(count_max: usize, text_bytes_max: usize) -> Self {
        Self { waiting: VecDeque::new(), last: 0, text_bytes: 0, count_max, text_bytes_max }
    }

    /// Adds one.
    pub(crate) fn push(&mut self, at: Timestamp, report: Report) {
        self.last += 1;
        self.text_bytes += text_bytes(&report);
        self.waiting.push_back(Waiting { number: self.last, at, report });
        if self.waiting.len() > self.count_max || self.text_bytes > self.text_bytes_max {
            self.cut();
        }
    }

    /// All up to this number have been stored. Returns how many of them were steps of an upgrade.
    pub(crate) fn acknowledge(&mut self, number: u64) -> usize {
        let mut steps = 0;
        while self.waiting.front().is_some_and(|waiting| waiting.number <= number) {
            let waiting = self.waiting.pop_front().expect("just looked at");
            self.text_bytes -= text_bytes(&waiting.report);
            steps += usize::from(matches!(waiting.report, Report::Upgrade(_)));
        }
        if self.waiting.is_empty() {
            self.waiting = VecDeque::new(); // gives back what a long absence of the manager took
        }
        steps
    }

    /// All that wait, for another image of this keeper: the last number, and each with its own.
    pub(crate) fn hand_over(&self) -> (u64, Vec<(u64, Timestamp, Report)>) {
        let each = |waiting: &Waiting| (waiting.number, waiting.at, waiting.report.clone());
        (self.last, self.waiting.iter().map(each).collect())
    }

    /// Goes on where another image of this keeper was.
    pub(crate) fn taken_over(last: u64, waiting: Vec<(u64, Timestamp, Report)>) -> Self {
        let mut reports = Self::new();
        reports.last = last;
        reports.text_bytes = waiting.iter().map(|(_, _, report)| text_bytes(report)).sum();
        reports.waiting = waiting.into_iter().map(|(number, at, report)| Waiting { number, at, report }).collect();
        reports
    }

    /// The first one after `number`, as a message, and its number.
    pub(crate) fn after(&self, number: u64) -> Option<(u64, Message)> {
        let place = self.waiting.partition_point(|waiting| waiting.number <= number);
        let Waiting { number, at, report } = self.waiting.get(place)?;
        Some((*number, Message::Report { number: *number, at: *at, report: report.clone() }))
    }

    fn cut(&mut self) {
        let fits = |count: usize, bytes: usize| count <= self.count_max / 2 && bytes <= self.text_bytes_max / 2;
        let mut of_each = OF_EACH_MAX;
        let keep = loop {
            let keep = newest_of_each(&self.waiting, of_each);
            let kept = || self.waiting.iter().zip(&keep).filter(|(_, keep)| **keep);
            let bytes = kept().map(|(waiting, _)| text_bytes(&waiting.report)).sum();
            if of_each == 1 || fits(kept().count(), bytes) {
                break keep;
            }
            of_each /= 2;
        };
        let mut keep = keep.into_iter();
        self.waiting.retain(|_| keep.next().unwrap_or(false));
        while self.waiting.len() > self.count_max / 2 {
            self.waiting.pop_front();
        }
        self.waiting.shrink_to_fit();
        self.text_bytes = self.waiting.iter().map(|waiting| text_bytes(&waiting.report)).sum();
    }
}

fn newest_of_each(waiting: &VecDeque<Waiting>, of_each: usize) -> Vec<bool> {
    let mut seen: HashMap<Subject, usize> = HashMap::new();
    let mut keep: Vec<bool> = waiting
        .iter()
        .rev()
        .map(|waiting| {
            let seen = seen.entry(subject(&waiting.report)).or_default();
            *seen += 1;
            *seen <= of_each
        })
        .collect();
    keep.reverse();
    keep
}

fn subject(report: &Report) -> Subject {
    match report {
        Report::Ended { instance, .. } => Subject::Instance(instance.clone()),
        Report::Gateway { .. } => Subject::Gateway,
        Report::FromGateway { .. } => Subject::FromGateway,
        Report::Upgrade(_) => Subject::Upgrade,
    }
}

fn text_bytes(report: &Report) -> usize {
    match report {
        Report::FromGateway { body } => body.len(),
        Report::Ended { .. } | Report::Gateway { .. } | Report::Upgrade(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use ostler_model::health::Exit;
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::{Process, Reflex};

    fn ended(instance: u32) -> Report {
        Report::Ended {
            instance: format!("web-{instance}").parse().unwrap(),
            process: Process { pid: 1, start_ticks: 2, incarnation: "x".into(), since: Timestamp(3) },
            exit: Exit::Code(0),
            reflex: Reflex::NoLaunch,
        }
    }

    #[test]
    fn waits_until_acknowledged() {
        let mut reports = Reports::new();
        for instance in 1..=3 {
            reports.push(Timestamp(1), ended(instance));
        }
        assert_eq!(reports.after(0).unwrap().0, 1);
        assert_eq!(reports.after(2).unwrap().0, 3);
        reports.acknowledge(2);
        assert_eq!(reports.after(0).unwrap().0, 3);
        reports.acknowledge(99);
        assert!(reports.after(0).is_none());
    }

    #[test]
    fn long_texts_are_bounded_and_do_not_push_deaths_out() {
        let mut reports = Reports::with_limits(1000, 10_000);
        reports.push(Timestamp(1), ended(1));
        for _ in 0..5000 {
            reports.push(Timestamp(1), Report::FromGateway { body: "x".repeat(100) });
        }
        assert!(reports.text_bytes <= 10_000);
        assert_eq!(reports.after(0).unwrap().0, 1);
    }

    proptest! {
        #[test]
        fn the_newest_of_each_survives(instances in proptest::collection::vec(1u32..20, 1..400)) {
            let mut reports = Reports::with_limits(64, 1000);
            let mut newest = HashMap::new();
            for (number, instance) in (1u64..).zip(&instances) {
                reports.push(Timestamp(1), ended(*instance));
                newest.insert(*instance, number);
            }
            prop_assert!(reports.waiting.len() <= 64);
            let numbers: Vec<u64> = reports.waiting.iter().map(|waiting| waiting.number).collect();
            prop_assert!(numbers.is_sorted());
            for number in newest.values() {
                prop_assert!(numbers.contains(number));
            }
        }
    }
}
