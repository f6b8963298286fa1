//! Backups elsewhere: in a folder and in a bucket, proven on the side, damaged, and with ostler killed at any step.

use std::fs;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::harness::{NOWHERE, Ostler, cmdline, environment, finish, head, kill, lonely, processes, wait_until};

const CONTRACT: &str = r#"
contract = [
    { need = "db", name = "there are books", sql = "select count(*) > 0 from books", expect = "true" },
    { need = "db", name = "in my own environment", command = ["/bin/sh", "-c", "test -n \"$DATABASE_URL\""] },
]
"#;

/// The bookshop without its cache, whose database is backed up to `backups`.
fn shop(backups: &str, data: &str) -> String {
    let web = format!(
        "needs = [\"db\"]\nenv = {{ DATABASE_URL = \"{{{{ needs.db.uri }}}}\", REDIS_URL = \"redis://127.0.0.1:1\" }}\n{CONTRACT}"
    );
    head("bookshop")
        + backups
        + &format!("\n[service.db]\noffering = \"postgresql\"\ndata = {{ {data} }}\n")
        + &lonely("web", &web)
}

/// With this estate running on it, and the program's books in the database.
fn up(text: &str) -> Ostler {
    let ostler = Ostler::up(text);
    until_stocked(&ostler);
    ostler
}

fn until_stocked(ostler: &Ostler) {
    let has_books = "select case when to_regclass('books') is null then 'no' else 'yes' end";
    wait_until("the shop has its table", || sql(ostler, has_books) == "yes");
    wait_until("the shop has books", || sql(ostler, "select count(*) > 0 from books") == "t");
}

/// Carries out a statement with the program's own binding.
fn sql(ostler: &Ostler, statement: &str) -> String {
    let url = environment(ostler.pids("web")[0])["DATABASE_URL"].clone();
    let mut psql = Command::new("psql");
    psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", statement]).arg(url).stdin(Stdio::null());
    let said = finish(psql, std::time::Duration::from_secs(120));
    assert_eq!(said.code, 0, "{statement}: {said}");
    said.out.trim().to_owned()
}

/// So much that it takes a while to move, and does not fit into one piece.
fn much(ostler: &Ostler) {
    sql(ostler, "create table noise as select gen_random_uuid() as id from generate_series(1, 700000)");
}

fn backup(ostler: &Ostler, name: &str) -> Option<Value> {
    let backups = ostler.service("db")["backups"].as_array().cloned().unwrap_or_default();
    backups.into_iter().find(|backup| backup["name"] == name)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_none())
}

/// Flips a bit in the middle.
fn damage(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn works_in(folder: &Path) -> bool {
    let in_it = |pid: &u32| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(folder));
    processes().iter().any(in_it)
}

