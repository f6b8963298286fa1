//! Redis as the definition file describes it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use ostler_model::binding::Credentials;
use ostler_model::ids::BindingId;
use ostler_providers::{InstanceOrder, Provider};

use crate::machine::{GRACE, Machine, Watcher, eventually, mode, secrets};

fn binding() -> BindingId {
    BindingId { consumer: "web".parse().unwrap(), need: "cache".parse().unwrap() }
}

/// The reply to one command, as a consumer with these credentials gets it.
fn ask(credentials: &Credentials, address: SocketAddr, command: &[&str]) -> Result<String, String> {
    let mut stream = BufReader::new(TcpStream::connect(address).map_err(|error| error.to_string())?);
    let mut one = |words: &[&str]| -> Result<String, String> {
        let mut text = format!("*{}\r\n", words.len());
        for word in words {
            text.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        stream.get_mut().write_all(text.as_bytes()).map_err(|error| error.to_string())?;
        let mut line = String::new();
        stream.read_line(&mut line).map_err(|error| error.to_string())?;
        let line = line.trim_end();
        match line.split_at_checked(1) {
            Some(("-", error)) => Err(error.to_owned()),
            Some(("$", "-1")) => Ok("(nil)".to_owned()),
            Some(("$", length)) => {
                let mut value = vec![0; length.parse::<usize>().unwrap() + 2];
                stream.read_exact(&mut value).map_err(|error| error.to_string())?;
                Ok(String::from_utf8_lossy(&value).trim_end().to_owned())
            }
            Some((_, simple)) => Ok(simple.to_owned()),
            None => Err("no answer".to_owned()),
        }
    };
    one(&["AUTH", credentials.get("username").unwrap(), credentials.get("password").unwrap()])?;
    one(command)
}

async fn bind(machine: &Machine, order: &InstanceOrder, address: SocketAddr) -> Credentials {
    eventually(async || machine.provider.bind(order, &binding(), address, None).await).await.credentials
}

#[tokio::test]
async fn it_keeps_the_contract() {
    let machine = Machine::new();
    let order = machine.order("cache-1", "redis").await;
    crate::suite::every_call_is_safe_to_repeat(&machine.provider, order).await;
}

#[tokio::test]
async fn consumers_have_users_of_their_own() {
    let machine = Machine::new();
    let mut order = machine.order("cache-1", "redis").await;
    let address = machine.up(&mut order).await;
    let web = bind(&machine, &order, address).await;
    assert_eq!(ask(&web, address, &["SET", "a", "1"]).unwrap(), "OK");
    assert!(ask(&web, address, &["CONFIG", "GET", "dir"]).unwrap_err().contains("NOPERM"));
    let port = address.port();
    let password = web.get("password").unwrap();
    assert_eq!(web.uri().unwrap(), format!("redis://web_app:{password}@127.0.0.1:{port}/0"));
    assert_eq!(ask(&order.secret, address, &["PING"]).unwrap(), "PONG");
    // Users survive a restart, the plan `cache` loses the rest.
    machine.provider.stop(&order, GRACE).await.unwrap();
    machine.start(&order).await;
    assert_eq!(ask(&web, address, &["GET", "a"]).unwrap(), "(nil)");
    machine.provider.unbind(&order, &binding()).await.unwrap();
    assert!(ask(&web, address, &["GET", "a"]).unwrap_err().contains("WRONGPASS"));
    assert_eq!(mode(machine.folder("cache-1").join("redis.conf")), 0o600);
}

#[tokio::test]
async fn the_durable_plan_keeps_what_it_holds() {
    let machine = Machine::new();
    let mut order = machine.order("cache-1", "redis").await;
    order.placement.plan = "durable".parse().unwrap();
    let address = machine.up(&mut order).await;
    let web = bind(&machine, &order, address).await;
    assert_eq!(ask(&web, address, &["SET", "a", "1"]).unwrap(), "OK");
    machine.provider.stop(&order, GRACE).await.unwrap();
    machine.start(&order).await;
    assert_eq!(eventually(async || ask(&web, address, &["GET", "a"])).await, "1");
}

#[tokio::test]
async fn a_backup_restores_and_a_damaged_one_does_not() {
    let machine = Machine::new();
    let mut order = machine.order("cache-1", "redis").await;
    let watcher = Watcher::new();
    let address = machine.up(&mut order).await;
    let web = bind(&machine, &order, address).await;
    ask(&web, address, &["SET", "a", "before"]).unwrap();
    ask(&web, address, &["SET", "ends", "by itself", "EX", "3600"]).unwrap();
    let file = machine.home.path().join("one");
    let made = machine.provider.backup(&order, &file).await.unwrap();
    assert_eq!(made.counted, crate::postgresql::counted(&[("keys", 1)]));
    ask(&web, address, &["SET", "a", "after"]).unwrap();
    ask(&web, address, &["SET", "b", "after"]).unwrap();
    assert_ne!(machine.provider.count(&order).await.unwrap(), made.counted);
    machine.provider.restore(&order, &file).await.unwrap();
    assert_eq!(machine.provider.count(&order).await.unwrap(), made.counted);
    assert_eq!(ask(&web, address, &["GET", "a"]).unwrap(), "before");
    assert_eq!(ask(&web, address, &["GET", "b"]).unwrap(), "(nil)");
    assert_eq!(ask(&web, address, &["SET", "b", "new"]).unwrap(), "OK", "it takes writes again");

    let mut damaged = std::fs::read(&file).unwrap();
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    std::fs::write(&file, &damaged).unwrap();
    let failure = machine.provider.restore(&order, &file).await.unwrap_err();
    assert!(failure.detail.contains("CRC error"), "{failure}");
    assert_eq!(ask(&web, address, &["GET", "b"]).unwrap(), "new");

    let arguments = watcher.seen();
    assert!(arguments.contains("redis-cli"), "the watcher saw the steps");
    for secret in secrets(&order.secret).iter().chain(&secrets(&web)) {
        assert!(!arguments.contains(secret), "a secret was in a process's arguments");
        assert!(!failure.detail.contains(secret));
    }
}
