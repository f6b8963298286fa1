//! `ostler failover` and `ostler discard`: moves to another provider, and what they leave.

use std::time::Duration;

use ostler_manager::{Ask, MovedView, ServiceView, StatusView};
use ostler_model::catalog::Price;
use ostler_model::ids::{InstanceId, ServiceName};
use ostler_runtime::control::{Request, Response};
use ostler_runtime::failover::MovePreview;
use ostler_runtime::home::Home;

use crate::args::{Common, Discard, FailOver};
use crate::client::{ask, cut_off};
use crate::commands::{confirm, print_json};
use crate::failure::{Failure, Outcome};
use crate::{place, show, up};

/// Deleting what is kept takes no longer.
const DELETED_WITHIN: Duration = Duration::from_secs(300);

/// Moves a service, or shows what that would be like.
pub(crate) async fn fail_over(arguments: FailOver, common: &Common) -> Outcome {
    let home = place::of_command(common)?;
    let FailOver { service, to, accept_loss, back, preview, yes, within } = arguments;
    if back {
        confirm(yes, common, &format!("Take the move of {service} back? What was made for it is deleted."))?;
        ask(&home, &Request::Ask(Ask::FailBack { service: service.clone() })).await?;
        return until_moved(&home, common, &service, within.get()).await;
    }
    // A move that waits for an answer goes on: what it loses was said when it began, and is said in its question.
    let goes_on = moving(&status(&home).await?, &service);
    if !goes_on {
        let request = Request::WeighMove { service: service.clone(), to: to.clone(), accept_loss };
        let Response::Move(shown) = ask(&home, &request).await? else { return Err(cut_off()) };
        if preview {
            if common.json {
                print_json(&shown);
            } else {
                anstream::print!("{}", in_words(&shown));
            }
            return Ok(());
        }
        if !yes && !common.json {
            anstream::eprint!("{}", in_words(&shown));
        }
        let question = format!("Move {service} from {} to {}? It loses {}.", shown.from, shown.to, shown.loses);
        confirm(yes, common, &question)?;
    } else if preview {
        return Err(Failure::new(
            format!("cannot show a move of {service}"),
            "it is being moved already",
            "see `ostler status`",
        ));
    } else if accept_loss {
        confirm(yes, common, &format!("Go on with the move of {service}, and lose what is in no backup?"))?;
    }
    ask(&home, &Request::Ask(Ask::FailOver { service: service.clone(), to, accept_loss })).await?;
    until_moved(&home, common, &service, within.get()).await
}

/// Deletes an instance that a move left.
pub(crate) async fn discard(arguments: Discard, common: &Common) -> Outcome {
    let home = place::of_command(common)?;
    let Discard { instance, yes } = arguments;
    confirm(yes, common, &format!("Delete {instance}, which a move left, for good, with its data?"))?;
    ask(&home, &Request::Ask(Ask::Discard { instance: instance.clone() })).await?;
    let is_gone = {
        let instance = instance.clone();
        move |status: &StatusView| !has(status, &instance)
    };
    up::until(&home, common, DELETED_WITHIN, true, is_gone).await?;
    if common.json {
        print_json(&serde_json::json!({ "done": true, "message": "Deleted." }));
    } else {
        anstream::println!("Deleted.");
    }
    Ok(())
}

fn has(status: &StatusView, id: &InstanceId) -> bool {
    status.services.iter().flat_map(|service| &service.instances).any(|instance| instance.id == *id)
}

async fn status(home: &Home) -> Outcome<StatusView> {
    match ask(home, &Request::Status).await? {
        Response::Status { status, .. } => Ok(*status),
        _ => Err(cut_off()),
    }
}

fn view<'a>(status: &'a StatusView, service: &ServiceName) -> Option<&'a ServiceView> {
    status.services.iter().find(|view| view.name == *service)
}

fn moving(status: &StatusView, service: &ServiceName) -> bool {
    view(status, service).is_some_and(|view| view.moving.is_some())
}

/// Waits until the move is over or waits for a person, and says what came of it.
async fn until_moved(home: &Home, common: &Common, service: &ServiceName, within: Duration) -> Outcome {
    let is_over = {
        let service = service.clone();
        move |status: &StatusView| {
            let moving = view(status, &service).and_then(|view| view.moving.as_ref());
            moving.is_none_or(|moving| moving.question.is_some())
        }
    };
    let status = up::until(home, common, within, false, is_over).await?;
    let Some(view) = view(&status, service) else { return Err(cut_off()) };
    if let Some(moving) = &view.moving {
        let (question, answer) = (moving.question.clone(), moving.answer.clone());
        return Err(Failure::new(
            format!("the move of {service} waits for a person"),
            question.unwrap_or_default(),
            answer.unwrap_or_default(),
        ));
    }
    let Some(moved) = &view.moved else { return Err(cut_off()) };
    if common.json {
        print_json(moved);
    } else {
        anstream::print!("{}", told(view, moved));
    }
    Ok(())
}

fn told(view: &ServiceView, moved: &MovedView) -> String {
    let service = &view.name;
    if moved.returned {
        return format!("{service} is at {} again.\n", moved.from);
    }
    let mut out = format!("{service} was moved from {} to {}: {}.\n", moved.from, moved.to, moved.lost);
    for instance in &view.instances {
        if let Some(left) = instance.left_at.as_ref().filter(|left| left.provider == moved.from) {
            let id = &instance.id;
            out.push_str(&format!("{id} is kept at {}; `ostler discard {id}` deletes it.\n", left.provider));
        }
    }
    out
}

fn in_words(shown: &MovePreview) -> String {
    let MovePreview { service, from, to, plan, keeps, steps, .. } = shown;
    let mut out = format!("{service} would be moved from {from} to {to}\n");
    let mut line = |what: &str, value: String| out.push_str(&format!("  {what:<9}{value}\n"));
    line("plan", plan.to_string());
    line("version", show::or_dash(shown.version.as_ref()));
    line("region", show::or_dash(shown.region.as_ref()));
    line("price", format!("{}; now {}", price(shown.price_to.as_ref()), price(shown.price_from.as_ref())));
    line("loses", shown.loses.clone());
    let kept: Vec<String> = keeps.iter().map(ToString::to_string).collect();
    line("keeps", format!("{} at {from}, which nobody gets at any more", kept.join(", ")));
    out.push_str("\nWhat is done, in this order, if all goes well\n");
    for (number, step) in steps.iter().enumerate() {
        out.push_str(&format!("  {:>3}. {step}\n", number + 1));
    }
    out
}

fn price(price: Option<&Price>) -> String {
    price.map_or_else(
        || "none stated".to_owned(),
        |price| format!("{} {} a {}", price.amount, price.currency, price.per),
    )
}
