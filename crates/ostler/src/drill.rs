//! `ostler drill`: a fault is caused on purpose, and what the recovery was like is told; and certificates are checked.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ostler_manager::{Ask, DrillView, ServiceView, Verdict};
use ostler_model::ids::ServiceName;
use ostler_model::time::Timestamp;
use ostler_runtime::control::{Request, Response};
use ostler_runtime::home::Home;
use ostler_runtime::{clock, drills, proof};
use tokio::time::{Instant, sleep, timeout_at};

use crate::args::{Common, Drill};
use crate::client::{ask, cut_off, next, open};
use crate::commands::print_json;
use crate::failure::{EXIT_CHANGES, Failure, Outcome};
use crate::place;

/// Beyond the fault's own time: for causing it, undoing it, and an ostler that is brought back meanwhile.
const BEYOND: Duration = Duration::from_secs(60);
/// Once a drill is over its certificate is there within this.
const WRITTEN_WITHIN: Duration = Duration::from_secs(5);

/// Exit code 0 if the recovery was proven, or the certificate is good; 2 otherwise.
pub(crate) async fn drill(arguments: Drill, common: &Common) -> Outcome<u8> {
    if let Some(path) = &arguments.verify {
        return verify(path, arguments.key.as_deref(), common);
    }
    let (Some(service), Some(fault)) = (arguments.service, arguments.fault) else {
        unreachable!("without --verify the grammar asks for a service and a fault")
    };
    let home = place::of_command(common)?;
    let before = newest(&home, &service).await?;
    let order = Ask::Drill { service: service.clone(), fault, lasts: arguments.lasts, despite: arguments.now };
    ask(&home, &Request::Ask(order)).await?;
    let deadline = Instant::now() + arguments.lasts.unwrap_or(fault.lasts_max()).get() + BEYOND;
    let drill = until_over(&home, &service, before, deadline).await?;
    let certificate = if drill.verdict == Verdict::Proven { certificate(&home, &service, &drill).await } else { None };
    if common.json {
        let mut value = serde_json::to_value(&drill).expect("a drill has only string keys");
        value["certificate"] = certificate.map(|path| path.display().to_string()).into();
        print_json(&value);
    } else {
        let words = drill.verdict.in_words(drill.fault);
        anstream::println!("The drill `{}` of {service} {words}.", drill.fault);
        anstream::print!("{}", drills::report(&drill));
        if let Some(path) = certificate {
            anstream::println!("  {:<10}{}, good until {}", "proof", path.display(), drill.valid_until);
        }
    }
    Ok(if drill.verdict == Verdict::Proven { 0 } else { EXIT_CHANGES })
}

/// The number of the service's newest drill that is over.
async fn newest(home: &Home, service: &ServiceName) -> Outcome<u32> {
    let Response::Status { status, .. } = ask(home, &Request::Status).await? else { return Err(cut_off()) };
    let view = status.services.into_iter().find(|view| view.name == *service);
    Ok(view.and_then(|view| view.drills.first().map(|drill| drill.number)).unwrap_or(0))
}

/// The first drill of the service that is over after the one numbered `before`. A manager that dies meanwhile is brought
/// back, and the drill with it is cut short: that is told, too.
async fn until_over(home: &Home, service: &ServiceName, before: u32, deadline: Instant) -> Outcome<DrillView> {
    let late = || {
        let remedy = format!("see `ostler status`, and `ostler why {service}`; whatever was caused ends by itself");
        Failure::new(format!("cannot wait any longer for the drill of `{service}`"), "it is not over yet", remedy)
    };
    let over = |view: &ServiceView| view.drills.iter().find(|drill| drill.number > before).cloned();
    loop {
        let mut line = timeout_at(deadline, open(home, &Request::Watch)).await.map_err(|_| late())??;
        while let Ok(Some(Response::Status { status, .. })) =
            timeout_at(deadline, next(&mut line)).await.map_err(|_| late())?
        {
            let view = status.services.iter().find(|view| view.name == *service);
            if let Some(drill) = view.and_then(over) {
                return Ok(drill);
            }
        }
    }
}

/// Where the certificate lies, once it does.
async fn certificate(home: &Home, service: &ServiceName, drill: &DrillView) -> Option<PathBuf> {
    let path = home.drills().join(format!("{service}-{}-{}.json", drill.number, drill.fault));
    let deadline = Instant::now() + WRITTEN_WITHIN;
    while !path.exists() {
        if Instant::now() > deadline {
            return None;
        }
        sleep(Duration::from_millis(10)).await;
    }
    Some(path)
}

/// Looks at a certificate: whose it is, whether it is as it was signed, and whether it still proves anything.
fn verify(path: &Path, key: Option<&str>, common: &Common) -> Outcome<u8> {
    let what = format!("cannot accept the certificate {}", path.display());
    let fail = |error: &dyn std::error::Error, remedy: &str| Failure::of(&what, error, remedy);
    let text = read_bounded(path).map_err(|error| fail(&error, "name the file of a certificate"))?;
    let remedy = "ask for the certificate again where it was made; it proves nothing as it is";
    let signed = proof::read(&text, key).map_err(|error| fail(&error, remedy))?;
    let certificate = &signed.certificate;
    let expired = is_over(certificate.valid_until);
    if common.json {
        let mut value = serde_json::to_value(&signed).expect("a certificate has only string keys");
        value["expired"] = expired.into();
        print_json(&value);
    } else {
        let (service, fault, estate) = (&certificate.service, certificate.fault, &certificate.estate);
        anstream::println!("{estate} has shown on {} that {service} recovers from `{fault}`.", certificate.made);
        anstream::println!("  signed with key {}", signed.key);
        match expired {
            true => anstream::println!("  It has expired: {}.", certificate.valid_until),
            false => anstream::println!("  It is good until {}.", certificate.valid_until),
        }
    }
    Ok(if expired { EXIT_CHANGES } else { 0 })
}

fn is_over(valid_until: Timestamp) -> bool {
    clock::now() >= valid_until
}

fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(proof::BYTES_MAX + 1).read_to_end(&mut text)?;
    Ok(text)
}
