//! Questions about money: the books, credits, scorecards, own or buy.

use std::collections::BTreeSet;

use ostler_books::NoBooks;
use ostler_model::ids::{ProviderName, ServiceName};
use ostler_model::month::Month;

use super::Context;
use crate::clock;
use crate::control::{Refused, Response};
use crate::owning::weighable;
use crate::scorecard;

pub(super) async fn books_of(context: &Context, month: Option<Month>) -> Response {
    context.carried.hand_on_all();
    let found = context.handle.ask(move |engine, _| engine.ledger().statement(month, clock::now())).await;
    match found {
        Ok(statement) => Response::Books(Box::new(statement)),
        Err(error) => Response::Refused(no_books(&error)),
    }
}

pub(super) async fn weighable_of(context: &Context, service: ServiceName, unasked: BTreeSet<ProviderName>) -> Response {
    let found = context
        .handle
        .ask(move |engine, _| weighable(engine.knowledge(), engine.ledger(), &service, &unasked, clock::now()));
    Response::Weighable(Box::new(found.await))
}

pub(super) async fn credits_of(context: &Context, month: Option<Month>) -> Response {
    let found = context.handle.ask(move |engine, _| engine.ledger().credits(month, clock::now())).await;
    match found {
        Ok(credits) => Response::Credits(Box::new(credits)),
        Err(error) => Response::Refused(no_books(&error)),
    }
}

pub(super) async fn scorecards(context: &Context, provider: Option<ProviderName>, month: Option<Month>) -> Response {
    let found = context.handle.ask(move |engine, _| {
        scorecard::cards(engine.knowledge(), engine.ledger(), (provider.as_ref(), month), clock::now())
    });
    match found.await {
        Ok(cards) => Response::Scorecards(cards),
        Err(error) => Response::Refused(no_books(&error)),
    }
}

/// Why there is nothing to show, as a refusal.
pub fn no_books(error: &NoBooks) -> Refused {
    let remedy = match error {
        NoBooks::NothingDeclared => "declare services in an estate file and run `ostler up FILE`",
        NoBooks::Future(_) => "name a month that has begun; the forecast for this one is in its own books",
    };
    Refused::from_error("cannot show the books", error, remedy)
}
