//! Stories as data: what happens, line by line, and beside each file the reviewed transcript of what the manager made of
//! it. `INSTA_UPDATE=always cargo test -p ostler-manager stories` writes the transcripts anew; read them before you
//! commit them.
//!
//! The language, one step a line; `#` begins a comment:
//! - `estate [drill KEY=VALUE …;] [upgrade KEY=VALUE …;] [price PROVIDER OFFERING PLAN AMOUNT;] [at-once=P;] [providers=A,B;] [selling=N;] [context=TEXT;] SERVICE [offering=O] [instances=N] [needs=A,B] [endpoint=PORT] [env=TEXT] [before] [backup=15m]
//!   [prove=7d] [version=RANGE] [adopt=NAME] [prefer=A,B] [outage=PER_HOUR]; …` gives an estate file;
//! - `auto on` lets an obliging world answer everything from here on, `auto off` lets the story answer;
//! - `ended COMMAND ok | temporary | person | interrupted | cut-off` ends an order: `ended start web-1 ok`; what is cut
//!   off is done, and whoever did it could not say so; `in-doubt`, `left-behind` and `unclear` are answers of a broker
//!   that nothing follows from, and `lost` is the same as in doubt, of something that was done;
//! - `verified web/db ok | broken | rejected`: a look at the need with the newest binding found that;
//! - `broken db`, `mended db` say what a look at a new instance of it finds;
//! - `spoil db NAME`: from now on this backup is of no use;
//! - `gone bought small`: the provider's catalog has this plan of the offering no more;
//! - `lasts 1h`: from now on what a broker gives to get at instances is good for so long; `0ms`: it is to be renewed at
//!   once;
//! - `accepted COMMAND`: a broker will do it; `appear db-1/1`: what was asked for is made late;
//! - `probe web-1 ready | unready | hung | slow | silent | shallow | unknown`; `hang web-1`, `unhang web-1`, `lose db-1` change the world;
//! - `served web 60s 1000 100`: in the last 60 s callers asked 1000 times, and 100 times got nothing;
//! - `die web-1 [spent|unreported]` kills a process, which is started again at once if that is granted, unless it is
//!   spent; an unreported death is one that nobody is told of;
//! - `offers postgresql 15.18,16.4`: everybody offers these versions of it from now on; `offers web 1.0,1.1` for a program
//!   whose versions lie side by side; `upkeep bought 1.2`: so its plans are kept up to date now; `flawed web 1.1 never-ready
//!   | broken | mended`: what this version is worth;
//! - `crashing web`, `never-ready web`, `mended web` say how the world treats a program;
//! - `tick 2s`; `resume started | holder-returned`; `ask restart web`, `ask scale web 3`, `ask down`, `ask delete web`,
//!   `ask backup db NAME`, `ask restore db NAME`, `ask prove db [NAME]`, `ask drop db NAME`, `ask failover db [to there] [accept-loss]`,
//!   `ask back db`, `ask discard db-1`, `ask settle db-1/1 delete | release`,
//!   `ask upgrade [db] [to RANGE] [despite REASON]`, `ask rollback db [accept-loss]`,
//!   `ask override pin db there by Ada for 2h`, `ask override end override-1` (`reading.rs` has all of them),
//!   `ask drill db FAULT [REASON]` (outside a window for that reason), `ask adopt db here NAME`, `ask release db`; `status`;
//! - `sell db offering=O [plan=P]` sells `sold-db`, `admit app to db` lets `guest-app` use it, `end sold-db` takes it back.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use ostler_manager::level::Traffic;
use ostler_manager::{
    Ask, Checked, Command, Decision, Event, FactKind, Reason, ResumeCause, Scope, UpgradeView, decide, overrides,
    status,
};
use ostler_model::catalog::{Catalog, Maintenance};
use ostler_model::health::{Health, Symptom, SymptomKind};
use ostler_model::ids::{BindingId, CommandId, InstanceId, ProviderName, ServiceName};
use ostler_model::outcome::FailureClass;
use ostler_model::time::{Span, in_words};
use ostler_model::version::Version;

use crate::reading::{read_ask, read_estate};
use crate::support::{START, admit, catalogs, here, instance, name, sell};
use crate::telling::{in_line, key};
use crate::world::{Flaw, World, unready};

struct Story {
    world: World,
    auto: bool,
    text: String,
    /// What can be had now.
    catalogs: BTreeMap<ProviderName, Arc<Catalog>>,
    /// How many facts the transcript has told.
    told: usize,
    waits: BTreeMap<InstanceId, String>,
}

