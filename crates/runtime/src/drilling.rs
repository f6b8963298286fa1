//! Drills, as far as something has to be done for them: faults are caused and undone, and what callers and data see of
//! them is measured.
//!
//! Invariant: whatever is caused has an end that needs nobody here: a process of its own lets go on what it made stand
//! still, and gives back the room that it took; and gateway and probes forget by themselves what they were to refuse.
//! There is one exception: credentials that were ended are made again by the manager, or by the next one.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader};
use std::pin::Pin;
use std::process::{Command as Program, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ostler_gateway::messages::{Says, Tell};
use ostler_journal::SealedChange;
use ostler_keeper::faults::{self, Meant, Rhythm, Standstill};
use ostler_keeper::full::Filling;
use ostler_keeper::protocol::{Answer, Order, Survey};
use ostler_manager::{Callers, Data, Drill, Hit, Knowledge, Measured, Outcome};
use ostler_model::estate::drills::Fault;
use ostler_model::ids::{SecretId, ServiceName};
use ostler_model::outcome::{Failure, FailureClass};
use ostler_probes::{Target, find_mark, leave_mark};
use tokio::sync::oneshot;

use crate::clock;
use crate::home::Home;
use crate::keeper_link::Keeper;
use crate::orders::credentials;
use crate::proof;
use crate::turn::Secrets;

/// The gateway counts at once; where it does not, it is not there.
const COUNTED_WITHIN: Duration = Duration::from_secs(2);
/// Callers that were held try again within milliseconds of what let the first one through: those still count.
const LAST_CALLERS: Duration = Duration::from_millis(250);
/// Something is written, or looked for, within this.
const MARK_WITHIN: Duration = Duration::from_secs(5);
/// It is looked for so often before nobody knows whether it is there.
const MARK_TRIES: u32 = 3;
/// After a full disk so often, which is a quarter of a minute.
const MARK_TRIES_FULL: u32 = 60;
/// A slow instance stands still for so many times what a probe may take …
const STILL_TIMEOUTS: u32 = 4;
/// … at least for so long …
const STILL_MIN: Duration = Duration::from_secs(1);
/// … and at most for so long; then it goes on for a twentieth of that.
const STILL_MAX: Duration = Duration::from_secs(20);
const GOING_PART: u32 = 20;

/// Makes the program that has an instance's processes stand still: it says a line once they do.
pub type HoldStill = Arc<dyn Fn(&Standstill) -> io::Result<Program> + Send + Sync>;

/// Makes the program that fills a disk: it says the same line once that is full.
pub type Fill = Arc<dyn Fn(&Filling) -> io::Result<Program> + Send + Sync>;

/// Ends the credentials of a binding.
pub(crate) type EndsCredentials = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;

/// The programs that cause faults, and outlive whoever started them.
#[derive(Clone)]
pub struct Programs {
    /// Makes an instance's processes stand still.
    pub hold_still: HoldStill,
    /// Fills a disk.
    pub fill: Fill,
}

/// What causes and undoes faults.
#[derive(Clone)]
pub(crate) struct Drilling {
    keeper: Keeper,
    /// Where it is noted who is made to stand still, and that a disk is filled.
    home: Home,
    programs: Programs,
    counting: Counting,
    /// Held from when a process is started that makes others stand still until it does so, also where whoever ordered it
    /// has given up: undoing waits for that, or it would come too early.
    starting: Arc<tokio::sync::Mutex<()>>,
}

/// What is counted while something is drilled.
#[derive(Clone, Default)]
pub(crate) struct Counting(Arc<Mutex<Counts>>);

#[derive(Default)]
struct Counts {
    waiting: BTreeMap<u64, oneshot::Sender<()>>,
    /// What is counted from that answer on.
    begins: Option<(u64, Tally)>,
    under_way: Option<Tally>,
}

#[derive(Clone, Debug)]
struct Tally {
    number: u32,
    service: ServiceName,
    callers: Callers,
    written: u32,
}

/// Where something is written before a fault, and looked for after it.
pub(crate) struct Mark {
    target: Target,
    word: String,
}

impl Counting {
    /// What the gateway said, in the order in which it said it.
    pub(crate) fn said(&self, says: &Says) {
        let mut counts = self.counts();
        match says {
            Says::Counted { id } => {
                if let Some((_, tally)) = counts.begins.take_if(|(begins, _)| begins == id) {
                    counts.under_way = Some(tally);
                }
                if let Some(waiting) = counts.waiting.remove(id) {
                    let _ = waiting.send(()); // whoever waited may have given up
                }
            }
            Says::Served { service, asked, failed, .. } => {
                if let Some(tally) = counts.of(service) {
                    tally.callers.asked = tally.callers.asked.saturating_add(*asked);
                    tally.callers.failed = tally.callers.failed.saturating_add(*failed);
                }
            }
            Says::Trouble { service, connects_waited, longest_wait_us, .. } => {
                if let Some(tally) = counts.of(service) {
                    tally.callers.waited = tally.callers.waited.saturating_add(*connects_waited);
                    tally.callers.longest_ms = tally.callers.longest_ms.max(longest_wait_us / 1000);
                }
            }
            Says::Drained { .. } | Says::Fenced { .. } | Says::Traffic { .. } | Says::SetAside { .. } => {}
        }
    }

    fn wrote(&self, number: u32) {
        if let Some(tally) = self.counts().under_way.as_mut().filter(|tally| tally.number == number) {
            tally.written = 1;
        }
    }

    fn take(&self, number: u32) -> Option<Tally> {
        let mut counts = self.counts();
        counts.begins = None;
        counts.under_way.take().filter(|tally| tally.number == number)
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    fn of(&mut self, service: &str) -> Option<&mut Tally> {
        self.under_way.as_mut().filter(|tally| tally.service.as_str() == service)
    }
}

impl Drilling {
    pub(crate) fn new(keeper: Keeper, home: Home, programs: Programs, counting: Counting) -> Self {
        Self { keeper, home, programs, counting, starting: Arc::default() }
    }

    /// Has the gateway count what callers of the service have asked up to now. It is asked before this returns.
    fn count(&self, id: u64, service: &ServiceName) -> impl Future<Output = bool> + Send + use<> {
        let (sender, counted) = oneshot::channel();
        self.counting.counts().waiting.insert(id, sender);
        let body = serde_json::to_string(&Tell::Count { id, service: service.to_string() });
        let told = self.keeper.ask(Order::GatewayTell { body: body.expect("an order has only string keys") });
        async move {
            let answered = async { matches!(told.await, Answer::Done | Answer::Told { .. }) && counted.await.is_ok() };
            tokio::time::timeout(COUNTED_WITHIN, answered).await.unwrap_or(false)
        }
    }

    /// Counts from now on what callers see of the drill. Called before gateway and probes are told of it.
    pub(crate) fn begin(&self, id: u64, drill: &Drill) -> impl Future<Output = bool> + Send + use<> {
        let (number, service) = (drill.number, drill.suffers().clone());
        let tally = Tally { number, service, callers: Callers::default(), written: 0 };
        self.counting.counts().begins = Some((id, tally));
        self.count(id, drill.suffers())
    }

    /// Causes the fault, as far as anything has to be done for it; `ends` does what ends credentials.
    pub(crate) async fn cause(
        self,
        drill: Drill,
        mark: Option<Mark>,
        rhythm: Rhythm,
        ends: Option<EndsCredentials>,
        counts: impl Future<Output = bool>,
    ) -> Outcome {
        let counts = counts.await;
        if counts
            && let Some(mark) = mark
            && leave_mark(&mark.target, &mark.word, MARK_WITHIN).await == Ok(true)
        {
            self.counting.wrote(drill.number);
        }
        let at = clock::now();
        let caused = match drill.fault {
            Fault::Kill => self.on_process(&drill, |meant| faults::kill(meant).map(drop)).await,
            Fault::Hang => self.hold(&drill, None).await,
            Fault::Slow => self.hold(&drill, Some(rhythm)).await,
            Fault::FillDisk => self.fill(&drill).await,
            Fault::WrongCredentials => match ends {
                Some(ends) => ends.await.map_err(|failure| failure.detail),
                None => Err("there are none".to_owned()),
            },
            // Gateway and probes know already, and a backup is restored by whoever looks after backups.
            Fault::Refuse | Fault::ProviderOutage | Fault::BackupRestore => Ok(()),
        };
        match caused {
            Ok(()) => Outcome::Caused { at },
            Err(why) => failed(format!("cannot cause `{}` at {}: {why}", drill.fault, drill.service)),
        }
    }

    /// Undoes whatever there may be of it, and says what was measured.
    pub(crate) async fn undo(
        self,
        id: u64,
        drill: Drill,
        healed: bool,
        mark: Option<Mark>,
        has_key: bool,
    ) -> (Outcome, Vec<SealedChange>) {
        let (home, _started) = (self.home.clone(), self.starting.lock().await);
        let release = move || faults::release(&home.standstill()).and(faults::release(&home.filling()));
        let released = tokio::task::spawn_blocking(release).await;
        if let Ok(Err(error)) = released {
            return (failed(format!("cannot undo `{}` at {}: {error}", drill.fault, drill.service)), Vec::new());
        }
        if healed {
            tokio::time::sleep(LAST_CALLERS).await;
        }
        let counted = self.count(id, drill.suffers()).await;
        let tally = self.counting.take(drill.number);
        let data = match mark {
            Some(mark) => look_for(&mark, drill.fault).await,
            None => None,
        };
        let written = tally.as_ref().map_or(0, |tally| tally.written);
        let measured = Measured {
            callers: tally.filter(|_| counted).map(|tally| tally.callers),
            data: data.filter(|_| written > 0).map(|found| Data { written, lost: u32::from(!found) }),
            restored: None,
        };
        // The first drill makes the key with which what drills have shown is signed.
        let key = if has_key { None } else { proof::new_key() };
        let secrets = key.map(|key| SealedChange::set(SecretId::of_drills(), key)).into_iter().collect();
        (Outcome::Undone(Box::new(measured)), secrets)
    }

    async fn on_process<T>(&self, drill: &Drill, act: impl FnOnce(Meant) -> io::Result<T>) -> Result<T, String> {
        let Some(hit) = drill.hits.first() else { return Err("there is nothing to do it to".to_owned()) };
        let survey = match self.keeper.ask(Order::Survey).await {
            Answer::Survey(survey) => survey,
            _ => return Err("the keeper did not say what runs".to_owned()),
        };
        let meant = meant(&survey, hit).ok_or_else(|| format!("{} runs as another process by now", hit.instance))?;
        act(meant).map_err(|error| error.to_string())
    }

    /// The process that does it is there, and has done it, when this returns.
    async fn hold(&self, drill: &Drill, rhythm: Option<Rhythm>) -> Result<(), String> {
        let until = drill.until;
        let hold_still = self.programs.hold_still.clone();
        let program = self.on_process(drill, |process| hold_still(&Standstill { process, until, rhythm })).await?;
        self.start(program).await
    }

    /// The disk is full when this returns.
    async fn fill(&self, drill: &Drill) -> Result<(), String> {
        let Some(hit) = drill.hits.first() else { return Err("there is nothing to do it to".to_owned()) };
        let (own, until, fill) = (self.home.instance(&hit.instance), drill.until, self.programs.fill.clone());
        // Where it works is where it writes, and where probes look whether its disk is full.
        let of = |process: Meant| std::fs::read_link(format!("/proc/{}/cwd", process.pid));
        let program = self.on_process(drill, |process| fill(&Filling { folder: of(process)?, own, until })).await?;
        self.start(program).await
    }

    async fn start(&self, mut program: Program) -> Result<(), String> {
        let starting = self.starting.clone().lock_owned().await;
        let said = tokio::task::spawn_blocking(move || {
            let said = wait_until_held(&mut program);
            drop(starting);
            said
        })
        .await;
        said.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(|error| error.to_string())
    }
}

/// Starts the program and waits until it says that it is done. It stays when this process ends.
fn wait_until_held(program: &mut Program) -> io::Result<()> {
    let mut child = program.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let mut line = String::new();
    let out = child.stdout.take().ok_or_else(|| io::Error::other("its output is not there"))?;
    let read = BufReader::new(io::Read::take(out, 1024)).read_line(&mut line);
    // Somebody has to take note of its end, or it stays a zombie for as long as this process lives.
    std::thread::Builder::new().stack_size(64 * 1024).spawn(move || child.wait())?;
    read?;
    match line.trim() {
        HELD => Ok(()),
        "" => Err(io::Error::other("the process that was to do it ended")),
        why => Err(io::Error::other(why.to_owned())),
    }
}

/// What the program says once everything stands still; anything else is why it does not.
pub const HELD: &str = "held";

fn meant(survey: &Survey, hit: &Hit) -> Option<Meant> {
    let process = survey.instances.get(&hit.instance)?.process.as_ref()?;
    (Some(process.pid) == hit.running.pid).then_some(Meant { pid: process.pid, start_ticks: process.start_ticks })
}

async fn look_for(mark: &Mark, fault: Fault) -> Option<bool> {
    // Who had no room to write may have to read its log first, now that there is some.
    let tries = if fault == Fault::FillDisk { MARK_TRIES_FULL } else { MARK_TRIES };
    for _ in 0..tries {
        match find_mark(&mark.target, &mark.word, MARK_WITHIN).await {
            Ok(found) => return found,
            Err(_) => tokio::time::sleep(LAST_CALLERS).await,
        }
    }
    None
}

/// Where a mark is left for the drill: at what keeps its data, with ostler's own credentials.
pub(crate) fn mark(known: &Knowledge, secrets: &dyn Secrets, drill: &Drill) -> Option<Mark> {
    let service = known.services.get(&drill.service)?;
    let instance = match drill.binding() {
        Some(id) => &known.services.get(&id.consumer)?.bindings.get(&id.need)?.instance,
        None => &drill.hits.first()?.instance,
    };
    let mut target = Target::at(known.instance(instance)?.address()?);
    target.credentials = credentials(secrets, &SecretId::of_instance(instance)).ok().flatten();
    let keeps = known.is_durable(service) && instance.service() == &drill.service && target.credentials.is_some();
    keeps.then(|| Mark { target, word: drill.number.to_string() })
}

/// How a slow instance stands still and goes on: long enough that probes have to see it.
pub(crate) fn rhythm(known: &Knowledge, drill: &Drill) -> Rhythm {
    let policy = known.services.get(&drill.service).and_then(|service| known.probe_policy(service));
    let timeout = policy.map_or(STILL_MIN, |policy| policy.timeout.get());
    let still = (timeout * STILL_TIMEOUTS).clamp(STILL_MIN, STILL_MAX);
    Rhythm { still, going: still / GOING_PART }
}

fn failed(detail: String) -> Outcome {
    let remedy = "nothing: what there is of it ends by itself".to_owned();
    Outcome::Failed(Failure { class: FailureClass::Temporary, detail, remedy })
}

#[cfg(test)]
mod tests {
    use ostler_model::estate::Protocol;
    use ostler_model::time::Timestamp;

    use super::*;

    fn served(service: &str, asked: u64, failed: u64) -> Says {
        let (from, until) = (Timestamp(0), Timestamp(1));
        let service = service.to_owned();
        Says::Served {
            service,
            instance: None,
            protocol: Protocol::Http,
            from,
            until,
            asked,
            failed,
            times: Vec::new(),
        }
    }

    fn trouble(waited: u64, longest_wait_us: u64) -> Says {
        Says::Trouble {
            service: "web".to_owned(),
            instance: None,
            from: Timestamp(0),
            until: Timestamp(1),
            connects_waited: waited,
            connects_failed: 0,
            longest_wait_us,
        }
    }

    #[test]
    fn only_what_was_asked_of_the_service_while_it_was_drilled_is_counted() {
        let counting = Counting::default();
        let tally = Tally { number: 3, service: "web".parse().unwrap(), callers: Callers::default(), written: 0 };
        counting.counts().begins = Some((7, tally));
        counting.said(&served("web", 100, 100)); // before
        counting.said(&Says::Counted { id: 6 });
        counting.said(&served("web", 100, 100));
        counting.said(&Says::Counted { id: 7 });
        counting.said(&served("web", 5, 1));
        counting.said(&served("db", 50, 50));
        counting.said(&trouble(2, 400_000));
        counting.said(&trouble(1, 300_000));
        counting.said(&served("web", 4, 0));
        counting.wrote(3);
        counting.wrote(2);
        let tally = counting.take(3).unwrap();
        assert_eq!(tally.callers, Callers { asked: 9, failed: 1, waited: 3, longest_ms: 400 });
        assert_eq!(tally.written, 1);
        assert!(counting.take(3).is_none(), "once");
    }

    #[test]
    fn what_another_drill_counted_is_not_this_ones() {
        let counting = Counting::default();
        let tally = Tally { number: 3, service: "web".parse().unwrap(), callers: Callers::default(), written: 0 };
        counting.counts().under_way = Some(tally);
        assert!(counting.take(4).is_none() && counting.take(3).is_none());
    }
}
