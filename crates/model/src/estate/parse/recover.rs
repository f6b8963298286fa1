//! Reads TOML so that one broken line hides as little of the file as possible.
//!
//! The TOML parser stops making sense after some errors (an unclosed list swallows what follows). So a file that it
//! refuses is cut into statements; each statement that is no TOML by itself is reported and blanked out, and what is
//! left is read. Invariant: spans are those of the original text, because blanks take as much room as what they replace.

use std::collections::BTreeSet;
use std::ops::Range;

use toml::de::DeTable;

use crate::diagnostics::{Problem, shown};

/// After this many broken statements the rest is not read: it is hardly an estate file.
const BROKEN_MAX: usize = 200;
/// A value of more lines than this is taken for unclosed.
const STATEMENT_LINES_MAX: usize = 1_000;

/// What could not be read, so that nobody concludes that something is missing only because it stands there.
#[derive(Clone, Debug, Default)]
pub(super) struct Unread {
    /// Broken statements, in order.
    regions: Vec<Range<usize>>,
    /// Where the tables' headers begin, in order; empty if all could be read.
    headers: Vec<usize>,
    /// The words of the broken statements.
    words: BTreeSet<String>,
}

impl Unread {
    /// Whether something of the section (from its header to the next) around the byte `at` could not be read.
    pub(super) fn touches_section(&self, at: usize) -> bool {
        let next = self.headers.partition_point(|header| *header <= at);
        let start = next.checked_sub(1).map_or(0, |index| self.headers[index]);
        let end = self.headers.get(next).copied().unwrap_or(usize::MAX);
        self.regions.iter().any(|region| region.start < end && start < region.end)
    }

    /// Whether `word` occurs in what could not be read.
    pub(super) fn mentions(&self, word: &str) -> bool {
        self.words.contains(word)
    }
}

/// The text as far as it is TOML.
pub(super) struct Reading {
    /// The text with broken statements blanked out.
    pub(super) text: String,
    /// What was blanked out.
    pub(super) unread: Unread,
    /// Why.
    pub(super) problems: Vec<Problem>,
}

/// Finds out what of `text` is TOML.
pub(super) fn read(text: &str) -> Reading {
    let mut reading = Reading { text: text.to_owned(), unread: Unread::default(), problems: Vec::new() };
    if DeTable::parse(text).is_ok() {
        return reading;
    }
    let lines = Lines::of(text);
    let mut blanked: Vec<u8> = text.as_bytes().to_vec();
    let mut index = 0;
    while index < lines.count() {
        let (end, is_header) = lines.statement(index);
        let range = lines.start(index)..lines.start(end);
        if is_header {
            reading.unread.headers.push(range.start);
        }
        let Err(error) = parse_alone(&text[range.clone()]) else {
            index = end;
            continue;
        };
        reading.problems.push(to_problem(text, &range, &error));
        // What follows a broken header would otherwise count as part of the section before it.
        index = if is_header { lines.next_header(index + 1) } else { end };
        if reading.problems.len() == BROKEN_MAX {
            reading.problems.push(too_many(lines.start(index)));
            index = lines.count();
        }
        let region = range.start..lines.start(index);
        let words = text[region.clone()].split(|c: char| !c.is_alphanumeric() && c != '-' && c != '_');
        reading.unread.words.extend(words.map(str::to_owned));
        blanked[region.clone()].iter_mut().filter(|b| **b != b'\n').for_each(|b| *b = b' ');
        reading.unread.regions.push(region);
    }
    reading.text = String::from_utf8(blanked).expect("whole lines were replaced by ASCII");
    let (_, errors) = DeTable::parse_recoverable(&reading.text);
    reading.problems.extend(errors.iter().map(|error| to_problem(&reading.text, &(0..0), error)));
    reading
}

fn parse_alone(statement: &str) -> Result<(), toml::de::Error> {
    match DeTable::parse(statement) {
        Ok(_) => Ok(()),
        // An error about the statement in its surroundings, not about its form, is found again in the whole.
        Err(error) if error.message().starts_with("duplicate key") => Ok(()),
        Err(error) => Err(error),
    }
}

fn too_many(at: usize) -> Problem {
    Problem {
        span: at..at,
        cause: format!("the rest of the file was not read, after {BROKEN_MAX} statements that are no TOML"),
        remedy: "correct those above first, and check that this is the file you mean".to_owned(),
    }
}