impl Story {
    fn play(text: &str) -> String {
        let mut story = Self {
            world: World::new(),
            auto: false,
            text: String::new(),
            catalogs: catalogs(),
            told: 0,
            waits: BTreeMap::new(),
        };
        story.told = story.world.facts.len();
        for line in text.lines().map(|line| line.split('#').next().unwrap_or("").trim()) {
            if line.is_empty() {
                continue;
            }
            let _ = writeln!(story.text, "{}> {line}", if story.text.is_empty() { "" } else { "\n" });
            story.step(line);
            if story.auto {
                story.world.settle();
            }
            story.tell();
        }
        story.text
    }

    fn step(&mut self, line: &str) {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let words: Vec<&str> = rest.split_whitespace().collect();
        match (verb, words.as_slice()) {
            ("estate", _) => {
                let estate = Arc::new(read_estate(rest));
                let offered = self.catalogs[&here()].clone();
                for provider in estate.providers.keys() {
                    self.catalogs.entry(provider.clone()).or_insert_with(|| offered.clone());
                }
                let catalogs = self.catalogs.clone();
                let decision = self.world.give(&Event::EstateGiven { estate, catalogs });
                self.refusals(&decision);
            }
            ("auto", [on]) => self.auto = *on == "on",
            ("ended", [order @ .., outcome]) => self.end(&order.join(" "), outcome),
            ("accepted", order) => {
                let order = order.join(" ");
                let found = self.world.orders.iter().find(|(_, command)| key(command) == order);
                let id = *found.unwrap_or_else(|| panic!("`{order}` was not ordered")).0;
                let _ = self.world.give(&Event::Accepted { id, operation: Some("task-7".to_owned()) });
            }
            ("spoil", [service, backup]) => self.world.stored.spoil(&name(service), backup),
            ("gone", [offering, plan]) => self.lose_plan(offering, plan),
            ("offers", [what, versions]) => self.offers(what, versions),
            ("upkeep", [offering, version]) => self.upkeep(offering, version),
            ("flawed", [service, version, flaw]) => {
                let key = (name(service), version.parse().unwrap());
                match *flaw {
                    "never-ready" => drop(self.world.flawed.insert(key, Flaw::NeverReady)),
                    "broken" => drop(self.world.flawed.insert(key, Flaw::Broken)),
                    _ => drop(self.world.flawed.remove(&key)),
                }
            }
            ("lasts", [length]) => self.world.broker.lasts = Some(length.parse::<Span>().unwrap().get()),
            ("verified", [binding, outcome]) => self.verified(&binding.parse().unwrap(), outcome),
            ("appear", [attempt]) => self.world.appear(&attempt.parse().unwrap()),
            ("served", [service, length, asked, failed]) => self.served(&name(service), length, asked, failed),
            ("probe", [id, health]) => self.probe(&instance(id), health),
            ("hang", [id]) => self.process(id).hung = true,
            ("unhang", [id]) => self.process(id).hung = false,
            ("lose", [id]) => self.world.lose(&instance(id)),
            ("die", [id]) => self.die(&instance(id), false),
            ("die", [id, "spent"]) => self.die(&instance(id), true),
            ("die", [id, "unreported"]) => {
                self.world.kill(&instance(id));
                let _lost_with_its_keeper = self.world.reports.pop_front().expect("it ran");
            }
            ("broken", [service]) => drop(self.world.broken.insert(name(service))),
            ("crashing", [service]) => drop(self.world.crashing.insert(name(service))),
            ("never-ready", [service]) => drop(self.world.never_ready.insert(name(service))),
            ("mended", [service]) => {
                self.world.crashing.remove(&name(service));
                self.world.never_ready.remove(&name(service));
                self.world.broken.remove(&name(service));
            }
            ("tick", [length]) => self.tick(length.parse().unwrap()),
            ("resume", [cause]) => {
                let cause = if *cause == "started" { ResumeCause::Started } else { ResumeCause::HolderReturned };
                let _ = self.world.resume(cause, |_| false);
            }
            ("ask", words) => self.ask(read_ask(words)),
            ("sell", [called, options @ ..]) => {
                let option = |key: &str| options.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
                self.ask(sell(called, option("offering").unwrap(), option("plan")));
            }
            ("admit", [called, "to", sold]) => self.ask(admit(called, sold)),
            ("end", [service]) => self.ask(Ask::EndSale { service: name(service) }),
            ("status", []) => self.status(),
            _ => panic!("not a step: {line}"),
        }
    }

