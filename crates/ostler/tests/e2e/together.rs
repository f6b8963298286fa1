//! Proof that the services work together: contract checks with the consumers' own bindings.

use serde_json::Value;

use crate::harness::{Ostler, bookshop, signal, wait_until};

const CONTRACTS: &str = r#"
contract = [
    { need = "db", name = "there are books", sql = "select count(*) > 0 from books", expect = "true" },
    { need = "db", name = "as myself", sql = "select current_user ~ '_owner$'", expect = "true" },
    { need = "cache", redis = ["PING"], expect = "PONG" },
    { need = "cache", tcp = true },
    { need = "db", name = "in my own environment", command = ["/bin/sh", "-c", "test -n \"$DATABASE_URL\""] },
]
"#;

/// By consumer and need: the names of the checks that are not kept.
fn broken(looked: &Value) -> Vec<(String, String, Vec<String>)> {
    let text = |of: &Value, key: &str| of[key].as_str().unwrap().to_owned();
    let wrong = |edge: &Value| {
        let checks = edge["checks"].as_array().unwrap().iter().filter(|check| check["problem"].is_object());
        checks.map(|check| text(check, "name")).collect()
    };
    looked.as_array().unwrap().iter().map(|edge| (text(edge, "consumer"), text(edge, "need"), wrong(edge))).collect()
}

#[test]
fn what_is_relied_on_is_looked_at_and_who_is_to_blame_is_told() {
    let ostler = Ostler::up(&bookshop("", CONTRACTS));
    let edge = |need: &str, wrong: &[&str]| {
        ("web".to_owned(), need.to_owned(), wrong.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
    };
    let said = ostler.run(&["verify", "--json"]);
    assert_eq!((said.code, broken(&said.json())), (0, vec![edge("cache", &[]), edge("db", &[])]), "{said}");
    let shown = ostler.ok(&["verify"]).out;
    assert!(shown.contains("3 of 3 kept") && shown.contains("4 of 4 kept"), "{shown}");
    let facts = serde_json::to_string(&ostler.facts()).unwrap();
    assert!(!facts.contains("hunter2") && facts.contains("web can rely on db: 4 checks passed"), "{facts}");

    // Something that is relied on is not so (any more): looked at after the change, without anybody asking.
    let strict = CONTRACTS.replace("count(*) > 0", "count(*) > 1000000");
    ostler.write("ostler.toml", &bookshop(", COLOUR = \"blue\"", &strict));
    ostler.ok(&["apply", "ostler.toml"]);
    ostler.until("it is told", |status| {
        let services = status["services"].as_array().unwrap();
        let web = services.iter().find(|service| service["name"] == "web").unwrap();
        let is_it = |trouble: &Value| trouble.as_str().unwrap().contains("it cannot rely on db: `there are books`");
        web["troubles"].as_array().is_some_and(|troubles| troubles.iter().any(is_it))
    });
    let said = ostler.run(&["verify", "web"]);
    assert!(said.code == 2 && said.out.contains("web cannot rely on db, bought from here"), "{said}");
    assert!(
        said.out.contains("likely: the need works, and its answer is another than the consumer relies on"),
        "{said}"
    );
    let why = ostler.ok(&["why", "web"]).out;
    assert!(why.contains("it cannot rely on db: `there are books`"), "{why}");

    // One need hangs: only it is blamed.
    let cache = ostler.pids("cache")[0];
    signal(cache, "STOP");
    let said = ostler.run(&["verify", "--json"]);
    let found = broken(&said.json());
    signal(cache, "CONT");
    assert_eq!(said.code, 2);
    // Ostler heals it meanwhile, so what is looked at later may be well again.
    assert_eq!(found[0].2.first().map(String::as_str), Some("it can be used"), "{found:?}");
    assert_eq!(found[1].2, ["there are books"], "{found:?}");

    ostler.write("ostler.toml", &bookshop("", CONTRACTS));
    ostler.ok(&["apply", "ostler.toml"]);
    wait_until("all is well again", || ostler.run(&["verify"]).code == 0);
    let said = ostler.run(&["verify", "webb"]);
    assert!(said.code == 1 && said.err.contains("id you mean `web`?"), "{said}");
}

/// A MariaDB, made without its clients: a server that only reads statements makes its tables.
const MARIADB: &str = r#"
description = "MariaDB"
bindable = true
instances_max = 1

[find]
folders = ["/usr/sbin", "/usr/local/sbin"]
programs = ["mariadbd"]
install = "Run scripts/setup.sh test."

[user]
refuses_root = true
names = ["nobody"]

[[plan]]
name = "small"
description = "One user and one database"

[secret]
generate = ["password"]

[secret.fields]
username = "shop"
database = "books"
host = "{{ instance.host }}"
port = "{{ instance.port }}"
uri = "mysql://shop:{{ secret.password }}@{{ secret.host }}:{{ secret.port }}/books"

[[prepare]]
run = [
  "/bin/sh", "-c", "cat /usr/share/mysql/mysql_system_tables.sql - | sed '1i create database mysql;\\nuse mysql;' | \"$@\"",
  "sh", "{{ binaries.mariadbd }}", "--no-defaults", "--datadir={{ instance.data }}", "--bootstrap",
]
stdin = """
flush privileges;
create database books;
create table books.books (title varchar(100) primary key);
create user shop@'%' identified by '{{ secret.password }}';
grant all on books.* to shop@'%';
"""

[run]
command = [
  "{{ binaries.mariadbd }}", "--no-defaults", "--datadir={{ instance.data }}", "--socket=socket",
  "--bind-address={{ instance.host }}", "--port={{ instance.port }}",
]

[probe]
ready = "mysql"

[bind.fields]
username = "{{ secret.username }}"
password = "{{ secret.password }}"
host = "{{ endpoint.host }}"
port = "{{ endpoint.port }}"
uri = "mysql://shop:{{ secret.password }}@{{ endpoint.host }}:{{ endpoint.port }}/books"
"#;

const READER: &str = r#"
[estate]
name = "readers"

[provider.here]
kind = "host"
offerings = "offerings"

[service.db]
offering = "mariadb"

[service.reader]
offering = "program"
run = ["/bin/sleep", "100000"]
needs = ["db"]
probe = { ready = { command = ["/bin/true"] } }
contract = [
    { need = "db", name = "there is room for books", sql = "select count(*) = 0 from books", expect = "true" },
    { need = "db", name = "there are authors", sql = "select count(*) from authors", expect = "0" },
]
"#;

#[test]
fn a_mysql_is_probed_and_looked_at_in_its_own_protocol() {
    let ostler = Ostler::new();
    std::fs::create_dir(ostler.folder().join("offerings")).unwrap();
    ostler.write("offerings/mariadb.toml", MARIADB);
    ostler.write("ostler.toml", READER);
    ostler.ok(&["up", "--detach", "ostler.toml"]);
    let said = ostler.run(&["verify", "--json"]);
    let expected = vec![("reader".to_owned(), "db".to_owned(), vec!["there are authors".to_owned()])];
    assert_eq!((said.code, broken(&said.json())), (2, expected), "{said}");
    assert!(said.out.contains("Table 'books.authors' doesn't exist"), "{said}");
}
