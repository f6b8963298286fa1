//! Just enough of HTTP to be the bookshop's customer.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use super::{WITHIN, exchange};

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

/// Somebody who stays connected.
pub(crate) struct Visitor(BufReader<TcpStream>);

impl Visitor {
    pub(crate) fn enter(shop: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&shop, WITHIN)?;
        stream.set_read_timeout(Some(WITHIN))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Asks for a page whose length is told; its status.
    pub(crate) fn get(&mut self, path: &str) -> io::Result<u16> {
        self.0.get_mut().write_all(format!("GET {path} HTTP/1.1\r\nhost: shop\r\n\r\n").as_bytes())?;
        let broken = || io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended");
        let (mut status, mut length, mut closes) = (None, 0, false);
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line)?;
            match line.trim_end() {
                "" => break,
                line if status.is_none() => status = line.split(' ').nth(1).and_then(|status| status.parse().ok()),
                line => {
                    if let Some(("content-length", value)) = line.split_once(": ") {
                        length = value.parse().map_err(|_| broken())?;
                    }
                    closes |= line.eq_ignore_ascii_case("connection: close");
                }
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        if closes {
            *self = Self::enter(self.0.get_ref().peer_addr()?)?; // said so, it is no failure
        }
        status.ok_or_else(broken)
    }
}
