//! The manager's line to the keeper. It brings the keeper back when it dies, and tells the next one everything that the
//! last one knew from the manager.
//!
//! Invariant: orders go out in the order in which they were given, across the keeper's deaths: what was not answered is
//! sent again, which every order allows. An order is on its way as soon as [`Keeper::ask`] returns, not when its answer
//! is awaited.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ostler_gateway::wire::SeqPacket;
use ostler_keeper::protocol::{Answer, Grant, Message, Order, Refusal, Report, Request, Role, VERSION};
use ostler_keeper::wire;
use ostler_model::time::Timestamp;
use tokio::sync::{mpsc, oneshot};

/// How long a keeper may take to come up before another attempt is made.
const KEEPER_UP_WITHIN: Duration = Duration::from_secs(5);

/// What the link tells the manager.
#[derive(Debug)]
pub enum News {
    /// The keeper reports something.
    Report {
        /// Its number, to be acknowledged, and the keeper that counted it.
        number: ReportNumber,
        /// When the keeper saw it.
        at: Timestamp,
        /// What.
        report: Report,
    },
    /// Another keeper holds the instances now than before.
    OtherKeeper,
    /// The keeper speaks another version of the protocol.
    OtherVersion(u32),
}

/// A report's number. Each keeper counts anew: acknowledging one keeper's numbers to another would lose reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReportNumber {
    keeper: u64,
    number: u64,
}

impl ReportNumber {
    /// The `number`-th report of the `keeper`-th keeper.
    pub fn new(keeper: u64, number: u64) -> Self {
        Self { keeper, number }
    }

    /// Its number among the reports of its keeper.
    pub fn number(self) -> u64 {
        self.number
    }
}

/// A handle on the link; cheap to clone.
#[derive(Clone)]
pub struct Keeper {
    orders: mpsc::UnboundedSender<Outgoing>,
    shared: Arc<Mutex<Told>>,
}

struct Outgoing {
    order: Order,
    answer: oneshot::Sender<(Answer, Option<OwnedFd>)>,
}

/// What every keeper has to be told, and duplicates of the sockets it holds.
#[derive(Default)]
struct Told {
    tables: BTreeMap<String, String>,
    sockets: BTreeMap<String, (SocketAddr, bool, Arc<OwnedFd>)>,
    reflexes: Option<Grant>,
    keep_up: Option<(bool, bool)>,
    /// This manager has come up.
    is_up: bool,
    /// Counts the keepers that were met.
    keeper: u64,
    /// The keeper was told to end: no other is to be started.
    ending: bool,
}

/// How the link reaches a keeper, and starts one.
pub struct LinkConfig {
    /// `keeper.sock`.
    pub socket: PathBuf,
    /// Starts a keeper process for this home, detached. Called when none answers.
    pub start: Box<dyn Fn() -> io::Result<()> + Send + Sync>,
    /// Where news go.
    pub news: Box<dyn Fn(News) + Send + Sync>,
}

impl Keeper {
    /// The link's handle and its task, which runs until the handle and all its clones are gone.
    pub fn link(config: LinkConfig) -> (Self, impl Future<Output = ()> + Send) {
        let (orders, outgoing) = mpsc::unbounded_channel();
        let shared = Arc::new(Mutex::new(Told::default()));
        let link =
            Link { config, outgoing, shared: shared.clone(), waiting: BTreeMap::new(), last_id: 0, keeper: None };
        (Self { orders, shared }, link.run())
    }

    /// Orders something. The answer comes when a keeper gives one, however often keepers die before that.
    pub fn ask(&self, order: Order) -> impl Future<Output = Answer> + Send + use<> {
        let answer = self.order(order);
        async move {
            match answer.await {
                Ok((answer, _)) => answer,
                Err(_) => std::future::pending().await, // the process is ending
            }
        }
    }

    fn order(&self, order: Order) -> oneshot::Receiver<(Answer, Option<OwnedFd>)> {
        let (answer, received) = oneshot::channel();
        // A link that is gone takes the process with it.
        let _ = self.orders.send(Outgoing { order, answer });
        received
    }

