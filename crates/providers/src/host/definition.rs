//! What a definition file says: how one offering is found, prepared, run, probed, bound, stopped and backed up here.
//!
//! Invariant: a [`Definition`] that was parsed can be carried out: every reference in its templates has a value at the
//! place where it stands (except `env.…`, which the estate gives), and its sections fit each other.

use std::collections::{BTreeMap, BTreeSet};

use ostler_model::catalog::{Accepts, Actions, Limits, Offering, Plan, ProbePolicy};
use ostler_model::diagnostics::{Problem, Problems};
use ostler_model::estate::Check;
use ostler_model::ids::{OfferingName, PlanName};
use ostler_model::template::Template;
use ostler_model::time::Span;
use ostler_model::version::{Version, VersionRange};
use serde::Deserialize;
use toml::Spanned;

use super::definition_check;

/// A definition file may be this long: a bound on what a folder of them can make ostler read.
pub const FILE_BYTES_MAX: usize = 256 * 1024;

/// A template with its place in the file.
pub(super) type Text = Spanned<Template>;

/// One offering of this machine.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    pub(super) description: String,
    #[serde(default)]
    pub(super) runs_program: bool,
    #[serde(default)]
    pub(super) bindable: bool,
    #[serde(default)]
    pub(super) durable: bool,
    pub(super) instances_max: Option<u32>,
    pub(super) find: Option<Find>,
    pub(super) user: Option<UserPolicy>,
    #[serde(default)]
    pub(super) secret: Fields,
    #[serde(default)]
    pub(super) texts: BTreeMap<String, Text>,
    #[serde(default)]
    pub(super) environment: BTreeMap<String, Text>,
    #[serde(rename = "plan")]
    pub(super) plans: Vec<PlanDefinition>,
    #[serde(default)]
    pub(super) prepare: Vec<Step>,
    #[serde(default, rename = "file")]
    pub(super) files: Vec<FileDefinition>,
    #[serde(default)]
    pub(super) run: Run,
    #[serde(default)]
    pub(super) stop: Stop,
    #[serde(default)]
    pub(super) probe: Probe,
    #[serde(default)]
    pub(super) bind: Bind,
    #[serde(default)]
    pub(super) unbind: Steps,
    pub(super) backup: Option<Steps>,
    pub(super) restore: Option<Restore>,
    /// What counts an instance's data.
    #[serde(default)]
    pub(super) count: Steps,
    /// How it is backed up and restored by somebody who has nothing but a binding.
    pub(super) outside: Option<Outside>,
    /// Which versions of other offerings it works with.
    #[serde(default)]
    pub(super) accepts: Vec<AcceptsDefinition>,
}

/// How the programs of an offering are found on this machine.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Find {
    /// Folders to look into; `*` stands for any part of one name.
    pub(super) folders: Vec<Spanned<String>>,
    /// The programs that one of these folders must hold together.
    pub(super) programs: Vec<String>,
    /// How the version is asked for; without it the offering has no versions.
    pub(super) version: Option<FindVersion>,
    /// How many of a version's leading numbers name the format of its data: 1 for PostgreSQL (15, 16 …). 0: every
    /// version reads the data of the ones before it.
    #[serde(default)]
    pub(super) series: u32,
    /// A file in the data folder that holds the series, as a second witness.
    pub(super) series_file: Option<String>,
    /// What a person installs if nothing is found.
    pub(super) install: String,
}

/// How a version is asked for.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FindVersion {
    pub(super) run: Vec<Text>,
    /// The version begins right after this text in the output.
    pub(super) after: String,
}

/// Which versions of another offering some of its own work with.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AcceptsDefinition {
    pub(super) versions: Option<Spanned<String>>,
    pub(super) offering: Spanned<String>,
    pub(super) range: Spanned<String>,
}

/// As which user the offering runs when ostler itself is root.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UserPolicy {
    /// Never as root: as the first of `names` that exists on this machine, else as `nobody`.
    pub(super) refuses_root: bool,
    #[serde(default)]
    pub(super) names: Vec<String>,
}

/// Named values, some of them generated.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fields {
    /// Names of fields that get 32 random letters and digits.
    #[serde(default)]
    pub(super) generate: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) fields: BTreeMap<String, Text>,
}

/// One plan.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PlanDefinition {
    pub(super) name: Spanned<PlanName>,
    pub(super) description: String,
    #[serde(default)]
    pub(super) limits: LimitsDefinition,
    /// Texts that templates refer to as `plan.NAME`.
    #[serde(default)]
    pub(super) values: BTreeMap<String, String>,
}

/// Limits as a definition file writes them.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LimitsDefinition {
    memory_mib: Option<u32>,
    cpu_millicores: Option<u32>,
    processes: Option<u32>,
    files: Option<u64>,
}

