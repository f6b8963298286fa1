//! The pages, as HTML. Invariant: every text that is not written in this file goes through [`Text`], which escapes it.

use std::fmt::{self, Display, Write};

use crate::books::Book;
use crate::orders::{Line, QUANTITY_MAX};
use crate::trouble::Trouble;

pub(crate) const STYLE: &str = include_str!("style.css");

/// What stands on every page.
pub(crate) struct Frame<'a> {
    /// Copies in the visitor's cart; `None` if nobody knows right now.
    pub(crate) cart_count: Option<u32>,
    /// Which instance answers.
    pub(crate) instance: Option<&'a str>,
}

/// The shelf.
pub(crate) fn home(frame: &Frame<'_>, books: &[Book]) -> String {
    let cards = concat(books, |book| {
        format!(
            r#"<a class="book" href="/books/{id}">{cover}<div class="about"><span class="price">{price}</span>{stock}</div></a>"#,
            id = book.id,
            cover = cover(book),
            price = Money(book.price_cents),
            stock = stock(book),
        )
    });
    let count = books.len();
    let body = format!(
        r#"<h1>Old books, well kept</h1><p class="small">{count} titles, all of them out of copyright and none of them out of date</p>
<div class="shelf">{cards}</div>"#
    );
    page(frame, "Books", &body)
}

/// One book.
pub(crate) fn book(frame: &Frame<'_>, book: &Book) -> String {
    let order = if book.stock > 0 {
        let most = QUANTITY_MAX.min(book.stock.unsigned_abs());
        format!(
            r#"<form method="post" action="/cart"><input type="hidden" name="book_id" value="{id}">
<input type="number" name="quantity" value="1" min="1" max="{most}" aria-label="Copies"><button>Put in the cart</button></form>"#,
            id = book.id
        )
    } else {
        String::new()
    };
    let body = format!(
        r#"<div class="one">{cover}<div><h1>{title}</h1><p class="small">{author}, {year}</p>
<p class="blurb">{blurb}</p><p class="price">{price}</p>{stock}{order}</div></div>"#,
        cover = cover(book),
        title = Text(&book.title),
        author = Text(&book.author),
        year = book.year,
        blurb = Text(&book.blurb),
        price = Money(book.price_cents),
        stock = stock(book),
    );
    page(frame, &book.title, &body)
}

