//! Whether a service uses up too fast what may go wrong: people are told when that begins.

use std::time::Duration;

use ostler_model::estate::Occasion;
use ostler_model::estate::slo::{Objective, Slo};
use ostler_model::time::{Span, in_words};

use crate::decide::Draft;
use crate::event::Scope;
use crate::fact::FactKind;
use crate::knowledge::ServiceKnowledge;
use crate::level::{Burn, Doing, Standing};

/// How often it is looked at while something is wrong.
const EVERY: Duration = Duration::from_secs(30);

pub(super) fn look(draft: &mut Draft<'_>, service: &ServiceKnowledge) {
    let (Some(level), Some(slo)) = (&service.level, &service.spec.slo) else { return };
    let name = &service.spec.name;
    let mut burns = level.now == Doing::Away;
    for objective in Objective::ALL {
        let standing = level.standing(slo, objective, draft.now);
        let burn = standing.as_ref().and_then(|standing| Some((standing, standing.burns()?)));
        burns |= burn.is_some();
        match (burn, level.burning.contains(&objective)) {
            (Some((standing, burn)), false) => {
                draft.fact(FactKind::BudgetBurns {
                    service: name.clone(),
                    objective,
                    tenths: burn.long.tenths,
                    window: Span::seconds(burn.pair.long.as_secs()),
                });
                draft.tell(name, Occasion::Burning, message(service, slo, objective, standing, burn));
            }
            (None, true) => draft.fact(FactKind::BudgetCalm { service: name.clone(), objective }),
            (Some(_), true) | (None, false) => {}
        }
    }
    if burns {
        draft.wake(draft.now + EVERY, Scope::Service(name.clone()));
    }
}

fn message(service: &ServiceKnowledge, slo: &Slo, what: Objective, standing: &Standing, burn: &Burn) -> String {
    let name = &service.spec.name;
    let (rate, long, over) = (burn.long.in_words(), in_words(burn.pair.long), in_words(slo.over.get()));
    let target = slo.target(what).map(|target| target.to_string()).unwrap_or_default();
    let left = standing.left_in_words();
    match what {
        Objective::Availability => format!(
            "{name} fails {rate} times as often, in the last {long}, as {target} over {over} allow; {left} of what may \
             fail is left"
        ),
        Objective::Latency => format!(
            "{name} is late {rate} times as often, in the last {long}, as {target} of its answers in time over {over} \
             allow; {left} of what may be late is left"
        ),
    }
}
