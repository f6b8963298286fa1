//! Just enough of HTTP to be the bookshop's customer.

use std::io;
use std::net::SocketAddr;

use serde_json::Value;

use super::exchange;

/// A visitor's name, so that orders can be asked for again.
pub(crate) const VISITOR: &str = "0123456789abcdef0123456789abcdef";

/// Asks for a page: status and body.
pub(crate) fn get(from: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    ask(from, "GET", path, "")
}

fn ask(to: SocketAddr, method: &str, path: &str, body: &str) -> io::Result<(u16, String)> {
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\ncookie: bookshop_session={VISITOR}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = exchange(to, &request)?;
    let broken = || io::Error::new(io::ErrorKind::InvalidData, format!("not an HTTP answer: {answer:?}"));
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(broken)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(broken)?;
    Ok((status, body.to_owned()))
}

/// Orders a copy of a book; gives the order's id.
pub(crate) fn order(shop: SocketAddr, book: u32) -> String {
    let (status, body) = ask(shop, "POST", "/api/orders", &format!("{{\"book_id\":{book},\"quantity\":1}}")).unwrap();
    assert_eq!(status, 201, "{body}");
    let line: Value = serde_json::from_str(&body).unwrap();
    line["order"].as_str().unwrap().to_owned()
}

/// The ids of all that was ordered.
pub(crate) fn orders(shop: SocketAddr) -> Vec<String> {
    let (status, body) = get(shop, "/api/orders").unwrap();
    assert_eq!(status, 200, "{body}");
    let lines: Vec<Value> = serde_json::from_str(&body).unwrap();
    lines.iter().map(|line| line["order"].as_str().unwrap().to_owned()).collect()
}
