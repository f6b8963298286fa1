//! The command line's grammar.

mod itself;

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use ostler_manager::FactKind;
use ostler_model::estate::drills::Fault;
use ostler_model::ids::{AttemptId, EstateUuid, InstanceId, ProviderName, ServiceName};
use ostler_model::month::Month;
use ostler_model::version::VersionRange;

pub(crate) use itself::{Fill, HomeCommand, Process, SelfUpgrade, Still};

/// Buys the services your business needs, wires them together, and keeps them working.
#[derive(Debug, Parser)]
#[command(
    name = "ostler",
    version,
    about = "Buys the services your business needs, wires them together, and keeps them working.",
    propagate_version = true,
    max_term_width = 100
)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Options of every command.
    #[command(flatten)]
    pub common: Common,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Common {
    /// The folder in which ostler keeps this estate's journal, data and sockets [default: a folder named after the
    /// estate, under the user's state directory; for root under /var/lib/ostler]
    #[arg(long, global = true, env = "OSTLER_HOME", value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// Answer in JSON, for scripts
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Bring the estate up from a file, and watch it
    Up(Up),
    /// Bring up an estate that sells to others: be an Open Service Broker
    Provide(Up),
    /// Show what a file would change, and change nothing (exit code 0: nothing, 2: changes)
    Preview(FileArg),
    /// Play years of faults against a file and show what a year would be like; starts nothing, changes nothing
    Simulate(Simulate),
    /// Hand a changed file to the running ostler
    Apply(Apply),
    /// Show every service and its state
    Status(Status),
    /// Show what a month costs, so far and by its end, by service, provider or need
    Books(Books),
    /// Weigh owning a service against each plan that could be bought: net present value, break-even, what it hangs on
    OwnOrBuy(crate::own::OwnOrBuy),
    /// Show what providers owe for what was not available, and claim it
    Credits(crate::credits::Credits),
    /// Show how providers have delivered, by the numbers by which they are chosen
    Scorecard(crate::scorecard::Scorecard),
    /// Decide otherwise than ostler would, for a while: who answers for it, why, and until when
    #[command(subcommand)]
    Override(crate::overrides::OverrideCommand),
    /// Show what people decided otherwise, by what that has cost so far
    Overrides(crate::overrides::Overrides),
    /// Tell what happened to a service lately, what was concluded and what was done
    Why(ServiceArg),
    /// Prove that the services work together: look at every need with its consumer's own binding (exit code 0: all is
    /// as it is relied on, 2: something is not)
    Verify(Verify),
    /// Show the facts that ostler has recorded, newest first
    Journal(Journal),
    /// Show that what was recorded is still what was recorded, prove single facts, and report on a month, for auditors
    #[command(subcommand)]
    Audit(crate::audit::AuditCommand),
    /// Show what a service's instances have written
    Logs(Logs),
    /// Restart a service's instances one after the other; also the answer to a service that is held
    Restart(ServiceArg),
    /// Set the number of a service's instances, until the file is applied again
    Scale(Scale),
    /// Back up a service's data now
    Backup(Backup),
    /// Restore a backup on the side, to prove that it can be
    Prove(Prove),
    /// Replace a service's data by a backup
    Restore(Restore),
    /// Move a service to another provider, with its data; also the answer to a move that waits for a person
    Failover(FailOver),
    /// Delete an instance that a move or an upgrade left
    Discard(Discard),
    /// Put newer versions to use that are on offer and allowed, in waves; or show what is newer, and what it waits for
    Upgrade(Upgrade),
    /// Take an upgrade back: the one under way, or the last one
    Rollback(Rollback),
    /// Cause a fault on purpose, within declared limits, and see whether the service recovers (exit code 0: it does, 2:
    /// that is not proven)
    Drill(Drill),
    /// Take over an instance that a provider has already
    Adopt(Adopt),
    /// Leave a service that is no longer declared to its provider, and forget it
    Release(Release),
    /// Say what is to become of something that a provider may hold for us, and that is in quarantine
    Settle(Settle),
    /// Examine a provider before buying from it
    #[command(subcommand)]
    Provider(ProviderCommand),
    /// Stop everything, dependents first; or delete a service that is no longer declared
    Down(Down),
    /// Back up or restore ostler's own knowledge: journal, secrets, archive
    #[command(subcommand)]
    Home(HomeCommand),
    /// Have another build of ostler take over while everything runs, and take it back if it does not hold
    SelfUpgrade(SelfUpgrade),
    /// One of ostler's own processes; not for people
    #[command(hide = true, subcommand)]
    Process(Process),
}

