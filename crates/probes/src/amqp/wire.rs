//! The frames of AMQP 0-9-1 that a probe sends and is sent: the methods that are needed, with the arguments that matter
//! (<https://www.rabbitmq.com/resources/specs/amqp0-9-1.extended.xml>).
//!
//! Invariant: no bytes whatsoever make a reader here panic, or ask for more memory than an answer may have.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::bounded::{ANSWER_BYTES_MAX, Bounded, FAREWELL, too_long};

/// The longest name: its length is one byte.
pub(super) const NAME_BYTES_MAX: usize = 255;

/// The greeting of RabbitMQ, which lists what it can do, fits into it.
const BUFFER_BYTES: usize = 1024;
/// "AMQP", then the protocol's number and version.
const PROTOCOL_HEADER: &[u8; 8] = b"AMQP\x00\x00\x09\x01";
const HEADER_BYTES: usize = 7;
const FRAME_END: u8 = 0xce;
/// The one channel that is used, and the connection itself.
const CHANNEL: u16 = 1;
const CONNECTION: u16 = 0;
/// It is not to be made: it is only asked for.
const PASSIVE: u8 = 1;
/// Only this connection uses it, and it goes when nobody uses it any more.
const EXCLUSIVE_AND_AUTO_DELETE: u8 = 1 << 2 | 1 << 3;
/// What cannot be delivered comes back.
const MANDATORY: u8 = 1;
/// Nothing is to be acknowledged; nobody else consumes.
const NO_ACKNOWLEDGEMENT_AND_EXCLUSIVE: u8 = 1 << 1 | 1 << 2;

mod kind {
    pub(super) const METHOD: u8 = 1;
    pub(super) const HEADER: u8 = 2;
    pub(super) const BODY: u8 = 3;
    pub(super) const HEARTBEAT: u8 = 8;
}

/// What is asked. No name may be longer than [`NAME_BYTES_MAX`].
pub(super) enum Request<'a> {
    LogIn {
        user: &'a str,
        password: &'a str,
    },
    /// What the server offered, as far as we take it.
    Tune {
        frame_bytes_max: u32,
    },
    Open {
        virtual_host: &'a str,
    },
    OpenChannel,
    /// Whether there is a queue of this name.
    Queue {
        name: &'a str,
    },
    /// Whether there is an exchange of this name.
    Exchange {
        name: &'a str,
    },
    /// A queue that is named by the server, is this connection's alone, and goes with it.
    OwnQueue,
    /// Through the exchange that leads to every queue by its name.
    Publish {
        queue: &'a str,
        message: &'a [u8],
    },
    Consume {
        queue: &'a str,
    },
    Close,
    Closed,
}

/// What the server says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Method {
    Start {
        mechanisms: String,
    },
    Tune {
        frame_bytes_max: u32,
    },
    Opened,
    Close(Closing),
    Closed,
    Blocked {
        why: String,
    },
    ChannelOpened,
    CloseChannel(Closing),
    ExchangeFound,
    QueueFound {
        name: String,
    },
    Consuming,
    Returned(Closing),
    /// The message itself follows: [`Connection::content`].
    Delivered,
    Other {
        class: u16,
        method: u16,
    },
}

/// Why something was closed, or given back.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Closing {
    pub(super) code: u16,
    pub(super) text: String,
}

impl Method {
    /// As the specification names it.
    pub(super) fn name(&self) -> String {
        let name = match self {
            Self::Start { .. } => "connection.start",
            Self::Tune { .. } => "connection.tune",
            Self::Opened => "connection.open-ok",
            Self::Close(_) => "connection.close",
            Self::Closed => "connection.close-ok",
            Self::Blocked { .. } => "connection.blocked",
            Self::ChannelOpened => "channel.open-ok",
            Self::CloseChannel(_) => "channel.close",
            Self::ExchangeFound => "exchange.declare-ok",
            Self::QueueFound { .. } => "queue.declare-ok",
            Self::Consuming => "basic.consume-ok",
            Self::Returned(_) => "basic.return",
            Self::Delivered => "basic.deliver",
            Self::Other { class, method } => return format!("method {method} of class {class}"),
        };
        name.to_owned()
    }
}

pub(super) struct Connection {
    stream: BufReader<Bounded>,
}

