//! A home in a folder of its own with a provider, and orders for it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ostler_model::binding::Credentials;
use ostler_model::catalog::{Limits, Placement};
use ostler_model::estate::{Listen, Parameters};
use ostler_model::ids::OfferingName;
use ostler_model::outcome::{Failure, Observation};
use ostler_providers::host::{Definitions, HostConfig, HostProvider};
use ostler_providers::{InstanceOrder, Progress, Provider, ReflexGrant};
use tempfile::TempDir;

use crate::keeper::MiniKeeper;

pub(crate) const GRANT: ReflexGrant = ReflexGrant { burst: 5, refill: Duration::from_secs(10) };
pub(crate) const GRACE: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct Machine {
    pub(crate) provider: HostProvider,
    pub(crate) keeper: Arc<MiniKeeper>,
    pub(crate) home: TempDir,
}

/// For calls that tell of no progress.
pub(crate) fn nobody() -> Progress {
    Arc::new(|_| {})
}

impl Machine {
    pub(crate) fn new() -> Self {
        Self::with(Definitions::builtin().unwrap())
    }

    pub(crate) fn with(definitions: Definitions) -> Self {
        // Not in $TMPDIR, which an unprivileged user may not be able to enter.
        let home = tempfile::Builder::new().prefix("ostler-test").tempdir_in("/tmp").unwrap();
        let keeper = Arc::new(MiniKeeper::default());
        let provider = Self::provider(home.path(), &keeper, definitions);
        Self { provider, keeper, home }
    }

    /// The provider of a manager that was started again.
    pub(crate) fn another_manager(&mut self) {
        self.provider = Self::provider(self.home.path(), &self.keeper, Definitions::builtin().unwrap());
    }

    fn provider(home: &Path, keeper: &Arc<MiniKeeper>, definitions: Definitions) -> HostProvider {
        HostProvider::new(HostConfig {
            home: home.to_owned(),
            definitions,
            keeper: keeper.clone(),
            ports: Default::default(),
        })
    }

    pub(crate) fn folder(&self, instance: &str) -> PathBuf {
        self.home.path().join("instances").join(instance)
    }

    pub(crate) async fn order(&self, instance: &str, offering: &str) -> InstanceOrder {
        let catalog = self.provider.catalog().await.unwrap();
        let name: OfferingName = offering.parse().unwrap();
        let offered = catalog.offerings.get(&name).unwrap_or_else(|| {
            panic!("{offering} is not installed on this machine; scripts/setup.sh installs what the tests need")
        });
        InstanceOrder {
            instance: instance.parse().unwrap(),
            estate: "shop".parse().unwrap(),
            placement: Placement {
                provider: "here".parse().unwrap(),
                offering: name,
                plan: offered.plans[0].name.clone(),
                version: offered.versions.last().cloned(),
                handle: None,
                maintenance: None,
            },
            limits: Limits::default(),
            listen: Listen::Port,
            run: Vec::new(),
            before: Vec::new(),
            env: BTreeMap::new(),
            folder: self.home.path().to_owned(),
            needs: BTreeMap::new(),
            secret: Credentials::default(),
            parameters: Parameters::default(),
            former: None,
            context: Parameters::default(),
            asks: Box::default(),
        }
    }

    /// Makes it, starts it, and waits until it accepts connections.
    pub(crate) async fn up(&self, order: &mut InstanceOrder) -> SocketAddr {
        order.secret = self.provider.provision(order, nobody()).await.unwrap();
        self.start(order).await
    }

    pub(crate) async fn start(&self, order: &InstanceOrder) -> SocketAddr {
        let running = self.provider.start(order, GRANT).await.unwrap().running;
        self.until("it accepts connections", order, || std::net::TcpStream::connect(running.address).is_ok()).await;
        running.address
    }

    /// Waits for `condition`, as long as the instance runs.
    async fn until(&self, what: &str, order: &InstanceOrder, condition: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition() {
            let observed = self.provider.observe(order).await.unwrap();
            let log = std::fs::read_to_string(
                self.folder(&order.instance.to_string()).join("log").join(format!("{}.log", order.instance)),
            );
            assert!(matches!(observed, Observation::Running(_)), "it ended: {log:?}");
            assert!(Instant::now() < deadline, "waited in vain until {what}: {log:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Repeats `attempt` until it succeeds.
pub(crate) async fn eventually<T, E: std::fmt::Debug>(mut attempt: impl AsyncFnMut() -> Result<T, E>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(error) => assert!(Instant::now() < deadline, "waited in vain: {error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Reads the arguments of all processes again and again until it is asked what it saw.
pub(crate) struct Watcher {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<BTreeSet<String>>>,
}

impl Watcher {
    pub(crate) fn new() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let asked = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut seen = BTreeSet::new();
            while !asked.load(Ordering::SeqCst) {
                for process in std::fs::read_dir("/proc").unwrap().flatten() {
                    if let Ok(line) = std::fs::read(process.path().join("cmdline")) {
                        seen.insert(String::from_utf8_lossy(&line).replace('\0', " "));
                    }
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            seen
        });
        Self { stop, thread: Some(thread) }
    }

    /// Everything that was seen, one line for each process.
    pub(crate) fn seen(mut self) -> String {
        self.stop.store(true, Ordering::SeqCst);
        let seen = self.thread.take().unwrap().join().unwrap();
        seen.into_iter().collect::<Vec<_>>().join("\n")
    }
}

/// Failures that were seen, to look for secrets in them.
#[derive(Default)]
pub(crate) struct Said(pub(crate) Mutex<String>);

impl Said {
    pub(crate) fn note(&self, failure: &Failure) {
        self.0.lock().unwrap().push_str(&format!("{failure:?}"));
    }
}

/// Every secret value in `credentials`.
pub(crate) fn secrets(credentials: &Credentials) -> Vec<String> {
    ["password", "uri"].iter().filter_map(|field| credentials.get(field)).map(str::to_owned).collect()
}

/// The mode of a file, without following a link.
pub(crate) fn mode(path: impl AsRef<Path>) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::symlink_metadata(path.as_ref()).unwrap().permissions().mode() & 0o7777
}