#[derive(Debug, Subcommand)]
pub(crate) enum ProviderCommand {
    /// Look at an Open Service Broker by the rules of the specification (exit code 0: nothing breaks you, 2: something does)
    Check(Check),
}

/// By what the books are shown.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Seen {
    /// Each service for itself
    Service,
    /// Each provider
    Provider,
    /// Each service that no other needs, with what it needs; what several need is borne by them in equal parts
    Need,
}

#[derive(Debug, Args)]
pub(crate) struct Books {
    /// Which month, as in 2026-11 [default: this one]
    #[arg(long, value_name = "YEAR-MONTH")]
    pub month: Option<Month>,
    /// By what
    #[arg(long, value_enum, default_value = "service")]
    pub by: Seen,
    /// Write every item as a FOCUS 1.2 dataset (CSV) to this file instead; `-` for standard output
    #[arg(long, value_name = "FILE", conflicts_with = "by")]
    pub focus: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The broker's address, or the name of a provider in the estate file
    #[arg(value_name = "URL|PROVIDER")]
    pub broker: String,
    /// The estate file
    #[arg(default_value = "ostler.toml")]
    pub file: PathBuf,
    /// Also buy an instance, use it with a real client of its protocol, change it, and give everything back
    #[arg(long)]
    pub full: bool,
    /// With --full: of this service offering, by its name in the catalog [default: the first with a free plan, or else
    /// the first]
    #[arg(long, value_name = "NAME", requires = "full")]
    pub offering: Option<String>,
    /// With --full: of this plan, by its name in the catalog [default: a free one, or else the first]
    #[arg(long, value_name = "NAME", requires = "full")]
    pub plan: Option<String>,
    /// With --full: do not ask whether to buy
    #[arg(long, requires = "full")]
    pub yes: bool,
    /// With an address: the user name to say
    #[arg(long, value_name = "NAME")]
    pub username: Option<String>,
    /// With an address: a file with the password
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// With an address: a file with a token, in place of a user name and a password
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// With an address: a PEM file with the authorities that may sign for the broker
    #[arg(long, value_name = "FILE")]
    pub roots: Option<PathBuf>,
    /// Write a certificate to this file: JSON, which an estate file can name, if it ends in `.json`, else a page of
    /// Markdown; may be given twice, for both
    #[arg(long, value_name = "FILE")]
    pub certificate: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// Only the needs of this service
    pub service: Option<ServiceName>,
}

#[derive(Debug, Args)]
pub(crate) struct FileArg {
    /// The estate file
    #[arg(default_value = "ostler.toml")]
    pub file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Up {
    /// The estate file
    #[arg(default_value = "ostler.toml")]
    pub file: PathBuf,
    /// Return once every service is ready, and leave everything running
    #[arg(long)]
    pub detach: bool,
    /// Write a systemd unit that brings the estate up when this machine starts; changes nothing else
    #[arg(long)]
    pub at_boot: bool,
    /// Go on although the newest facts are missing from the journal; what was lost is recorded
    #[arg(long)]
    pub accept_lost_tail: bool,
    /// The id of an estate whose home was lost, as its `status --json` gave it: a new home finds again what the estate
    /// bought at brokers
    #[arg(long, value_name = "UUID")]
    pub estate_id: Option<EstateUuid>,
    /// Give up waiting after this long (with --detach); what was begun goes on
    #[arg(long, value_name = "TIME", default_value = "5m")]
    pub within: ostler_model::time::Span,
}

#[derive(Debug, Args)]
pub(crate) struct Simulate {
    /// The estate file
    #[arg(default_value = "ostler.toml")]
    pub file: PathBuf,
    /// So many years
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub years: u32,
    /// Of so many days each
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub days: u32,
    /// Of all that is left to chance: the same seed gives the same years
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Also without this provider
    #[arg(long, value_name = "PROVIDER")]
    pub without: Vec<ProviderName>,
    /// Also with other numbers of instances, as in `web=3` or `web=3,db=2`
    #[arg(long, value_name = "SERVICE=N,…")]
    pub instances: Vec<InstanceCounts>,
    /// Also with an outage of a provider once a year, as in `acme=6h`
    #[arg(long, value_name = "PROVIDER=TIME", value_parser = provider_and_span)]
    pub provider_outage: Vec<(ProviderName, ostler_model::time::Span)>,
    /// A person answers what ostler asks after this long at most
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = at_least_a_minute)]
    pub answers_after: ostler_model::time::Span,
    /// For comparison: a person on call does what ostler does, after this long on average
    #[arg(long, value_name = "TIME", default_value = "30m", value_parser = at_least_a_minute)]
    pub on_call: ostler_model::time::Span,
    /// Show how often what is expected to fail, and how that is known
    #[arg(long)]
    pub rates: bool,
    /// Draw availability over the year into this file
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
}

