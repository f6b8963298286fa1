//! Tables and words for people.

use anstyle::{AnsiColor, Style};
use comfy_table::{Cell, CellAlignment, Table, presets};
use ostler_manager::{
    Change, DrillView, InstanceView, LeftView, LeftoverView, MovingView, ServiceView, StatusView, Verdict,
};
use ostler_model::health::State;
use ostler_model::time::in_words;
use ostler_runtime::books::CostChange;
use ostler_runtime::clock;
use ostler_runtime::drills;
use ostler_runtime::history;
use ostler_runtime::kept;
use ostler_runtime::levels;
use ostler_runtime::overrides;
use ostler_runtime::preview::{Preview, Upgrades};
use ostler_runtime::{upgrades, why};

/// The colour that a state has on a terminal.
fn style(state: State) -> Style {
    match state {
        State::Ready => AnsiColor::Green.on_default(),
        State::Pending | State::Starting | State::Upgrading | State::Stopping => AnsiColor::Cyan.on_default(),
        State::Degraded | State::Healing | State::InDoubt | State::Quarantined => AnsiColor::Yellow.on_default(),
        State::Failed | State::Held => AnsiColor::Red.on_default().bold(),
        State::Retained | State::Stopped => Style::new().dimmed(),
    }
}

fn coloured(state: State) -> String {
    let style = style(state);
    format!("{style}{state}{style:#}")
}

pub(crate) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.iter().map(|title| Cell::new(title.to_ascii_uppercase())));
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

pub(crate) fn or_dash<T: ToString>(value: Option<&T>) -> String {
    value.map_or_else(|| "–".to_owned(), ToString::to_string)
}

/// The status of an estate.
pub(crate) fn status(status: &StatusView, troubles: &[String]) -> String {
    let mut out = String::new();
    for trouble in troubles {
        let red = AnsiColor::Red.on_default().bold();
        out.push_str(&format!("{red}ostler itself:{red:#} {trouble}\n"));
    }
    let Some(name) = &status.estate else {
        out.push_str("Nothing is declared yet. `ostler up FILE` brings an estate up.\n");
        return out;
    };
    out.push_str(&format!("Estate {name}: {}\n", summary(status)));
    if status.services.is_empty() {
        return out;
    }
    out.push('\n');
    let mut rows = table(&["service", "state", "instances", "endpoint", "offering", "version", "provider"]);
    for service in &status.services {
        let ready = service.instances.iter().filter(|instance| instance.state == State::Ready).count();
        rows.add_row([
            service.name.to_string(),
            coloured(service.state),
            format!("{ready}/{}", service.instances_wanted),
            or_dash(service.endpoint.as_ref()),
            service.offering.to_string(),
            or_dash(service.version.as_ref()),
            or_dash(service.provider.as_ref()),
        ]);
    }
    out.push_str(&lines(&rows));
    out.push_str(&service_levels(status));
    out.push_str(&backups(status));
    for service in &status.services {
        for line in remarks(service) {
            out.push_str(&line);
        }
    }
    for view in &status.overrides {
        out.push_str(&format!("\n{}", overrides::lines(view, clock::now())));
    }
    out
}

/// How services stand with what is asked of them; nothing if nothing is.
fn service_levels(status: &StatusView) -> String {
    let all = status.services.iter().flat_map(|service| service.levels.iter().map(move |level| (&service.name, level)));
    let mut rows = table(&["service level", "asked for", "over", "reached", "may still fail", "used up"]);
    for (name, level) in all {
        let burning = levels::burning(level).map(|words| {
            let style = AnsiColor::Red.on_default().bold();
            format!("{style}{words}{style:#}")
        });
        rows.add_row([
            name.to_string(),
            levels::asked(level),
            in_words(level.over.get()),
            levels::reached(level),
            levels::left(level),
            or_dash(burning.as_ref()),
        ]);
    }
    if rows.is_empty() { String::new() } else { format!("\n{}", lines(&rows)) }
}