#[test]
fn backups_are_kept_elsewhere_and_proven_and_what_is_damaged_is_not_used() {
    let ostler =
        Ostler::up(&shop("[backups]\nto = \"./elsewhere\"\n", "backup_every = \"4h\", prove_every = \"never\""));
    let store = ostler.folder().join("elsewhere/bookshop");
    sql(&ostler, "create table orders_then (id int); insert into orders_then values (1), (2), (3)");
    let made = ostler.json(&["backup", "db", "--name", "one"]);
    assert_eq!(made["place"], store.to_str().unwrap());
    for file in ["db/one", "db/one.json", "ostler-backups.json"] {
        assert_eq!(mode(&store.join(file)), 0o600, "{file}");
    }
    assert!(mode(&store) & 0o077 == 0 && is_empty(&store.join(".passing")));
    let manifest: Value = serde_json::from_slice(&fs::read(store.join("db/one.json")).unwrap()).unwrap();
    let rows = sql(&ostler, "select (select count(*) from books) + 3").parse::<u64>().unwrap();
    assert!(manifest["counted"]["rows"].as_u64().unwrap() >= rows, "{manifest}");
    assert_eq!((&manifest["kind"], &manifest["instance"]), (&Value::from("postgresql"), &Value::from("db-1")));

    // Proven: restored on the side, counted, and as the program relies on it; with nothing left of it.
    let said = ostler.ok(&["prove", "db"]).out;
    assert!(
        said.contains("db was restored from one on the side: restored in") && said.contains("1 contract kept"),
        "{said}"
    );
    let proven = backup(&ostler, "one").unwrap()["proven"].clone();
    assert_eq!((&proven["counted"], &proven["contracts"]), (&manifest["counted"], &Value::from(1)));
    let scratch = ostler.home.join("scratch");
    assert!(is_empty(&scratch) && !works_in(&scratch));
    let shown = ostler.ok(&["status"]).out;
    assert!(shown.contains("RESTORE PROVEN") && shown.contains(" ago ("), "{shown}");
    let why = ostler.ok(&["why", "db"]).out;
    assert!(why.contains("\nBackups\n  one  ") && why.contains("; proven "), "{why}");

    // Another one, in which what the program relies on is not: it is told, and not used by itself.
    sql(&ostler, "alter table books rename to former_books; create table books (id int)");
    ostler.ok(&["backup", "db", "--name", "two"]);
    let said = ostler.run(&["prove", "db"]);
    assert!(said.code == 1 && said.err.contains("it does not keep what web relies on (`there are books`)"), "{said}");
    // Cut short, a bit flipped, and gone: each is bad, and nothing of the data changes.
    for (name, spoil, why) in [
        ("three", (|path| damage(path)) as fn(&Path), "it is damaged"),
        ("four", |path| fs::write(path, &fs::read(path).unwrap()[..500]).unwrap(), "it is damaged"),
        ("five", |path| fs::remove_file(path).unwrap(), "any more"),
    ] {
        ostler.ok(&["backup", "db", "--name", name]);
        spoil(&store.join("db").join(name));
        let before = sql(&ostler, "select count(*) from former_books");
        let said = ostler.run(&["restore", "db", name, "--yes"]);
        assert!(said.code == 1 && said.err.contains(why), "{said}");
        assert_eq!(sql(&ostler, "select count(*) from former_books"), before);
        assert!(backup(&ostler, name).unwrap()["bad"].as_str().unwrap().contains(why));
    }
    // The newest that is good is the first one. The clock of the schedule makes another one soon, but not at once.
    ostler.ok(&["restore", "db", "--yes"]);
    assert_eq!(sql(&ostler, "select count(*) from orders_then"), "3");
    let said = ostler.run(&["backup", "db", "--drop", "one", "--yes"]);
    assert!(said.code == 1 && said.err.contains("the newest backup of `db` that is good"), "{said}");
    ostler.ok(&["backup", "db", "--drop", "three", "--yes"]);
    wait_until("it is deleted", || !store.join("db/three").exists() && !store.join("db/three.json").exists());
    let facts = serde_json::to_string(&ostler.facts()).unwrap();
    assert!(facts.contains("cannot be used: it is damaged") && facts.contains("proven: restored in"), "{facts}");

    // The disk that holds them is away: that says nothing against them, and nobody begins anew elsewhere.
    let away = ostler.folder().join("away");
    fs::rename(ostler.folder().join("elsewhere"), &away).unwrap();
    let said = ostler.run(&["prove", "db", "one"]);
    assert!(said.code == 1 && said.err.contains("is not what it was"), "{said}");
    let said = ostler.run(&["backup", "db", "--name", "six"]);
    assert!(said.code == 1 && said.err.contains("is not what it was"), "{said}");
    let _ = fs::remove_dir_all(ostler.folder().join("elsewhere"));
    fs::rename(&away, ostler.folder().join("elsewhere")).unwrap();
    assert!(backup(&ostler, "one").unwrap()["bad"].is_null());
    ostler.ok(&["prove", "db", "one"]);
}

/// Something that is to be seen of a backup of this name.
type Step<'a> = (&'a str, &'a dyn Fn(&str) -> bool);