/// Other numbers of instances, as in `web=3,db=2`.
#[derive(Clone, Debug)]
pub(crate) struct InstanceCounts(pub Vec<(ServiceName, u32)>);

impl std::str::FromStr for InstanceCounts {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split(',').map(service_and_count).collect::<Result<_, _>>().map(Self)
    }
}

impl std::fmt::Display for InstanceCounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts: Vec<String> = self.0.iter().map(|(service, count)| format!("{service}={count}")).collect();
        f.write_str(&parts.join(","))
    }
}

fn provider_and_span(text: &str) -> Result<(ProviderName, ostler_model::time::Span), String> {
    let form = "write the provider and a time, as in `acme=6h`";
    let (provider, span) = text.split_once('=').ok_or(form)?;
    let provider = provider.parse().map_err(|error| format!("{error}: {form}"))?;
    let span: ostler_model::time::Span = span.parse().map_err(|error| format!("{error}: {form}"))?;
    let day = std::time::Duration::from_secs(86_400);
    if span.get().is_zero() || span.get() > 30 * day {
        return Err(format!("an outage lasts more than nothing and 30 days at most: {form}"));
    }
    Ok((provider, span))
}

fn at_least_a_minute(text: &str) -> Result<ostler_model::time::Span, String> {
    let span: ostler_model::time::Span = text.parse().map_err(|error| format!("{error}"))?;
    let (minute, month) = (std::time::Duration::from_secs(60), std::time::Duration::from_secs(30 * 86_400));
    if (minute..=month).contains(&span.get()) { Ok(span) } else { Err("from a minute to 30 days".to_owned()) }
}