    /// Somebody looked at a need with the newest binding, or with the one before it.
    fn verified(&mut self, binding: &BindingId, outcome: &str) {
        let revision = self.world.known.services[&binding.consumer].bindings[&binding.need].revision;
        let problem = match outcome {
            "ok" => None,
            "broken" => Some(Symptom { kind: SymptomKind::WrongAnswer, detail: "it is not so".to_owned() }),
            "rejected" => Some(Symptom { kind: SymptomKind::WrongCredentials, detail: "wrong password".to_owned() }),
            other => panic!("not what a look finds: {other}"),
        };
        let checks = vec![Checked { name: "it is so".to_owned(), problem }];
        let _ = self.world.give(&Event::Verified { binding: binding.clone(), revision, checks });
    }

    /// The provider has a plan no more, and says so.
    fn lose_plan(&mut self, offering: &str, plan: &str) {
        let catalog = Arc::make_mut(self.catalogs.get_mut(&here()).expect("everything is bought here"));
        let offered = catalog.offerings.get_mut(&offering.parse().unwrap()).expect("it offers that");
        offered.plans.retain(|offered| offered.name.as_str() != plan);
        let read = Event::CatalogRead { provider: here(), catalog: self.catalogs[&here()].clone() };
        let _ = self.world.give(&read);
    }

    /// From now on these versions can be had of an offering, or of a program.
    fn offers(&mut self, what: &str, versions: &str) {
        let versions: Vec<Version> = versions.split(',').map(|version| version.parse().unwrap()).collect();
        self.change_catalogs(|catalog| match catalog.offerings.get_mut(&what.parse().unwrap()) {
            Some(offering) => offering.versions = versions.clone(),
            None => drop(catalog.programs.insert(name(what), versions.clone())),
        });
    }

    fn upkeep(&mut self, offering: &str, version: &str) {
        let maintenance = Maintenance { version: version.to_owned(), description: None };
        self.change_catalogs(|catalog| {
            let offered = catalog.offerings.get_mut(&offering.parse().unwrap()).expect("it offers that");
            offered.plans.iter_mut().for_each(|plan| plan.maintenance = Some(maintenance.clone()));
        });
    }

    fn change_catalogs(&mut self, change: impl Fn(&mut Catalog)) {
        for (provider, catalog) in &mut self.catalogs {
            change(Arc::make_mut(catalog));
            let _ = self.world.give(&Event::CatalogRead { provider: provider.clone(), catalog: catalog.clone() });
        }
    }

    fn ask(&mut self, ask: Ask) {
        let decision = self.world.give(&Event::Asked(ask));
        self.refusals(&decision);
    }

    fn refusals(&mut self, decision: &Decision) {
        for withheld in &decision.withheld {
            if let Reason::Refused(why) = &withheld.reason {
                let _ = writeln!(self.text, "  refused: {why}");
            }
        }
    }

    fn end(&mut self, order: &str, outcome: &str) {
        let found = self.world.orders.iter().find(|(_, command)| key(command) == order);
        let id = *found.unwrap_or_else(|| panic!("`{order}` was not ordered: {:?}", self.world.orders)).0;
        match outcome {
            "ok" => {
                self.world.carry_out(id);
                let _ = self.world.tell_outcome(id);
            }
            "temporary" => self.world.fail(id, FailureClass::Temporary),
            "person" => self.world.fail(id, FailureClass::NeedsPerson),
            "interrupted" => self.world.fail(id, FailureClass::Interrupted),
            "in-doubt" => self.world.fail(id, FailureClass::InDoubt),
            "left-behind" => self.world.fail(id, FailureClass::LeftBehind),
            "unclear" => self.world.fail(id, FailureClass::Unclear),
            "lost" => self.world.answer_lost(id),
            "cut-off" => self.world.cut_off(id),
            other => panic!("not an outcome: {other}"),
        }
    }

    fn probe(&mut self, id: &InstanceId, health: &str) {
        let symptom = |kind| Symptom { kind, detail: "no answer within 500 ms".to_owned() };
        let health = match health {
            "ready" => Health::Ready,
            "unready" => unready("connection refused"),
            "hung" => Health::Unready(symptom(SymptomKind::Hung)),
            "slow" => Health::Unready(symptom(SymptomKind::Slow)),
            "silent" => Health::Unready(symptom(SymptomKind::TimedOut)),
            "shallow" => Health::Shallow(symptom(SymptomKind::TimedOut)),
            "unknown" => Health::Unready(symptom(SymptomKind::Unknown)),
            other => panic!("not a health: {other}"),
        };
        let (watch, reported) = self.world.watches.get_mut(id).expect("it is watched");
        *reported = Some(health.clone());
        let watch = *watch;
        let _ = self.world.give(&Event::Probed { instance: id.clone(), watch, health });
    }

