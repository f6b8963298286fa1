//! The packets of MySQL's protocol that a probe sends and is sent
//! (<https://dev.mysql.com/doc/dev/mysql-server/latest/PAGE_PROTOCOL.html>).
//!
//! Invariant: no bytes whatsoever make a reader here panic, or ask for more memory than an answer may have.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::bounded::{ANSWER_BYTES_MAX, Bounded, FAREWELL, too_long};

/// How many random bytes a server challenges with.
pub(super) const SCRAMBLE: usize = 20;
/// Asks for the key that passwords are sealed by.
pub(super) const PUBLIC_KEY_REQUEST: &[u8] = &[2];

/// Most answers fit into it, and are read at once.
const BUFFER_BYTES: usize = 512;
const PROTOCOL_VERSION: u8 = 10;
/// `utf8mb4_general_ci`, which every server has that has a `caching_sha2_password`; older ones take their own instead.
const CHARACTER_SET: u8 = 45;

/// What client and server can do.
mod capability {
    pub(super) const LONG_PASSWORD: u32 = 1;
    pub(super) const CONNECT_WITH_DB: u32 = 1 << 3;
    pub(super) const PROTOCOL_41: u32 = 1 << 9;
    pub(super) const TRANSACTIONS: u32 = 1 << 13;
    pub(super) const SECURE_CONNECTION: u32 = 1 << 15;
    pub(super) const PLUGIN_AUTH: u32 = 1 << 19;
}

mod command {
    pub(super) const QUIT: u8 = 1;
    pub(super) const QUERY: u8 = 3;
}

/// What a server opens with.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Greeting {
    capabilities: u32,
    pub(super) scramble: [u8; SCRAMBLE],
    /// By which a login is usually answered.
    pub(super) plugin: String,
}

/// An error that the server sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: u16,
    /// Five characters of SQLSTATE; empty before the login.
    pub(super) state: String,
    pub(super) message: String,
}

/// What the server wants next during the login.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Welcome,
    Refused(Refusal),
    /// Another way to log in, and another challenge.
    Switch {
        plugin: String,
        scramble: [u8; SCRAMBLE],
    },
    /// It remembers the user, and the welcome follows.
    Known,
    /// It does not, and wants the password itself.
    WantsPassword,
    /// By which the password is to be sealed.
    PublicKey(Vec<u8>),
}

/// The first value that a statement gave.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Value(String),
    Null,
    /// It gave no row.
    Nothing,
    Refused(Refusal),
}

pub(super) struct Connection {
    stream: BufReader<Bounded>,
    /// Of the next packet, whoever sends it.
    sequence: u8,
}

impl Connection {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream: BufReader::with_capacity(BUFFER_BYTES, Bounded::new(stream)), sequence: 0 }
    }

    /// The next packet, without its header.
    pub(super) async fn read(&mut self) -> io::Result<Vec<u8>> {
        let mut header = [0; 4];
        self.stream.read_exact(&mut header).await?;
        let [a, b, c, sequence] = header;
        let length = usize::try_from(u32::from_le_bytes([a, b, c, 0])).expect("24 bits fit");
        if length > ANSWER_BYTES_MAX {
            return Err(too_long());
        }
        if sequence != self.sequence {
            return Err(nonsense("a packet is out of order"));
        }
        self.sequence = sequence.wrapping_add(1);
        let mut packet = vec![0; length];
        self.stream.read_exact(&mut packet).await?;
        Ok(packet)
    }

    pub(super) async fn write(&mut self, packet: &[u8]) -> io::Result<()> {
        let length = u32::try_from(packet.len()).ok().filter(|length| *length < 0x00ff_ffff);
        let length = length.ok_or_else(|| io::Error::from(io::ErrorKind::FileTooLarge))?.to_le_bytes();
        let mut framed = vec![length[0], length[1], length[2], self.sequence];
        framed.extend_from_slice(packet);
        self.sequence = self.sequence.wrapping_add(1);
        self.stream.write_all(&framed).await
    }

    /// Runs one statement, and reads all of its answer.
    pub(super) async fn query(&mut self, sql: &str) -> io::Result<Answer> {
        self.command(command::QUERY, sql.as_bytes()).await?;
        let head = self.read().await?;
        match head.first() {
            None => return Err(nonsense("an empty packet")),
            Some(0x00) => return Ok(Answer::Nothing),
            // Nobody here has a file for it.
            Some(0xfb) => return Err(nonsense("it asks for a file")),
            Some(_) => {}
        }
        if let Some(refusal) = refusal(&head) {
            return Ok(Answer::Refused(refusal));
        }
        // First what the columns are called, which does not matter here, then the rows. Both end in the same way.
        let (mut first, mut is_row) = (Answer::Nothing, false);
        loop {
            let packet = self.read().await?;
            if let Some(refusal) = refusal(&packet) {
                return Ok(Answer::Refused(refusal));
            }
            match (is_row, is_end(&packet)) {
                (false, false) => {}
                (false, true) => is_row = true,
                (true, true) => return Ok(first),
                (true, false) if first == Answer::Nothing => {
                    first = first_value(&packet).ok_or_else(|| nonsense("a row without a value"))?;
                }
                (true, false) => {}
            }
        }
    }

    /// Says farewell, so that the server does not count it as a connection that broke.
    pub(super) async fn end(mut self) {
        let farewell = async {
            self.command(command::QUIT, &[]).await?;
            self.stream.read_u8().await // the server closes
        };
        // Who is slow still gets it: without an answer the connection is closed, and not reset.
        if tokio::time::timeout(FAREWELL, farewell).await.is_ok() {
            self.stream.into_inner().end();
        }
    }

    async fn command(&mut self, command: u8, rest: &[u8]) -> io::Result<()> {
        self.sequence = 0;
        self.write(&[&[command], rest].concat()).await
    }
}

