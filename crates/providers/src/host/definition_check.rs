//! What a definition file must hold to, beyond being readable.
//!
//! Invariant: whatever passes here renders without an unknown reference, `env.…` aside.

use std::collections::BTreeSet;

use ostler_model::catalog::ACCEPTS_MAX;
use ostler_model::diagnostics::{Problem, Problems};
use ostler_model::ids::OfferingName;
use ostler_model::version::VersionRange;

use super::definition::{Definition, Generated, Helper, Step, Text, When, problem};

/// What a text that is no definition is told.
pub(super) fn unreadable(file: &str, text: &str, error: &toml::de::Error) -> Problems {
    let message = error.message().trim();
    let remedy = match unknown_name(message) {
        Some((unknown, known)) => match nearest(unknown, &known) {
            Some(near) => format!("Did you mean `{near}`?"),
            None => format!("Known here: {}.", known.join(", ")),
        },
        None => "Correct it; the guide's chapter \"Writing an offering\" explains every key.".to_owned(),
    };
    let span = error.span().unwrap_or(0..0);
    Problems::of(file, text, vec![problem(span, message.replace('\n', " "), remedy)])
        .unwrap_or_else(|| Problems::whole(file, text, message, "Correct it."))
}

/// Everything that does not fit in a readable definition.
pub(super) fn check(definition: &Definition) -> Vec<Problem> {
    let mut checker = Checker { problems: Vec::new(), common: common_names(definition), definition };
    checker.sections();
    checker.plans();
    checker.accepts();
    checker.fields("secret.", &definition.secret, &[]);
    checker.fields("binding.", &definition.bind, &["binding.consumer", "binding.id", "endpoint.host", "endpoint.port"]);
    checker.templates();
    checker.problems
}

struct Checker<'a> {
    problems: Vec<Problem>,
    common: BTreeSet<String>,
    definition: &'a Definition,
}

