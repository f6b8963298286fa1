//! Drills as they are carried out in the simulated world: the fault comes from outside the manager, has an end of its own,
//! and is undone when that is ordered.

use std::time::Duration;

use ostler_manager::{Command, Drill, Hit, Outcome};
use ostler_model::estate::drills::{Fault, LASTS_MAX};
use ostler_model::health::Exit;
use ostler_model::ids::InstanceId;

use super::{Happening, World};

/// What an instance's trouble is called when a drill has caused it.
const DRILL: &str = "drill";

impl World {
    pub(super) fn drill(&mut self, command: &Command) -> Outcome {
        match command {
            Command::Fault { drill } => self.cause(drill),
            Command::Undo { drill } => {
                self.end_drill(drill.number);
                Outcome::Undone(Box::default())
            }
            _ => Outcome::Done,
        }
    }

    fn cause(&mut self, drill: &Drill) -> Outcome {
        let began = self.knowledge().map_or(drill.until, |known| known.latest);
        let lasts = drill.until.since(began).min(LASTS_MAX.get());
        self.truth.drill = Some(drill.clone());
        self.after(lasts, Happening::DrillOver(drill.number));
        if let Some(binding) = drill.binding() {
            self.truth.bindings.remove(binding);
        }
        for hit in &drill.hits {
            self.witness.disturb(hit.instance.service().as_str(), self.now);
            match drill.fault {
                Fault::Kill if self.is_hit(hit) => self.kill(&hit.instance, Exit::Signal(9), DRILL),
                Fault::Hang | Fault::Slow if self.is_hit(hit) => self.stand_still(&hit.instance, true),
                _ => {}
            }
            self.refresh_because(&hit.instance, DRILL);
        }
        Outcome::Caused { at: began }
    }

    /// Whatever is left of it is undone: because that was ordered, or because its time is over.
    pub(super) fn end_drill(&mut self, number: u32) {
        let Some(drill) = self.truth.drill.take_if(|drill| drill.number == number) else { return };
        for hit in &drill.hits {
            self.witness.disturb(hit.instance.service().as_str(), self.now);
            if matches!(drill.fault, Fault::Hang | Fault::Slow) && self.is_hit(hit) {
                self.stand_still(&hit.instance, false);
            }
            self.refresh_because(&hit.instance, DRILL);
        }
    }

    /// Whether the process that was meant still runs.
    fn is_hit(&self, hit: &Hit) -> bool {
        let process = self.truth.instances.get(&hit.instance).and_then(|truth| truth.process.as_ref());
        process.is_some_and(|process| hit.running.pid == Some(process.pid))
    }

    fn stand_still(&mut self, id: &InstanceId, still: bool) {
        if let Some(process) = self.truth.instances.get_mut(id).and_then(|truth| truth.process.as_mut()) {
            process.hung = still;
        }
    }
}

/// How long it takes to cause a fault, or to undo it.
pub(super) const DRILLING_TAKES: Duration = Duration::from_millis(20);