impl Connection {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream: BufReader::with_capacity(BUFFER_BYTES, Bounded::new(stream)) }
    }

    /// Says which protocol we speak; the server answers with [`Method::Start`].
    pub(super) async fn greet(&mut self) -> io::Result<()> {
        self.stream.write_all(PROTOCOL_HEADER).await
    }

    pub(super) async fn send(&mut self, request: &Request<'_>) -> io::Result<()> {
        self.stream.write_all(&written(request)).await
    }

    /// The next method.
    pub(super) async fn next(&mut self) -> io::Result<Method> {
        let payload = self.frame(kind::METHOD).await?;
        method(&payload).ok_or_else(|| nonsense("a method was cut off"))
    }

    /// The message that was announced.
    pub(super) async fn content(&mut self) -> io::Result<Vec<u8>> {
        let header = self.frame(kind::HEADER).await?;
        let length = Bytes(&header).content_length().ok_or_else(|| nonsense("a header was cut off"))?;
        let length = usize::try_from(length).ok().filter(|length| *length <= ANSWER_BYTES_MAX).ok_or_else(too_long)?;
        let mut message = Vec::new();
        while message.len() < length {
            message.extend(self.frame(kind::BODY).await?);
        }
        Ok(message)
    }

    /// Says farewell, so that the server does not count it as a connection that broke; or just ends, where the server
    /// has closed already.
    pub(super) async fn end(mut self, farewell: bool) {
        let said = async {
            if farewell {
                self.send(&Request::Close).await?;
                while self.next().await? != Method::Closed {}
            }
            io::Result::Ok(())
        };
        // Who is slow still gets it: without an answer the connection is closed, and not reset.
        if tokio::time::timeout(FAREWELL, said).await.is_ok() {
            self.stream.into_inner().end();
        }
    }

    /// What is in the next frame, which has to be of this kind. Heartbeats are passed over.
    async fn frame(&mut self, wanted: u8) -> io::Result<Vec<u8>> {
        loop {
            let mut header = [0; HEADER_BYTES];
            self.stream.read_exact(&mut header).await?;
            // What a server answers that does not speak this version; its own follows.
            if header.starts_with(b"AMQP") {
                let [.., major, minor] = header;
                return Err(nonsense(&format!("it speaks AMQP {major}.{minor}, and not 0-9-1")));
            }
            let [kind, _, _, length @ ..] = header;
            let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
            if !matches!(kind, kind::METHOD | kind::HEADER | kind::BODY | kind::HEARTBEAT) {
                return Err(nonsense("it is not AMQP"));
            } else if length > ANSWER_BYTES_MAX {
                return Err(too_long());
            }
            let mut payload = vec![0; length];
            self.stream.read_exact(&mut payload).await?;
            if self.stream.read_u8().await? != FRAME_END {
                return Err(nonsense("a frame does not end where it should"));
            } else if kind == wanted {
                return Ok(payload);
            } else if kind != kind::HEARTBEAT {
                return Err(nonsense("a frame is out of order"));
            }
        }
    }
}

