//! Faults on purpose: only those who are meant, and always undone.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ostler_keeper::faults::{Meant, Rhythm, Standstill, hold_still, kill, release};
use ostler_model::time::Timestamp;
use rustix::process::{Pid, Signal, kill_process};

/// A shell with two children, one of them in a session of its own, as those of PostgreSQL are.
struct Family {
    main: Child,
    note: PathBuf,
    _folder: tempfile::TempDir,
}

fn fields(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let rest = text.rsplit_once(") ")?.1;
    Some(rest.split(' ').map(str::to_owned).collect())
}

fn state(pid: u32) -> char {
    fields(pid).map_or('X', |fields| fields[0].chars().next().unwrap())
}

fn meant(pid: u32) -> Meant {
    Meant { pid, start_ticks: fields(pid).unwrap()[19].parse().unwrap() }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp(i64::try_from(since.as_micros()).unwrap())
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

impl Family {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let script = "sleep 1000 & setsid sleep 1000 & wait";
        let main = Command::new("/bin/sh").args(["-c", script]).process_group(0).spawn().unwrap();
        let family = Self { note: folder.path().join("still"), main, _folder: folder };
        until("it has its children", || {
            let names = family.all().into_iter().map(|pid| fs::read_to_string(format!("/proc/{pid}/comm")));
            names.filter(|name| name.as_ref().is_ok_and(|name| name == "sleep\n")).count() == 2
        });
        family
    }

    fn all(&self) -> Vec<u32> {
        let processes =
            fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let children = processes.filter(|pid| fields(*pid).is_some_and(|f| f[1] == self.main.id().to_string()));
        std::iter::once(self.main.id()).chain(children).collect()
    }

    fn stand(&self, still: bool) -> bool {
        let all = self.all();
        all.len() == 3 && all.into_iter().all(|pid| (state(pid) == 'T') == still)
    }

    /// Made to stand still by a thread, as the process does it that is there for that.
    fn hold(&self, length: Duration, rhythm: Option<Rhythm>) -> JoinHandle<std::io::Result<()>> {
        let (note, what) = (self.note.clone(), self.standstill(length, rhythm));
        let (said, says) = mpsc::channel();
        let holder = std::thread::spawn(move || hold_still(&note, what, || said.send(()).unwrap()));
        says.recv_timeout(Duration::from_secs(30)).unwrap();
        holder
    }

    fn standstill(&self, length: Duration, rhythm: Option<Rhythm>) -> Standstill {
        Standstill { process: meant(self.main.id()), until: now() + length, rhythm }
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        for pid in self.all() {
            let _ = kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::KILL);
        }
        let _ = self.main.wait();
    }
}

const LONG: Duration = Duration::from_secs(600);

#[test]
fn all_of_it_stands_still_until_it_is_released() {
    let family = Family::new();
    let holder = family.hold(LONG, None);
    until("all stand still", || family.stand(true));
    assert!(hold_still(&family.note, family.standstill(LONG, None), || ()).is_err(), "a second one");
    release(&family.note).unwrap();
    until("all go on", || family.stand(false));
    holder.join().unwrap().unwrap();
    assert!(!family.note.exists());
    release(&family.note).unwrap(); // nothing is left to be done
}

#[test]
fn it_goes_on_by_itself_when_its_time_is_over() {
    let family = Family::new();
    let holder = family.hold(Duration::from_millis(300), None);
    holder.join().unwrap().unwrap();
    until("all go on", || family.stand(false));
    assert!(!family.note.exists());
}

#[test]
fn slow_ones_go_on_now_and_then() {
    let family = Family::new();
    let rhythm = Rhythm { still: Duration::from_millis(60), going: Duration::from_millis(60) };
    let holder = family.hold(LONG, Some(rhythm));
    for _ in 0..3 {
        until("it stands still", || family.stand(true));
        until("it goes on", || family.stand(false));
    }
    release(&family.note).unwrap();
    until("all go on", || family.stand(false));
    holder.join().unwrap().unwrap();
}

/// Who made it stand still was killed: its note tells who is to go on.
#[test]
fn what_a_killed_holder_left_behind_is_released() {
    let family = Family::new();
    for pid in family.all() {
        kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::STOP).unwrap();
    }
    until("all stand still", || family.stand(true));
    fs::write(&family.note, serde_json::to_vec(&meant(family.main.id())).unwrap()).unwrap();
    release(&family.note).unwrap();
    until("all go on", || family.stand(false));
}

#[test]
fn a_holder_ends_with_who_it_holds() {
    let mut family = Family::new();
    let holder = family.hold(LONG, None);
    let children: Vec<Meant> = family.all()[1..].iter().map(|pid| meant(*pid)).collect();
    assert!(kill(meant(family.main.id())).unwrap());
    family.main.wait().unwrap();
    holder.join().unwrap().unwrap();
    assert!(!family.note.exists());
    for child in children {
        // The kernel may have ended it by then: it hangs up on whom it stopped and nobody is left to look after.
        until("what it had stopped goes on", || state(child.pid) != 'T');
        let _ = kill(child).unwrap();
    }
}

#[test]
fn nobody_is_touched_who_only_has_the_number() {
    let mut family = Family::new();
    let other = Meant { start_ticks: meant(family.main.id()).start_ticks + 1, ..meant(family.main.id()) };
    assert!(!kill(other).unwrap());
    let what = Standstill { process: other, until: now() + LONG, rhythm: None };
    assert!(hold_still(&family.note, what, || panic!("it stands still")).is_err());
    assert!(!family.note.exists() && family.stand(false));
    fs::write(&family.note, serde_json::to_vec(&other).unwrap()).unwrap();
    release(&family.note).unwrap();
    assert!(family.main.try_wait().unwrap().is_none() && family.stand(false));
}

#[test]
fn a_note_that_says_nothing_does_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let note = folder.path().join("still");
    for text in
        ["", "{", "null", "{\"pid\":1}", "{\"pid\":4294967295,\"start_ticks\":1}", "{\"pid\":0,\"start_ticks\":0}"]
    {
        fs::write(&note, text).unwrap();
        release(&note).unwrap();
        assert!(!note.exists(), "{text}");
    }
    release(Path::new("/nonexistent/still")).unwrap();
}