/// What there is of services' data elsewhere; nothing if nothing is to be there.
fn backups(status: &StatusView) -> String {
    let now = clock::now();
    let mut rows = table(&["backups", "newest", "kept", "restore proven"]);
    for service in &status.services {
        if let Some([newest, kept, proven]) = kept::cells(service, now) {
            rows.add_row([service.name.to_string(), newest, kept, proven]);
        }
    }
    if rows.is_empty() { String::new() } else { format!("\n{}", lines(&rows)) }
}

fn summary(status: &StatusView) -> String {
    let count = status.services.len();
    let ready = status.services.iter().filter(|service| service.state == State::Ready).count();
    match () {
        () if status.down => "stopped by a person; `ostler up` starts it".to_owned(),
        () if count == 0 => "it has no services".to_owned(),
        () if status.settled && ready == count && count == 1 => "its one service is ready".to_owned(),
        () if status.settled && ready == count => format!("all {count} services are ready"),
        () => format!("{ready} of {count} services are ready"),
    }
}

/// What is not as it should be, and what somebody must know.
fn remarks(service: &ServiceView) -> Vec<String> {
    let mut lines = Vec::new();
    for trouble in &service.troubles {
        lines.push(format!("\n{}: {trouble}\n", service.name));
    }
    if let Some(upgrade) = &service.upgrade {
        lines.push(format!("\n{}: {}.\n", service.name, upgrades::under_way(upgrade)));
        if let (Some(question), Some(answer)) = (&upgrade.question, &upgrade.answer) {
            lines.push(format!("  It waits for a person: {question}\n  What to do: {answer}\n"));
        }
    }
    lines.extend(service.available.as_ref().map(|it| format!("\n{}: {}.\n", service.name, upgrades::available(it))));
    let moving = service.moving.as_ref().filter(|moving| moving.from != moving.to); // others are upgrades
    lines.extend(moving.map(|moving| moves(service, moving)));
    for instance in &service.instances {
        let left = instance.left_at.as_ref().filter(|_| instance.state == State::Retained);
        lines.extend(left.map(|left| left_behind(instance, left)));
        if !matches!(instance.state, State::Ready | State::Retained | State::Stopped) {
            lines.push(remark(instance));
        }
    }
    lines.extend(service.leftovers.iter().map(leftover));
    if let Some(sold) = &service.sold {
        let bindings = history::counted(sold.bindings, "binding");
        lines.push(format!("\n{} is sold to {}, who calls it {}; {bindings}.\n", service.name, sold.to, sold.id));
    }
    if let Some(drilling) = &service.drilling {
        let (fault, until) = (drilling.fault, &drilling.until);
        lines.push(format!("\n{} is being drilled (`{fault}`); that is undone by {until}.\n", service.name));
    }
    // What came to nothing says nothing, where something else has said it.
    let shows = |drill: &&DrillView| !matches!(drill.verdict, Verdict::NotCaused(_) | Verdict::CutShort(_));
    if let Some(newest) = service.drills.iter().find(shows).or(service.drills.first()) {
        lines.push(format!("\n{}: {}.\n", service.name, drills::standing(newest)));
    }
    if service.drills_held {
        lines.push(format!(
            "  What to do: find out why (`ostler why {}`); the schedule goes on once a drill of yours is proven.\n",
            service.name
        ));
    }
    if service.state == State::Retained {
        let data = if service.durable { "its data is kept" } else { "it has no durable data" };
        let price = service.price.as_ref().map_or_else(
            || "its provider states no price".to_owned(),
            |price| format!("it costs {} {} a {}", price.amount, price.currency, price.per),
        );
        lines.push(format!(
            "\n{} is no longer declared: {data}, {price}. `ostler down {} --delete-data` deletes it.\n",
            service.name, service.name
        ));
    } else if service.instances_wanted != service.instances_declared {
        lines.push(format!(
            "\n{} was scaled to {} by hand; its file says {}.\n",
            service.name, service.instances_wanted, service.instances_declared
        ));
    }
    lines
}

/// A move that is under way.
fn moves(service: &ServiceView, moving: &MovingView) -> String {
    let MovingView { from, to, began, step, loses, why, .. } = moving;
    let mut out =
        format!("\n{} moves from {from} to {to} since {began} ({why}): {}; {loses}.\n", service.name, step.in_words());
    if let (Some(question), Some(answer)) = (&moving.question, &moving.answer) {
        out.push_str(&format!("  It waits for a person: {question}\n  What to do: {answer}\n"));
    }
    out
}

