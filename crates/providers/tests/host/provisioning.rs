//! Making and deleting instances, interrupted at every step.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use ostler_model::binding::Credentials;
use ostler_model::outcome::{FailureClass, Observation};
use ostler_providers::Provider;
use ostler_providers::host::{Definitions, MARKER};

use crate::machine::{GRANT, Machine, nobody};

/// Replaces a line of the marker.
fn mark(folder: &Path, from: &str, to: &str) {
    let path = folder.join(MARKER);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(path, text.replace(from, to)).unwrap();
}

#[tokio::test]
async fn an_interrupted_provisioning_goes_on_wherever_it_was() {
    // Each interruption leaves what a kill at this point leaves; no secret was returned before any of them.
    type Interruption = fn(&Path);
    let interruptions: [(&str, Interruption); 6] = [
        ("before the folder has its name", |folder| {
            std::fs::rename(folder, folder.with_file_name(".new-cache-1")).unwrap();
        }),
        ("after the marker", |folder| {
            mark(folder, "prepared = true", "prepared = false");
            std::fs::remove_dir_all(folder.join("data")).unwrap();
        }),
        ("while preparing", |folder| {
            mark(folder, "prepared = true", "prepared = false");
            std::fs::rename(folder.join("data"), folder.join("data.new-12345678")).unwrap();
        }),
        ("after the data has its name", |folder| mark(folder, "prepared = true", "prepared = false")),
        ("before the secret was sealed", |_| {}),
        ("while preparing again", |folder| {
            mark(folder, "prepared = true", "prepared = false");
            std::fs::create_dir(folder.join("data.new-12345678")).unwrap();
        }),
    ];
    for (when, interrupt) in interruptions {
        let machine = Machine::new();
        let mut order = machine.order("cache-1", "redis").await;
        let lost = machine.provider.provision(&order, nobody()).await.unwrap();
        let folder = machine.folder("cache-1");
        interrupt(&folder);
        // Or a manager that was killed would start what is not there, again and again.
        assert_eq!(machine.provider.observe(&order).await.unwrap(), Observation::Absent, "{when}");
        order.secret = machine.provider.provision(&order, nobody()).await.unwrap();
        assert_ne!(order.secret.get("password"), lost.get("password"), "{when}");
        let names: Vec<String> = std::fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with("data"))
            .collect();
        assert_eq!(names, ["data"], "{when}");
        machine.start(&order).await;
        let binding = ostler_model::ids::BindingId { consumer: "web".parse().unwrap(), need: "cache".parse().unwrap() };
        let endpoint = "127.0.0.1:1".parse().unwrap();
        crate::machine::eventually(async || machine.provider.bind(&order, &binding, endpoint, None).await).await;
    }
}

#[tokio::test]
async fn an_instance_that_was_started_is_never_prepared_anew() {
    let machine = Machine::new();
    let mut order = machine.order("cache-1", "redis").await;
    machine.up(&mut order).await;
    order.secret = Credentials::default();
    let failure = machine.provider.provision(&order, nobody()).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::NeedsPerson);
    assert!(failure.detail.contains("secret `password`"), "{failure}");
    assert!(machine.folder("cache-1").join("data/users.acl").exists());
}

/// A definition whose preparing can be made to hang, to fail, and to succeed.
const SLOW: &str = r#"
description = "prepares as the file beside it says"
[[plan]]
name = "only"
description = "the only one"
[[prepare]]
run = ["/bin/sh", "-c", "touch {{ instance.data }}/begun; . {{ env.SCRIPT }}"]
[run]
command = ["/bin/sleep", "1000"]
"#;