/// A command that runs to its end.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Step {
    /// The program and its arguments.
    pub(super) run: Vec<Text>,
    /// Its standard input.
    pub(super) stdin: Option<Text>,
    /// Added to the step's environment.
    #[serde(default)]
    pub(super) environment: BTreeMap<String, Text>,
    /// The content of a file of mode 0600 that exists while the step runs; `step.file` is its path.
    pub(super) secret_file: Option<Text>,
    /// Its standard output without surrounding white space must be exactly this.
    pub(super) expect: Option<String>,
    /// It is repeated until its standard output contains this.
    pub(super) wait_for: Option<String>,
    /// Its standard input is the backup's file.
    #[serde(default)]
    pub(super) takes_backup: bool,
    /// Its standard output becomes the backup's file.
    #[serde(default)]
    pub(super) makes_backup: bool,
    /// How long it may take, repetitions included.
    #[serde(default = "step_timeout")]
    pub(super) timeout: Span,
}

fn step_timeout() -> Span {
    Span::seconds(60)
}

/// A file that is written into the instance's folder.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileDefinition {
    pub(super) path: Text,
    pub(super) text: Text,
    #[serde(default)]
    pub(super) when: When,
}

/// When a file is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum When {
    /// Once, before the preparing steps.
    Prepare,
    /// Before each start.
    #[default]
    Start,
}

/// What is run.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Run {
    /// The program and its arguments; empty for offerings that run the buyer's own.
    #[serde(default)]
    pub(super) command: Vec<Text>,
    /// Its working folder; the instance's folder, or for the buyer's own program the estate file's.
    pub(super) folder: Option<Text>,
    /// The program is a tree of processes that must be gone as a whole before it is started again.
    #[serde(default)]
    pub(super) tree: bool,
}

/// How it is stopped.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Stop {
    pub(super) signal: Signal,
    pub(super) grace: Span,
}

impl Default for Stop {
    fn default() -> Self {
        Self { signal: Signal::Term, grace: Span::seconds(10) }
    }
}

/// The signals by which programs are asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Signal {
    Hup,
    Int,
    Quit,
    Usr1,
    Usr2,
    Term,
}

impl Signal {
    /// Its number on Linux.
    pub(super) fn number(self) -> i32 {
        match self {
            Self::Hup => 1,
            Self::Int => 2,
            Self::Quit => 3,
            Self::Usr1 => 10,
            Self::Usr2 => 12,
            Self::Term => 15,
        }
    }
}

/// How it is probed.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Probe {
    pub(super) ready: Check,
    pub(super) deep: Option<Check>,
    pub(super) every: Span,
    pub(super) timeout: Span,
    pub(super) start_within: Span,
}

impl Default for Probe {
    fn default() -> Self {
        Self {
            ready: Check::Tcp,
            deep: None,
            every: Span::seconds(10),
            timeout: Span::seconds(2),
            start_within: Span::seconds(60),
        }
    }
}

/// How a consumer gets credentials.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Bind {
    /// As in [`Fields`].
    #[serde(default)]
    pub(super) generate: Vec<Spanned<String>>,
    /// As in [`Fields`].
    #[serde(default)]
    pub(super) fields: BTreeMap<String, Text>,
    /// What makes the credentials work; repeated whenever the binding is asked for.
    #[serde(default, rename = "step")]
    pub(super) steps: Vec<Step>,
}

/// Steps in their order.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Steps {
    #[serde(default, rename = "step")]
    pub(super) steps: Vec<Step>,
}

/// How data is replaced by a backup.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Restore {
    /// A process that runs beside the steps.
    pub(super) helper: Option<Helper>,
    #[serde(rename = "step")]
    pub(super) steps: Vec<Step>,
    /// Carried out after the steps, whether they succeeded or not.
    #[serde(default)]
    pub(super) always: Vec<Step>,
}

/// How data is backed up and restored over a binding: for what is bought elsewhere.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Outside {
    /// By which schemes of a binding's URI it is known.
    pub(super) schemes: Vec<Spanned<String>>,
    /// Asks the server for its version: what is first on its standard output. The programs of the same series are used
    /// then, and others only where these are not here.
    pub(super) version: Option<Step>,
    /// As [`Definition::backup`], with `at.…` in the place of `instance.…`.
    #[serde(default)]
    pub(super) backup: Vec<Step>,
    /// As [`Definition::restore`]. It is done as a whole, or not at all.
    #[serde(default)]
    pub(super) restore: Vec<Step>,
}

/// A process that runs beside the steps of a restore: it gets a folder (`helper.folder`) with a copy of the backup
/// (`helper.backup`), a port and a password of its own.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Helper {
    pub(super) run: Vec<Text>,
    pub(super) stdin: Option<Text>,
}

