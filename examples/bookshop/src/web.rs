//! Addresses, and what happens there. Policy only: what is stored and shown is others' work.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::{FormRejection, JsonRejection, PathRejection};
use axum::extract::{DefaultBodyLimit, Form, Path, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use redis::RedisError;
use serde::Deserialize;
use serde_json::json;

use crate::books::{self, Book};
use crate::cache::{Cache, Cart};
use crate::database::Database;
use crate::orders::{self, Line, Placed, QUANTITY_MAX};
use crate::pages::{self, Frame};
use crate::session::Session;
use crate::trouble::Trouble;

/// The largest form here has two numbers in it.
const BODY_BYTES_MAX: usize = 16 * 1024;
/// No request takes longer, whatever its needs do.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Less than the 500 ms that a prober usually waits, so that it gets an answer that says what is wrong.
const CHECK_WITHIN: Duration = Duration::from_millis(400);

/// Everything that requests need.
pub(crate) struct Shop {
    pub(crate) database: Database,
    pub(crate) cache: Cache,
    pub(crate) instance: Option<String>,
}

pub(crate) fn routes(shop: Arc<Shop>) -> Router {
    Router::new()
        .route("/", get(home))
        .route("/books/{id}", get(book))
        .route("/cart", get(cart).post(put_in_cart))
        .route("/orders", get(orders).post(order_cart))
        .route("/style.css", get(style))
        .route("/api/books", get(api_books))
        .route("/api/books/{id}", get(api_book))
        .route("/api/orders", post(api_order).get(api_orders))
        .route("/readyz", get(readyz))
        .route("/healthz", get(healthz))
        .fallback(nowhere)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(Arc::clone(&shop), finish))
        .with_state(shop)
}