#[tokio::test]
async fn a_manager_that_goes_away_takes_its_steps_along() {
    let offerings = tempfile::tempdir().unwrap();
    std::fs::write(offerings.path().join("slow.toml"), SLOW).unwrap();
    let machine = Machine::with(Definitions::with_folder(offerings.path()).unwrap());
    let mut order = machine.order("slow-1", "slow").await;
    let script = offerings.path().join("script");
    order.env.insert("SCRIPT".to_owned(), script.to_str().unwrap().parse().unwrap());
    let pid_file = offerings.path().join("pid");
    std::fs::write(&script, format!("echo $$ > {}; sleep 1000", pid_file.display())).unwrap();
    {
        let mut provision = machine.provider.provision(&order, nobody());
        let begun = crate::machine::eventually(async || {
            tokio::select! {
                biased;
                _ = &mut provision => Err("ended by itself"),
                () = tokio::time::sleep(Duration::from_millis(10)) => {
                    let text = std::fs::read_to_string(&pid_file).map_err(|_| "not begun")?;
                    text.trim().parse::<u32>().map_err(|_| "half written")
                }
            }
        });
        let pid = begun.await;
        drop(provision);
        crate::machine::eventually(async || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let gone = stat.is_empty() || stat.contains(") Z ");
            if gone { Ok(()) } else { Err("the step still runs") }
        })
        .await;
    }
    std::fs::write(&script, "echo no such luck >&2; exit 1").unwrap();
    let failure = machine.provider.provision(&order, nobody()).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Temporary);
    assert!(
        failure.detail.contains("prepare instance `slow-1`") && failure.detail.contains("no such luck"),
        "{failure}"
    );
    let observed = machine.provider.observe(&order).await.unwrap();
    assert_eq!(observed, Observation::Absent, "it is made anew, instead of being started in vain");
    let failure = machine.provider.start(&order, GRANT).await.unwrap_err();
    assert!(failure.detail.contains("not provisioned"), "{failure}");
    std::fs::write(&script, "exit 0").unwrap();
    order.secret = machine.provider.provision(&order, nobody()).await.unwrap();
    machine.provider.start(&order, GRANT).await.unwrap();
}

#[tokio::test]
async fn what_ostler_did_not_make_is_not_deleted() {
    let machine = Machine::new();
    let order = machine.order("cache-1", "redis").await;
    let folder = machine.folder("cache-1");
    std::fs::create_dir_all(folder.join("data")).unwrap();
    std::fs::write(folder.join("data/precious"), "yes").unwrap();
    for marker in [None, Some("format = 1\ninstance = \"other-1\"\n"), Some("not even toml")] {
        if let Some(marker) = marker {
            std::fs::write(folder.join(MARKER), marker).unwrap();
        }
        for failure in [
            machine.provider.deprovision(&order, nobody()).await.unwrap_err(),
            machine.provider.provision(&order, nobody()).await.unwrap_err(),
        ] {
            assert_eq!(failure.class, FailureClass::NeedsPerson);
            assert!(failure.detail.contains("was not made by ostler"), "{failure}");
        }
    }
    assert_eq!(std::fs::read_to_string(folder.join("data/precious")).unwrap(), "yes");
}

#[tokio::test]
async fn an_interrupted_deletion_goes_on() {
    let machine = Machine::new();
    let order = machine.order("cache-1", "redis").await;
    machine.provider.provision(&order, nobody()).await.unwrap();
    let deleting = machine.home.path().join("instances/.deleting-cache-1");
    std::fs::rename(machine.folder("cache-1"), &deleting).unwrap();
    assert_eq!(machine.provider.observe(&order).await.unwrap(), Observation::Absent);
    machine.provider.deprovision(&order, nobody()).await.unwrap();
    assert!(!deleting.exists());
}

#[tokio::test]
async fn another_estates_instance_is_not_ours() {
    let machine = Machine::new();
    let mut order = machine.order("cache-1", "redis").await;
    order.secret = machine.provider.provision(&order, nobody()).await.unwrap();
    order.estate = "other".parse().unwrap();
    for failure in [
        machine.provider.provision(&order, nobody()).await.unwrap_err(),
        machine.provider.start(&order, GRANT).await.unwrap_err(),
    ] {
        assert_eq!(failure.class, FailureClass::NeedsPerson);
    }
}

#[tokio::test]
async fn a_home_that_the_programs_user_cannot_enter_is_named() {
    if !rustix::process::geteuid().is_root() {
        return; // everything runs as one user then, and there is nothing to enter
    }
    let closed = tempfile::Builder::new().prefix("ostler-closed").tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(closed.path(), PermissionsExt::from_mode(0o700)).unwrap();
    let home = closed.path().join("home");
    std::fs::create_dir(&home).unwrap();
    let machine = Machine::new();
    let provider = ostler_providers::host::HostProvider::new(ostler_providers::host::HostConfig {
        home,
        definitions: Definitions::builtin().unwrap(),
        keeper: machine.keeper.clone(),
        ports: Default::default(),
    });
    let order = machine.order("db-1", "postgresql").await;
    let failure = provider.provision(&order, nobody()).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::NeedsPerson);
    let path = closed.path().display().to_string();
    assert!(failure.detail.contains("`postgres`") && failure.detail.ends_with(&path), "{failure}");
    assert!(failure.remedy.contains("--home"), "{}", failure.remedy);
}
