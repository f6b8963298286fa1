//! The buyer's own program: this test's executable, run again as [`child`].

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;

use ostler_model::binding::{Credentials, Secret};
use ostler_model::catalog::Limits;
use ostler_model::estate::Listen;
use ostler_model::outcome::FailureClass;
use ostler_model::template::Template;
use ostler_providers::{InstanceOrder, Need, Provider};

use crate::machine::{GRACE, GRANT, Machine, mode, nobody};

/// Tells everybody who connects its environment. Not a test: it is the program that the tests run.
#[test]
#[ignore = "the program that other tests run"]
fn child() {
    let address = (std::env::var("HOST").unwrap(), std::env::var("PORT").unwrap().parse::<u16>().unwrap());
    let listener = TcpListener::bind(address).unwrap();
    for stream in listener.incoming() {
        let environment: BTreeMap<String, String> = std::env::vars().collect();
        let _ = stream.unwrap().write_all(&serde_json::to_vec(&environment).unwrap());
    }
}

fn environment_of(address: SocketAddr) -> BTreeMap<String, String> {
    let mut text = String::new();
    TcpStream::connect(address).unwrap().read_to_string(&mut text).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn templates(words: &[&str]) -> Vec<Template> {
    words.iter().map(|word| word.parse().unwrap()).collect()
}

async fn order(machine: &Machine) -> InstanceOrder {
    let mut order = machine.order("web-1", "program").await;
    let program = std::env::current_exe().unwrap();
    order.run = templates(&[program.to_str().unwrap(), "--exact", "program::child", "--ignored", "--nocapture"]);
    order
}

fn need(password: &str) -> Need {
    let fields = [
        ("uri", format!("postgresql://web_app:{password}@127.0.0.1:5000/db")),
        ("host", "127.0.0.1".to_owned()),
        ("port", "5000".to_owned()),
        ("username", "web_app".to_owned()),
        ("password", password.to_owned()),
        ("database", "db".to_owned()),
    ];
    let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), Secret::new(value))).collect();
    Need {
        offering: "postgresql".to_owned(),
        provider: "here".to_owned(),
        credentials: Credentials { fields, ..Credentials::default() },
    }
}

#[tokio::test]
async fn it_keeps_the_contract() {
    let machine = Machine::new();
    let order = order(&machine).await;
    crate::suite::every_call_is_safe_to_repeat(&machine.provider, order).await;
}

