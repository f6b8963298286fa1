//! How a service stands with its objectives, in the words of `ostler why` and `ostler status`.

use std::time::Duration;

use ostler_manager::LevelView;
use ostler_model::estate::slo::Objective;
use ostler_model::time::in_words;

/// What is asked for: `99.9% available`, `99% within 100ms`.
pub fn asked(level: &LevelView) -> String {
    match (level.objective, level.within) {
        (Objective::Availability, _) => format!("{} available", level.target),
        (Objective::Latency, Some(within)) => format!("{} within {within}", level.target),
        (Objective::Latency, None) => format!("{} in time", level.target),
    }
}

/// What was reached: a share, or why there is none.
pub fn reached(level: &LevelView) -> String {
    match level.measured_seconds {
        0 => "not seen yet".to_owned(),
        _ => level.reached.to_string(),
    }
}

/// What is left of what may be bad: `72% of 43 min 12 s`, or how much more than that was.
pub fn left(level: &LevelView) -> String {
    let allowed = in_words(Duration::from_secs(level.allowed_seconds));
    match level.failed_seconds.checked_sub(level.allowed_seconds) {
        Some(over @ 1..) => format!("nothing of {allowed}, {} over", in_words(Duration::from_secs(over))),
        _ => format!("{}% of {allowed}", level.left_percent.max(0)),
    }
}

/// How fast that is used up, where it is too fast.
pub fn burning(level: &LevelView) -> Option<String> {
    let burn = level.burns.iter().find(|burn| burn.too_fast)?;
    Some(format!("{} times too fast in the last {}", burn.rate, in_words(burn.window.get())))
}

/// Everything that is known of it, as indented lines.
pub fn report(level: &LevelView) -> String {
    let seconds = |seconds| in_words(Duration::from_secs(seconds));
    let mut out = format!("  {} over {}: {}", asked(level), in_words(level.over.get()), reached(level));
    if level.measured_seconds > 0 {
        out.push_str(&format!(" of the {} that were seen and count", seconds(level.measured_seconds)));
    }
    out.push_str(&format!("\n    what may be bad: {} is left\n", left(level)));
    let rates: Vec<String> = level
        .burns
        .iter()
        .map(|burn| {
            let mark = if burn.too_fast { ", which is too fast" } else { "" };
            format!("{} in {}{mark}", burn.rate, in_words(burn.window.get()))
        })
        .collect();
    out.push_str(&format!("    used up so many times as fast as it may be: {}\n", rates.join("; ")));
    for excluded in &level.excluded {
        out.push_str(&format!(
            "    not counted: {} in {} ({})\n",
            seconds(excluded.seconds),
            excluded.window,
            excluded.reason
        ));
    }
    if level.drilled_seconds > 0 {
        out.push_str(&format!("    not counted: {} (drill)\n", seconds(level.drilled_seconds)));
    }
    if level.unseen_seconds > 0 {
        out.push_str(&format!("    not seen: {}\n", seconds(level.unseen_seconds)));
    }
    out
}
