//! AMQP 0-9-1, as RabbitMQ speaks it: connect, log in, open the virtual host and a channel. A client of a few methods,
//! because that is all there is to ask, and because no client that is there for more keeps to this crate's bounds.
//!
//! The order of methods is that of the specification, section 2.2
//! (<https://www.rabbitmq.com/resources/specs/amqp0-9-1.pdf>).

use std::io;

use ostler_model::estate::contract::AmqpCheck;
use ostler_model::health::{Symptom, SymptomKind};

use self::wire::{Closing, Connection, Method, NAME_BYTES_MAX, Request};
use crate::login::Login;
use crate::{Target, symptom, tcp};

mod wire;

/// What a closing says (specification, section 1.2 of the reference).
mod code {
    pub(super) const ACCESS_REFUSED: u16 = 403;
}

/// The virtual host that is meant where none is named (RabbitMQ's URI specification).
const VIRTUAL_HOST: &str = "/";

pub(crate) async fn probe(target: &Target) -> Result<(), Symptom> {
    let talk = Talk::begin(target).await?;
    talk.end().await;
    Ok(())
}

/// Sends a message to itself, through a queue that is this connection's alone and goes with it.
pub(crate) async fn exercise(target: &Target, word: &str) -> Result<(), Symptom> {
    let mut talk = Talk::begin(target).await?;
    let tried = talk.round_trip(word).await;
    talk.end().await;
    tried
}

/// What a consumer relies on.
pub(crate) async fn keeps(target: &Target, check: &AmqpCheck) -> Result<(), Symptom> {
    if let AmqpCheck::Queue(name) | AmqpCheck::Exchange(name) = check
        && name.len() > NAME_BYTES_MAX
    {
        let problem = format!("AMQP at {} cannot be asked for a name of more than 255 bytes", target.address);
        return Err(symptom::symptom(SymptomKind::Unknown, problem));
    }
    let mut talk = Talk::begin(target).await?;
    let kept = match check {
        AmqpCheck::RoundTrip => talk.round_trip("ostler").await,
        AmqpCheck::Queue(name) => match talk.ask(Request::Queue { name }).await {
            Ok(Method::QueueFound { .. }) => Ok(()),
            Ok(other) => Err(talk.astray(&other)),
            Err(symptom) => Err(symptom),
        },
        AmqpCheck::Exchange(name) => match talk.ask(Request::Exchange { name }).await {
            Ok(Method::ExchangeFound) => Ok(()),
            Ok(other) => Err(talk.astray(&other)),
            Err(symptom) => Err(symptom),
        },
    };
    talk.end().await;
    kept
}

/// A connection with an open channel.
struct Talk<'a> {
    connection: Connection,
    who: String,
    target: &'a Target,
    /// What is said with a refusal of what is not everybody's right.
    hint: &'static str,
    is_logged_in: bool,
    /// The server has closed: there is nothing to say farewell to.
    is_over: bool,
}

impl<'a> Talk<'a> {
    async fn begin(target: &'a Target) -> Result<Self, Symptom> {
        let who = format!("AMQP at {}", target.address);
        let login = Login::of(target);
        let user = login.user(&who)?;
        let password = login.password.as_ref().map_or("", |password| password.0.as_ref());
        let virtual_host = login.virtual_host.as_deref().unwrap_or(VIRTUAL_HOST);
        let cannot = |problem: &str| symptom::symptom(SymptomKind::Unknown, format!("cannot ask {who}: {problem}"));
        if user.contains('\0') || password.contains('\0') {
            return Err(cannot("its credentials hold a zero byte, which a login cannot"));
        } else if virtual_host.len() > NAME_BYTES_MAX {
            return Err(cannot("the name of its virtual host is too long"));
        }
        let connection = Connection::new(tcp::connect(target).await?);
        let mut talk = Talk { connection, who, target, hint: "", is_logged_in: false, is_over: false };
        talk.log_in(user, password).await?;
        match talk.ask(Request::Open { virtual_host }).await? {
            Method::Opened => {}
            other => return Err(talk.astray(&other)),
        }
        match talk.ask(Request::OpenChannel).await? {
            Method::ChannelOpened => Ok(talk),
            other => Err(talk.astray(&other)),
        }
    }