impl Checker<'_> {
    /// Sections that need or exclude each other.
    fn sections(&mut self) {
        let d = self.definition;
        let whole = |cause: &str, remedy: &str| problem(0..0, cause, remedy);
        if d.plans.is_empty() {
            self.problems.push(whole("there is no plan", "Add at least one `[[plan]]`; the first is the default."));
        }
        match (d.runs_program, d.run.command.first()) {
            (true, Some(text)) => self.problems.push(problem(
                text.span(),
                "`runs_program = true` runs the buyer's program, so `run.command` has no use",
                "Remove one of the two.",
            )),
            (false, None) => self.problems.push(whole(
                "nothing says what is run",
                "Add `[run]` with `command = [\"{{ binaries.NAME }}\", …]`, or `runs_program = true`.",
            )),
            (true, None) | (false, Some(_)) => {}
        }
        if d.bindable && d.bind.names().is_empty() {
            self.problems.push(whole(
                "`bindable = true`, but no fields of a binding are given",
                "Add `[bind]` with `fields = { uri = \"…\", host = \"…\", port = \"…\" }`.",
            ));
        }
        if d.instances_max == Some(0) {
            self.problems.push(whole("`instances_max = 0` allows no instance", "Leave it out for no limit."));
        }
        if let Some(find) = &d.find
            && (find.folders.is_empty() || find.programs.is_empty())
        {
            self.problems.push(whole("`find` names no folder or no program", "Name at least one of each."));
        }
        for folder in d.find.iter().flat_map(|find| &find.folders).filter(|folder| !folder.get_ref().starts_with('/')) {
            let cause = format!("`{}` does not begin with `/`", folder.get_ref());
            self.problems.push(problem(folder.span(), cause, "Give absolute folders."));
        }
        self.backups();
        self.outside();
    }

    fn backups(&mut self) {
        let d = self.definition;
        let whole = |cause: &str, remedy: &str| problem(0..0, cause, remedy);
        match (&d.backup, &d.restore) {
            (None, None) => {}
            (Some(_), None) | (None, Some(_)) => self
                .problems
                .push(whole("`backup` and `restore` come together", "Add the other: a backup is worth its restore.")),
            (Some(backup), Some(restore)) => {
                if backup.steps.iter().filter(|step| step.makes_backup).count() != 1 {
                    self.problems.push(whole(
                        "exactly one step of `backup` must write the backup",
                        "Add `makes_backup = true` to the step whose standard output is the backup.",
                    ));
                }
                if !restore.steps.iter().any(|step| step.takes_backup) && restore.helper.is_none() {
                    self.problems.push(whole(
                        "no step of `restore` reads the backup",
                        "Add `takes_backup = true` to the step that reads it from standard input, or a `helper`.",
                    ));
                }
            }
        }
    }

    fn outside(&mut self) {
        let Some(outside) = &self.definition.outside else { return };
        let whole = |cause: &str, remedy: &str| problem(0..0, cause, remedy);
        if self.definition.backup.is_none() {
            self.problems.push(whole(
                "`outside` needs `backup` and `restore`",
                "Add them: what is backed up over a binding is restored on this machine, to prove that it can be.",
            ));
        }
        if outside.schemes.is_empty() {
            self.problems
                .push(whole("`outside` is for no scheme", "Add `schemes = [\"…\"]`, as its bindings' URIs begin."));
        }
        if outside.backup.iter().filter(|step| step.makes_backup).count() != 1 {
            self.problems.push(whole(
                "exactly one step of `outside.backup` must write the backup",
                "Add `makes_backup = true` to the step whose standard output is the backup.",
            ));
        }
        let reads = |step: &Step| {
            let texts = step.run.iter().chain(&step.stdin).chain(step.environment.values());
            step.takes_backup || texts.into_iter().any(|text| text.get_ref().references().any(|r| r == "backup.file"))
        };
        if !outside.restore.iter().any(reads) {
            self.problems.push(whole(
                "no step of `outside.restore` reads the backup",
                "Add `takes_backup = true` to the step that reads it from standard input, or use `backup.file`.",
            ));
        }
    }

    fn plans(&mut self) {
        let plans = &self.definition.plans;
        let mut seen = BTreeSet::new();
        for plan in plans {
            if !seen.insert(plan.name.get_ref()) {
                let cause = format!("the plan `{}` is there twice", plan.name.get_ref());
                self.problems.push(problem(plan.name.span(), cause, "Rename or remove one of them."));
            }
            let first = &plans[0];
            if let Some(key) = first.values.keys().find(|key| !plan.values.contains_key(*key)) {
                let cause = format!("the plan `{}` has no value `{key}`", plan.name.get_ref());
                let remedy = format!("Give every plan the same values: `{}` has it.", first.name.get_ref());
                self.problems.push(problem(plan.name.span(), cause, remedy));
            }
        }
    }

    /// Every range is one, and of versions that there can be.
    fn accepts(&mut self) {
        let d = self.definition;
        let has_versions = d.find.as_ref().is_some_and(|find| find.version.is_some());
        if d.accepts.len() > ACCEPTS_MAX {
            let cause = format!("there are {} `[[accepts]]`; there may be {ACCEPTS_MAX}", d.accepts.len());
            self.problems.push(problem(0..0, cause, "Join ranges that say the same."));
        }
        for accepts in &d.accepts {
            let ranges = accepts.versions.iter().chain([&accepts.range]);
            for (text, wrong) in ranges.filter_map(|text| Some((text, text.get_ref().parse::<VersionRange>().err()?))) {
                let remedy = "Join comparisons by commas, as in `>=15, <18`.";
                self.problems.push(problem(text.span(), wrong.to_string(), remedy));
            }
            let offering = &accepts.offering;
            if let Err(wrong) = offering.get_ref().parse::<OfferingName>() {
                self.problems.push(problem(
                    offering.span(),
                    wrong.to_string(),
                    "Name an offering, as in `postgresql`.",
                ));
            }
            if let Some(versions) = accepts.versions.as_ref().filter(|_| !has_versions) {
                let cause = "this is about some of its own versions, and it has none of its own";
                let remedy = "Remove `versions`, or add `[find.version]`.";
                self.problems.push(problem(versions.span(), cause, remedy));
            }
        }
    }

    /// A field may refer to generated fields and to fields that refer to no other field.
    fn fields(&mut self, prefix: &str, section: &impl Generated, extra: &[&str]) {
        for name in section.generated() {
            if section.fields().contains_key(name.get_ref()) {
                let cause = format!("`{}` is generated and also given", name.get_ref());
                self.problems.push(problem(name.span(), cause, "Remove one of the two."));
            }
        }
        let own = |reference: &str| reference.strip_prefix(prefix).is_some_and(|f| section.fields().contains_key(f));
        let all: Vec<String> = section.names().iter().map(|name| format!("{prefix}{name}")).collect();
        for text in section.fields().values() {
            for reference in text.get_ref().references().filter(|r| own(r)) {
                let field = &section.fields()[&reference[prefix.len()..]];
                if field.get_ref().references().any(own) {
                    let cause = format!("`{reference}` refers to other fields itself");
                    self.problems.push(problem(text.span(), cause, "Refer to plain fields only."));
                }
            }
            let here: Vec<&str> = all.iter().map(String::as_str).chain(extra.iter().copied()).collect();
            self.text(text, &here);
        }
        for name in section.names() {
            if name.is_empty() || !name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_') {
                let cause = format!("`{name}` is no name of a field");
                self.problems.push(problem(0..0, cause, "Use lower-case letters, digits and underscores."));
            }
        }
    }

    fn templates(&mut self) {
        let d = self.definition;
        if let Some(version) = d.find.as_ref().and_then(|find| find.version.as_ref()) {
            let common = std::mem::take(&mut self.common);
            let binaries: Vec<&str> =
                common.iter().filter(|n| n.starts_with("binaries.")).map(String::as_str).collect();
            version.run.iter().for_each(|text| self.text(text, &binaries));
            self.common = common;
        }
        for text in d.texts.values() {
            if let Some(other) = text.get_ref().references().find(|r| r.starts_with("texts.")) {
                let cause = format!("a text cannot refer to another text (`{other}`)");
                self.problems.push(problem(text.span(), cause, "Write it out."));
            }
            self.text(text, &[]);
        }
        d.environment.values().for_each(|text| self.text(text, &[]));
        for file in &d.files {
            self.text(&file.path, &[]);
            self.text(&file.text, &[]);
            let source = file.path.get_ref().source();
            let inside = source.starts_with("{{ instance.folder }}/") || source.starts_with("{{ instance.data }}/");
            if !inside || source.split('/').any(|part| part == "..") {
                self.problems.push(problem(
                    file.path.span(),
                    "files are written into the instance's folder only",
                    "Begin the path with `{{ instance.folder }}/` or `{{ instance.data }}/`, without `..`.",
                ));
            }
            if file.when == When::Prepare && !source.starts_with("{{ instance.data }}/") {
                self.problems.push(problem(
                    file.path.span(),
                    "a file that is written while preparing belongs to the data",
                    "Begin its path with `{{ instance.data }}/`.",
                ));
            }
        }
        d.run.command.iter().chain(&d.run.folder).for_each(|text| self.text(text, &[]));
        self.steps(&d.prepare, &[], false);
        let binding = bind_names(d);
        let binding: Vec<&str> = binding.iter().map(String::as_str).collect();
        self.steps(&d.bind.steps, &binding, false);
        self.steps(&d.unbind.steps, &binding, false);
        if let Some(backup) = &d.backup {
            self.steps(&backup.steps, &["backup.file"], true);
        }
        self.steps(&d.count.steps, &[], false);
        if let Some(outside) = &d.outside {
            // Nothing of an instance of this machine's is there.
            let common = std::mem::take(&mut self.common);
            self.common = common.iter().filter(|name| !is_of_instance(name)).cloned().collect();
            let texts = outside.version.iter().chain(&outside.backup).chain(&outside.restore).flat_map(texts_of);
            let named: BTreeSet<&str> = texts.filter_map(|reference| reference.strip_prefix("texts.")).collect();
            for name in named {
                if let Some(text) = d.texts.get(name) {
                    self.text(text, &[]);
                }
            }
            let programs = d.find.iter().flat_map(|find| &find.programs).map(|name| format!("newest.{name}"));
            let programs: Vec<String> = programs.collect();
            let names: Vec<&str> = OUTSIDE_NAMES.into_iter().chain(programs.iter().map(String::as_str)).collect();
            outside.version.iter().for_each(|step| self.steps(std::slice::from_ref(step), &names, false));
            self.steps(&outside.backup, &names, true);
            self.steps(&outside.restore, &names, true);
            self.common = common;
        }
        if let Some(restore) = &d.restore {
            let helper = restore.helper.as_ref().map_or(&[][..], |_| &HELPER_NAMES[..]);
            self.steps(&restore.steps, helper, true);
            self.steps(&restore.always, helper, false);
            if let Some(Helper { run, stdin }) = &restore.helper {
                run.iter().chain(stdin).for_each(|text| self.text(text, helper));
            }
        }
    }

    fn steps(&mut self, steps: &[Step], extra: &[&str], backups: bool) {
        for step in steps {
            let mut here = extra.to_vec();
            if step.secret_file.is_some() {
                here.push("step.file");
            }
            let texts = step.run.iter().chain(&step.stdin).chain(step.environment.values()).chain(&step.secret_file);
            texts.for_each(|text| self.text(text, &here));
            let span = step.run.first().map_or(0..0, Text::span);
            if step.run.is_empty() {
                self.problems.push(problem(0..0, "a step has nothing to run", "Give `run` a program."));
            }
            if step.takes_backup && step.stdin.is_some() {
                let cause = "a step's standard input is either the backup or a text";
                self.problems.push(problem(span.clone(), cause, "Remove `stdin` or `takes_backup`."));
            }
            if (step.takes_backup || step.makes_backup) && (!backups || step.wait_for.is_some()) {
                let cause = "only steps of `backup` and `restore` that run once read or write the backup";
                self.problems.push(problem(span.clone(), cause, "Remove `takes_backup` or `makes_backup`."));
            }
            if step.makes_backup && step.expect.is_some() {
                let cause = "the output of this step is the backup, so nothing can be expected of it";
                self.problems.push(problem(span, cause, "Remove `expect`."));
            }
        }
    }

    fn text(&mut self, text: &Text, extra: &[&str]) {
        for reference in text.get_ref().references() {
            let known = self.common.contains(reference) || extra.contains(&reference) || reference.starts_with("env.");
            if known {
                continue;
            }
            let all: Vec<&str> = self.common.iter().map(String::as_str).chain(extra.iter().copied()).collect();
            let remedy = match nearest(reference, &all) {
                Some(near) => format!("Did you mean `{near}`?"),
                None => format!("Values here: {}.", all.join(", ")),
            };
            self.problems.push(problem(text.span(), format!("`{reference}` has no value here"), remedy));
        }
    }
}