/// The frames of a request.
fn written(request: &Request<'_>) -> Vec<u8> {
    match *request {
        Request::LogIn { user, password } => {
            let response = format!("\0{user}\0{password}");
            let about = about_us();
            Frame::method(CONNECTION, 10, 11).long(&about).short("PLAIN").long(response.as_bytes()).short("en_US").end()
        }
        // One channel, and no heartbeats: it is over sooner than they come.
        Request::Tune { frame_bytes_max } => {
            let most = u32::try_from(ANSWER_BYTES_MAX).expect("64 KiB fit");
            let offered = if frame_bytes_max == 0 { most } else { frame_bytes_max.min(most) }; // 0 is no limit
            Frame::method(CONNECTION, 10, 31).number_16(1).bytes(&offered.to_be_bytes()).number_16(0).end()
        }
        Request::Open { virtual_host } => Frame::method(CONNECTION, 10, 40).short(virtual_host).bytes(&[0, 0]).end(),
        Request::OpenChannel => Frame::method(CHANNEL, 20, 10).short("").end(),
        Request::Queue { name } => {
            Frame::method(CHANNEL, 50, 10).number_16(0).short(name).bytes(&[PASSIVE]).long(&[]).end()
        }
        Request::Exchange { name } => {
            let kind = "direct"; // has to be there, and is not looked at
            Frame::method(CHANNEL, 40, 10).number_16(0).short(name).short(kind).bytes(&[PASSIVE]).long(&[]).end()
        }
        Request::OwnQueue => {
            Frame::method(CHANNEL, 50, 10).number_16(0).short("").bytes(&[EXCLUSIVE_AND_AUTO_DELETE]).long(&[]).end()
        }
        Request::Publish { queue, message } => {
            let publish = Frame::method(CHANNEL, 60, 40).number_16(0).short("").short(queue).bytes(&[MANDATORY]).end();
            let length = u64::try_from(message.len()).expect("a length fits").to_be_bytes();
            let header = Frame::new(kind::HEADER, CHANNEL).number_16(60).number_16(0).bytes(&length).number_16(0).end();
            [publish, header, Frame::new(kind::BODY, CHANNEL).bytes(message).end()].concat()
        }
        Request::Consume { queue } => Frame::method(CHANNEL, 60, 20)
            .number_16(0)
            .short(queue)
            .short("")
            .bytes(&[NO_ACKNOWLEDGEMENT_AND_EXCLUSIVE])
            .long(&[])
            .end(),
        Request::Close => Frame::method(CONNECTION, 10, 50).number_16(200).short("done").bytes(&[0; 4]).end(),
        Request::Closed => Frame::method(CONNECTION, 10, 51).end(),
    }
}

/// What the server is told of us, as a table: who it is, and that it may say why it refuses a login or a message.
fn about_us() -> Vec<u8> {
    let mut able = Vec::new();
    for name in ["authentication_failure_close", "connection.blocked"] {
        able.extend(short(name));
        able.extend(b"t\x01");
    }
    [short("product"), b"S".to_vec(), long(b"ostler-probe"), short("capabilities"), b"F".to_vec(), long(&able)].concat()
}

/// Reads a method. `None` if its arguments are cut off.
fn method(payload: &[u8]) -> Option<Method> {
    let mut bytes = Bytes(payload);
    let (class, method) = (bytes.number_16()?, bytes.number_16()?);
    Some(match (class, method) {
        (10, 10) => {
            let _version = bytes.take(2)?;
            let _about_the_server = bytes.long()?;
            Method::Start { mechanisms: text(bytes.long()?) }
        }
        (10, 30) => {
            let _channels_max = bytes.number_16()?;
            Method::Tune { frame_bytes_max: bytes.number_32()? }
        }
        (10, 41) => Method::Opened,
        (10, 50) => Method::Close(bytes.closing()?),
        (10, 51) => Method::Closed,
        (10, 60) => Method::Blocked { why: text(bytes.short()?) },
        (20, 11) => Method::ChannelOpened,
        (20, 40) => Method::CloseChannel(bytes.closing()?),
        (40, 11) => Method::ExchangeFound,
        (50, 11) => Method::QueueFound { name: String::from_utf8(bytes.short()?.to_vec()).ok()? },
        (60, 21) => Method::Consuming,
        (60, 50) => Method::Returned(bytes.closing()?),
        (60, 60) => Method::Delivered,
        (class, method) => Method::Other { class, method },
    })
}

fn nonsense(problem: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A name, with its length in one byte.
fn short(name: &str) -> Vec<u8> {
    let length = u8::try_from(name.len()).expect("callers give names of at most 255 bytes");
    [&[length], name.as_bytes()].concat()
}

/// Anything, with its length in four bytes.
fn long(content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).expect("nothing that is sent is longer than 4 GiB");
    [&length.to_be_bytes(), content].concat()
}

/// A frame that is being written.
struct Frame {
    kind: u8,
    channel: u16,
    payload: Vec<u8>,
}

impl Frame {
    fn new(kind: u8, channel: u16) -> Self {
        Self { kind, channel, payload: Vec::new() }
    }

    fn method(channel: u16, class: u16, method: u16) -> Self {
        Self::new(kind::METHOD, channel).number_16(class).number_16(method)
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.payload.extend_from_slice(bytes);
        self
    }

    fn number_16(self, number: u16) -> Self {
        self.bytes(&number.to_be_bytes())
    }

