//! What is for sale.

use serde::{Deserialize, Serialize};
use tokio_postgres::{Client, Error, Row};

use crate::database::Job;

/// One title.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Book {
    pub(crate) id: i32,
    pub(crate) title: String,
    pub(crate) author: String,
    pub(crate) year: i32,
    pub(crate) blurb: String,
    pub(crate) price_cents: i32,
    pub(crate) stock: i32,
}

impl Book {
    fn of(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            id: row.try_get("id")?,
            title: row.try_get("title")?,
            author: row.try_get("author")?,
            year: row.try_get("year")?,
            blurb: row.try_get("blurb")?,
            price_cents: row.try_get("price_cents")?,
            stock: row.try_get("stock")?,
        })
    }
}

/// All books, by title.
pub(crate) struct List;

impl Job for List {
    type Output = Vec<Book>;

    async fn run(&self, client: &mut Client) -> Result<Vec<Book>, Error> {
        let rows = client.query("select * from books order by title limit 1000", &[]).await?;
        rows.iter().map(Book::of).collect()
    }
}

/// One book, if there is one with this id.
pub(crate) struct Find(pub(crate) i32);

impl Job for Find {
    type Output = Option<Book>;

    async fn run(&self, client: &mut Client) -> Result<Option<Book>, Error> {
        let row = client.query_opt("select * from books where id = $1", &[&self.0]).await?;
        row.as_ref().map(Book::of).transpose()
    }
}