/// The cart, with an order button.
pub(crate) fn cart(frame: &Frame<'_>, lines: &[(Book, u32)]) -> String {
    if lines.is_empty() {
        return page(frame, "Cart", r#"<h1>Your cart is empty</h1><p><a href="/">To the books →</a></p>"#);
    }
    let rows = concat(lines, |(book, quantity)| {
        format!(
            r#"<tr><td><a href="/books/{id}">{title}</a></td><td class="number">{quantity}</td><td class="number">{total}</td>
<td><form method="post" action="/cart"><input type="hidden" name="book_id" value="{id}"><input type="hidden" name="quantity" value="0"><button class="quiet">remove</button></form></td></tr>"#,
            id = book.id,
            title = Text(&book.title),
            total = Money(total(book, *quantity)),
        )
    });
    let sum = lines.iter().fold(0_i32, |sum, (book, quantity)| sum.saturating_add(total(book, *quantity)));
    let body = format!(
        r#"<h1>Your cart</h1><table><tr><th>Title</th><th class="number">Copies</th><th class="number">Price</th><th></th></tr>{rows}
<tr><td>Together</td><td></td><td class="number price">{sum}</td><td></td></tr></table>
<form method="post" action="/orders"><button>Order now</button></form>"#,
        sum = Money(sum),
    );
    page(frame, "Cart", &body)
}

/// The visitor's orders.
pub(crate) fn orders(frame: &Frame<'_>, lines: &[Line]) -> String {
    if lines.is_empty() {
        return page(frame, "Orders", r#"<h1>No orders yet</h1><p><a href="/">To the books →</a></p>"#);
    }
    let rows = concat(lines, |line| {
        format!(
            r#"<tr><td class="small">{at}</td><td><a href="/books/{id}">{title}</a></td><td class="number">{quantity}</td><td class="number">{total}</td></tr>"#,
            at = Text(&line.at),
            id = line.book_id,
            title = Text(&line.title),
            quantity = line.quantity,
            total = Money(line.total_cents),
        )
    });
    let body = format!(
        r#"<h1>Your orders</h1><table><tr><th>When (UTC)</th><th>Title</th><th class="number">Copies</th><th class="number">Price</th></tr>{rows}</table>"#
    );
    page(frame, "Orders", &body)
}

/// Something that did not work.
pub(crate) fn trouble(frame: &Frame<'_>, trouble: &Trouble) -> String {
    let words = trouble.in_words();
    let body =
        format!(r#"<h1>Sorry</h1><p class="note">{}</p><p><a href="/">Back to the books →</a></p>"#, Text(&words));
    page(frame, "Sorry", &body)
}

fn page(frame: &Frame<'_>, title: &str, body: &str) -> String {
    let count = match frame.cart_count {
        None | Some(0) => String::new(),
        Some(count) => format!(r#" <span class="count">{count}</span>"#),
    };
    let answered = match frame.instance {
        Some(instance) => format!("answered by {}", Text(instance)),
        None => String::new(),
    };
    format!(
        r#"<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} · The Bookshop</title><link rel="stylesheet" href="/style.css"></head>
<body><header><a class="name" href="/">The Bookshop</a><nav><a href="/">Books</a><a href="/cart">Cart{count}</a><a href="/orders">Orders</a></nav></header>
<main>{body}</main><footer><span>An example estate: PostgreSQL, Redis and this program</span><span>{answered}</span></footer></body></html>
"#,
        title = Text(title),
    )
}

fn cover(book: &Book) -> String {
    let colour = book.id.rem_euclid(6);
    let (title, author) = (Text(&book.title), Text(&book.author));
    format!(r#"<div class="cover c{colour}"><strong>{title}</strong><span>{author}</span></div>"#)
}

fn stock(book: &Book) -> String {
    match book.stock {
        ..=0 => r#"<span class="stock small gone">out of stock</span>"#.to_owned(),
        left @ 1..=5 => format!(r#"<span class="stock small gone">only {left} left</span>"#),
        6.. => r#"<span class="stock small">in stock</span>"#.to_owned(),
    }
}

fn total(book: &Book, quantity: u32) -> i32 {
    book.price_cents.saturating_mul(i32::try_from(quantity).unwrap_or(i32::MAX))
}

fn concat<T>(items: &[T], html: impl Fn(&T) -> String) -> String {
    items.iter().map(html).collect()
}

/// A text as it may stand anywhere in HTML, also in a quoted attribute.
struct Text<'a>(&'a str);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

/// Cents as euros.
struct Money(i32);

impl Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "€ {}.{:02}", self.0 / 100, self.0.rem_euclid(100))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_cannot_become_markup() {
        let evil = r#"<script>alert("x")</script>'&"#;
        let book = Book {
            id: 1,
            title: evil.to_owned(),
            author: evil.to_owned(),
            year: 1900,
            blurb: evil.to_owned(),
            price_cents: 905,
            stock: 1,
        };
        let line = Line {
            order: evil.to_owned(),
            book_id: 1,
            title: evil.to_owned(),
            quantity: 1,
            total_cents: 905,
            at: evil.to_owned(),
        };
        let frame = Frame { cart_count: Some(3), instance: Some(evil) };
        let wrong = Trouble::OutOfStock { title: evil.to_owned(), left: 2 };
        for html in [
            home(&frame, std::slice::from_ref(&book)),
            super::book(&frame, &book),
            cart(&frame, &[(book, 2)]),
            orders(&frame, &[line]),
            trouble(&frame, &wrong),
        ] {
            assert!(!html.contains("<script") && !html.contains("alert(\""), "{html}");
            assert!(html.contains("&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;&#39;&amp;"), "{html}");
        }
        assert_eq!(Money(905).to_string(), "€ 9.05");
    }
}