/// In words for people; `fragment` is where in `text` the text that `error` speaks of lies.
fn to_problem(text: &str, fragment: &Range<usize>, error: &toml::de::Error) -> Problem {
    let span = match error.span() {
        Some(span) => fragment.start + span.start..fragment.start + span.end,
        None => fragment.start..fragment.start,
    };
    // At the end of a fragment the parser points behind the line break: the place meant is before it.
    let fragment_text = text.get(fragment.clone()).unwrap_or_default();
    let last = fragment.start + fragment_text.trim_end().len();
    let span = if !fragment.is_empty() && span.start > last { last..last } else { span };
    let message = error.message();
    let span = match text.get(..span.start) {
        // The parser points at what follows the gap, which may be lines further down.
        Some(before) if message.starts_with("missing comma") => before.trim_end().len()..before.trim_end().len(),
        _ => span,
    };
    let quoted = shown(text.get(span.clone()).unwrap_or_default());
    let (cause, remedy) = in_words(message, &quoted);
    Problem { span, cause, remedy }
}

/// Cause and remedy for the parser's `message` about the place where `quoted` stands.
fn in_words(message: &str, quoted: &str) -> (String, String) {
    let (cause, remedy) = match message.split(", expected").next().unwrap_or(message) {
        "duplicate key" => {
            return (
                format!("`{quoted}` is declared twice"),
                "keep one of the two, and move what you need of the other into it".to_owned(),
            );
        }
        "string values must be quoted" if quoted.trim().is_empty() => {
            ("the value is missing", "write a value after `=`, or remove the line")
        }
        "string values must be quoted" => {
            return (format!("`{quoted}` is no value: texts stand in quotes"), format!("write `\"{quoted}\"`"));
        }
        "key with no value" => {
            ("a key without `=` and a value", "write `key = value`, or begin the line with `#` to make it a comment")
        }
        "missing comma between array elements" | "missing comma between key-value pairs" => {
            ("a comma is missing", "put a comma between this and what follows")
        }
        "missing escaped value" => (
            "a backslash before a character that needs none",
            "write `\\\\` for a backslash, or put the text in single quotes, where a backslash is only itself",
        ),
        "recursion limit" | "cannot recurse further; max recursion depth met" => (
            "lists or tables lie too deep in each other",
            "write it with fewer brackets: an estate file needs few levels",
        ),
        "invalid basic string" if message.ends_with("expected `\"`") => {
            ("the text has no closing quote", "close it with `\"`")
        }
        "invalid literal string" if message.ends_with("expected `'`") => {
            ("the text has no closing quote", "close it with `'`")
        }
        other if other.starts_with("cannot extend value") => {
            return (
                format!("`{quoted}` has a value already, so it cannot have keys of its own"),
                "keep one of the two".to_owned(),
            );
        }
        other if other.starts_with("unclosed") => {
            let closing = message.rsplit("expected ").next().unwrap_or("the closing bracket");
            return (format!("{other}: {closing} is missing"), format!("close it with {closing}"));
        }
        _ => {
            return (
                format!("this is not TOML: {message}"),
                "correct it; https://toml.io shows how texts, numbers, lists and tables are written".to_owned(),
            );
        }
    };
    (cause.to_owned(), remedy.to_owned())
}

/// A text as lines, which statements begin and end with.
struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn of(text: &'a str) -> Self {
        let mut starts = vec![0];
        starts.extend(text.match_indices('\n').map(|(at, _)| at + 1).filter(|at| *at < text.len()));
        Self { text, starts }
    }

    fn count(&self) -> usize {
        self.starts.len()
    }

    /// Where the line begins; the text's end for the line after the last.
    fn start(&self, index: usize) -> usize {
        self.starts.get(index).copied().unwrap_or(self.text.len())
    }

    fn line(&self, index: usize) -> &'a str {
        &self.text[self.start(index)..self.start(index + 1)]
    }

    /// The line after the statement that begins at line `index`, and whether it is a table's header.
    fn statement(&self, index: usize) -> (usize, bool) {
        if is_header(self.line(index)) {
            return (index + 1, true);
        }
        let mut scan = Scan::default();
        for end in index..self.count().min(index + STATEMENT_LINES_MAX) {
            if end > index && !scan.in_text() && is_header(self.line(end)) {
                break;
            }
            scan.line(self.line(end));
            if scan.is_closed() {
                return (end + 1, false);
            }
        }
        // Unclosed. It is taken to end before what looks like the next statement.
        let next = (index + 1..self.count()).find(|next| begins_statement(self.line(*next)));
        (next.unwrap_or(self.count()), false)
    }

    fn next_header(&self, from: usize) -> usize {
        (from..self.count()).find(|index| is_header(self.line(*index))).unwrap_or(self.count())
    }
}

