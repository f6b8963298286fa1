//! MySQL and MariaDB: connect, authenticate, `select 1`. A client of one statement at a time, because that is all there
//! is to ask, and because no client that is there for more keeps to this crate's bounds.
//!
//! A login is answered in the two ways that servers of today ask for (`auth.rs`). What asks for another one, or for
//! encryption, cannot be asked: that is said, and nothing is said against the server.

use std::io;

use ostler_model::health::{Symptom, SymptomKind};

use self::auth::Plugin;
use self::wire::{Answer, Connection, Refusal, Step};
use crate::login::Login;
use crate::{Target, symptom, tcp};

mod auth;
mod wire;

/// How codes of errors are read: <https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html> and
/// <https://mariadb.com/kb/en/mariadb-error-code-reference/>.
mod code {
    /// No such user from here: what is left when the last user of that name is removed.
    pub(super) const HOST_NOT_PRIVILEGED: u16 = 1130;
    pub(super) const DATABASE_ACCESS_DENIED: u16 = 1044;
    pub(super) const MUST_CHANGE_PASSWORD: [u16; 2] = [1820, 1862];
    pub(super) const ACCOUNT_LOCKED: [u16; 2] = [3118, 4151];
    pub(super) const ENCRYPTION_REQUIRED: u16 = 3159;
}

pub(crate) async fn probe(target: &Target) -> Result<(), Symptom> {
    expect(target, "select 1", "1", "`select 1`").await
}

/// In a temporary table, which others never see, and which goes with the connection.
pub(crate) async fn exercise(target: &Target, word: &str) -> Result<(), Symptom> {
    let mut talk = Talk::begin(target).await?;
    let tried = talk.write_and_read_back(word).await;
    talk.connection.end().await;
    tried
}

/// Runs `sql`, which has to give `wanted` first.
pub(crate) async fn expect(target: &Target, sql: &str, wanted: &str, asked: &str) -> Result<(), Symptom> {
    let mut talk = Talk::begin(target).await?;
    let answer = talk.must(sql).await;
    let compared = answer.and_then(|answer| talk.compare(&answer, wanted, asked));
    talk.connection.end().await;
    compared
}

/// MySQL writes truth values as numbers.
fn is_same(value: &str, wanted: &str) -> bool {
    value == wanted || matches!((value, wanted), ("1", "true") | ("0", "false"))
}

/// A connection that is logged in.
struct Talk<'a> {
    connection: Connection,
    who: String,
    target: &'a Target,
}

impl<'a> Talk<'a> {
    async fn begin(target: &'a Target) -> Result<Self, Symptom> {
        let who = format!("MySQL at {}", target.address);
        let login = Login::of(target);
        let user = login.user(&who)?;
        let database = login.database.as_deref();
        if user.contains('\0') || database.is_some_and(|name| name.contains('\0')) {
            let problem = format!("cannot ask {who}: a name in its credentials holds a zero byte");
            return Err(symptom::symptom(SymptomKind::Unknown, problem));
        }
        let password = login.password.as_ref().map_or("", |password| password.0.as_ref()).as_bytes();
        let mut talk = Talk { connection: Connection::new(tcp::connect(target).await?), who, target };
        let packet = talk.read().await?;
        if let Some(refusal) = wire::refusal(&packet) {
            return Err(talk.judge(&refusal));
        }
        let greeting = wire::greeting(&packet).map_err(|problem| talk.broken(&problem))?;
        // Where the server's usual way is not known here, the user's own may be.
        let plugin = Plugin::named(&greeting.plugin).unwrap_or(Plugin::NativePassword);
        let answer = plugin.answer(password, &greeting.scramble);
        let reply = wire::login(&greeting, user, &answer, database, plugin.name());
        talk.write(&reply).await?;
        talk.authenticate(password, greeting.scramble).await?;
        Ok(talk)
    }

    /// Answers what the server asks until it lets us in.
    async fn authenticate(&mut self, password: &[u8], mut scramble: [u8; wire::SCRAMBLE]) -> Result<(), Symptom> {
        loop {
            let packet = self.read().await?;
            match wire::step(&packet).map_err(|problem| self.broken(&problem))? {
                Step::Welcome => return Ok(()),
                Step::Refused(refusal) => return Err(self.judge(&refusal)),
                Step::Switch { plugin: name, scramble: next } => {
                    let Some(plugin) = Plugin::named(&name) else { return Err(self.cannot_log_in(&name)) };
                    scramble = next;
                    self.write(&plugin.answer(password, &scramble)).await?;
                }
                Step::Known => {}
                Step::WantsPassword => self.write(wire::PUBLIC_KEY_REQUEST).await?,
                Step::PublicKey(key) => {
                    let Some(sealed) = auth::sealed(password, &scramble, &key) else {
                        let problem = format!("cannot ask {}: its key for passwords is not understood", self.who);
                        return Err(symptom::symptom(SymptomKind::Unknown, problem));
                    };
                    self.write(&sealed).await?;
                }
            }
        }
    }