#[tokio::test]
async fn it_gets_its_bindings_in_three_forms() {
    let machine = Machine::new();
    let mut order = order(&machine).await;
    order.needs.insert("main-db".parse().unwrap(), need("first-password"));
    order.env.insert("DATABASE_URL".to_owned(), "{{ needs.main-db.uri }}?app={{ service.name }}".parse().unwrap());
    order.env.insert("WHO".to_owned(), "{{ estate.name }}/{{ instance.id }}:{{ instance.port }}".parse().unwrap());
    let address = machine.up(&mut order).await;
    let environment = environment_of(address);
    let value = |name: &str| environment.get(name).map(String::as_str);
    let uri = "postgresql://web_app:first-password@127.0.0.1:5000/db";
    assert_eq!(value("MAIN_DB_URL"), Some(uri));
    assert_eq!(value("MAIN_DB_PASSWORD"), Some("first-password"));
    assert_eq!(value("DATABASE_URL"), Some(format!("{uri}?app=web").as_str()));
    assert_eq!(value("WHO"), Some(format!("shop/web-1:{}", address.port()).as_str()));
    assert_eq!((value("HOST"), value("PORT")), (Some("127.0.0.1"), Some(address.port().to_string().as_str())));
    assert_eq!((value("INSTANCE"), value("LANG")), (Some("web-1"), Some("C.UTF-8")));
    assert_eq!(value("CARGO_MANIFEST_DIR"), None, "nothing of ostler's own environment");

    let vcap: serde_json::Value = serde_json::from_str(value("VCAP_SERVICES").unwrap()).unwrap();
    let service = &vcap["postgresql"][0];
    assert_eq!((&service["name"], &service["label"]), (&"main-db".into(), &"postgresql".into()));
    assert_eq!((&service["credentials"]["uri"], &service["credentials"]["port"]), (&uri.into(), &5000.into()));

    let root = Path::new(value("SERVICE_BINDING_ROOT").unwrap());
    let names = |folder: &Path| {
        let mut names: Vec<String> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(names(root), ["main-db"]);
    let folder = root.join("main-db");
    let all = ["database", "host", "password", "port", "provider", "type", "uri", "username"];
    assert_eq!(names(&folder), all);
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    assert_eq!((read("type"), read("provider"), read("uri")), ("postgresql".into(), "here".into(), uri.into()));
    assert!(all.iter().all(|name| mode(folder.join(name)) == 0o600));
    assert_eq!((mode(root), mode(std::fs::canonicalize(&folder).unwrap())), (0o700, 0o700));
    assert_eq!(mode(machine.folder("web-1")), 0o700);

    // Renewed credentials replace the folder as a whole; the same ones leave it alone; without the need it goes.
    let before = std::fs::read_link(&folder).unwrap();
    machine.provider.start(&order, GRANT).await.unwrap();
    assert_eq!(std::fs::read_link(&folder).unwrap(), before);
    order.needs.insert("main-db".parse().unwrap(), need("second-password"));
    machine.provider.start(&order, GRANT).await.unwrap();
    assert_eq!(read("password"), "second-password");
    assert_eq!(names(&machine.folder("web-1").join("bindings.d")).len(), 1, "the old one is gone");
    let digests: Vec<String> = machine.keeper.launches.lock().unwrap().iter().map(|l| l.digest.clone()).collect();
    assert_eq!(digests[0], digests[1]);
    assert_ne!(digests[1], digests[2], "a consumer whose binding changed is to be restarted");
    order.needs.clear();
    order.env.clear();
    machine.provider.start(&order, GRANT).await.unwrap();
    assert!(names(root).is_empty());
}

#[tokio::test]
async fn a_one_off_command_runs_as_the_program_would() {
    let machine = Machine::new();
    let mut order = order(&machine).await;
    order.needs.insert("db".parse().unwrap(), need("some-password"));
    order.secret = machine.provider.provision(&order, nobody()).await.unwrap();
    machine.provider.before(&order).await.unwrap(); // none
    order.before = templates(&["/bin/sh", "-c", "echo \"migrating $DB_DATABASE for $INSTANCE\""]);
    machine.provider.before(&order).await.unwrap();
    let log = machine.folder("web-1").join("log/web-1.log");
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "migrating db for web-1\n");
    assert_eq!(mode(&log), 0o600);
    order.before = templates(&["/bin/sh", "-c", "exit 4"]);
    let failure = machine.provider.before(&order).await.unwrap_err();
    assert!(failure.detail.contains("exit code 4"), "{failure}");

    // One that outlived its manager still runs: no second one starts beside it.
    let (mut reader, writer) = std::io::pipe().unwrap();
    let lock = std::fs::OpenOptions::new().write(true).open(machine.folder("web-1").join("before.lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let mut survivor =
        std::process::Command::new("/bin/cat").stdin(reader.try_clone().unwrap()).stderr(lock).spawn().unwrap();
    let failure = machine.provider.before(&order).await.unwrap_err();
    assert!(failure.detail.contains("an earlier one still runs"), "{failure}");
    drop(writer);
    survivor.wait().unwrap();
    assert_eq!(reader.read(&mut [0; 1]).unwrap(), 0);
    order.before = templates(&["/bin/true"]);
    machine.provider.before(&order).await.unwrap();
}

#[tokio::test]
async fn what_cannot_start_says_why() {
    let machine = Machine::new();
    let mut order = order(&machine).await;
    let program = order.run.clone();
    order.run = templates(&["./not-built-yet"]);
    order.secret = machine.provider.provision(&order, nobody()).await.unwrap();
    let failure = machine.provider.start(&order, GRANT).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Temporary);
    assert!(failure.detail.contains("not-built-yet"), "{failure}");

    order.run = program;
    order.env.insert("X".to_owned(), "{{ needs.gone.uri }}".parse().unwrap());
    let failure = machine.provider.start(&order, GRANT).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::NeedsPerson);
    order.env.clear();

    // A stranger on the instance's port is named.
    let address = machine.start(&order).await;
    machine.provider.stop(&order, GRACE).await.unwrap();
    let stranger = TcpListener::bind(address).unwrap();
    let me = format!("(pid {})", std::process::id());
    for listen in [Listen::Port, Listen::Socket] {
        order.listen = listen;
        let failure = machine.provider.start(&order, GRANT).await.unwrap_err();
        assert_eq!(failure.class, FailureClass::Temporary);
        assert!(failure.remedy.contains(&address.to_string()) && failure.remedy.contains(&me), "{}", failure.remedy);
    }
    drop(stranger);
    order.listen = Listen::Port;
    assert_eq!(machine.start(&order).await, address);
}

#[tokio::test]
async fn a_handed_over_socket_is_held_by_the_keeper() {
    let machine = Machine::new();
    let mut order = order(&machine).await;
    order.run = templates(&["/bin/sleep", "1000"]);
    order.listen = Listen::Socket;
    let address = machine.up(&mut order).await; // accepts, though the program does not listen
    assert_eq!(machine.keeper.launches.lock().unwrap()[0].socket.as_deref(), Some("instance/web-1"));
    machine.provider.stop(&order, GRACE).await.unwrap();
    assert!(TcpStream::connect(address).is_ok(), "connects queue while it restarts");
    // Asked to bind its port itself, it finds the port free.
    order.run = self::order(&machine).await.run;
    order.listen = Listen::Port;
    assert_eq!(machine.start(&order).await, address);
    assert_eq!(machine.keeper.launches.lock().unwrap().last().unwrap().socket, None);
    machine.provider.deprovision(&order, nobody()).await.unwrap();
    assert!(TcpStream::connect(address).is_err());
}

#[tokio::test]
async fn limits_hold_for_the_process() {
    let machine = Machine::new();
    let mut order = order(&machine).await;
    order.limits = Limits { memory_bytes: Some(512 << 20), processes: Some(64), ..Limits::default() };
    machine.up(&mut order).await;
    let launch = machine.keeper.launches.lock().unwrap()[0].clone();
    match machine.provider.limits_in_force() {
        ostler_providers::host::LimitsKind::Rlimits => assert!(!launch.rlimits.is_empty()),
        ostler_providers::host::LimitsKind::CgroupV2(_) | ostler_providers::host::LimitsKind::CgroupV1 { .. } => {
            assert!(!launch.cgroups.is_empty());
            assert!(launch.cgroups.iter().all(|file| !std::fs::read_to_string(file).unwrap().is_empty()));
        }
    }
    machine.provider.deprovision(&order, nobody()).await.unwrap();
    assert!(launch.cgroups.iter().all(|file| !file.exists()), "its cgroups are gone");
}