/// Reads what a server opens with.
pub(super) fn greeting(packet: &[u8]) -> io::Result<Greeting> {
    let mut bytes = Bytes(packet);
    let version = bytes.byte().ok_or_else(|| nonsense("an empty packet"))?;
    if version != PROTOCOL_VERSION {
        return Err(nonsense(&format!("it speaks version {version} of the protocol, and not {PROTOCOL_VERSION}")));
    }
    read_greeting(&mut bytes).ok_or_else(|| nonsense("a greeting of MySQL 4.1 or later was expected"))
}

fn read_greeting(bytes: &mut Bytes<'_>) -> Option<Greeting> {
    let _version = bytes.until_zero()?;
    let _thread = bytes.take(4)?;
    let mut scramble = bytes.take(8)?.to_vec();
    let _filler = bytes.byte()?;
    let low = u32::from(bytes.number_16()?);
    let _character_set_and_status = bytes.take(3)?;
    let capabilities = low | (u32::from(bytes.number_16()?) << 16);
    let _length_of_scramble = bytes.byte()?;
    let _reserved = bytes.take(10)?;
    scramble.extend_from_slice(bytes.take(SCRAMBLE - 8)?);
    let _zero = bytes.byte()?;
    let named = capabilities & capability::PLUGIN_AUTH != 0;
    let plugin = if named { bytes.until_zero_or_end() } else { "mysql_native_password".to_owned() };
    let is_known = capabilities & capability::PROTOCOL_41 != 0 && capabilities & capability::SECURE_CONNECTION != 0;
    is_known.then_some(Greeting { capabilities, scramble: scramble.try_into().ok()?, plugin })
}

/// The reply to a greeting. No text may hold a zero, and `answer` not be longer than 250 bytes.
pub(super) fn login(greeting: &Greeting, user: &str, answer: &[u8], database: Option<&str>, plugin: &str) -> Vec<u8> {
    let mut wanted = capability::LONG_PASSWORD
        | capability::PROTOCOL_41
        | capability::TRANSACTIONS
        | capability::SECURE_CONNECTION
        | (greeting.capabilities & capability::PLUGIN_AUTH);
    if database.is_some() {
        wanted |= capability::CONNECT_WITH_DB;
    }
    let longest = u32::try_from(ANSWER_BYTES_MAX).expect("64 KiB fit");
    let mut packet = [wanted.to_le_bytes(), longest.to_le_bytes()].concat();
    packet.push(CHARACTER_SET);
    packet.extend_from_slice(&[0; 23]);
    packet.extend_from_slice(user.as_bytes());
    packet.push(0);
    packet.push(u8::try_from(answer.len()).expect("answers to challenges have at most 32 bytes"));
    packet.extend_from_slice(answer);
    if let Some(database) = database {
        packet.extend_from_slice(database.as_bytes());
        packet.push(0);
    }
    if wanted & capability::PLUGIN_AUTH != 0 {
        packet.extend_from_slice(plugin.as_bytes());
        packet.push(0);
    }
    packet
}