    async fn log_in(&mut self, user: &str, password: &str) -> Result<(), Symptom> {
        self.connection.greet().await.map_err(|error| self.broken(&error))?;
        let mechanisms = match self.next().await? {
            Method::Start { mechanisms } => mechanisms,
            other => return Err(self.astray(&other)),
        };
        if !mechanisms.split(' ').any(|name| name == "PLAIN") {
            let offered = symptom::quote(&mechanisms, self.target);
            let problem = format!("cannot ask {}: it takes no login by PLAIN, but by {offered}", self.who);
            return Err(symptom::symptom(SymptomKind::Unknown, problem));
        }
        self.send(Request::LogIn { user, password }).await?;
        let frame_bytes_max = match self.connection.next().await {
            Ok(Method::Tune { frame_bytes_max }) => frame_bytes_max,
            Ok(Method::Close(closing)) => return Err(self.closed(&closing).await),
            Ok(other) => return Err(self.astray(&other)),
            // "AMQP 0-9-1 requires brokers to close the TCP connection if an authentication failure occurs"
            // (<https://www.rabbitmq.com/docs/auth-notification>); RabbitMQ says so instead, because we take it.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                let problem =
                    format!("{} closed at the login, as AMQP has it where the credentials are wrong", self.who);
                return Err(symptom::symptom(SymptomKind::WrongCredentials, problem));
            }
            Err(error) => return Err(self.broken(&error)),
        };
        self.is_logged_in = true;
        self.send(Request::Tune { frame_bytes_max }).await
    }

    async fn round_trip(&mut self, word: &str) -> Result<(), Symptom> {
        self.hint = " (to try it out takes the right to make, write and read a queue)";
        let queue = match self.ask(Request::OwnQueue).await? {
            Method::QueueFound { name } => name,
            other => return Err(self.astray(&other)),
        };
        self.send(Request::Publish { queue: &queue, message: word.as_bytes() }).await?;
        self.send(Request::Consume { queue: &queue }).await?;
        loop {
            match self.next().await? {
                Method::Consuming => {}
                Method::Delivered => break,
                Method::Returned(closing) => {
                    let said = symptom::quote(&closing.text, self.target);
                    let problem = format!("{} gave a message back instead of delivering it: {said}", self.who);
                    return Err(symptom::symptom(SymptomKind::WrongAnswer, problem));
                }
                other => return Err(self.astray(&other)),
            }
        }
        let message = self.connection.content().await.map_err(|error| self.broken(&error))?;
        if message == word.as_bytes() {
            return Ok(());
        }
        let given = symptom::quote(&String::from_utf8_lossy(&message), self.target);
        let problem = format!("{} did not deliver the message {word} that was sent, but {given}", self.who);
        Err(symptom::symptom(SymptomKind::WrongAnswer, problem))
    }

    async fn ask(&mut self, request: Request<'_>) -> Result<Method, Symptom> {
        self.send(request).await?;
        self.next().await
    }

    async fn send(&mut self, request: Request<'_>) -> Result<(), Symptom> {
        self.connection.send(&request).await.map_err(|error| self.broken(&error))
    }

    /// What the server says next. That it closes is an error.
    async fn next(&mut self) -> Result<Method, Symptom> {
        match self.connection.next().await.map_err(|error| self.broken(&error))? {
            Method::Close(closing) => Err(self.closed(&closing).await),
            Method::CloseChannel(closing) => {
                let said = symptom::quote(&closing.text, self.target);
                let hint = if closing.code == code::ACCESS_REFUSED { self.hint } else { "" };
                Err(symptom::symptom(SymptomKind::WrongAnswer, format!("{} answered: {said}{hint}", self.who)))
            }
            Method::Blocked { why } => {
                let why = symptom::quote(&why, self.target);
                let problem = format!("{} takes no messages at the moment: {why}", self.who);
                Err(symptom::symptom(SymptomKind::WrongAnswer, problem))
            }
            method => Ok(method),
        }
    }

    /// What it means that the server closes the connection.
    async fn closed(&mut self, closing: &Closing) -> Symptom {
        self.is_over = true;
        // It waits for this, and counts the connection as broken otherwise.
        let _ = self.connection.send(&Request::Closed).await;
        let (who, said) = (&self.who, symptom::quote(&closing.text, self.target));
        if closing.code == code::ACCESS_REFUSED && !self.is_logged_in {
            symptom::symptom(SymptomKind::WrongCredentials, format!("{who} rejects the credentials: {said}"))
        } else {
            symptom::symptom(SymptomKind::WrongAnswer, format!("{who} closed with {}: {said}", closing.code))
        }
    }

    /// A method that is none of those that can follow.
    fn astray(&self, method: &Method) -> Symptom {
        let problem = format!("{} gave an answer that is none: {} is out of order", self.who, method.name());
        symptom::symptom(SymptomKind::WrongAnswer, problem)
    }

    fn broken(&self, error: &io::Error) -> Symptom {
        symptom::of_talk(error, &self.who)
    }

    async fn end(self) {
        self.connection.end(!self.is_over).await;
    }
}