impl Definition {
    /// Parses the definition of the offering `name` that the user calls `file`.
    ///
    /// # Errors
    /// What is wrong, with its place: either what makes it unreadable, or everything that does not fit.
    pub fn parse(file: &str, text: &str) -> Result<Self, Problems> {
        if text.len() > FILE_BYTES_MAX {
            return Err(Problems::whole(
                file,
                "",
                format!("the file has {} bytes; a definition may have {FILE_BYTES_MAX}", text.len()),
                "Keep one offering in one file, and large data out of it.",
            ));
        }
        let definition: Self =
            toml::from_str(text).map_err(|error| definition_check::unreadable(file, text, &error))?;
        match Problems::of(file, text, definition_check::check(&definition)) {
            None => Ok(definition),
            Some(problems) => Err(problems),
        }
    }

    /// What it is in the catalog, with `versions` newest last.
    pub(super) fn offering(&self, name: &OfferingName, versions: Vec<Version>) -> Offering {
        Offering {
            name: name.clone(),
            description: self.description.clone(),
            versions,
            series: self.find.as_ref().map_or(0, |find| find.series),
            plans: self.plans.iter().map(PlanDefinition::plan).collect(),
            runs_program: self.runs_program,
            bindable: self.bindable,
            durable: self.durable,
            instances_max: self.instances_max,
            actions: Actions {
                rebind: !self.bind.steps.is_empty() && !self.unbind.steps.is_empty(),
                start_stop: true,
                backup: self.backup.is_some(),
                prove: self.backup.is_some(),
                unrepeatable: false,
                hears_context: false,
            },
            probe: ProbePolicy {
                ready: self.probe.ready.clone(),
                deep: self.probe.deep.clone(),
                every: self.probe.every,
                timeout: self.probe.timeout,
                start_within: self.probe.start_within,
            },
            stop_grace: self.stop.grace,
            withdrawn: false,
            accepts: self.accepts.iter().filter_map(AcceptsDefinition::read).collect(),
        }
    }

    /// The plan of this name.
    pub(super) fn plan(&self, name: &PlanName) -> Option<&PlanDefinition> {
        self.plans.iter().find(|plan| plan.name.get_ref() == name)
    }
}

impl AcceptsDefinition {
    /// What it says; `None` only where `check` has found it wrong.
    fn read(&self) -> Option<Accepts> {
        let versions = self.versions.as_ref().map_or(Ok(VersionRange::any()), |text| text.get_ref().parse());
        Some(Accepts {
            versions: versions.ok()?,
            offering: self.offering.get_ref().parse().ok()?,
            range: self.range.get_ref().parse().ok()?,
        })
    }
}

impl PlanDefinition {
    fn plan(&self) -> Plan {
        Plan {
            name: self.name.get_ref().clone(),
            description: self.description.clone(),
            limits: Limits {
                memory_bytes: self.limits.memory_mib.map(|mib| u64::from(mib) * 1024 * 1024),
                cpu_millicores: self.limits.cpu_millicores,
                processes: self.limits.processes,
                files: self.limits.files,
            },
            price: None,
            costs: Vec::new(),
            free: true,
            version: None,
            maintenance: None,
            handle: None,
            withdrawn: false,
        }
    }
}

/// Fields with generated ones, as `[secret]` and `[bind]` both have them.
pub(super) trait Generated {
    /// Names of the generated fields.
    fn generated(&self) -> &[Spanned<String>];
    /// The other fields.
    fn fields(&self) -> &BTreeMap<String, Text>;

    /// All names of fields.
    fn names(&self) -> BTreeSet<String> {
        self.generated().iter().map(|name| name.get_ref().clone()).chain(self.fields().keys().cloned()).collect()
    }

    /// The fields in an order in which each refers only to those before it: plain ones first (see `check`).
    fn in_order(&self, prefix: &str) -> Vec<(&String, &Template)> {
        let refers = |template: &Template| {
            template
                .references()
                .any(|reference| reference.strip_prefix(prefix).is_some_and(|field| self.fields().contains_key(field)))
        };
        let (later, first): (Vec<_>, Vec<_>) =
            self.fields().iter().map(|(name, text)| (name, text.get_ref())).partition(|(_, text)| refers(text));
        first.into_iter().chain(later).collect()
    }
}

impl Generated for Fields {
    fn generated(&self) -> &[Spanned<String>] {
        &self.generate
    }

    fn fields(&self) -> &BTreeMap<String, Text> {
        &self.fields
    }
}

impl Generated for Bind {
    fn generated(&self) -> &[Spanned<String>] {
        &self.generate
    }

    fn fields(&self) -> &BTreeMap<String, Text> {
        &self.fields
    }
}

/// A problem at `span`.
pub(super) fn problem(span: std::ops::Range<usize>, cause: impl Into<String>, remedy: impl Into<String>) -> Problem {
    Problem { span, cause: cause.into(), remedy: remedy.into() }
}
