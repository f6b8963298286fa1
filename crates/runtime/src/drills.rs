//! What drills have shown, in the words of `ostler drill`, `ostler status` and `ostler why`.

use std::time::Duration;

use ostler_manager::{DrillView, Verdict};
use ostler_model::estate::drills::Fault;
use ostler_model::time::in_words;

/// One line for the newest drill: `recovery proven 3 days ago: 0.4 s, 0 failed, 0 lost`.
pub fn standing(drill: &DrillView) -> String {
    let ago = ago(drill.days_ago);
    let fault = drill.fault;
    match &drill.verdict {
        Verdict::Proven if drill.expired => {
            format!("recovery was proven {ago} (`{fault}`), which says nothing any more since {}", drill.valid_until)
        }
        Verdict::Proven => format!("recovery proven {ago}: {} (`{fault}`)", drill.figures),
        verdict => format!("recovery not proven {ago}: the drill `{fault}` {}", verdict.in_words(fault)),
    }
}

/// Everything that was measured, as indented lines.
pub fn report(drill: &DrillView) -> String {
    let ms = |ms: u64| in_words(Duration::from_millis(ms));
    let mut out = String::new();
    let mut line = |title: &str, words: String| out.push_str(&format!("  {title:<10}{words}\n"));
    if drill.fault == Fault::BackupRestore {
        match &drill.restored {
            Some(restored) => {
                line("restored", format!("after {}, from {}, on the side", ms(restored.took_ms), restored.backup));
                line("found", restored.contents());
            }
            None => line("restored", "nothing".to_owned()),
        }
        return out;
    }
    let concluded = drill.diagnosed.as_ref().map(|diagnosed| {
        let right = if diagnosed.right { "which is right" } else { "which is wrong" };
        format!("; concluded: {}, {right}", diagnosed.words)
    });
    match drill.noticed_ms {
        Some(noticed) => line("noticed", format!("after {}{}", ms(noticed), concluded.unwrap_or_default())),
        None => line("noticed", "by nobody".to_owned()),
    }
    match drill.healed_ms {
        Some(healed) if drill.fault == Fault::FillDisk => {
            line("healed", format!("after {}, from when there was room again", ms(healed)));
        }
        Some(healed) => line("healed", format!("after {}", ms(healed))),
        None => line("healed", "not while it lasted".to_owned()),
    }
    line(
        "callers",
        match drill.callers {
            Some(callers) if callers.waited > 0 => format!(
                "asked {} times, {} in vain; {} connections waited, at most {}",
                callers.asked,
                callers.failed,
                callers.waited,
                ms(callers.longest_ms)
            ),
            Some(callers) => format!("asked {} times, {} in vain", callers.asked, callers.failed),
            None => "not counted".to_owned(),
        },
    );
    line(
        "data",
        match drill.data {
            Some(data) => format!("{} written before, {} lost", data.written, data.lost),
            None => "not measured".to_owned(),
        },
    );
    out
}

fn ago(days: u64) -> String {
    match days {
        0 => "today".to_owned(),
        1 => "1 day ago".to_owned(),
        days => format!("{days} days ago"),
    }
}
