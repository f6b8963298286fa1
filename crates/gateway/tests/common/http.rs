//! Instances that speak HTTP as a test tells them, and callers that write every byte themselves.
#![allow(dead_code, unreachable_pub)] // each of the programs that include this uses its own part
#![allow(clippy::unwrap_used, clippy::panic)] // it is for tests

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::within;

/// An instance; ends when dropped, with all its connections.
pub struct Origin {
    pub address: SocketAddr,
    /// Every request it has read, head and body, in order.
    pub seen: Seen,
    task: JoinHandle<()>,
}

pub type Seen = Arc<Mutex<Vec<String>>>;

impl Origin {
    /// Each connection is handed to `serve`.
    pub async fn start<F, W>(serve: F) -> Self
    where
        F: Fn(Line) -> W + Send + 'static,
        W: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Seen::default();
        let task = tokio::spawn({
            let seen = Arc::clone(&seen);
            async move {
                let mut connections = JoinSet::new();
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    stream.set_nodelay(true).unwrap();
                    connections.spawn(serve(Line { stream, read: Vec::new(), seen: Arc::clone(&seen) }));
                }
            }
        });
        Self { address, seen, task }
    }

    /// One that answers everything with this body.
    pub async fn answering(body: &'static str) -> Self {
        Self::start(move |mut line: Line| async move {
            while line.request().await.is_some() {
                line.write(ok(body)).await;
            }
        })
        .await
    }

    pub fn requests(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An answer of a known length.
pub fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// One connection, read message by message.
pub struct Line {
    pub stream: TcpStream,
    read: Vec<u8>,
    seen: Seen,
}

impl Line {
    pub async fn to(address: SocketAddr) -> Self {
        let stream = within(TcpStream::connect(address)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, read: Vec::new(), seen: Seen::default() }
    }

    pub async fn write(&mut self, text: impl AsRef<[u8]>) {
        // Whoever wrote may be gone by now; what was read of it tells.
        let _ = self.stream.write_all(text.as_ref()).await;
    }

    /// Reads a request; `None` at the end of the connection.
    pub async fn request(&mut self) -> Option<String> {
        let message = self.message(false).await?;
        self.seen.lock().unwrap().push(message.clone());
        Some(message)
    }

    /// Reads an answer; `None` if the connection ended before all of it had come.
    pub async fn answer(&mut self) -> Option<String> {
        self.message(true).await
    }

    /// Sends a request and reads its answer.
    pub async fn ask(&mut self, request: &str) -> Option<String> {
        self.write(request).await;
        within(self.answer()).await
    }

    /// Everything until the end, or what came before the connection broke.
    pub async fn rest(&mut self) -> (String, bool) {
        let mut piece = [0; 4096];
        let orderly = loop {
            match within(self.stream.read(&mut piece)).await {
                Ok(0) => break true,
                Ok(count) => self.read.extend_from_slice(&piece[..count]),
                Err(_) => break false,
            }
        };
        (String::from_utf8_lossy(&std::mem::take(&mut self.read)).into_owned(), orderly)
    }

    async fn message(&mut self, is_answer: bool) -> Option<String> {
        let head = self.until(b"\r\n\r\n", 0).await?;
        let text = String::from_utf8_lossy(&self.read[..head]).to_lowercase();
        let length =
            text.split("content-length: ").nth(1).map(|rest| rest.split('\r').next().unwrap().parse().unwrap());
        let bodiless = text.starts_with("http/1.1 304") || text.starts_with("http/1.1 204");
        let end = if text.contains("transfer-encoding: chunked") {
            let last = self.until(b"0\r\n", head).await?; // no test's chunk ends in a nought
            self.until(b"\r\n", last).await.map(|end| end.max(last))?;
            if self.read[last..].starts_with(b"\r\n") { last + 2 } else { self.until(b"\r\n\r\n", last).await? }
        } else if bodiless {
            head
        } else {
            let end = head + length.unwrap_or(0_usize);
            while self.read.len() < end {
                self.more().await?;
            }
            assert!(length.is_some() || !is_answer, "an answer without a length: {text}");
            end
        };
        Some(String::from_utf8_lossy(&self.read.drain(..end).collect::<Vec<_>>()).into_owned())
    }

    /// The place behind the next occurrence.
    async fn until(&mut self, what: &[u8], from: usize) -> Option<usize> {
        loop {
            if let Some(at) = self.read[from..].windows(what.len()).position(|window| window == what) {
                return Some(from + at + what.len());
            }
            self.more().await?;
        }
    }

    async fn more(&mut self) -> Option<()> {
        let mut piece = [0; 16 * 1024];
        match self.stream.read(&mut piece).await {
            Ok(0) | Err(_) => None,
            Ok(count) => {
                self.read.extend_from_slice(&piece[..count]);
                Some(())
            }
        }
    }
}