    /// Has the keeper hold a socket; a duplicate of it is kept here, so that the next keeper gets it back.
    ///
    /// # Errors
    /// If it cannot be listened on.
    pub fn listen(
        &self,
        name: String,
        address: SocketAddr,
        share_with_gateway: bool,
    ) -> impl Future<Output = Result<SocketAddr, Refusal>> + Send + use<> {
        let answer = self.order(Order::Listen { name: name.clone(), address, share_with_gateway });
        let shared = self.shared.clone();
        async move {
            match answer.await {
                Ok((Answer::Listening { address }, Some(socket))) => {
                    lock(&shared).sockets.insert(name, (address, share_with_gateway, Arc::new(socket)));
                    Ok(address)
                }
                Ok((Answer::Refused(refusal), _)) => Err(refusal),
                Ok((answer, _)) => Err(Refusal::NotUnderstood(format!("the keeper's answer: {answer:?}"))),
                Err(_) => std::future::pending().await,
            }
        }
    }

    /// Has the keeper close a socket.
    pub fn unlisten(&self, name: String) -> impl Future<Output = Answer> + Send + use<> {
        lock(&self.shared).sockets.remove(&name);
        self.ask(Order::Unlisten { name })
    }

    /// Tells the gateway something that it is to know for good; an empty body takes it back.
    pub fn table(&self, key: String, body: String) {
        let mut told = lock(&self.shared);
        if body.is_empty() {
            told.tables.remove(&key);
        } else {
            told.tables.insert(key.clone(), body.clone());
        }
        drop(told);
        drop(self.order(Order::GatewayTable { key, body }));
    }

    /// [`Keeper::table`], unless this is what it was told last.
    pub fn table_if_other(&self, key: String, body: String) {
        let is_other = lock(&self.shared).tables.get(&key) != Some(&body);
        if is_other {
            self.table(key, body);
        }
    }

    /// The estate-wide rate of reflexes.
    pub fn reflexes(&self, grant: Grant) {
        lock(&self.shared).reflexes = Some(grant);
        drop(self.order(Order::Reflexes(grant)));
    }

    /// Ends the keeper for good, with the gateway; resolves once it is on its way out.
    pub async fn shut_down(&self) {
        lock(&self.shared).ending = true;
        // Where the line broke before the answer came, the keeper has ended all the same.
        let _ = self.order(Order::Shutdown { leave_running: false }).await;
    }

    /// This manager has come up: it knows what it has to, and answers.
    pub fn is_up(&self) {
        lock(&self.shared).is_up = true;
        drop(self.order(Order::Confirm));
    }

    /// All reports up to this one are stored.
    pub fn acknowledge(&self, report: ReportNumber) {
        if lock(&self.shared).keeper == report.keeper {
            drop(self.order(Order::Acknowledge { report: report.number }));
        }
    }

    /// Which of ostler's processes the keeper keeps running.
    pub fn keep_up(&self, manager: bool, gateway: bool) -> impl Future<Output = Answer> + Send + use<> {
        lock(&self.shared).keep_up = Some((manager, gateway));
        self.ask(Order::KeepUp { manager, gateway })
    }
}

fn lock(told: &Mutex<Told>) -> std::sync::MutexGuard<'_, Told> {
    told.lock().unwrap_or_else(PoisonError::into_inner) // every change is one assignment: none is ever half-made
}

struct Link {
    config: LinkConfig,
    outgoing: mpsc::UnboundedReceiver<Outgoing>,
    shared: Arc<Mutex<Told>>,
    waiting: BTreeMap<u64, Outgoing>,
    last_id: u64,
    keeper: Option<String>,
}