    fn process(&mut self, id: &str) -> &mut crate::world::Living {
        self.world.instances.get_mut(&instance(id)).and_then(|truth| truth.process.as_mut()).expect("it runs")
    }

    fn die(&mut self, id: &InstanceId, spent: bool) {
        if spent {
            self.world.instances.get_mut(id).expect("it exists").grant = 0;
        }
        self.world.kill(id);
        if !self.auto {
            let report = self.world.reports.pop_front().expect("it ran");
            let _ = self.world.give(&report);
        }
    }

    /// What callers got since so long ago.
    fn served(&mut self, service: &ServiceName, length: &str, asked: &str, failed: &str) {
        let (until, length) = (self.world.now, length.parse::<Span>().unwrap().get());
        let (asked, failed) = (asked.parse().unwrap(), failed.parse().unwrap());
        let traffic = Traffic { from: until - length, until, asked, failed, late: 0 };
        let _ = self.world.give(&Event::Served { service: service.clone(), traffic });
    }

    /// In auto mode the world answers on the way, at the time of each look.
    fn tick(&mut self, length: Span) {
        let until = self.world.now + length.get();
        while self.auto
            && let Some((at, _)) = self.world.wakes.first().cloned().filter(|(at, _)| *at <= until)
        {
            self.world.pass(at.since(self.world.now));
            self.world.settle();
        }
        self.world.pass(until.since(self.world.now));
    }

    fn status(&mut self) {
        for service in status(&self.world.known, self.world.now).services {
            let instances: Vec<String> = service.instances.iter().map(|i| format!("{} {}", i.id, i.state)).collect();
            let _ = writeln!(self.text, "  {} is {}: {}", service.name, service.state, instances.join(", "));
            for level in &service.levels {
                let (reached, left) = (&level.reached, level.left_percent);
                let (failed, unseen) = (level.failed_seconds, level.unseen_seconds);
                let _ = writeln!(self.text, "    {reached} served, {left}% left: {failed} s failed, {unseen} s unseen");
            }
            for instance in &service.instances {
                if let Some(because) = &instance.because {
                    let _ = writeln!(self.text, "    {}: {because}", instance.id);
                }
            }
            for leftover in &service.leftovers {
                let _ = writeln!(self.text, "    {} is {}: {}", leftover.id, leftover.state, leftover.because);
                if let Some(answer) = &leftover.answer {
                    let _ = writeln!(self.text, "      {answer}");
                }
            }
            if let Some(moving) = &service.moving {
                let _ = writeln!(
                    self.text,
                    "    moves from {} to {}: {:?}; {}",
                    moving.from, moving.to, moving.step, moving.loses
                );
                if let (Some(question), Some(answer)) = (&moving.question, &moving.answer) {
                    let _ = writeln!(self.text, "      {question}\n      {answer}");
                }
            }
            if let Some(moved) = &service.moved {
                let back = if moved.returned { "back " } else { "" };
                let _ = writeln!(self.text, "    moved {back}from {} to {}: {}", moved.from, moved.to, moved.lost);
            }
            if let Some(upgrade) = &service.upgrade {
                let UpgradeView { from, to, now, .. } = upgrade;
                let over = upgrade.over_by.as_ref().map_or_else(String::new, |at| format!("; over by {at}"));
                let window = upgrade.window_until.as_ref().map_or_else(String::new, |at| format!("; closes at {at}"));
                let waves = format!("wave {} of {}", upgrade.wave, upgrade.waves);
                let _ = writeln!(self.text, "    is upgraded from {from} to {to}: {waves}: {now}{over}{window}");
                if let (Some(question), Some(answer)) = (&upgrade.question, &upgrade.answer) {
                    let _ = writeln!(self.text, "      {question}\n      {answer}");
                }
            }
            if let Some(available) = &service.available {
                let waits = available.waits.as_deref().unwrap_or("nothing");
                let _ = writeln!(self.text, "    {} could be {}; waits: {waits}", available.from, available.to);
            }
            if let Some(blocked) = &service.blocked {
                let _ = writeln!(self.text, "    there is {}: {}", blocked.newest, blocked.because);
            }
            for drill in &service.drills {
                let _ =
                    writeln!(self.text, "    drill {}: {:?}, {} days ago", drill.fault, drill.verdict, drill.days_ago);
            }
            for view in overrides(&self.world.known, Some(&service.name), self.world.now) {
                let _ = writeln!(self.text, "    {} of {}: {}: {:?}", view.id, view.owner, view.what, view.without);
            }
            for trouble in service.troubles {
                let _ = writeln!(self.text, "    trouble: {trouble}");
            }
        }
    }

