//! The rows of `healing`, and the bars that they are held to.

use std::time::Duration;

use crate::common::verdict;

/// The times of one subject, and of bare starts in between.
pub(crate) struct Row {
    name: String,
    pub(crate) times: Vec<Duration>,
    pub(crate) bare: Vec<Duration>,
    /// Connects that were refused, and connections that were cut, while it was away.
    pub(crate) refused: usize,
    pub(crate) cut: usize,
    /// After the last kill nothing answered any more.
    pub(crate) gave_up: bool,
}

impl Row {
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), times: Vec::new(), bare: Vec::new(), refused: 0, cut: 0, gave_up: false }
    }

    fn is_ours(&self) -> bool {
        self.name.starts_with("ostler")
    }

    /// Milliseconds above the bare start, like against like.
    fn above(&self, share: usize) -> f64 {
        at(&self.times, share) - at(&self.bare, share)
    }

    fn print(&self) {
        let Self { name, times, bare, refused, cut, .. } = self;
        let end = if self.gave_up { format!("  gave up after {}", times.len()) } else { String::new() };
        if times.is_empty() {
            return println!("{name:<40}{:>6}{end}", 0);
        }
        println!(
            "{name:<40}{:>6}{:>10.2}{:>10.2}{:>10.2}{:>8.2}{:>8.2}{:>8.1}{refused:>10}{cut:>6}{end}",
            times.len(),
            at(times, 50),
            at(times, 99),
            at(times, 100),
            at(bare, 50),
            at(bare, 99),
            at(times, 50) / at(bare, 50),
        );
    }
}

/// In milliseconds, the value that `share` percent of the sorted times do not exceed; 0 if there are none.
fn at(times: &[Duration], share: usize) -> f64 {
    let index = (times.len() * share / 100).min(times.len().saturating_sub(1));
    times.get(index).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
}

/// Rows that are measured alike.
pub(crate) struct Table {
    title: &'static str,
    rows: Vec<Row>,
}

impl Table {
    pub(crate) fn new(title: &'static str) -> Self {
        Self { title, rows: Vec::new() }
    }

    /// Adds a row that has been measured, and tells whoever waits.
    pub(crate) fn add(&mut self, mut row: Row) {
        row.times.sort_unstable();
        row.bare.sort_unstable();
        let median = at(&row.times, 50);
        eprintln!("measured: {}: {}, {} kills, median {median:.2} ms", self.title, row.name, row.times.len());
        self.rows.push(row);
    }

    pub(crate) fn print(&self) {
        println!("{}, milliseconds", self.title);
        println!(
            "{:<40}{:>6}{:>10}{:>10}{:>10}{:>8}{:>8}{:>8}{:>10}{:>6}",
            "", "kills", "median", "p99", "max", "bare", "p99", "x bare", "refused", "cut"
        );
        self.rows.iter().for_each(Row::print);
        println!();
    }

    fn ours(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.is_ours())
    }
}

/// What DESIGN.md demands, and whether it holds.
pub(crate) fn print_bars(apart: &Table, in_a_row: &Table) {
    println!("{:<40}{:>8}  {:<16}{:>8}  bar: 3 ms", "milliseconds above the bare start", "median", "bar: 1 ms", "p99");
    for row in apart.ours() {
        let (median, p99) = (row.above(50), row.above(99));
        println!("{:<40}{median:>8.2}  {:<16}{p99:>8.2}  {}", row.name, verdict(median <= 1.0), verdict(p99 <= 3.0));
    }
    // A connection that the dying process had already accepted is cut with it, whoever looks after it.
    let refused: usize = apart.ours().filter(|row| row.name.ends_with("endpoint")).map(|row| row.refused).sum();
    println!("connects refused at endpoints: {refused} (bar: 0): {}", verdict(refused == 0));
    let whole = in_a_row.ours().all(|row| !row.gave_up);
    let longest = in_a_row.ours().map(|row| at(&row.times, 100)).fold(0.0, f64::max);
    println!(
        "longest of ten in a row: {longest:.1} ms (bar: no step of a second): {}",
        verdict(whole && longest < 1000.0)
    );
}
