//! Orders. Invariant: no copy is sold twice, and no order is placed twice, however often the request is repeated.

use serde::Serialize;
use tokio_postgres::{Client, Error, Transaction};

use crate::cache::Cart;
use crate::database::Job;
use crate::session::{Session, random_name};

/// At most this many copies of one book in one order.
pub(crate) const QUANTITY_MAX: u32 = 10;

/// One title of an order.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Line {
    pub(crate) order: String,
    pub(crate) book_id: i32,
    pub(crate) title: String,
    pub(crate) quantity: i32,
    pub(crate) total_cents: i32,
    /// RFC 3339, in UTC.
    pub(crate) at: String,
}

/// What became of an order.
pub(crate) enum Placed {
    /// All of it was ordered.
    Done(Vec<Line>),
    /// There is no book with one of these ids; nothing was ordered.
    NoSuchBook,
    /// Too few copies are left; nothing was ordered.
    OutOfStock { title: String, left: i32 },
}

/// Orders what lies in a cart. The order's id is made beforehand, so that the job, run again after a connection broke
/// during the commit, finds out whether it was done.
pub(crate) struct Place {
    id: String,
    session: Session,
    cart: Cart,
}

impl Place {
    pub(crate) fn new(session: Session, cart: Cart) -> Self {
        Self { id: random_name(), session, cart }
    }
}

impl Job for Place {
    type Output = Placed;

    async fn run(&self, client: &mut Client) -> Result<Placed, Error> {
        let transaction = client.transaction().await?;
        let done = lines(&transaction, "id", &self.id).await?;
        if !done.is_empty() {
            return Ok(Placed::Done(done));
        }
        // In the order of their ids, which is the cart's: two orders of the same books never wait for each other in a
        // circle.
        for (book, quantity) in &self.cart {
            let quantity = i32::try_from(*quantity).unwrap_or(i32::MAX);
            let sold = "update books set stock = stock - $2 where id = $1 and stock >= $2 returning price_cents";
            let Some(row) = transaction.query_opt(sold, &[book, &quantity]).await? else {
                // Nothing is kept: the transaction is rolled back when it is dropped.
                let book = transaction.query_opt("select title, stock from books where id = $1", &[book]).await?;
                return Ok(match book {
                    Some(book) => Placed::OutOfStock { title: book.try_get("title")?, left: book.try_get("stock")? },
                    None => Placed::NoSuchBook,
                });
            };
            let price: i32 = row.try_get("price_cents")?;
            let ordered =
                "insert into orders (id, book_id, session, quantity, price_cents) values ($1, $2, $3, $4, $5)";
            transaction.execute(ordered, &[&self.id, book, &self.session.as_str(), &quantity, &price]).await?;
        }
        let placed = lines(&transaction, "id", &self.id).await?;
        transaction.commit().await?;
        Ok(Placed::Done(placed))
    }
}

/// The last hundred lines of a visitor's orders, the newest first.
pub(crate) struct ListOf(pub(crate) Session);

impl Job for ListOf {
    type Output = Vec<Line>;

    async fn run(&self, client: &mut Client) -> Result<Vec<Line>, Error> {
        let transaction = client.build_transaction().read_only(true).start().await?;
        lines(&transaction, "session", self.0.as_str()).await
    }
}

/// The lines in which `column` (a name from this file, never from outside) is `value`.
async fn lines(transaction: &Transaction<'_>, column: &'static str, value: &str) -> Result<Vec<Line>, Error> {
    let query = format!(
        "select orders.id, book_id, title, quantity, orders.price_cents, \
         to_char(created_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') as at \
         from orders join books on books.id = book_id where orders.{column} = $1 \
         order by created_at desc, orders.id, title limit 100"
    );
    let rows = transaction.query(&query, &[&value]).await?;
    let line = |row: &tokio_postgres::Row| {
        let (quantity, price): (i32, i32) = (row.try_get("quantity")?, row.try_get("price_cents")?);
        Ok(Line {
            order: row.try_get("id")?,
            book_id: row.try_get("book_id")?,
            title: row.try_get("title")?,
            quantity,
            total_cents: quantity.saturating_mul(price),
            at: row.try_get("at")?,
        })
    };
    rows.iter().map(line).collect()
}
