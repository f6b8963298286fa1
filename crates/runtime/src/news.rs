//! What the keeper and the gateway report, as events for the manager.

use std::sync::Arc;
use std::time::Duration;

use ostler_gateway::messages::Says;
use ostler_keeper::builds::Kept;
use ostler_keeper::protocol::{BuildStep, Reflex, Report, UpgradeReport};
use ostler_manager::{Event, OwnBuild, OwnStep, Process, ResumeCause};

use crate::carried::Carried;
use crate::daemon::{Loop, resume};
use crate::drilling::Counting;
use crate::envelope::Writing;
use crate::hands::Drains;
use crate::keeper_link::News;
use crate::served::{Counts, Gatherer};
use crate::turn::Incoming;

/// Carries news to the loop.
pub(crate) fn carrier(
    handle: Loop,
    drains: Drains,
    counting: Counting,
    served: Gatherer,
    carried: Carried,
    note: Arc<dyn Fn(String) + Send + Sync>,
) -> Box<dyn Fn(News) + Send + Sync> {
    Box::new(move |news| match news {
        News::Report { number, at, report } => {
            let event = match report {
                Report::Ended { instance, process, exit, reflex } => Some(Event::Died {
                    instance,
                    pid: Some(process.pid),
                    exit,
                    at,
                    reflex: match reflex {
                        Reflex::Restarted { process, at } => Ok(Process { pid: process.pid, since: at }),
                        Reflex::GrantSpent => Err("it had been restarted too often within a short time".to_owned()),
                        Reflex::EstateGrantSpent => {
                            Err("too many instances of the estate died within a short time".to_owned())
                        }
                        Reflex::NoLaunch => Err("the keeper had not been told yet how to start it".to_owned()),
                        Reflex::Failed(refusal) => Err(refusal.to_string()),
                    },
                }),
                Report::Gateway { up } => {
                    note(if up { "the gateway is there".to_owned() } else { "the gateway is gone".to_owned() });
                    None
                }
                Report::Upgrade(report) => {
                    if report.step == BuildStep::Accepted {
                        handle.have(|engine| engine.write_as(Writing::default()));
                    }
                    Some(own_upgrade(report))
                }
                Report::FromGateway { body } => from_gateway(&body, &drains, &counting, &served, &carried, &*note),
            };
            handle.tell(Incoming { event, secrets: Vec::new(), report: Some(number) });
        }
        News::OtherKeeper => {
            note("another keeper holds the instances now".to_owned());
            if let Err(error) = resume(&handle, ResumeCause::HolderReturned, None) {
                note(format!("cannot look at everything again: {error}"));
            }
        }
        News::OtherVersion(version) => note(format!(
            "the running keeper speaks protocol version {version}, which this build does not: run the build that started it"
        )),
    })
}

fn own_upgrade(report: UpgradeReport) -> Event {
    let build = |kept: Kept| OwnBuild { version: kept.version, sha256: kept.sha256 };
    let step = match report.step {
        BuildStep::Began { .. } => OwnStep::Began,
        BuildStep::Replaced => OwnStep::Replaced,
        BuildStep::Accepted => OwnStep::Accepted,
        BuildStep::TakenBack { why } => OwnStep::TakenBack { why },
    };
    Event::SelfUpgrade { from: build(report.from), to: build(report.to), step }
}

fn from_gateway(
    body: &str,
    drains: &Drains,
    counting: &Counting,
    served: &Gatherer,
    carried: &Carried,
    note: &dyn Fn(String),
) -> Option<Event> {
    let says: Says = serde_json::from_str(body).ok()?; // of another build: nothing can be concluded from it
    drains.said(&says);
    counting.said(&says);
    match says {
        Says::Trouble { service, from, until, connects_waited, connects_failed, longest_wait_us, .. } => {
            Some(Event::CallersAffected {
                service: service.parse().ok()?,
                from,
                until,
                waited: connects_waited,
                failed: connects_failed,
                longest: Duration::from_micros(longest_wait_us),
            })
        }
        Says::SetAside { instance, for_ms, reason, .. } => {
            let seconds = for_ms.div_ceil(1000);
            note(format!(
                "the gateway sends callers past {instance} for {seconds} s, as long as another is left: {reason}"
            ));
            None
        }
        Says::Served { service, protocol, from, until, asked, failed, times, .. } => {
            // How long it takes to reach an instance says nothing of its answers.
            let times = if protocol.is_tcp() { Vec::new() } else { times };
            served.add(service.parse().ok()?, Counts { from, until, asked, failed, times });
            None
        }
        Says::Traffic { service, since, bytes_in, bytes_out, .. } => {
            carried.add(service.parse().ok()?, since?, bytes_in, bytes_out);
            None
        }
        Says::Drained { .. } | Says::Fenced { .. } | Says::Counted { .. } => None,
    }
}