#[derive(Debug, Args)]
pub(crate) struct Apply {
    /// The estate file
    #[arg(default_value = "ostler.toml")]
    pub file: PathBuf,
    /// Return at once instead of waiting until everything is as declared
    #[arg(long)]
    pub no_wait: bool,
    /// Give up waiting after this long; what was begun goes on
    #[arg(long, value_name = "TIME", default_value = "5m")]
    pub within: ostler_model::time::Span,
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Show it again after each change, until Ctrl-C
    #[arg(long)]
    pub watch: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ServiceArg {
    /// The service
    pub service: ServiceName,
}

#[derive(Debug, Args)]
pub(crate) struct Journal {
    /// Only facts that concern this service
    #[arg(long)]
    pub service: Option<ServiceName>,
    /// Only facts of this kind, as in `instance-died`
    #[arg(long, hide_possible_values = true, value_parser = PossibleValuesParser::new(FactKind::WORDS))]
    pub kind: Option<String>,
    /// At most so many
    #[arg(short = 'n', long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub lines: u32,
    /// Check every fact's chained checksum, in the database and in the archive (needs a stopped ostler)
    #[arg(long, conflicts_with_all = ["service", "kind"])]
    pub verify: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// The service, or one instance as in `web-1`
    pub name: String,
    /// The last so many lines of each instance
    #[arg(short = 'n', long, default_value_t = 50)]
    pub lines: usize,
    /// Go on with what is written from now on, until Ctrl-C
    #[arg(short, long)]
    pub follow: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Scale {
    /// The service and its number of instances, as in `web=3`
    #[arg(value_parser = service_and_count)]
    pub service: (ServiceName, u32),
}

#[derive(Debug, Args)]
pub(crate) struct Backup {
    /// The service
    pub service: ServiceName,
    /// The backup's name [default: made from the time]
    #[arg(long)]
    pub name: Option<String>,
    /// Delete this backup instead of making one
    #[arg(long, value_name = "NAME", conflicts_with = "name")]
    pub drop: Option<String>,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Prove {
    /// The service
    pub service: ServiceName,
    /// The backup's name [default: the newest that is good]
    pub backup: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// The service
    pub service: ServiceName,
    /// The backup's name [default: the newest that is good]
    pub backup: Option<String>,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Drill {
    /// The service
    #[arg(required_unless_present = "verify")]
    pub service: Option<ServiceName>,
    /// What goes wrong: `kill`, `hang`, `slow`, `refuse`, `wrong-credentials`, `fill-disk`, `provider-outage` or
    /// `backup-restore`
    #[arg(long, required_unless_present = "verify")]
    pub fault: Option<Fault>,
    /// How long it may last; then it is undone [default: `lasts` in the estate file, or 2m; `backup-restore`: 6h]
    #[arg(long, value_name = "TIME")]
    pub lasts: Option<ostler_model::time::Span>,
    /// Although no window for drills is open, for this reason
    #[arg(long, value_name = "REASON")]
    pub now: Option<String>,
    /// Look at a certificate instead: whether it is as it was signed, and still good
    #[arg(long, value_name = "FILE", conflicts_with_all = ["service", "fault", "lasts", "now"])]
    pub verify: Option<PathBuf>,
    /// With --verify: the public key with which it has to be signed, in hexadecimal digits
    #[arg(long, value_name = "HEX", requires = "verify")]
    pub key: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct FailOver {
    /// The service
    pub service: ServiceName,
    /// To this provider [default: the best that is allowed]
    #[arg(long, value_name = "PROVIDER", conflicts_with = "back")]
    pub to: Option<ProviderName>,
    /// Accept that what no backup holds is lost, however much that is
    #[arg(long, conflicts_with = "back")]
    pub accept_loss: bool,
    /// Take a move back whose new instance is not in use yet
    #[arg(long)]
    pub back: bool,
    /// Show what would be done and what would be lost, and change nothing
    #[arg(long, conflicts_with = "back")]
    pub preview: bool,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// Give up waiting after this long; what was begun goes on
    #[arg(long, value_name = "TIME", default_value = "1h")]
    pub within: ostler_model::time::Span,
}

#[derive(Debug, Args)]
pub(crate) struct Upgrade {
    /// The service [default: all that have something newer]
    pub service: Option<ServiceName>,
    /// To a version of this range, like `16` or `>=16, <17` [default: the newest that is allowed]
    #[arg(long, value_name = "RANGE", requires = "service")]
    pub to: Option<VersionRange>,
    /// Why it cannot wait for a window
    #[arg(long, value_name = "REASON", conflicts_with = "preview")]
    pub now: Option<String>,
    /// Show what is newer, in which order it would be put to use, and what it waits for; change nothing
    #[arg(long)]
    pub preview: bool,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// Give up waiting after this long; what was begun goes on
    #[arg(long, value_name = "TIME", default_value = "1d")]
    pub within: ostler_model::time::Span,
}

#[derive(Debug, Args)]
pub(crate) struct Rollback {
    /// The service
    pub service: ServiceName,
    /// Accept that what was written since the upgrade is lost, where the former version cannot read it
    #[arg(long)]
    pub accept_loss: bool,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// Give up waiting after this long; what was begun goes on
    #[arg(long, value_name = "TIME", default_value = "1h")]
    pub within: ostler_model::time::Span,
}

#[derive(Debug, Args)]
pub(crate) struct Discard {
    /// The instance, as `ostler status` names it: `db-1`
    pub instance: InstanceId,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Adopt {
    /// For which service
    pub service: ServiceName,
    /// Who has it: the provider at which the service is bought
    #[arg(long)]
    pub provider: ProviderName,
    /// By which name the provider knows it
    #[arg(long, value_name = "ID")]
    pub instance_id: String,
}

#[derive(Debug, Args)]
pub(crate) struct Release {
    /// The service
    pub service: ServiceName,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Settle {
    /// What, as `ostler status` names it: `db-1/2`
    pub leftover: AttemptId,
    /// What is to become of it
    #[arg(value_enum)]
    pub how: How,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

/// What is to become of something in quarantine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum How {
    /// Delete it at its provider, if it is there
    Delete,
    /// Leave it to its provider, and forget it here
    Release,
}

#[derive(Debug, Args)]
pub(crate) struct Down {
    /// Only this service, which must no longer be declared, or was sold to others; needs --delete-data
    #[arg(requires = "delete_data")]
    pub service: Option<ServiceName>,
    /// Delete the data for good
    #[arg(long)]
    pub delete_data: bool,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

fn service_and_count(text: &str) -> Result<(ServiceName, u32), String> {
    let (service, count) = text.split_once('=').ok_or("write SERVICE=NUMBER, as in `web=3`")?;
    let service = service.parse().map_err(|error: ostler_model::ids::IdError| error.to_string())?;
    let count: u32 = count.parse().map_err(|_| format!("`{count}` is not a number of instances"))?;
    if count == 0 {
        return Err("a service has at least one instance".to_owned());
    }
    Ok((service, count))
}