/// Nothing half is ever taken for whole, and what was asked for is done in the end.
#[test]
fn ostler_killed_at_any_step_takes_nothing_half_for_whole() {
    let ostler = up(&shop("", "backup_every = \"4h\", prove_every = \"never\""));
    much(&ostler);
    let store = ostler.home.join("backups");
    let work = ostler.home.join("instances/db-1/backup");
    let steps: [Step<'_>; 4] = [
        ("begun", &|_| work.join("data").exists()),
        ("some is written", &|_| fs::metadata(work.join("data")).is_ok_and(|data| data.len() > 100_000)),
        ("it passes", &|_| !is_empty(&store.join(".passing"))),
        ("it is named", &|name| store.join("db").join(name).exists()),
    ];
    for (number, (what, is_there)) in steps.iter().enumerate() {
        let name = format!("k{number}");
        let manager = ostler.own_process("manager");
        let mut asked = ostler
            .command(&["backup", "db", "--name", &name])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_until(what, || is_there(&name));
        kill(manager);
        asked.wait().unwrap();
        ostler.until("the backup is made all the same", |_| backup(&ostler, &name).is_some());
        ostler.until_settled();
        let said = backup(&ostler, &name).unwrap();
        let sum = Command::new("sha256sum").arg(store.join("db").join(&name)).output().unwrap();
        let manifest: Value =
            serde_json::from_slice(&fs::read(store.join(format!("db/{name}.json"))).unwrap()).unwrap();
        assert!(String::from_utf8_lossy(&sum.stdout).starts_with(manifest["sha256"].as_str().unwrap()));
        assert_eq!(said["bytes"].as_u64(), Some(fs::metadata(store.join("db").join(&name)).unwrap().len()));
        assert!(is_empty(&store.join(".passing")) && !work.exists(), "nothing is left on the way");
    }

    // In the middle of a proof: the server on the side ends with ostler, and the proof is made by the next one.
    let scratch = ostler.home.join("scratch");
    let manager = ostler.own_process("manager");
    let mut asked = ostler.command(&["prove", "db"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_until("it is being restored on the side", || {
        processes().iter().any(|pid| cmdline(*pid).contains("pg_restore")) && works_in(&scratch)
    });
    let mut aside = Vec::new();
    for pid in processes() {
        if fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(&scratch)) {
            aside.push(pid);
        }
    }
    kill(manager);
    wait_until("what was on the side is gone", || {
        aside.iter().all(|pid| {
            !Path::new(&format!("/proc/{pid}/cwd")).exists() || fs::read_link(format!("/proc/{pid}/cwd")).is_err()
        })
    });
    let _ = asked.wait();
    ostler.until("it is proven all the same", |_| !backup(&ostler, "k3").unwrap()["proven"].is_null());
    wait_until("nothing is left of it", || is_empty(&scratch) && !works_in(&scratch));

    // In the middle of a restore: it is done by the next one, and the data is all of the backup's.
    sql(&ostler, "drop table noise");
    let manager = ostler.own_process("manager");
    let mut asked =
        ostler.command(&["restore", "db", "k3", "--yes"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_until("it is being restored", || processes().iter().any(|pid| cmdline(*pid).contains("pg_restore")));
    kill(manager);
    let _ = asked.wait();
    wait_until("the restore is done", || sql(&ostler, "select to_regclass('noise') is not null") == "t");
    ostler.until_settled();
    assert_eq!(sql(&ostler, "select count(*) from noise"), "700000");
}

/// No room on the side says nothing against the backup.
#[test]
fn what_this_machine_lacks_is_not_the_backups_fault() {
    let ostler = up(&shop("", "backup_every = \"4h\", prove_every = \"never\""));
    ostler.ok(&["backup", "db", "--name", "one"]);
    let small = ostler.home.join("scratch");
    fs::create_dir_all(&small).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=60m,mode=711", "none"]).arg(&small).output();
    if !mounted.is_ok_and(|said| said.status.success()) {
        eprintln!("NOT TESTED: this user may not mount a small disk");
        return;
    }
    let said = ostler.run(&["prove", "db"]);
    Command::new("umount").arg("-l").arg(&small).status().unwrap();
    assert!(said.code == 1 && said.err.contains("there is no room to restore a backup of `db` on the side"), "{said}");
    assert!(backup(&ostler, "one").unwrap()["bad"].is_null());
    ostler.ok(&["prove", "db"]);
}

/// What is bought is backed up over the binding, proven here, and restored there.
#[test]
fn what_is_bought_is_backed_up_proven_and_restored() {
    let seller = Ostler::new();
    let door = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    seller.write("password", "sesame\n");
    let password = seller.folder().join("password");
    let sells = format!(
        "\n[provide]\nlisten = \"{door}\"\noffer = [\"postgresql\", \"redis\"]\n\n[provide.buyer.shop]\npassword = {{ file = {password:?} }}\n"
    );
    seller.write("ostler.toml", &(head("acme") + &sells));
    seller.ok(&["provide", "--detach", "ostler.toml"]);
    let provider = format!(
        "\n[provider.acme]\nkind = \"osb\"\nurl = \"http://{door}\"\nauth = {{ username = \"shop\", password = {{ file = {password:?} }} }}\n\
         manners = {{ poll_every = \"50ms\" }}\n"
    );
    let estate = shop(&provider, "backup_every = \"4h\"")
        .replace("offering = \"postgresql\"\n", "offering = \"postgresql\"\nprefer = [\"acme\"]\n");
    let cache = "\n[service.cache]\noffering = \"redis\"\nprefer = [\"acme\"]\n";
    let user = lonely("user", &format!("needs = [\"cache\"]\nenv = {{ {NOWHERE} }}"));
    let buyer = up(&(estate + cache + &user));
    assert_eq!(buyer.service("db")["provider"], "acme");
    sql(&buyer, "create table orders_then as select generate_series(1, 50) as id");
    // The first proof follows the first backup by itself.
    buyer.ok(&["backup", "db", "--name", "one"]);
    buyer.until("it is proven", |_| !backup(&buyer, "one").unwrap()["proven"].is_null());
    let proven = backup(&buyer, "one").unwrap()["proven"].clone();
    let rows: u64 = sql(&buyer, "select 50 + (select count(*) from books)").parse().unwrap();
    assert!(proven["counted"]["rows"].as_u64().unwrap() >= rows && proven["contracts"] == 1, "{proven}");
    sql(&buyer, "drop table orders_then");
    buyer.ok(&["restore", "db", "one", "--yes"]);
    assert_eq!(sql(&buyer, "select count(*) from orders_then"), "50");
    // Others may not replicate from a Redis that is sold to them: its seller has an action of its own for that.
    let redis = |words: &[&str]| {
        let uri = fs::read_to_string(buyer.home.join("instances/user-1/bindings/cache/uri")).unwrap();
        let output =
            Command::new("redis-cli").args(["-u", uri.trim(), "--no-auth-warning"]).args(words).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(redis(&["set", "then", "so"]), "OK");
    buyer.ok(&["backup", "cache", "--name", "one"]);
    buyer.ok(&["prove", "cache", "one"]);
    assert_eq!(redis(&["set", "then", "other"]), "OK");
    buyer.ok(&["restore", "cache", "one", "--yes"]);
    wait_until("it is as it was", || redis(&["get", "then"]) == "so");
    // What was on its way does not stay with the seller, and people cannot use its names.
    seller.until("nothing of it stays there", |status| {
        let services = status["services"].as_array().unwrap();
        services.iter().all(|service| service["backups"].as_array().is_none_or(Vec::is_empty))
    });
    let sold = seller.status()["services"][0]["name"].as_str().unwrap().to_owned();
    let said = seller.run(&["backup", &sold, "--name", "buyer-1"]);
    assert!(said.code == 1 && said.err.contains("names that begin with `buyer-`"), "{said}");
    let facts = serde_json::to_string(&buyer.facts()).unwrap();
    assert!(!facts.contains("sesame"));
    buyer.ok(&["down", "--delete-data", "--yes"]);
}

/// A server that speaks S3, from npm; `None`, loudly, where it is not installed.
struct S3 {
    child: Child,
    port: u16,
    folder: PathBuf,
}

impl S3 {
    fn start(folder: &Path) -> Option<Self> {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/test-tools/node_modules/.bin/s3rver");
        if !program.exists() {
            eprintln!("NOT TESTED: no server that speaks S3 is installed; `scripts/setup.sh test` installs it");
            return None;
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        fs::create_dir_all(folder).unwrap();
        let child = Command::new(program)
            .args(["-a", "127.0.0.1", "-p", &port.to_string(), "--configure-bucket", "shops", "-d"])
            .arg(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { child, port, folder: folder.to_owned() };
        wait_until("the S3 server listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Some(server)
    }

    /// Where it keeps an object.
    fn file(&self, name: &str) -> PathBuf {
        self.folder.join("shops").join(format!("{name}._S3rver_object"))
    }

    fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        self.stop();
    }
}

#[test]
fn backups_are_kept_in_a_bucket() {
    let ostler = Ostler::new();
    let Some(mut server) = S3::start(&ostler.folder().join("s3")) else { return };
    ostler.write("key", "S3RVER\n");
    let backups = |bucket: &str, port: u16| {
        format!(
            "[backups]\nto = \"s3://{bucket}/all\"\nendpoint = \"http://127.0.0.1:{port}\"\n\
             credentials = {{ key_id = {{ file = \"./key\" }}, secret_key = {{ file = \"./key\" }} }}\n"
        )
    };
    let estate =
        |bucket: &str, port: u16| shop(&backups(bucket, port), "backup_every = \"4h\", prove_every = \"never\"");

    // What cannot be right is told at once, with its place.
    ostler.write("ostler.toml", &estate("nowhere", server.port));
    let said = ostler.run(&["up", "--detach", "ostler.toml"]);
    assert!(
        said.code == 1 && said.err.contains("to = \"s3://nowhere/all\"") && said.err.contains("make the bucket"),
        "{said}"
    );
    ostler.write("ostler.toml", &estate("shops", server.port));
    ostler.write("key", "WRONG\n");
    let said = ostler.run(&["preview", "ostler.toml"]);
    assert!(
        said.code == 1 && said.err.contains("to = \"s3://shops/all\"") && said.err.contains("access key"),
        "{said}"
    );
    assert!(!said.err.contains("WRONG"), "{said}");
    ostler.write("key", "S3RVER\n");
    ostler.ok(&["up", "--detach", "ostler.toml"]);
    until_stocked(&ostler);

    // In pieces, and in one.
    let small = ostler.json(&["backup", "db", "--name", "small"]);
    assert_eq!(small["place"], "s3://shops/all/bookshop");
    much(&ostler);
    let large = ostler.json(&["backup", "db", "--name", "large"]);
    assert!(large["bytes"].as_u64().unwrap() > 9_000_000, "{large}");
    let said = ostler.ok(&["prove", "db"]).out;
    assert!(said.contains("db was restored from large"), "{said}");
    sql(&ostler, "drop table noise");
    ostler.ok(&["restore", "db", "--yes"]);
    assert_eq!(sql(&ostler, "select count(*) from noise"), "700000");
    let passing = ostler.home.join("backups/.passing");
    assert!(is_empty(&passing), "nothing is left of what was fetched");

    // Damaged where it is kept.
    let path = server.file("all/bookshop/db/large");
    damage(&path);
    let said = ostler.run(&["prove", "db", "large"]);
    assert!(said.code == 1 && said.err.contains("it is damaged"), "{said}");

    // The store fails in the middle: it is told, tried again, and nothing half is there.
    server.stop();
    let said = ostler.run(&["prove", "db", "small"]);
    assert!(said.code == 1 && said.err.contains("this says nothing of the backup"), "{said}");
    assert!(backup(&ostler, "small").unwrap()["bad"].is_null());
    let facts = serde_json::to_string(&ostler.facts()).unwrap();
    assert!(!facts.contains("S3RVER"), "the access key stands in the facts");
    let mut log = String::new();
    fs::File::open(ostler.home.join("log/manager.log")).map(|mut file| file.read_to_string(&mut log)).ok();
    assert!(!log.contains("S3RVER"));
}