const OUTSIDE_NAMES: [&str; 8] =
    ["at.place", "at.host", "at.port", "at.username", "at.password", "at.database", "backup.file", "work.folder"];

/// What a step refers to.
fn texts_of(step: &Step) -> impl Iterator<Item = &str> {
    let texts = step.run.iter().chain(&step.stdin).chain(step.environment.values()).chain(&step.secret_file);
    texts.flat_map(|text| text.get_ref().references())
}

/// Whether only an instance of this machine's has a value of this name.
fn is_of_instance(name: &str) -> bool {
    ["instance.", "secret.", "plan.", "user."].iter().any(|prefix| name.starts_with(prefix))
}

const HELPER_NAMES: [&str; 4] = ["helper.port", "helper.password", "helper.folder", "helper.backup"];

/// What every template of the definition may refer to.
fn common_names(definition: &Definition) -> BTreeSet<String> {
    let fixed = [
        "estate.name",
        "service.name",
        "service.id",
        "instance.id",
        "instance.folder",
        "instance.data",
        "instance.host",
        "instance.port",
        "user.name",
    ];
    let mut names: BTreeSet<String> = fixed.iter().map(|&name| name.to_owned()).collect();
    names.extend(definition.secret.names().iter().map(|name| format!("secret.{name}")));
    names.extend(definition.texts.keys().map(|name| format!("texts.{name}")));
    names.extend(definition.plans.first().iter().flat_map(|p| p.values.keys()).map(|name| format!("plan.{name}")));
    if let Some(find) = &definition.find {
        names.insert("binaries.folder".to_owned());
        names.extend(find.programs.iter().map(|name| format!("binaries.{name}")));
        names.extend(find.version.iter().map(|_| "version".to_owned()));
    }
    names
}

/// What the steps of a binding may refer to besides.
fn bind_names(definition: &Definition) -> Vec<String> {
    let fixed = ["binding.consumer", "binding.id", "endpoint.host", "endpoint.port"];
    let fields = definition.bind.names().into_iter().map(|name| format!("binding.{name}"));
    fixed.iter().map(|&name| name.to_owned()).chain(fields).collect()
}

/// From serde's "unknown field `x`, expected one of `a`, `b`": `x`, and what is known.
fn unknown_name(message: &str) -> Option<(&str, Vec<&str>)> {
    let rest = message.strip_prefix("unknown ")?;
    let mut names = rest.split('`').skip(1).step_by(2);
    Some((names.next()?, names.collect()))
}

fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let by_distance = known.iter().map(|&k| (strsim::damerau_levenshtein(name, k), k));
    by_distance.min().filter(|(distance, k)| *distance <= (k.len() / 3).max(1)).map(|(_, k)| k)
}