/// What a move left, and what it costs.
fn left_behind(instance: &InstanceView, left: &LeftView) -> String {
    let LeftView { provider, since, price } = left;
    let price = price.as_ref().map_or_else(
        || "its provider states no price".to_owned(),
        |price| format!("it costs {} {} a {}", price.amount, price.currency, price.per),
    );
    let id = &instance.id;
    format!(
        "\n{id} is kept at {provider}, which it was moved from at {since}; {price}. `ostler discard {id}` deletes it.\n"
    )
}

/// What may be paid for and is used by nobody.
fn leftover(leftover: &LeftoverView) -> String {
    let price = leftover.price.as_ref();
    let price = price.map(|price| format!(", {} {} a {} if it is there", price.amount, price.currency, price.per));
    let answer = leftover.answer.as_ref().map(|answer| format!("  What to do: {answer}\n"));
    format!(
        "\n{} at {} is {} since {}{}: {}\n{}",
        leftover.id,
        leftover.provider,
        coloured(leftover.state),
        leftover.since,
        price.unwrap_or_default(),
        leftover.because,
        answer.unwrap_or_default()
    )
}

fn remark(instance: &InstanceView) -> String {
    let because = instance.because.as_deref().map_or(String::new(), |because| format!(": {because}"));
    let answer = instance.answer.as_deref().map_or(String::new(), |answer| format!("  What to do: {answer}\n"));
    format!("\n{} is {} since {}{because}\n{answer}", instance.id, coloured(instance.state), instance.since)
}