    async fn write_and_read_back(&mut self, word: &str) -> Result<(), Symptom> {
        // A replica takes temporary tables, and nothing that stays. Who has no such variable is none.
        if let Answer::Value(set) = self.ask("select @@global.read_only").await?
            && matches!(set.as_str(), "1" | "ON")
        {
            return Err(symptom::symptom(SymptomKind::WrongAnswer, format!("{} can only be read", self.who)));
        }
        let place = format!("ostler_scratch_{word}");
        // With a key, because there are servers that take no table without one.
        let made = self.ask(&format!("create temporary table {place} (word varchar(100) primary key)")).await?;
        if let Answer::Refused(refusal) = made {
            let mut found = self.judge(&refusal);
            if refusal.code == code::DATABASE_ACCESS_DENIED {
                found = symptom::symptom(found.kind, found.detail + " (to try it out takes CREATE TEMPORARY TABLES)");
            }
            return Err(found);
        }
        self.must(&format!("insert into {place} values ('{word}')")).await?;
        let read = self.must(&format!("select word from {place}")).await?;
        self.compare(&read, word, "what was written")?;
        self.must(&format!("drop temporary table {place}")).await.map(drop)
    }

    async fn ask(&mut self, sql: &str) -> Result<Answer, Symptom> {
        self.connection.query(sql).await.map_err(|error| self.broken(&error))
    }

    /// What is refused is an error.
    async fn must(&mut self, sql: &str) -> Result<Answer, Symptom> {
        match self.ask(sql).await? {
            Answer::Refused(refusal) => Err(self.judge(&refusal)),
            answer @ (Answer::Value(_) | Answer::Null | Answer::Nothing) => Ok(answer),
        }
    }

    fn compare(&self, answer: &Answer, wanted: &str, asked: &str) -> Result<(), Symptom> {
        let given = match answer {
            Answer::Value(value) if is_same(value, wanted) => return Ok(()),
            Answer::Value(value) => symptom::quote(value, self.target),
            Answer::Null => "null".to_owned(),
            Answer::Nothing | Answer::Refused(_) => "nothing".to_owned(),
        };
        let problem = format!("{} did not answer {asked} with {wanted}, but with {given}", self.who);
        Err(symptom::symptom(SymptomKind::WrongAnswer, problem))
    }

    async fn read(&mut self) -> Result<Vec<u8>, Symptom> {
        self.connection.read().await.map_err(|error| self.broken(&error))
    }

    async fn write(&mut self, packet: &[u8]) -> Result<(), Symptom> {
        self.connection.write(packet).await.map_err(|error| self.broken(&error))
    }

    fn broken(&self, error: &io::Error) -> Symptom {
        symptom::of_talk(error, &self.who)
    }

    fn cannot_log_in(&self, plugin: &str) -> Symptom {
        let plugin = symptom::quote(plugin, self.target);
        let problem = format!(
            "cannot ask {}: it wants a login by `{plugin}`; only mysql_native_password and caching_sha2_password are \
             known here",
            self.who
        );
        symptom::symptom(SymptomKind::Unknown, problem)
    }

    fn judge(&self, refusal: &Refusal) -> Symptom {
        let who = &self.who;
        let said = symptom::quote(&refusal.message, self.target);
        // Class 28 is "invalid authorization specification", as in every SQL database.
        let is_login = refusal.state.starts_with("28")
            || refusal.code == code::HOST_NOT_PRIVILEGED
            || code::MUST_CHANGE_PASSWORD.contains(&refusal.code)
            || code::ACCOUNT_LOCKED.contains(&refusal.code);
        if is_login {
            symptom::symptom(SymptomKind::WrongCredentials, format!("{who} rejects the credentials: {said}"))
        } else if refusal.code == code::ENCRYPTION_REQUIRED {
            let problem = format!("cannot ask {who}: it wants an encrypted connection: {said}");
            symptom::symptom(SymptomKind::Unknown, problem)
        } else {
            symptom::symptom(SymptomKind::WrongAnswer, format!("{who} answered: {said}"))
        }
    }
}
