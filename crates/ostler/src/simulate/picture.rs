//! The picture of a simulation: availability over the year, service by service.
//!
//! Each service has a panel: the mean of all years as a line, the nine best years of ten as a band, and the mean if nobody
//! did anything as a grey line.

use std::time::Duration;

use ostler_sim::{Outlook, PARTS, ServiceOutlook};
use plotters::prelude::*;
use plotters::style::FontDesc;

const WIDTH: u32 = 960;
const PANEL: u32 = 190;
const TITLE: u32 = 56;
const LINE: RGBColor = RGBColor(0x1f, 0x77, 0xb4);
const ALONE: RGBColor = RGBColor(0x88, 0x88, 0x88);
/// More panels than this are no picture: the services with the worst years are shown.
const PANELS_MAX: usize = 12;
/// What is lost is shown no finer than this, in percent of the time: a week without any would have no place on the axis.
const FINEST: f64 = 0.0001;

/// The picture as SVG.
pub(super) fn draw(estate: &str, outlook: &Outlook, alone: Option<&Outlook>) -> String {
    let mut services: Vec<(&str, &ServiceOutlook)> =
        outlook.services.iter().map(|(name, service)| (name.as_str(), service)).collect();
    if services.len() > PANELS_MAX {
        services.sort_by_key(|(_, service)| service.quantile(1));
        services.truncate(PANELS_MAX);
    }
    let height = TITLE + PANEL * u32::try_from(services.len()).unwrap_or(1).max(1);
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, (WIDTH, height)).into_drawing_area();
        let length = outlook.length / u32::try_from(PARTS).unwrap_or(1);
        drawn(root, estate, &services, outlook, alone, length.as_secs_f64());
    }
    text
}

fn drawn(
    root: DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    estate: &str,
    services: &[(&str, &ServiceOutlook)],
    outlook: &Outlook,
    alone: Option<&Outlook>,
    part: f64,
) {
    const INVARIANT: &str = "drawing into a string cannot fail";
    root.fill(&WHITE).expect(INVARIANT);
    let (title, rest) = root.split_vertically(TITLE);
    let heading = format!("{estate}: availability in each week of a year");
    title.draw(&Text::new(heading, (16, 10), font(17))).expect(INVARIANT);
    let legend =
        format!("line: mean of {} years · band: nine years of ten · grey: mean if nothing is done", outlook.years);
    title.draw(&Text::new(legend, (16, 33), font(13))).expect(INVARIANT);
    for ((name, service), panel) in services.iter().zip(rest.split_evenly((services.len(), 1))) {
        let lost = |service: &ServiceOutlook, of: fn(&[Duration]) -> Duration| -> Vec<(f64, f64)> {
            let weeks = service.parts.iter().enumerate();
            let percent = |lost: Duration| (100.0 * lost.as_secs_f64() / part).clamp(FINEST, 100.0);
            weeks.map(|(week, lost)| (week as f64 + 0.5, percent(of(lost)))).collect()
        };
        let mut chart = ChartBuilder::on(&panel)
            .margin(8)
            .x_label_area_size(24)
            .y_label_area_size(72)
            .caption(name, font(14))
            // Upside down, so that up is better; by powers of ten, because nines are.
            .build_cartesian_2d(0.0..PARTS as f64, (100.0..FINEST).log_scale())
            .expect(INVARIANT);
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .y_labels(7)
            .y_label_formatter(&|lost| available(*lost))
            .x_labels(13)
            .x_label_formatter(&|week| format!("{week:.0}"))
            .label_style(font(11))
            .draw()
            .expect(INVARIANT);
        let worst = lost(service, nine_of_ten);
        chart.draw_series(AreaSeries::new(worst, FINEST, LINE.mix(0.2))).expect(INVARIANT);
        if let Some(alone) = alone.and_then(|alone| alone.services.iter().find(|(other, _)| other.as_str() == *name)) {
            chart.draw_series(LineSeries::new(lost(alone.1, mean), ALONE.stroke_width(2))).expect(INVARIANT);
        }
        chart.draw_series(LineSeries::new(lost(service, mean), LINE.stroke_width(2))).expect(INVARIANT);
    }
    root.present().expect(INVARIANT);
}

fn font(size: u32) -> FontDesc<'static> {
    ("sans-serif", size).into_font()
}

/// What nine years of ten did not exceed; the least comes first.
fn nine_of_ten(lost: &[Duration]) -> Duration {
    lost.get(lost.len().saturating_sub(1) * 9 / 10).copied().unwrap_or_default()
}

fn mean(lost: &[Duration]) -> Duration {
    let years = u32::try_from(lost.len()).unwrap_or(u32::MAX).max(1);
    lost.iter().sum::<Duration>() / years
}

/// What is left if so many percent are lost: `99.99 %`.
fn available(lost: f64) -> String {
    let decimals = (0..6).find(|decimals| lost * 10_f64.powi(*decimals) >= 0.99).unwrap_or(6);
    format!("{:.*} %", usize::try_from(decimals).unwrap_or(0), 100.0 - lost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_axis_says_what_is_available() {
        let labels = [100.0, 10.0, 1.0, 0.1, 0.01, 0.001, 0.0001].map(available);
        assert_eq!(labels, ["0 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %", "99.9999 %"]);
    }
}