    fn short(self, name: &str) -> Self {
        self.bytes(&short(name))
    }

    fn long(self, content: &[u8]) -> Self {
        self.bytes(&long(content))
    }

    fn end(self) -> Vec<u8> {
        let mut frame = vec![self.kind];
        frame.extend(self.channel.to_be_bytes());
        frame.extend(long(&self.payload));
        frame.push(FRAME_END);
        frame
    }
}

/// What is left of a frame.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number_16(&mut self) -> Option<u16> {
        self.take(2).map(|taken| u16::from_be_bytes([taken[0], taken[1]]))
    }

    fn number_32(&mut self) -> Option<u32> {
        self.take(4).map(|taken| u32::from_be_bytes([taken[0], taken[1], taken[2], taken[3]]))
    }

    fn short(&mut self) -> Option<&'a [u8]> {
        let length = self.take(1)?[0];
        self.take(usize::from(length))
    }

    fn long(&mut self) -> Option<&'a [u8]> {
        let length = self.number_32()?;
        self.take(usize::try_from(length).ok()?)
    }

    fn closing(&mut self) -> Option<Closing> {
        Some(Closing { code: self.number_16()?, text: text(self.short()?) })
    }

    fn content_length(&mut self) -> Option<u64> {
        let _class_and_weight = self.take(4)?;
        let length = self.take(8)?;
        Some(u64::from_be_bytes(length.try_into().expect("eight bytes were taken")))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn methods_are_read_and_never_in_part() {
        let closing = Closing { code: 404, text: "none".to_owned() };
        for (payload, expected) in [
            (&b"\0\x0a\0\x0a\0\x09\0\0\0\x02ab\0\0\0\x05PLAIN"[..], Method::Start { mechanisms: "PLAIN".to_owned() }),
            (b"\0\x0a\0\x1e\x07\xff\0\x02\0\0", Method::Tune { frame_bytes_max: 131_072 }),
            (b"\0\x14\0\x28\x01\x94\x04none", Method::CloseChannel(closing)),
            (b"\0\x32\0\x0b\x03own", Method::QueueFound { name: "own".to_owned() }),
            (b"\x01\0\0\x02", Method::Other { class: 256, method: 2 }),
        ] {
            assert_eq!(method(payload), Some(expected));
            for length in 0..payload.len() {
                assert_eq!(method(&payload[..length]), None, "{length} bytes of {payload:?}");
            }
        }
    }

    #[test]
    fn frames_are_written_as_the_specification_has_them() {
        let close = written(&Request::Close);
        assert_eq!(close, b"\x01\0\0\0\0\0\x0f\0\x0a\0\x32\0\xc8\x04done\0\0\0\0\xce");
        let publish = written(&Request::Publish { queue: "q", message: b"hi" });
        let (method, rest) = publish.split_at(17);
        assert_eq!(method, b"\x01\0\x01\0\0\0\x0a\0\x3c\0\x28\0\0\0\x01q\x01");
        let (end, content) = rest.split_at(1);
        assert_eq!(end, b"\xce");
        let header = b"\x02\0\x01\0\0\0\x0e\0\x3c\0\0\0\0\0\0\0\0\0\x02\0\0\xce";
        assert_eq!(content, [&header[..], b"\x03\0\x01\0\0\0\x02hi\xce"].concat());
        let offered = |frame_bytes_max| written(&Request::Tune { frame_bytes_max })[13..17].to_vec();
        assert_eq!(
            (offered(0), offered(4096), offered(131_072)),
            (vec![0, 1, 0, 0], vec![0, 0, 16, 0], vec![0, 1, 0, 0])
        );
    }

    proptest! {
        #[test]
        fn no_bytes_whatsoever_do_harm(
            rest in proptest::collection::vec(any::<u8>(), 0..200),
            class in prop_oneof![Just(10_u16), Just(20), Just(40), Just(50), Just(60), any::<u16>()],
            number in prop_oneof![Just(10_u16), Just(30), Just(50), Just(60), any::<u16>()],
        ) {
            let payload = [&class.to_be_bytes()[..], &number.to_be_bytes(), &rest].concat();
            let _ = (method(&rest), method(&payload), Bytes(&rest).content_length());
        }
    }
}
