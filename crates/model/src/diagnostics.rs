//! Errors of one file, all at once: each with file, line, column, the line itself, the cause, and what to do.
//!
//! Invariant: a [`Problems`] made by [`Problems::of`] is not empty, is in the order of the file, and each of its spans
//! lies in the text, on character boundaries.

use std::fmt;
use std::ops::Range;

use annotate_snippets::renderer::{AnsiColor, Style};
use annotate_snippets::{AnnotationKind, Group, Level, Message, Origin, Renderer, Snippet};
use serde::{Deserialize, Serialize};

/// At most this many problems are shown in full: nobody reads more before correcting the first of them.
pub const SHOWN_MAX: usize = 50;

/// Lines longer than this (in bytes) are not shown: no terminal could show them in a useful way.
const LINE_SHOWN_MAX: usize = 2_000;

/// What is wrong stands out, as in every other failure; what only frames it steps back.
const STYLED: Renderer = Renderer::styled()
    .error(AnsiColor::Red.on_default().bold())
    .emphasis(Style::new())
    .help(Style::new().bold())
    .line_num(Style::new().dimmed())
    .context(Style::new().dimmed());

/// One thing that is wrong in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where, as a range of bytes.
    pub span: Range<usize>,
    /// What is wrong and why.
    pub cause: String,
    /// What to do.
    pub remedy: String,
}

/// All that is wrong in one file, in the order of the file. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    /// The file's name as the user gave it.
    pub file: String,
    /// The file's text.
    pub text: String,
    /// What is wrong.
    pub list: Vec<Problem>,
}

/// A problem with its place in lines and columns: the form in which scripts get it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Located {
    /// The file's name as the user gave it.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// What is wrong and why.
    pub cause: String,
    /// What to do.
    pub remedy: String,
}

impl Problems {
    /// The problems of `list` in the order of the file; `None` if there are none. Spans that do not fit `text` are
    /// moved to the nearest place that does.
    pub fn of(file: &str, text: &str, mut list: Vec<Problem>) -> Option<Self> {
        if list.is_empty() {
            return None;
        }
        for problem in &mut list {
            problem.span = fitted(text, &problem.span);
        }
        list.sort_by(|a, b| (a.span.start, a.span.end, &a.cause).cmp(&(b.span.start, b.span.end, &b.cause)));
        list.dedup();
        Some(Self { file: file.to_owned(), text: text.to_owned(), list })
    }

    /// One problem with the file as a whole.
    pub fn whole(file: &str, text: &str, cause: impl Into<String>, remedy: impl Into<String>) -> Self {
        let problem = Problem { span: 0..0, cause: cause.into(), remedy: remedy.into() };
        Self { file: file.to_owned(), text: text.to_owned(), list: vec![problem] }
    }

    /// For a terminal: each problem with its line, marked, and what to do; at the end how many there are. At most
    /// [`SHOWN_MAX`] are shown. Ends with a line break. `colour` adds ANSI escapes; without it there are none.
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { STYLED } else { Renderer::plain() };
        let mut out = String::new();
        let mut places = Places::new(&self.text);
        for problem in self.list.iter().take(SHOWN_MAX) {
            let (line, column) = places.at(problem.span.start);
            let report = [self.snippet(problem, line, column), help(problem)];
            out.push_str(&renderer.render(&report));
            out.push_str("\n\n");
        }
        out.push_str(&self.count());
        out.push('\n');
        out
    }

    /// All of them with lines and columns, in the order of the file.
    pub fn located(&self) -> Vec<Located> {
        let mut places = Places::new(&self.text);
        let locate = |problem: &Problem| {
            let (line, column) = places.at(problem.span.start);
            Located {
                file: self.file.clone(),
                line,
                column,
                cause: problem.cause.clone(),
                remedy: problem.remedy.clone(),
            }
        };
        self.list.iter().map(locate).collect()
    }

    fn count(&self) -> String {
        let (count, file) = (self.list.len(), shown(&self.file));
        match count {
            1 => format!("1 error in {file}"),
            2..=SHOWN_MAX => format!("{count} errors in {file}"),
            _ => format!("{count} errors in {file}; the first {SHOWN_MAX} are shown"),
        }
    }

    /// The problem's title, place, and line with a marker.
    fn snippet<'a>(&'a self, problem: &'a Problem, line: usize, column: usize) -> Group<'a> {
        let title = Level::ERROR.primary_title(printable(&problem.cause));
        let span = fitted(&self.text, &problem.span);
        let start = self.text[..span.start].rfind('\n').map_or(0, |at| at + 1);
        let end = self.text[span.start..].find(['\n', '\r']).map_or(self.text.len(), |at| span.start + at);
        let end = end.max(span.start);
        if end - start > LINE_SHOWN_MAX {
            let origin = Origin::path(shown(&self.file)).line(line).char_column(column);
            return title.element(origin).element(Level::NOTE.message("the line is too long to be shown"));
        }
        // Built from its parts, because making them printable may change their length.
        let before = printable(&self.text[start..span.start]);
        let marked = printable(&self.text[span.start..span.end.clamp(span.start, end)]);
        let after = printable(&self.text[span.end.clamp(span.start, end)..end]);
        let marker = AnnotationKind::Primary.span(before.len()..before.len() + marked.len());
        title.element(
            Snippet::source(before + &marked + &after).path(shown(&self.file)).line_start(line).annotation(marker),
        )
    }
}