/// Reads what the server wants next during the login.
pub(super) fn step(packet: &[u8]) -> io::Result<Step> {
    if let Some(refusal) = refusal(packet) {
        return Ok(Step::Refused(refusal));
    }
    let mut bytes = Bytes(packet);
    match (bytes.byte(), bytes.0) {
        (Some(0x00), _) => Ok(Step::Welcome),
        (Some(0x01), [3]) => Ok(Step::Known),
        (Some(0x01), [4]) => Ok(Step::WantsPassword),
        (Some(0x01), key) => Ok(Step::PublicKey(key.to_vec())),
        // Alone it asks for the way of the time before MySQL 4.1.
        (Some(0xfe), []) => Ok(Step::Switch { plugin: "mysql_old_password".to_owned(), scramble: [0; SCRAMBLE] }),
        (Some(0xfe), _) => {
            let plugin = bytes.until_zero().ok_or_else(|| nonsense("a way to log in without a name"))?;
            // Ways that are not known here have challenges of another length; they are refused by their names.
            let scramble = bytes.0.first_chunk().copied().unwrap_or_default();
            Ok(Step::Switch { plugin, scramble })
        }
        (Some(_) | None, _) => Err(nonsense("it is no answer to a login")),
    }
}

/// The error that a packet is, if it is one.
pub(super) fn refusal(packet: &[u8]) -> Option<Refusal> {
    let mut bytes = Bytes(packet.strip_prefix(&[0xff])?);
    let code = bytes.number_16()?;
    // Before the login there is no state.
    let state =
        if bytes.0.first() == Some(&b'#') { bytes.take(6).map(|state| text(&state[1..]))? } else { String::new() };
    Some(Refusal { code, state, message: text(bytes.0) })
}

/// What ends columns and rows. A row can begin with the same byte, but is longer then.
fn is_end(packet: &[u8]) -> bool {
    packet.first() == Some(&0xfe) && packet.len() < 9
}

fn first_value(row: &[u8]) -> Option<Answer> {
    let mut bytes = Bytes(row);
    let length = match bytes.byte()? {
        0xfb => return Some(Answer::Null),
        0xfc => u64::from(bytes.number_16()?),
        0xfd => bytes.take(3).map(|b| u64::from(u32::from_le_bytes([b[0], b[1], b[2], 0])))?,
        0xfe | 0xff => return None, // longer than any packet here
        length => u64::from(length),
    };
    bytes.take(usize::try_from(length).ok()?).map(|value| Answer::Value(text(value)))
}

fn nonsense(problem: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What is left of a packet.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|taken| taken[0])
    }

    fn number_16(&mut self) -> Option<u16> {
        self.take(2).map(|taken| u16::from_le_bytes([taken[0], taken[1]]))
    }

    fn until_zero(&mut self) -> Option<String> {
        let end = self.0.iter().position(|byte| *byte == 0)?;
        let taken = self.take(end)?;
        self.take(1)?;
        Some(text(taken))
    }

    /// Some servers forget the last zero.
    fn until_zero_or_end(&mut self) -> String {
        self.until_zero().unwrap_or_else(|| text(std::mem::take(&mut self.0)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_greeting_of_today_is_read() {
        let mut packet = b"\x0a8.4.3\0\x07\0\0\0abcdefgh\0".to_vec();
        packet.extend(b"\xff\xff\xff\x02\0\xff\xdf\x15");
        packet.extend([0; 10]);
        packet.extend(b"ijklmnopqrst\0caching_sha2_password\0");
        let read = greeting(&packet).unwrap();
        assert_eq!((&read.scramble, read.plugin.as_str()), (b"abcdefghijklmnopqrst", "caching_sha2_password"));
        for length in 0..packet.len() - "caching_sha2_password".len() - 2 {
            assert!(greeting(&packet[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn values_are_read() {
        let long = [&[0xfc, 0x2c, 0x01][..], &[b'x'; 300]].concat();
        for (row, expected) in [
            (&b"\x03abc\x01d"[..], Some(Answer::Value("abc".to_owned()))),
            (b"\x00", Some(Answer::Value(String::new()))),
            (b"\xfb", Some(Answer::Null)),
            (&long, Some(Answer::Value("x".repeat(300)))),
            (b"\xfd\x01\0\0y", Some(Answer::Value("y".to_owned()))),
            (b"\x04abc", None),
            (b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff", None),
            (b"", None),
        ] {
            assert_eq!(first_value(row), expected, "{row:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_whatsoever_do_harm(packet in proptest::collection::vec(any::<u8>(), 0..200), first in any::<u8>()) {
            let marked = [&[first], packet.as_slice()].concat();
            for packet in [&packet, &marked] {
                let _ = (greeting(packet), step(packet), refusal(packet), first_value(packet), is_end(packet));
            }
        }
    }
}