impl Link {
    async fn run(mut self) {
        loop {
            let socket = match self.connect().await {
                Ok(socket) => socket,
                Err(_) => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            match self.serve(&socket).await {
                Ok(()) => return,
                Err(_) if lock(&self.shared).ending => return,
                Err(_) => continue, // the keeper is gone: find or start the next one
            }
        }
    }

    /// A connection on which hello was said and everything told.
    async fn connect(&mut self) -> io::Result<SeqPacket> {
        let socket = match SeqPacket::connect(&self.config.socket) {
            Ok(socket) => socket,
            Err(_) => {
                (self.config.start)()?;
                self.wait_for_keeper().await?
            }
        };
        send(&socket, &Request { id: 0, order: Order::Hello { version: VERSION, role: Role::Manager } }).await?;
        let other = loop {
            match receive(&socket).await?.0 {
                Message::Answer { answer: Answer::Welcome { keeper, .. }, .. } => {
                    let other = self.keeper.as_ref().is_some_and(|former| *former != keeper);
                    if self.keeper.as_ref() != Some(&keeper) {
                        lock(&self.shared).keeper += 1;
                        // What was meant for the former keeper's count must not reach this one.
                        self.waiting.retain(|_, outgoing| !matches!(outgoing.order, Order::Acknowledge { .. }));
                    }
                    self.keeper = Some(keeper);
                    break other;
                }
                Message::Answer { answer: Answer::Refused(Refusal::OtherVersion(version)), .. } => {
                    (self.config.news)(News::OtherVersion(version));
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    return Err(io::ErrorKind::Unsupported.into());
                }
                Message::Report { number, at, report } => self.report(number, at, report),
                Message::Answer { .. } | Message::ToGateway(_) => {}
            }
        };
        self.tell_all(&socket).await?;
        if other {
            (self.config.news)(News::OtherKeeper);
        }
        for (id, outgoing) in &self.waiting {
            send(&socket, &Request { id: *id, order: outgoing.order.clone() }).await?;
        }
        Ok(socket)
    }

    async fn wait_for_keeper(&self) -> io::Result<SeqPacket> {
        let deadline = tokio::time::Instant::now() + KEEPER_UP_WITHIN;
        let mut pause = Duration::from_micros(500);
        loop {
            match SeqPacket::connect(&self.config.socket) {
                Ok(socket) => return Ok(socket),
                Err(error) if tokio::time::Instant::now() > deadline => return Err(error),
                Err(_) => tokio::time::sleep(pause).await,
            }
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    /// A new keeper knows nothing: sockets come first, because instances and tables refer to them.
    async fn tell_all(&mut self, socket: &SeqPacket) -> io::Result<()> {
        let (orders, sockets) = {
            let told = lock(&self.shared);
            let mut orders: Vec<Order> = Vec::new();
            orders.extend(told.reflexes.map(Order::Reflexes));
            orders.extend(
                told.tables.iter().map(|(key, body)| Order::GatewayTable { key: key.clone(), body: body.clone() }),
            );
            orders.extend(told.keep_up.map(|(manager, gateway)| Order::KeepUp { manager, gateway }));
            orders.extend(told.is_up.then_some(Order::Confirm));
            let sockets: Vec<(String, SocketAddr, bool, Arc<OwnedFd>)> = told
                .sockets
                .iter()
                .map(|(name, (address, shared, socket))| (name.clone(), *address, *shared, socket.clone()))
                .collect();
            (orders, sockets)
        };
        for (name, address, share_with_gateway, descriptor) in sockets {
            let order = Order::Return { name, address, share_with_gateway };
            let text = serde_json::to_vec(&Request { id: self.next_id(), order })?;
            socket.send(&text, &[descriptor.as_fd()]).await?;
        }
        for order in orders {
            let id = self.next_id();
            send(socket, &Request { id, order }).await?;
        }
        Ok(())
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Carries orders and answers until the handles are gone (`Ok`) or the connection is (`Err`).
    async fn serve(&mut self, socket: &SeqPacket) -> io::Result<()> {
        loop {
            tokio::select! {
                outgoing = self.outgoing.recv() => {
                    let Some(outgoing) = outgoing else { return Ok(()) };
                    let request = Request { id: self.next_id(), order: outgoing.order.clone() };
                    let id = request.id;
                    self.waiting.insert(id, outgoing);
                    match send(socket, &request).await {
                        // Nothing is wrong with the line: the order is too long for it.
                        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                            let refusal = Refusal::NotUnderstood(error.to_string());
                            self.answer(id, Answer::Refused(refusal), None);
                        }
                        sent => sent?,
                    }
                }
                message = receive(socket) => match message? {
                    (Message::Answer { to, answer }, descriptor) => self.answer(to, answer, descriptor),
                    (Message::Report { number, at, report }, _) => self.report(number, at, report),
                    (Message::ToGateway(_), _) => {}
                },
            }
        }
    }

    fn report(&self, number: u64, at: Timestamp, report: Report) {
        let number = ReportNumber { keeper: lock(&self.shared).keeper, number };
        (self.config.news)(News::Report { number, at, report });
    }

    fn answer(&mut self, to: u64, answer: Answer, descriptor: Option<OwnedFd>) {
        if let Some(outgoing) = self.waiting.remove(&to) {
            // Whoever asked may have stopped waiting.
            let _ = outgoing.answer.send((answer, descriptor));
        }
    }
}

async fn send(socket: &SeqPacket, request: &Request) -> io::Result<()> {
    socket.send(&serde_json::to_vec(request)?, &[]).await
}

async fn receive(socket: &SeqPacket) -> io::Result<(Message, Option<OwnedFd>)> {
    let (text, descriptors) = socket.recv().await?;
    let (text, descriptor) = wire::unpack(&text, descriptors)?;
    Ok((serde_json::from_slice(&text)?, descriptor))
}
