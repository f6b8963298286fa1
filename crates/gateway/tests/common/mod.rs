//! A keeper that does what a test says, and instances that answer.
#![allow(dead_code, unreachable_pub)] // each of the programs that include this uses its own part
#![allow(clippy::unwrap_used, clippy::panic)] // it is for tests

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ostler_gateway::messages::{Says, Table, Target, Tell};
use ostler_gateway::wire::SeqPacket;
use ostler_gateway::{Config, GatewayError, Limits, Patience, run_until};
use ostler_keeper::protocol::{Answer, Message, Order, Request, Role, ToGateway, VERSION};
use ostler_model::estate::Protocol;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Waits for what must come; only a broken gateway makes it fail.
pub async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), what).await.expect("it comes within a minute")
}

pub struct Gateway {
    stop: Option<oneshot::Sender<()>>,
    pub task: JoinHandle<Result<(), GatewayError>>,
}

impl Gateway {
    pub fn start(keeper_socket: &Path, limits: Limits) -> Self {
        let (stop, stopped) = oneshot::channel();
        let config = Config::at(keeper_socket);
        let task = tokio::spawn(run_until(config, limits, async { stopped.await.unwrap_or(()) }));
        Self { stop: Some(stop), task }
    }

    pub fn tell_to_stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }
}

/// Nobody is given up while a test waits for something.
pub const PATIENT: Patience =
    Patience { head: Duration::from_secs(600), body: Duration::from_secs(600), answer: Duration::from_secs(600) };
pub const ROOMY: Limits = Limits { connections_of_a_service: 10_000, connections: 10_000, patience: PATIENT };

/// The keeper's end of one connection, its hello already answered.
pub struct Keeper {
    pub wire: SeqPacket,
    path: PathBuf,
}

/// The keeper's socket, listened on.
pub struct KeeperSocket {
    socket: AsyncFd<OwnedFd>,
    path: PathBuf,
}

impl KeeperSocket {
    pub fn at(path: &Path) -> Self {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        net::bind(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
        net::listen(&socket, 8).unwrap();
        #[allow(deprecated)] // sound for an `OwnedFd`, and what replaces it is unsafe
        let socket = AsyncFd::new(socket).unwrap();
        Self { socket, path: path.to_owned() }
    }

    pub async fn accept(&self) -> SeqPacket {
        loop {
            let mut ready = within(self.socket.readable()).await.unwrap();
            match net::accept_with(self.socket.get_ref(), SocketFlags::CLOEXEC) {
                Ok(socket) => return SeqPacket::from_fd(socket).unwrap(),
                Err(_) => ready.clear_ready(),
            }
        }
    }

    /// Takes a connection and welcomes it as the keeper `name`.
    pub async fn welcome(&self, name: &str) -> Keeper {
        let keeper = Keeper { wire: self.accept().await, path: self.path.clone() };
        let hello = keeper.request().await.0;
        assert_eq!(hello.order, Order::Hello { version: VERSION, role: Role::Gateway });
        keeper.answer(&hello, Answer::Welcome { pid: 1, keeper: name.into(), build: "test".into() }).await;
        keeper
    }
}

impl Keeper {
    async fn any_request(&self) -> (Request, Vec<OwnedFd>) {
        let (bytes, descriptors) = within(self.wire.recv()).await.unwrap();
        (serde_json::from_slice(&bytes).unwrap(), descriptors)
    }

    /// The next one but that the gateway has come up, which is answered.
    pub async fn request(&self) -> (Request, Vec<OwnedFd>) {
        loop {
            let (request, descriptors) = self.any_request().await;
            if request.order != Order::Confirm {
                return (request, descriptors);
            }
            self.answer(&request, Answer::Done).await;
        }
    }

    pub async fn answer(&self, request: &Request, answer: Answer) {
        let message = Message::Answer { to: request.id, answer };
        self.wire.send(&serde_json::to_vec(&message).unwrap(), &[]).await.unwrap();
    }

    pub async fn tell(&self, message: ToGateway) {
        self.wire.send(&serde_json::to_vec(&Message::ToGateway(message)).unwrap(), &[]).await.unwrap();
    }

    pub async fn socket(&self, name: &str, address: SocketAddr, descriptor: impl AsFd) {
        let message = Message::ToGateway(ToGateway::Socket { name: name.into(), address });
        self.wire.send(&serde_json::to_vec(&message).unwrap(), &[descriptor.as_fd()]).await.unwrap();
    }

