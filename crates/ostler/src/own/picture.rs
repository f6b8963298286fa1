//! The picture of an answer: what each way costs if it is kept for one year, two, and so on. A line is what is most likely, a
//! bar nine of ten draws.
//!
//! It is drawn for a light page; a style in it gives it other colours where the reader's screen is dark.

use ostler_books::own::{Spread, Way};
use plotters::prelude::*;
use plotters::style::FontDesc;
use rust_decimal::prelude::ToPrimitive;

use super::Shown;

const WIDTH: u32 = 960;
const CHART: u32 = 420;
const TITLE: u32 = 62;
const ROW: u32 = 20;
/// Owning, and the cheapest plans: more lines are no picture.
const WAYS_MAX: usize = 5;
/// Told apart also by those who do not see all colours (Okabe and Ito's palette).
const COLOURS: [RGBColor; WAYS_MAX] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0xe6, 0x9f, 0x00),
];
/// On a dark screen.
const DARK: &str = "<style>@media (prefers-color-scheme: dark) { \
    rect[fill=\"#FFFFFF\"] { fill: #16181c } text { fill: #dddddd } \
    [stroke=\"#000000\"] { stroke: #999999 } [stroke=\"#E6E6E6\"] { stroke: #33363c } \
    [stroke=\"#0072B2\"] { stroke: #56b4e9 } [fill=\"#0072B2\"] { fill: #56b4e9 } }</style>";

/// A way, with what it is called.
type Named<'a> = (String, &'a Way);

/// The picture as SVG.
pub(super) fn draw(shown: &Shown) -> String {
    let answer = &shown.answer;
    let plans = answer.plans.iter().map(|plan| (plan.offer.name(), &plan.way));
    let ways: Vec<Named<'_>> = [("own".to_owned(), &answer.own)].into_iter().chain(plans).take(WAYS_MAX).collect();
    let head = TITLE + ROW * u32::try_from(ways.len()).unwrap_or_default(); // at most five
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, (WIDTH, head + CHART)).into_drawing_area();
        drawn(root, shown, &ways, head);
    }
    // Behind the element that everything is in.
    match text.find("<svg").and_then(|begin| text[begin..].find('>').map(|end| begin + end + 1)) {
        Some(at) => format!("{}\n{DARK}{}", &text[..at], &text[at..]),
        None => text,
    }
}

fn drawn(root: DrawingArea<SVGBackend<'_>, plotters::coord::Shift>, shown: &Shown, ways: &[Named<'_>], head: u32) {
    const INVARIANT: &str = "drawing into a string cannot fail";
    let code = shown.estate.currency.as_str();
    root.fill(&WHITE).expect(INVARIANT);
    let (title, rest) = root.split_vertically(head);
    let heading = format!("Own or buy {} of {}", shown.service.name, shown.estate.name);
    title.draw(&Text::new(heading, (16, 10), font(17))).expect(INVARIANT);
    let legend = format!("net present value in {code}, by years · line: most likely · bar: nine of ten draws");
    title.draw(&Text::new(legend, (16, 34), font(13))).expect(INVARIANT);
    for (index, ((name, way), colour)) in ways.iter().zip(COLOURS).enumerate() {
        let y = i32::try_from(TITLE + ROW * u32::try_from(index).unwrap_or_default()).unwrap_or_default();
        let swatch = Rectangle::new([(16, y), (34, y + 10)], colour.filled());
        title.draw(&swatch).expect(INVARIANT);
        let total = way.over.last().map(|amount| amount.round().to_string()).unwrap_or_default();
        title.draw(&Text::new(format!("{name}: {total}"), (42, y - 1), font(13))).expect(INVARIANT);
    }
    let years = f64::from(shown.answer.years);
    let (low, high) = ends(ways);
    let mut chart = ChartBuilder::on(&rest)
        .margin(12)
        .x_label_area_size(26)
        .y_label_area_size(84)
        .build_cartesian_2d(0.6..years + 0.4, low..high)
        .expect(INVARIANT);
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(RGBColor(0xe6, 0xe6, 0xe6))
        .x_labels(shown.answer.years as usize + 1) // at most seven
        .x_label_formatter(&|year| if (year - year.round()).abs() < 0.01 { words(*year) } else { String::new() })
        .y_label_formatter(&|amount| format!("{amount:.0}"))
        .label_style(font(12))
        .draw()
        .expect(INVARIANT);
    for (index, ((_, way), colour)) in ways.iter().zip(COLOURS).enumerate() {
        // Beside each other, so that no bar hides another.
        let aside = (index as f64 - (ways.len() - 1) as f64 / 2.0) * 0.05;
        let at = |year: usize| year as f64 + 1.0 + aside;
        for (year, Spread { low, high, .. }) in way.spread.iter().enumerate() {
            let bar = PathElement::new([(at(year), *low), (at(year), *high)], colour.mix(0.45).stroke_width(5));
            chart.draw_series([bar]).expect(INVARIANT);
        }
        let points: Vec<(f64, f64)> =
            way.over.iter().enumerate().map(|(year, amount)| (at(year), amount.to_f64().unwrap_or_default())).collect();
        chart.draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2))).expect(INVARIANT);
        chart.draw_series(points.iter().map(|point| Circle::new(*point, 3, colour.filled()))).expect(INVARIANT);
    }
    root.present().expect(INVARIANT);
}

fn words(year: f64) -> String {
    if year.round() as i64 == 1 { "1 year".to_owned() } else { format!("{year:.0} years") }
}

/// From nothing, or from what is below it, to a little more than the most.
fn ends(ways: &[Named<'_>]) -> (f64, f64) {
    let all = || {
        ways.iter().flat_map(|(_, way)| {
            let likely = way.over.iter().filter_map(|amount| amount.to_f64());
            likely.chain(way.spread.iter().flat_map(|spread| [spread.low, spread.high]))
        })
    };
    let (low, high) = (all().fold(0.0, f64::min), all().fold(1.0, f64::max));
    (low * 1.05, high * 1.05)
}

fn font(size: u32) -> FontDesc<'static> {
    ("sans-serif", size).into_font()
}