/// An answer within the time, and on it who gave it and what browsers may do with it.
async fn finish(State(shop): State<Arc<Shop>>, request: Request, next: Next) -> Response {
    let mut response = match tokio::time::timeout(ANSWER_WITHIN, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Trouble::Unavailable("shop").into_response(),
    };
    let headers = response.headers_mut();
    if let Some(instance) = shop.instance.as_deref().and_then(|name| HeaderValue::from_str(name).ok()) {
        headers.insert(HeaderName::from_static("x-instance"), instance);
    }
    let own_only = "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(own_only));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

// --- pages -----------------------------------------------------------------------------------------------------------

/// A visitor with a page to be shown: who it is, and whether that is known already.
struct Visit {
    shop: Arc<Shop>,
    session: Session,
    is_new: bool,
}

impl Visit {
    fn of(shop: Arc<Shop>, headers: &HeaderMap) -> Self {
        let known = Session::of(headers);
        Self { shop, is_new: known.is_none(), session: known.unwrap_or_else(Session::new) }
    }

    /// The page that `html` makes, or that tells what went wrong.
    async fn show(self, made: Result<impl FnOnce(&Frame<'_>) -> String, Trouble>) -> Response {
        let cart_count = if self.is_new { Some(0) } else { self.shop.cache.cart_count(&self.session).await };
        let frame = Frame { cart_count, instance: self.shop.instance.as_deref() };
        let response = match made {
            Ok(html) => Html(html(&frame)).into_response(),
            Err(trouble) => (trouble.status(), Html(pages::trouble(&frame, &trouble))).into_response(),
        };
        self.remember(response)
    }

    /// To another page, because this one was an action that must not be repeated by going back.
    async fn go_to(self, page: &'static str, done: Result<(), Trouble>) -> Response {
        match done {
            Ok(()) => self.remember(Redirect::to(page).into_response()),
            Err(trouble) => self.show(Err::<fn(&Frame<'_>) -> String, Trouble>(trouble)).await,
        }
    }

    fn remember(&self, mut response: Response) -> Response {
        if self.is_new {
            response.headers_mut().insert(header::SET_COOKIE, self.session.to_cookie());
        }
        response
    }
}

async fn home(State(shop): State<Arc<Shop>>, headers: HeaderMap) -> Response {
    let visit = Visit::of(shop, &headers);
    let books = all_books(&visit.shop).await;
    visit.show(books.map(|books| move |frame: &Frame<'_>| pages::home(frame, &books))).await
}

async fn book(State(shop): State<Arc<Shop>>, headers: HeaderMap, id: Result<Path<i32>, PathRejection>) -> Response {
    let visit = Visit::of(shop, &headers);
    let book = one_book(&visit.shop, id).await;
    visit.show(book.map(|book| move |frame: &Frame<'_>| pages::book(frame, &book))).await
}

async fn cart(State(shop): State<Arc<Shop>>, headers: HeaderMap) -> Response {
    let visit = Visit::of(shop, &headers);
    let lines = cart_lines(&visit.shop, &visit.session).await;
    visit.show(lines.map(|lines| move |frame: &Frame<'_>| pages::cart(frame, &lines))).await
}

async fn orders(State(shop): State<Arc<Shop>>, headers: HeaderMap) -> Response {
    let visit = Visit::of(shop, &headers);
    let lines = visit.shop.database.run(&orders::ListOf(visit.session.clone())).await.map_err(Trouble::from);
    visit.show(lines.map(|lines| move |frame: &Frame<'_>| pages::orders(frame, &lines))).await
}

#[derive(Deserialize)]
struct Wish {
    book_id: i32,
    quantity: u32,
}

async fn put_in_cart(
    State(shop): State<Arc<Shop>>,
    headers: HeaderMap,
    wish: Result<Form<Wish>, FormRejection>,
) -> Response {
    let visit = Visit::of(shop, &headers);
    let done = async {
        let Form(wish) =
            wish.map_err(|refusal| Trouble::Wrong { status: refusal.status(), problem: refusal.body_text() })?;
        if wish.quantity > QUANTITY_MAX {
            return Err(too_many());
        }
        if wish.quantity > 0 {
            visit.shop.database.run(&books::Find(wish.book_id)).await?.ok_or(Trouble::NotFound("book"))?;
        }
        visit.shop.cache.put_in_cart(&visit.session, wish.book_id, wish.quantity).await.map_err(without_cache)
    }
    .await;
    visit.go_to("/cart", done).await
}

async fn order_cart(State(shop): State<Arc<Shop>>, headers: HeaderMap) -> Response {
    let visit = Visit::of(shop, &headers);
    let done = async {
        let cart = visit.shop.cache.cart(&visit.session).await.map_err(without_cache)?;
        if cart.is_empty() {
            return Err(Trouble::wrong("There is nothing in the cart."));
        }
        place(&visit.shop, &visit.session, cart).await?;
        // What is ordered is ordered; a cart that stays full is the smaller trouble.
        if let Err(error) = visit.shop.cache.empty_cart(&visit.session).await {
            crate::log(&format!("a cart could not be emptied: {error}"));
        }
        Ok(())
    }
    .await;
    visit.go_to("/orders", done).await
}

async fn style() -> impl IntoResponse {
    let headers = [(header::CONTENT_TYPE, "text/css; charset=utf-8"), (header::CACHE_CONTROL, "max-age=300")];
    (headers, pages::STYLE)
}

async fn nowhere(State(shop): State<Arc<Shop>>, headers: HeaderMap, request: Request) -> Response {
    if request.uri().path().starts_with("/api/") {
        return Trouble::NotFound("address").into_response();
    }
    Visit::of(shop, &headers).show(Err::<fn(&Frame<'_>) -> String, Trouble>(Trouble::NotFound("page"))).await
}

// --- JSON ------------------------------------------------------------------------------------------------------------

async fn api_books(State(shop): State<Arc<Shop>>) -> Result<Json<Vec<Book>>, Trouble> {
    all_books(&shop).await.map(Json)
}

async fn api_book(State(shop): State<Arc<Shop>>, id: Result<Path<i32>, PathRejection>) -> Result<Json<Book>, Trouble> {
    one_book(&shop, id).await.map(Json)
}

async fn api_order(
    State(shop): State<Arc<Shop>>,
    headers: HeaderMap,
    wish: Result<Json<Wish>, JsonRejection>,
) -> Response {
    let visit = Visit::of(shop, &headers);
    let placed = async {
        let Json(wish) =
            wish.map_err(|refusal| Trouble::Wrong { status: refusal.status(), problem: refusal.body_text() })?;
        if !(1..=QUANTITY_MAX).contains(&wish.quantity) {
            return Err(too_many());
        }
        place(&visit.shop, &visit.session, Cart::from([(wish.book_id, wish.quantity)])).await
    }
    .await;
    let response = match placed.map(|lines| lines.into_iter().next()) {
        Ok(line) => (StatusCode::CREATED, Json(line)).into_response(),
        Err(trouble) => trouble.into_response(),
    };
    visit.remember(response)
}

async fn api_orders(State(shop): State<Arc<Shop>>, headers: HeaderMap) -> Result<Json<Vec<Line>>, Trouble> {
    match Session::of(&headers) {
        Some(session) => Ok(Json(shop.database.run(&orders::ListOf(session)).await?)),
        None => Ok(Json(Vec::new())), // a visitor without a name has no orders
    }
}

// --- health ----------------------------------------------------------------------------------------------------------

/// Whether this program can take requests: if it can answer, it can.
async fn readyz() -> &'static str {
    "ready\n"
}

/// Whether it works together with its needs, which are asked at the same time.
async fn healthz(State(shop): State<Arc<Shop>>) -> Response {
    let (database, cache) = tokio::join!(
        tokio::time::timeout(CHECK_WITHIN, shop.database.check()),
        tokio::time::timeout(CHECK_WITHIN, shop.cache.check()),
    );
    let late = || format!("no answer within {} ms", CHECK_WITHIN.as_millis());
    let database = database.map_or_else(|_| Err(late()), |asked| asked.map_err(|error| error.to_string()));
    let cache = cache.map_or_else(|_| Err(late()), |asked| asked.map_err(|error| error.to_string()));
    let status = if database.is_ok() && cache.is_ok() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let told = |asked: Result<(), String>| asked.map_or_else(|problem| problem, |()| "ok".to_owned());
    (status, Json(json!({ "database": told(database), "cache": told(cache) }))).into_response()
}

// --- what pages and API share ----------------------------------------------------------------------------------------

/// The list of books: from the cache if it is there, because every visitor wants it.
async fn all_books(shop: &Shop) -> Result<Vec<Book>, Trouble> {
    if let Some(books) = shop.cache.books().await {
        return Ok(books);
    }
    let books = shop.database.run(&books::List).await?;
    shop.cache.keep_books(&books).await;
    Ok(books)
}

async fn one_book(shop: &Shop, id: Result<Path<i32>, PathRejection>) -> Result<Book, Trouble> {
    // What is no number is no book's id.
    let Path(id) = id.map_err(|_| Trouble::NotFound("book"))?;
    shop.database.run(&books::Find(id)).await?.ok_or(Trouble::NotFound("book"))
}

/// What lies in the cart, with the books' present prices. A book that is no longer sold is left out.
async fn cart_lines(shop: &Shop, session: &Session) -> Result<Vec<(Book, u32)>, Trouble> {
    let cart = shop.cache.cart(session).await.map_err(without_cache)?;
    if cart.is_empty() {
        return Ok(Vec::new());
    }
    let books = shop.database.run(&books::List).await?;
    Ok(books.into_iter().filter_map(|book| cart.get(&book.id).map(|quantity| (book.clone(), *quantity))).collect())
}

async fn place(shop: &Shop, session: &Session, cart: Cart) -> Result<Vec<Line>, Trouble> {
    let placed = shop.database.run(&orders::Place::new(session.clone(), cart)).await?;
    match placed {
        Placed::Done(lines) => {
            shop.cache.forget_books().await;
            Ok(lines)
        }
        Placed::NoSuchBook => Err(Trouble::NotFound("book")),
        Placed::OutOfStock { title, left } => Err(Trouble::OutOfStock { title, left }),
    }
}

fn too_many() -> Trouble {
    Trouble::wrong(format!("The quantity must be a number from 1 to {QUANTITY_MAX}."))
}

fn without_cache(error: RedisError) -> Trouble {
    crate::log(&format!("a request failed: the cache did not do it: {error}"));
    Trouble::Unavailable("cart")
}