    /// Hands over a new listening socket, and keeps it too. Returns it with its address.
    pub async fn listen(&self, name: &str) -> (SocketAddr, std::net::TcpListener) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        self.socket(name, address, &listener).await;
        (address, listener)
    }

    pub async fn table(&self, service: &str, targets: &[SocketAddr], hold_ms: u64) {
        let body = serde_json::to_string(&table(service, targets, hold_ms)).unwrap();
        self.tell(ToGateway::Table { key: service.into(), body }).await;
    }

    /// [`Keeper::table`] for a service that speaks HTTP.
    pub async fn http_table(&self, service: &str, targets: &[SocketAddr], hold_ms: u64) {
        let table = Table { protocol: Protocol::Http, ..table(service, targets, hold_ms) };
        let body = serde_json::to_string(&table).unwrap();
        self.tell(ToGateway::Table { key: service.into(), body }).await;
    }

    pub async fn drain(&self, id: u64, service: &str, address: SocketAddr, within_ms: u64) {
        let tell = Tell::Drain { id, service: service.into(), address, within_ms };
        self.tell(ToGateway::Tell { body: serde_json::to_string(&tell).unwrap() }).await;
    }

    /// The next report.
    pub async fn says(&self) -> Says {
        let (request, _) = self.request().await;
        self.answer(&request, Answer::Done).await;
        let Order::GatewaySays { body } = request.order else { panic!("{:?} is no report", request.order) };
        serde_json::from_str(&body).unwrap()
    }

    /// The next report that is not on traffic.
    pub async fn says_of_importance(&self) -> Says {
        loop {
            match self.says().await {
                Says::Traffic { .. } | Says::Served { .. } | Says::Counted { .. } => {}
                says @ (Says::Drained { .. } | Says::Fenced { .. } | Says::Trouble { .. } | Says::SetAside { .. }) => {
                    return says;
                }
            }
        }
    }

    /// Waits until the gateway has taken in everything that was sent so far: messages are taken in order, and a drain
    /// of what nobody uses is answered at once.
    pub async fn taken_in(&self) {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
        self.drain(u64::MAX, "no-such-service", nowhere, 0).await;
        assert_eq!(self.says_of_importance().await, Says::Drained { id: u64::MAX, left: 0 });
    }

    /// Dies.
    pub fn die(self) {
        std::fs::remove_file(&self.path).unwrap();
    }
}

pub fn table(service: &str, targets: &[SocketAddr], hold_ms: u64) -> Table {
    let target = |(index, &address)| Target { instance: format!("{service}-{}", index + 1).parse().unwrap(), address };
    Table { targets: targets.iter().enumerate().map(target).collect(), hold_ms, ..Table::default() }
}

/// A keeper's socket, a gateway and its first keeper.
pub async fn start(limits: Limits) -> (tempfile::TempDir, KeeperSocket, Gateway, Keeper) {
    let home = tempfile::tempdir().unwrap();
    let socket = KeeperSocket::at(&home.path().join("keeper.sock"));
    let gateway = Gateway::start(&home.path().join("keeper.sock"), limits);
    let keeper = socket.welcome("first").await;
    keeper.tell(ToGateway::Synchronized).await;
    (home, socket, gateway, keeper)
}

/// An instance that sends its name, then everything back. Ends when dropped, with all its connections.
pub struct Instance {
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Instance {
    pub async fn start(name: u8) -> Self {
        Self::at(SocketAddr::from(([127, 0, 0, 1], 0)), name).await
    }

    pub async fn at(address: SocketAddr, name: u8) -> Self {
        Self::on(TcpListener::bind(address).await.unwrap(), name)
    }

    pub fn on(listener: TcpListener, name: u8) -> Self {
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                connections.spawn(async move {
                    stream.write_all(&[name]).await.unwrap();
                    let (mut from, mut to) = stream.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        Self { address, task }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An address that refuses, kept from others by a socket that is bound and does not listen.
pub fn refusing() -> (SocketAddr, tokio::net::TcpSocket) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    (socket.local_addr().unwrap(), socket)
}

/// Connects and reads the name of the instance.
pub async fn call(endpoint: SocketAddr) -> (TcpStream, u8) {
    let mut stream = within(TcpStream::connect(endpoint)).await.unwrap();
    let name = within(stream.read_u8()).await.unwrap();
    (stream, name)
}

/// One question and its echo on an open connection.
pub async fn round_trip(stream: &mut TcpStream) {
    within(stream.write_all(b"question")).await.unwrap();
    let mut answer = [0; 8];
    within(stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"question");
}
