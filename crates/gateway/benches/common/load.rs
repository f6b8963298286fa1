//! Callers of a benchmark over HTTP, and what they are answered: `GET /N` gets N bytes.
#![allow(dead_code, unreachable_pub, reason = "each benchmark uses its part of it")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Answers of all sizes, one after the other.
pub const MIXED_BYTES: [usize; 6] = [100, 64 * 1024, 1_000, 4_000, 20_000, 400];
/// What has not come by then never comes.
const WITHIN: Duration = Duration::from_secs(20);

/// Somebody who asks again and again, on one connection as long as it lasts.
#[derive(Default)]
pub struct Caller {
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
}

impl Caller {
    /// Whether the whole right answer came.
    pub async fn get(&mut self, endpoint: SocketAddr, bytes: usize) -> bool {
        let answered = tokio::time::timeout(WITHIN, self.try_get(endpoint, bytes)).await;
        let well = matches!(answered, Ok(Ok(true)));
        if !well {
            *self = Self::default();
        }
        well
    }

    async fn try_get(&mut self, endpoint: SocketAddr, bytes: usize) -> std::io::Result<bool> {
        if self.stream.is_none() {
            let stream = TcpStream::connect(endpoint).await?;
            stream.set_nodelay(true)?;
            self.stream = Some(stream);
        }
        let stream = self.stream.as_mut().unwrap();
        stream.write_all(format!("GET /{bytes} HTTP/1.1\r\nhost: bench\r\n\r\n").as_bytes()).await?;
        self.buffer.clear();
        let head = loop {
            if stream.read_buf(&mut self.buffer).await? == 0 {
                return Ok(false);
            }
            if let Some(at) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
        };
        let text = String::from_utf8_lossy(&self.buffer[..head]).to_lowercase();
        if !text.starts_with("http/1.1 200 ") || !text.contains(&format!("content-length: {bytes}\r\n")) {
            return Ok(false);
        }
        while self.buffer.len() < head + bytes {
            if stream.read_buf(&mut self.buffer).await? == 0 {
                return Ok(false);
            }
        }
        let closes = text.contains("connection: close");
        let right = self.buffer.len() == head + bytes && self.buffer[head..].iter().all(|byte| *byte == filler(bytes));
        if closes {
            self.stream = None;
        }
        Ok(right)
    }
}

/// What an answer of this length is made of.
pub fn filler(bytes: usize) -> u8 {
    b'a' + (bytes % 26) as u8
}

pub fn micros(since: Instant) -> u32 {
    u32::try_from(since.elapsed().as_micros()).unwrap_or(u32::MAX)
}

pub fn p99_ms(mut times: Vec<u32>) -> f64 {
    times.sort_unstable();
    f64::from(times[times.len() * 99 / 100]) / 1000.0
}

/// Until something answers there.
pub async fn await_answers(endpoint: SocketAddr) {
    let until = Instant::now() + WITHIN;
    while !Caller::default().get(endpoint, MIXED_BYTES[0]).await {
        assert!(Instant::now() < until, "nothing answers at {endpoint}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