impl fmt::Display for Problems {
    /// [`Problems::render`] without colour and without the last line break.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.render(false).trim_end())
    }
}

impl std::error::Error for Problems {}

/// `text` for use inside a message: at most 80 characters, nothing that a terminal would obey.
pub fn shown(text: &str) -> String {
    const SHOWN_CHARS: usize = 80;
    let cut = text.char_indices().nth(SHOWN_CHARS).map_or(text, |(at, _)| &text[..at]);
    let mut out = String::new();
    for c in cut.chars() {
        match c {
            _ if is_obeyed(c) => out.extend(c.escape_debug()),
            _ => out.push(c),
        }
    }
    if cut.len() < text.len() {
        out.push('…');
    }
    out
}

fn help(problem: &Problem) -> Group<'_> {
    Level::HELP.secondary_title(printable(&problem.remedy)).elements(None::<Message<'_>>)
}

/// `text` in full, with whatever a terminal would obey replaced. Line breaks and tabs stay: the renderer sets them.
fn printable(text: &str) -> String {
    text.chars().map(|c| if is_obeyed(c) && c != '\n' && c != '\t' { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// Whether a terminal may act on `c` instead of showing it: control characters, and those that turn the direction of
/// what follows, so that the text shown is not the text read.
fn is_obeyed(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The nearest range that lies in `text` on character boundaries.
fn fitted(text: &str, span: &Range<usize>) -> Range<usize> {
    let start = text.floor_char_boundary(span.start);
    let end = text.ceil_char_boundary(span.end);
    start..end.max(start)
}

/// Lines and columns of places in a text; fast as long as the places are asked for in the order of the text.
struct Places<'a> {
    text: &'a str,
    offset: usize,
    line: usize,
    column: usize,
}

impl<'a> Places<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, offset: 0, line: 1, column: 1 }
    }

    /// Line and column, from 1, of the byte at `offset`.
    fn at(&mut self, offset: usize) -> (usize, usize) {
        let offset = self.text.floor_char_boundary(offset);
        if offset < self.offset {
            *self = Self::new(self.text);
        }
        for c in self.text[self.offset..offset].chars() {
            if c == '\n' {
                self.line += 1;
                self.column = 1;
            } else {
                self.column += 1;
            }
        }
        self.offset = offset;
        (self.line, self.column)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(span: Range<usize>) -> Problem {
        Problem { span, cause: "it is wrong".to_owned(), remedy: "correct it".to_owned() }
    }

    #[test]
    fn no_problems_are_no_error() {
        assert_eq!(Problems::of("a.toml", "", Vec::new()), None);
    }

    #[test]
    fn problems_are_sorted_fitted_and_located() {
        let text = "a = 1\nä = \"ö\"\n";
        let problems = Problems::of("a.toml", text, vec![problem(90..95), problem(12..13), problem(0..1)]).unwrap();
        let places: Vec<_> = problems.located().iter().map(|p| (p.line, p.column)).collect();
        assert_eq!(places, [(1, 1), (2, 6), (3, 1)]);
        assert_eq!(problems.list[1].span, 12..14, "a span never cuts a character in two");
    }

    #[test]
    fn the_terminal_obeys_nothing_of_the_file() {
        let text = "a = \"\u{9b}31m\u{202e}\u{1b}[0m\"";
        let problems = Problems::of("\u{1b}[31m.toml", text, vec![problem(4..9)]).unwrap();
        assert!(problems.to_string().chars().all(|c| c == '\n' || !is_obeyed(c)), "{problems:?}");
        assert_eq!(shown("\u{1b}[31m"), "\\u{1b}[31m");
    }

    #[test]
    fn many_problems_are_counted_and_long_lines_left_out() {
        let text = format!("x = \"{}\"", "y".repeat(3_000));
        let list: Vec<_> = (0..60).map(|at| problem(at..at + 1)).collect();
        let rendered = Problems::of("a.toml", &text, list).unwrap().to_string();
        assert!(rendered.ends_with("60 errors in a.toml; the first 50 are shown"), "{rendered}");
        assert_eq!(rendered.matches("error: it is wrong").count(), 50);
        assert!(rendered.contains("--> a.toml:1:50\n") && rendered.contains("too long to be shown"), "{rendered}");
    }

    #[test]
    fn colour_is_only_added() {
        let problems = Problems::of("a.toml", "a = 1", vec![problem(4..5)]).unwrap();
        assert!(problems.render(true).contains('\u{1b}') && !problems.render(false).contains('\u{1b}'));
    }
}
