//! Papers that are handed to somebody: the same blocks as Markdown, and as one HTML page that can be printed.
//!
//! Invariants: whatever a text holds, it is shown as that text, in one line, and never as markup; the page needs nothing
//! but itself.

use std::fmt::Write;

/// A paper.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Paper {
    /// What it is.
    pub title: String,
    /// What it says, in order.
    pub blocks: Vec<Block>,
}

/// A piece of a paper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Block {
    /// Begins a section.
    Heading(String),
    /// Begins a part of a section.
    Part(String),
    /// A paragraph.
    Text(String),
    /// Names and what they stand for.
    Pairs(Vec<(String, String)>),
    /// A list.
    List(Vec<String>),
    /// A table; columns from `right` on are numbers.
    Table {
        /// The names of the columns.
        header: Vec<String>,
        /// The first column that is aligned right.
        right: usize,
        /// The rows, each as long as the header.
        rows: Vec<Vec<String>>,
        /// The last row is a sum.
        has_sum: bool,
    },
}

const STYLE: &str = "\
@page { size: A4; margin: 18mm 16mm 20mm; }
* { box-sizing: border-box; }
html { font: 10.5pt/1.45 system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif; color: #1b1f24; background: #fff; }
body { max-width: 190mm; margin: 0 auto; padding: 8mm 6mm; }
h1 { font-size: 19pt; line-height: 1.2; margin: 0 0 5mm; border-bottom: 2px solid #1b1f24; padding-bottom: 2mm; }
h2 { font-size: 13pt; margin: 8mm 0 2.5mm; break-after: avoid; }
h3 { font-size: 11pt; margin: 5mm 0 1.5mm; break-after: avoid; }
p, ul, dl, table { margin: 0 0 3mm; }
ul { padding-left: 5mm; }
li { margin-bottom: .8mm; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .8mm 6mm; }
dt { color: #57606a; }
dd { margin: 0; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; font-size: 9.5pt; }
th, td { text-align: left; vertical-align: top; padding: 1.2mm 2mm; border-bottom: 1px solid #d0d7de; overflow-wrap: break-word; }
th { color: #57606a; font-weight: 600; border-bottom: 1px solid #1b1f24; }
th.n, td.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
tr { break-inside: avoid; }
tr.sum td { font-weight: 700; border-top: 1px solid #1b1f24; border-bottom: 0; }
@media print { body { padding: 0; max-width: none; } }
";

impl Paper {
    /// As Markdown.
    pub fn to_markdown(&self) -> String {
        let mut out = format!("# {}\n", plain(&self.title));
        for block in &self.blocks {
            out.push('\n');
            match block {
                Block::Heading(text) => line(&mut out, &format!("## {}", plain(text))),
                Block::Part(text) => line(&mut out, &format!("### {}", plain(text))),
                Block::Text(text) => line(&mut out, &plain(text)),
                Block::List(entries) => {
                    entries.iter().for_each(|entry| line(&mut out, &format!("- {}", plain(entry))));
                }
                Block::Pairs(pairs) => {
                    pairs.iter().for_each(|(name, value)| {
                        line(&mut out, &format!("- {}: **{}**", plain(name), plain(value)));
                    });
                }
                Block::Table { header, right, rows, has_sum } => {
                    let row = |cells: &[String]| format!("| {} |", cells.join(" | "));
                    let texts = |cells: &[String]| cells.iter().map(|cell| plain(cell)).collect::<Vec<_>>();
                    line(&mut out, &row(&texts(header)));
                    let rules = (0..header.len()).map(|column| if column < *right { "---" } else { "---:" });
                    line(&mut out, &row(&rules.map(str::to_owned).collect::<Vec<_>>()));
                    for (index, cells) in rows.iter().enumerate() {
                        let mut cells = texts(cells);
                        if *has_sum && index + 1 == rows.len() {
                            cells
                                .iter_mut()
                                .filter(|cell| !cell.is_empty())
                                .for_each(|cell| *cell = format!("**{cell}**"));
                        }
                        line(&mut out, &row(&cells));
                    }
                }
            }
        }
        out
    }

    /// As one HTML page.
    pub fn to_html(&self) -> String {
        let title = escaped(&self.title);
        let mut out = format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
             content=\"width=device-width\">\n<title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
             <h1>{title}</h1>\n"
        );
        for block in &self.blocks {
            match block {
                Block::Heading(text) => line(&mut out, &format!("<h2>{}</h2>", escaped(text))),
                Block::Part(text) => line(&mut out, &format!("<h3>{}</h3>", escaped(text))),
                Block::Text(text) => line(&mut out, &format!("<p>{}</p>", escaped(text))),
                Block::List(entries) => {
                    let entries: String =
                        entries.iter().map(|entry| format!("<li>{}</li>\n", escaped(entry))).collect();
                    line(&mut out, &format!("<ul>\n{entries}</ul>"));
                }
                Block::Pairs(pairs) => {
                    let pairs: String = pairs
                        .iter()
                        .map(|(name, value)| format!("<dt>{}</dt><dd><b>{}</b></dd>\n", escaped(name), escaped(value)))
                        .collect();
                    line(&mut out, &format!("<dl>\n{pairs}</dl>"));
                }
                Block::Table { header, right, rows, has_sum } => table(&mut out, (header, *right), rows, *has_sum),
            }
        }
        out.push_str("</body>\n</html>\n");
        out
    }
}

fn table(out: &mut String, (header, right): (&[String], usize), rows: &[Vec<String>], has_sum: bool) {
    let cells = |cells: &[String], tag: &str| -> String {
        let cell = |(column, text): (usize, &String)| {
            let class = if column < right { "" } else { " class=\"n\"" };
            format!("<{tag}{class}>{}</{tag}>", escaped(text))
        };
        cells.iter().enumerate().map(cell).collect()
    };
    line(out, &format!("<table>\n<thead><tr>{}</tr></thead>\n<tbody>", cells(header, "th")));
    for (index, row) in rows.iter().enumerate() {
        let class = if has_sum && index + 1 == rows.len() { " class=\"sum\"" } else { "" };
        line(out, &format!("<tr{class}>{}</tr>", cells(row, "td")));
    }
    line(out, "</tbody>\n</table>");
}

fn line(out: &mut String, text: &str) {
    writeln!(out, "{text}").expect("memory takes everything");
}

/// In one line, and of visible characters: no control characters, nor those that turn the direction of what follows.
fn one_line(text: &str) -> impl Iterator<Item = char> {
    let is_odd = |c: char| {
        c.is_control() || matches!(c, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(move |c| if is_odd(c) { ' ' } else { c })
}

/// As Markdown shows it.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in one_line(text) {
        if matches!(c, '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '#' | '~' | '&' | '!') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// As HTML shows it.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in one_line(text) {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_never_markup() {
        let hostile = "</p><script>alert('1')</script>\n| a | [x](javascript:1) **b** \u{202e}";
        let of = |block| Paper { title: hostile.to_owned(), blocks: vec![block] };
        let rows = vec![vec![hostile.to_owned()]];
        for block in [
            Block::Heading(hostile.to_owned()),
            Block::Part(hostile.to_owned()),
            Block::Text(hostile.to_owned()),
            Block::List(vec![hostile.to_owned()]),
            Block::Pairs(vec![(hostile.to_owned(), hostile.to_owned())]),
            Block::Table { header: vec![hostile.to_owned()], right: 0, rows, has_sum: true },
        ] {
            let paper = of(block);
            let (html, markdown) = (paper.to_html(), paper.to_markdown());
            assert!(
                !html.contains("<script") && !html.contains("javascript:1)<") && !html.contains('\u{202e}'),
                "{html}"
            );
            // What is left without what is escaped.
            let mut bare = String::new();
            let mut all = markdown.chars();
            while let Some(c) = all.next() {
                match c {
                    '\\' => drop(all.next()),
                    c => bare.push(c),
                }
            }
            let markup = bare.replace("**", "").replace("| ", "").replace(" |", "").replace("---: ", "");
            assert!(!markup.contains(['<', '>', '[', ']', '`', '*', '_']), "{markdown}");
        }
    }
}