    /// Tells the facts since the last step, and what has come to wait for what.
    fn tell(&mut self) {
        let mut at = None;
        let mut orders: BTreeMap<CommandId, Command> = BTreeMap::new();
        for fact in &self.world.facts {
            if let FactKind::CommandIssued { id, command } = &fact.kind {
                orders.insert(*id, command.clone());
            }
        }
        for fact in &self.world.facts[self.told..] {
            if let Some(line) = in_line(&fact.kind, &orders) {
                if at.replace(fact.at) != Some(fact.at) {
                    let _ = writeln!(self.text, " at {}", in_words(fact.at.since(START)));
                }
                let _ = writeln!(self.text, "  {line}");
            }
        }
        self.told = self.world.facts.len();
        let mut waits = BTreeMap::new();
        for service in self.world.known.services.values() {
            for number in service.instances.keys() {
                let id = service.instance_id(*number);
                let look = decide(&self.world.known, &Event::Look(Scope::Instance(id.clone())), self.world.now);
                if let Some(withheld) = look.withheld.first().filter(|w| !matches!(w.reason, Reason::UnderWay(_))) {
                    waits.insert(id, withheld.reason.in_words(self.world.now));
                }
            }
        }
        for (id, reason) in &waits {
            if self.waits.get(id) != Some(reason) {
                let _ = writeln!(self.text, "  … {id} waits: {reason}");
            }
        }
        self.waits = waits;
    }
}

macro_rules! stories {
    ($($story:ident)+) => {
        $(#[test]
        fn $story() {
            let file = concat!("tests/stories/", stringify!($story), ".story");
            let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
            let transcript = Story::play(&text);
            insta::with_settings!({
                snapshot_path => concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stories"),
                prepend_module_to_snapshot => false,
                omit_expression => true,
            }, {
                insta::assert_snapshot!(stringify!($story), transcript);
            });
        })+

        #[test]
        fn every_story_is_played() {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stories");
            let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let mut found: Vec<String> =
                files.filter_map(|file| file.strip_suffix(".story").map(str::to_owned)).collect();
            found.sort();
            assert_eq!(found, [$(stringify!($story)),+]);
        }
    };
}

stories! {
    adopting
    backups
    backups_bad
    backups_kept
    backups_proven
    bookshop
    bought
    bought_always_due
    bought_changed
    bought_elsewhere
    bought_in_doubt
    bought_late
    bought_plan_gone
    bought_quarantined
    bought_renewed
    bought_tidy_refused
    context
    crash_loop
    credentials
    cut_off
    deadlock_of_repairs
    delete_while_used
    down
    drill_credentials
    drill_disk
    drill_fails
    drill_hung
    drill_killed
    drill_outage
    drill_refused
    drill_restore
    drill_scheduled
    endpoint_in_use
    endpoint_moves
    grant_spent
    held_again
    holder_retired
    hung
    killed
    levels
    lost_data
    many_kills
    migration
    migration_fails
    moved
    moved_bad_backup
    moved_bought
    moved_by_itself
    moved_dead
    moved_kept
    moved_killed
    moved_killed_later
    moved_no_place
    moved_not_as_relied_on
    moved_price
    moved_relied_on
    moved_second_fault
    moved_stateless
    moved_too_old
    need_removed
    needs_a_person
    never_ready
    nothing_changed
    override_forbid
    override_force
    override_freeze
    override_hold
    override_pin
    override_refused
    override_skip
    own_view
    probe_cannot_be_made
    proven
    release_after_delete
    repair_cut_off
    report_lost
    rolled_back
    rolling
    scaling
    selling
    selling_elsewhere
    share_at_once
    slow
    taken_out
    upgrade_canary
    upgrade_declared
    upgrade_major
    upgrade_major_fails
    upgrade_minor
    upgrade_refused
    upgrade_upkeep
    upgrade_waves
    upgrade_window_closes
    victims
}