/// A table's lines without the blanks that fill up the last column.
pub(crate) fn lines(table: &Table) -> String {
    let mut out = String::new();
    for line in table.lines() {
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// One line on how far things are and what is in the way, for a progress display.
pub(crate) fn progress(status: &StatusView) -> String {
    let trouble = status.services.iter().flat_map(|service| &service.troubles).next();
    trouble.map_or_else(|| how_far(status), |trouble| format!("{}; {trouble}", how_far(status)))
}

/// What a change costs; nothing where nothing costs anything.
fn costs(change: &CostChange) -> String {
    let CostChange { currency, before, after, difference, once, budget, refused, ways, not_counted } = change;
    if before.is_zero() && after.is_zero() && budget.is_none() {
        return String::new();
    }
    let sign = if difference.is_sign_negative() { "" } else { "+" };
    let mut out = format!("\nWhat it costs\n  {after} {currency} a month instead of {before}: {sign}{difference}\n");
    if !once.is_zero() {
        out.push_str(&format!("  and {once} {currency} once\n"));
    }
    if let Some(budget) = budget {
        let verdict = match (refused, *after > budget.get()) {
            (true, _) => ": `apply` and `up` refuse it",
            (false, true) => ", which is exceeded already",
            (false, false) => "",
        };
        out.push_str(&format!("  the budget is {budget} {currency} a month{verdict}\n"));
    }
    for way in ways {
        out.push_str(&format!("  it would fit with {}: {} {currency} a month\n", way.words, way.monthly));
    }
    for what in not_counted {
        out.push_str(&format!("  not counted: {what}\n"));
    }
    out
}

/// How many services are ready, and which are not.
pub(crate) fn how_far(status: &StatusView) -> String {
    let waiting: Vec<String> = status
        .services
        .iter()
        .filter(|service| service.state != State::Ready && service.state != State::Retained)
        .map(|service| format!("{} {}", service.name, service.state))
        .collect();
    let ready = status.services.iter().filter(|service| service.state == State::Ready).count();
    format!("{ready}/{} ready; {}", status.services.len(), waiting.join(", "))
}

/// How a service becomes another version, what becomes of its data, and what that costs.
fn how_upgraded(upgrade: &Upgrades) -> String {
    let Upgrades { data, backup, instances, keeps, .. } = upgrade;
    let how = match (data, keeps) {
        (true, None) => return "its data dumped and restored; the old instance is kept".to_owned(),
        (true, Some(price)) => {
            return format!(
                "its data dumped and restored; the old instance is kept, for {} {} a {}",
                price.amount, price.currency, price.per
            );
        }
        (false, _) if *instances > 1 => format!("in waves, {instances} instances"),
        (false, _) => "where it is".to_owned(),
    };
    let backup = if *backup { " after a backup" } else { "" };
    format!("{how}{backup}, for the same price")
}

/// What a file would change.
pub(crate) fn preview(preview: &Preview) -> String {
    if preview.is_empty() {
        return "Nothing would change.\n".to_owned();
    }
    let mut out = String::from("What changes\n");
    for change in &preview.changes {
        out.push_str(&match change {
            Change::Added { service } => format!("  + {service}\n"),
            Change::Returned { service } => format!("  + {service}, which was kept with its data\n"),
            Change::Removed { service } => format!("  - {service}: stopped and kept with its data\n"),
            Change::ProviderAdded { provider } => format!("  + provider {provider}\n"),
            Change::ProviderRemoved { provider } => {
                format!("  - provider {provider}: nothing more is bought there; what was bought stays\n")
            }
            Change::ProviderChanged { provider, keys } => format!("  ~ provider {provider}: {}\n", keys.join(", ")),
            Change::Selling { sells: true } => "  ~ what is sold to others\n".to_owned(),
            Change::Selling { sells: false } => {
                "  - the broker: nothing more is sold; what others bought stays\n".to_owned()
            }
            Change::Changed { service, keys } => format!("  ~ {service}: {}\n", keys.join(", ")),
        });
    }
    if preview.changes.is_empty() {
        out.push_str("  nothing in the file; what is not as declared is brought there\n");
    }
    if !preview.bought.is_empty() {
        out.push_str("\nWhat is bought\n");
        let mut rows = table(&["service", "provider", "plan", "version", "instances", "price of one"]);
        for bought in &preview.bought {
            let price = match &bought.price {
                Some(price) => format!("{} {} a {}", price.amount, price.currency, price.per),
                None if bought.free => "nothing".to_owned(),
                None => "none stated".to_owned(),
            };
            rows.add_row([
                Cell::new(&bought.service),
                Cell::new(&bought.provider),
                Cell::new(&bought.plan),
                Cell::new(or_dash(bought.version.as_ref())),
                Cell::new(bought.instances).set_alignment(CellAlignment::Right),
                Cell::new(price),
            ]);
        }
        for line in lines(&rows).lines() {
            out.push_str(&format!("  {line}\n"));
        }
    }
    for bought in preview.bought.iter().filter(|bought| why::is_worth_telling(&bought.candidates)) {
        out.push_str(&format!("\nWhere {} can be bought\n", bought.service));
        bought.candidates.iter().for_each(|candidate| out.push_str(&why::candidate_in_words(candidate)));
    }
    if !preview.overrides.is_empty() {
        out.push_str("\nWhat people decided otherwise\n");
        for it in &preview.overrides {
            out.push_str(&format!("  {} of {}: {}, until {}\n", it.id, it.owner, it.what, it.until));
            it.without.iter().for_each(|without| out.push_str(&format!("    without it {without}\n")));
        }
    }
    if !preview.upgrades.is_empty() {
        out.push_str("\nWhat becomes another version, in this order\n");
        for upgrade in &preview.upgrades {
            let Upgrades { service, from, to, waits, .. } = upgrade;
            let when = waits.as_ref().map_or_else(|| "at once".to_owned(), |waits| format!("waits: {waits}"));
            out.push_str(&format!("  {service}: {from} to {to}, {}; {when}\n", how_upgraded(upgrade)));
        }
    }
    out.push_str(&preview.costs.as_ref().map(costs).unwrap_or_default());
    out.push_str(match preview.steps.is_empty() {
        true => "\nNothing that runs is touched.\n",
        false => "\nWhat is done, in this order, if all goes well\n",
    });
    for (number, step) in preview.steps.iter().enumerate() {
        out.push_str(&format!("  {:>3}. {step}\n", number + 1));
    }
    for service in &preview.interrupted {
        out.push_str(&format!("\nCallers of {service} wait while its only instance restarts.\n"));
    }
    out
}
