//! Kills of ostler at every step of something that it does with the database.

use std::process::Stdio;

use super::{Ostler, find_service, signal, wait_until};

/// Whom a kill meets.
#[derive(Clone, Copy)]
pub(crate) enum Killed<'a> {
    /// The manager, which is brought back.
    Manager,
    /// All of ostler's own processes; a person brings it up again.
    All,
    /// The managers of others from whom it is bought, each of which its keeper brings back.
    Sellers(&'a [&'a Ostler]),
}

impl Ostler {
    /// Kills all of ostler's own processes. Each may bring another back between two kills, so it is repeated until none is
    /// left.
    pub(crate) fn kill_all_of_it(&self) {
        wait_until("none of ostler's own processes is left", || {
            let roles = ["keeper", "manager", "gateway"];
            let own: Vec<u32> = roles.iter().flat_map(|role| self.own_processes(role)).collect();
            own.iter().for_each(|pid| signal(*pid, "KILL"));
            own.is_empty()
        });
    }

    /// Has a person ask for a move of the database (`asked`), kills once so many facts have come since it began, and waits
    /// until it is over. The time of a kill comes from the facts themselves, so that every step is met on any machine.
    pub(crate) fn kill_in_a_move(&self, asked: &[&str], facts: u64, killed: Killed<'_>) {
        let from = self.journal_end();
        let mut command = self.command(asked);
        let mut asked = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let newest = |of: &[&str]| {
            let newest = self.run(&[&["journal", "-n", "1", "--json"], of].concat());
            (newest.code == 0).then(|| newest.json()[0]["position"].as_u64()).flatten()
        };
        wait_until("the move has come so far", || {
            let began = newest(&["--kind", "move-began"]).filter(|began| *began > from);
            began.zip(newest(&[])).is_some_and(|(began, end)| end >= began + facts)
        });
        let kill_manager = |of: &Self| of.own_processes("manager").into_iter().for_each(|pid| signal(pid, "KILL"));
        match killed {
            Killed::Manager => kill_manager(self),
            Killed::Sellers(sellers) => sellers.iter().for_each(|seller| kill_manager(seller)),
            Killed::All => {
                self.kill_all_of_it();
                self.ok(&["up", "--detach", "ostler.toml"]);
            }
        }
        wait_until("whoever asked is done", || asked.try_wait().unwrap().is_some());
        self.until("the move is over", |status| {
            let db = find_service(status, "db").unwrap();
            db["moving"].is_null() && db["upgrade"].is_null() && status["settled"] == true
        });
    }
}