/// Whether the line looks like a table's header, even a broken one, rather than like a part of a list.
fn is_header(line: &str) -> bool {
    let line = line.split('#').next().unwrap_or_default().trim();
    let Some(inside) = line.strip_prefix('[') else { return false };
    let inside = inside.strip_prefix('[').unwrap_or(inside).trim_start();
    !inside.contains([',', '='])
        && (inside.starts_with(']') || inside.starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '-'))
}

fn begins_statement(line: &str) -> bool {
    let is_key = |key: &str| {
        let key = key.trim();
        !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '"' | '\'' | ' '))
    };
    is_header(line) || line.split_once('=').is_some_and(|(key, _)| is_key(key))
}

/// How deep in brackets and in which multi-line text a statement is at the end of a line.
#[derive(Default)]
struct Scan {
    depth: usize,
    text_end: Option<&'static str>,
}

impl Scan {
    fn is_closed(&self) -> bool {
        self.depth == 0 && self.text_end.is_none()
    }

    fn in_text(&self) -> bool {
        self.text_end.is_some()
    }

    fn line(&mut self, line: &str) {
        let mut rest = line;
        loop {
            if let Some(end) = self.text_end {
                let Some(at) = rest.find(end) else { return };
                rest = &rest[at + end.len()..];
                self.text_end = None;
            }
            let Some(at) = rest.find(['[', ']', '{', '}', '"', '\'', '#']) else { return };
            let found = &rest[at..];
            rest = &found[1..];
            match found.as_bytes()[0] {
                b'[' | b'{' => self.depth += 1,
                b']' | b'}' => self.depth = self.depth.saturating_sub(1),
                b'#' => return,
                _ if found.starts_with("\"\"\"") => (self.text_end, rest) = (Some("\"\"\""), &found[3..]),
                _ if found.starts_with("'''") => (self.text_end, rest) = (Some("'''"), &found[3..]),
                quote => rest = after_text(rest, quote),
            }
        }
    }
}

/// What follows the one-line text that `rest` begins in.
fn after_text(rest: &str, quote: u8) -> &str {
    let mut escaped = false;
    for (at, byte) in rest.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quote == b'"' => escaped = true,
            _ if byte == quote => return &rest[at + 1..],
            _ => {}
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text that is left, and the lines (from 1) of the problems.
    fn check(text: &str, left: &str, lines: &[usize]) {
        let reading = read(text);
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(words(&reading.text), words(left), "{text}");
        assert_eq!(reading.text.len(), text.len());
        let found: Vec<_> = reading.problems.iter().map(|p| 1 + text[..p.span.start].matches('\n').count()).collect();
        assert_eq!(found, lines, "{text} {:?}", reading.problems);
    }

    #[test]
    fn only_the_broken_statement_is_lost() {
        check("a = 1\nb\nc = 3\n", "a = 1 c = 3", &[2]);
        check("a = [1,\n  2\nb = 3\n[x]\nc = 1", "b = 3 [x] c = 1", &[2]);
        check("a = [\n 1\n 2,\n]\nb = 3", "b = 3", &[2]);
        check("a = \"x\nb = 2", "b = 2", &[1]);
        check("a = { b = 1\n[x]\nc = \"\"\"\n[y\n\"\"\"", "[x] c = \"\"\" [y \"\"\"", &[1]);
    }

    #[test]
    fn a_broken_header_takes_its_section_with_it() {
        check("[a]\nx = 1\n[b\ny = 2\n[c]\nz = 3", "[a] x = 1 [c] z = 3", &[3]);
    }

    #[test]
    fn duplicates_lose_nothing() {
        check("a = 1\na = 2", "a = 1 a = 2", &[2]);
    }

    #[test]
    fn garbage_ends() {
        let reading = read(&"x = [\n".repeat(5_000));
        assert_eq!(reading.problems.len(), BROKEN_MAX + 1);
    }
}
