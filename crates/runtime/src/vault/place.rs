//! The place where backups are kept: a folder, or a bucket.
//!
//! Invariant: under a backup's name there is all of it or nothing. What is written beside it comes last and goes first,
//! so that whoever finds that finds the backup. Every place but the home says in a file of its own whose it is: where
//! that file is missing, it is not the place (a disk that is not mounted), and nothing follows for the backups.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::buffered::BufReader;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Name;
use object_store::{ClientOptions, ObjectStore, ObjectStoreExt, RetryConfig, WriteMultipart};
use ostler_model::estate::Estate;
use ostler_model::estate::backups::{S3, Store};
use ostler_model::ids::EstateUuid;
use ostler_model::outcome::{BackupMade, Failure, FailureClass};
use ostler_providers::source;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::files::{Measure, Passing, READ_BYTES, blocking, io_failure, make_anew, make_folder, measure, room, write};
use super::manifest::{BYTES_MAX, Manifest};

/// In the home: what is kept there if nothing else is said, and what is passing.
const HOME_FOLDER: &str = "backups";
/// What is on its way into a folder, on the same disk as the folder.
const PASSING: &str = ".passing";
/// Whose a place is.
const MARKER: &str = "ostler-backups.json";
/// So much is sent in one piece; four of them are on their way at once, and so in memory.
const PART_BYTES: u64 = 8 * 1024 * 1024;
const PARTS_AT_ONCE: usize = 4;
/// S3 allows 10,000 pieces.
const PARTS_MAX: u64 = 9_000;
/// How long one request may take: a piece over a slow line.
const REQUEST_TIME: Duration = Duration::from_secs(300);
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// A request that fails is repeated so often, and for so long; then the whole is tried again later.
const RETRIES: usize = 4;
const RETRY_TIME: Duration = Duration::from_secs(120);
/// On a disk that holds what is fetched, so much is left free.
const ROOM_LEFT: u64 = 16 * 1024 * 1024;

/// Why a backup could not be had.
#[derive(Debug)]
pub(super) enum Fault {
    /// It is of no use, whatever is done.
    Bad(String),
    /// It is not known what it is worth.
    Failed(Failure),
}

/// A backup's file as it may be read.
#[derive(Debug)]
pub(crate) enum Fetched {
    /// Where it is kept.
    There(PathBuf),
    /// A copy.
    Copy(Passing),
}

impl Fetched {
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::There(path) => path,
            Self::Copy(copy) => &copy.0,
        }
    }
}

/// Whose places are.
#[derive(Clone, Debug)]
pub(super) struct Whose {
    /// The home.
    pub(super) home: PathBuf,
    pub(super) estate: Arc<Estate>,
    pub(super) uuid: Option<EstateUuid>,
    /// Where backups are known to be.
    pub(super) places: BTreeSet<String>,
}

/// Folders whose leftovers were taken away since this process began.
pub(super) type Tidied = Arc<Mutex<BTreeSet<PathBuf>>>;

/// A place that is open.
pub(super) struct Place {
    store: Kind,
    /// As [`BackupMade::place`].
    shown: Option<String>,
    /// What the names of everything begin with.
    prefix: Name,
    passing: PathBuf,
    /// What must not be shown.
    hidden: Vec<String>,
}

enum Kind {
    Folder { store: LocalFileSystem, root: PathBuf },
    Bucket(Arc<AmazonS3>),
}

#[derive(Serialize, Deserialize)]
struct Marker {
    format: u32,
    estate: String,
    id: Option<EstateUuid>,
}

impl Place {
    /// The place that is declared.
    pub(super) async fn declared(whose: &Whose, tidied: &Tidied) -> Result<Self, Failure> {
        let place = Self::open(whose, &whose.estate.backups.to, tidied).await?;
        // Where backups were put before, nobody begins anew: the disk that they are on is not there.
        match place.shown.as_ref().is_some_and(|shown| whose.places.contains(shown)) {
            true => place.is_whose(whose).await?,
            false => place.claim(whose).await?,
        }
        Ok(place)
    }

    /// The home, whatever is declared.
    pub(super) async fn home(whose: &Whose, tidied: &Tidied) -> Result<Self, Failure> {
        Self::open(whose, &Store::Home, tidied).await
    }

    /// The place where a backup is, wherever backups are kept by now.
    pub(super) async fn of(whose: &Whose, made: &BackupMade, tidied: &Tidied) -> Result<Self, Failure> {
        let Some(shown) = &made.place else { return Self::open(whose, &Store::Home, tidied).await };
        let declared = &whose.estate.backups.to;
        if shown_of(declared, &whose.estate).as_ref() == Some(shown) {
            let place = Self::open(whose, declared, tidied).await?;
            place.is_whose(whose).await?;
            return Ok(place);
        }
        if shown.starts_with("s3://") {
            return Err(needs_person(
                format!("the backup {} is in {shown}, and the estate file does not say how to get there", made.name),
                format!("declare `[backups]` with `to = \"{shown}\"`, as it was"),
            ));
        }
        let root = PathBuf::from(shown);
        let place = Self::folder(root, Some(shown.clone()), tidied).await?;
        place.is_whose(whose).await?;
        Ok(place)
    }

    /// Looks whether the place that is declared could be used, and changes nothing.
    pub(super) async fn look(whose: &Whose) -> Result<(), Failure> {
        match &whose.estate.backups.to {
            Store::Home => Ok(()),
            Store::Folder(folder) => may_write(folder).map_err(|why| {
                needs_person(
                    format!("backups cannot be kept in {}: {why}", folder.display()),
                    "make the folder, let ostler's user write to it, or choose another one",
                )
            }),
            Store::S3(s3) => {
                let shown = shown_of(&whose.estate.backups.to, &whose.estate);
                let place = Self::bucket_at(whose, s3, shown, PathBuf::new()).await?;
                match place.is_marked(whose).await {
                    Err(failure) if failure.class == FailureClass::NeedsPerson => Err(failure),
                    Ok(true) | Err(_) => Ok(()),
                    // Nothing is there yet; whether the bucket is, only a list tells, which this key may not be allowed.
                    Ok(false) => match place.store().list_with_delimiter(Some(&place.prefix)).await {
                        Err(error) if is_no_bucket(&error) => {
                            Err(place.failed(&format!("use {} for backups", place.words()), &error))
                        }
                        Ok(_) | Err(_) => Ok(()),
                    },
                }
            }
        }
    }

    async fn open(whose: &Whose, to: &Store, tidied: &Tidied) -> Result<Self, Failure> {
        let shown = shown_of(to, &whose.estate);
        match to {
            Store::Home => Self::folder(whose.home.join(HOME_FOLDER), None, tidied).await,
            Store::Folder(folder) => Self::folder(folder.join(whose.estate.name.as_str()), shown, tidied).await,
            Store::S3(s3) => Self::bucket(whose, s3, shown, tidied).await,
        }
    }

    async fn folder(root: PathBuf, shown: Option<String>, tidied: &Tidied) -> Result<Self, Failure> {
        let passing = root.join(PASSING);
        let failed = |error: io::Error| io_failure("use the folder", &root, &error);
        tidy(&passing, tidied).await.map_err(failed)?;
        let store = LocalFileSystem::new_with_prefix(&root).map_err(|error| failed(io::Error::other(error)))?;
        let store = Kind::Folder { store: store.with_fsync(true), root };
        Ok(Self { store, shown, prefix: Name::default(), passing, hidden: Vec::new() })
    }

    async fn bucket(whose: &Whose, s3: &S3, shown: Option<String>, tidied: &Tidied) -> Result<Self, Failure> {
        let passing = whose.home.join(HOME_FOLDER).join(PASSING);
        tidy(&passing, tidied).await.map_err(|error| io_failure("use the folder", &passing, &error))?;
        Self::bucket_at(whose, s3, shown, passing).await
    }

    async fn bucket_at(whose: &Whose, s3: &S3, shown: Option<String>, passing: PathBuf) -> Result<Self, Failure> {
        let mut found = Vec::new();
        for (what, from) in [("key_id", &s3.credentials.key_id), ("secret_key", &s3.credentials.secret_key)] {
            let secret = source::find(from, &whose.estate.folder).await.map_err(|why| {
                needs_person(
                    format!("cannot find the `{what}` for the backups: {why}"),
                    "correct `credentials` of `[backups]`, or give what they name",
                )
            })?;
            found.push(secret.expose().to_owned());
        }
        let options = ClientOptions::new().with_timeout(REQUEST_TIME).with_connect_timeout(CONNECT_TIME);
        // Whoever may be spoken to without encryption was checked when the estate file was read.
        let plain = s3.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"));
        let retry = RetryConfig { max_retries: RETRIES, retry_timeout: RETRY_TIME, ..RetryConfig::default() };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&s3.bucket)
            .with_region(&s3.region)
            .with_access_key_id(&found[0])
            .with_secret_access_key(&found[1])
            .with_client_options(options.with_allow_http(plain))
            .with_retry(retry);
        if let Some(endpoint) = &s3.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        let store = builder.build().map_err(|error| {
            needs_person(format!("cannot use the backups' bucket: {error}"), "correct `[backups]` in the estate file")
        })?;
        let prefix = Name::from(format!("{}/{}", s3.prefix, whose.estate.name));
        Ok(Self { store: Kind::Bucket(Arc::new(store)), shown, prefix, passing, hidden: found })
    }

    /// As [`BackupMade::place`].
    pub(super) fn shown(&self) -> Option<String> {
        self.shown.clone()
    }

    /// A name for a file that is to be put here.
    pub(super) fn passing(&self) -> Result<Passing, Failure> {
        Passing::new(&self.passing).map_err(|error| io_failure("use the folder", &self.passing, &error))
    }

    /// What is written beside a backup; `None` if there is no such backup.
    pub(super) async fn manifest(
        &self,
        service: &str,
        name: &str,
    ) -> Result<Option<Result<Manifest, String>>, Failure> {
        let Some(text) = self.read(&self.name(service, &beside(name))).await? else { return Ok(None) };
        Ok(Some(Manifest::from_json(&text)))
    }

    /// Puts a file here under the name of the backup, and then what is written beside it.
    pub(super) async fn put(&self, file: Passing, manifest: &Manifest) -> Result<(), Failure> {
        let (service, name) = (&manifest.service, &manifest.made.name);
        let text = manifest.to_json();
        let what = format!("put the backup {name} into {}", self.words());
        match &self.store {
            Kind::Folder { store, root } => {
                let folder = root.join(service);
                make_folder(&folder).map_err(|error| io_failure("make the folder", &folder, &error))?;
                let put = async |file: &Passing, name: &str| {
                    let from = Name::from(PASSING).join(file.name());
                    store.rename(&from, &self.name(service, name)).await.map_err(|error| self.failed(&what, &error))
                };
                put(&file, name).await?;
                let written = self.passing()?;
                write(&written.0, &text).map_err(|error| io_failure("write", &written.0, &error))?;
                put(&written, &beside(name)).await
            }
            Kind::Bucket(store) => {
                let failed = |error: &object_store::Error| self.failed(&what, error);
                let object = self.name(service, name);
                send(store, &file, manifest.made.bytes, &object).await.map_err(|error| match error {
                    Sent::Io(error) => io_failure("read", &file.0, &error),
                    Sent::Store(error) => failed(&error),
                })?;
                let there = store.head(&object).await.map_err(|error| failed(&error))?;
                if there.size != manifest.made.bytes {
                    return Err(temporary(
                        format!("cannot {what}: of {} bytes {} arrived", manifest.made.bytes, there.size),
                        "nothing, unless it lasts: it is tried again",
                    ));
                }
                let put = store.put(&self.name(service, &beside(name)), text.into()).await;
                put.map(drop).map_err(|error| failed(&error))
            }
        }
    }

    /// The backup's file, which is what was made.
    pub(super) async fn fetch(&self, service: &str, made: &BackupMade) -> Result<Fetched, Fault> {
        let what = format!("fetch the backup {} from {}", made.name, self.words());
        let object = self.name(service, &made.name);
        let gone = || Fault::Bad(format!("it is not in {} any more", self.words()));
        let (file, bytes, sha256) = match &self.store {
            Kind::Folder { root, .. } => {
                let path = root.join(service).join(&made.name);
                let (bytes, sha256) = measure(path.clone()).await.map_err(|error| match error.kind() {
                    io::ErrorKind::NotFound => gone(),
                    _ => Fault::Failed(io_failure("read", &path, &error)),
                })?;
                (Fetched::There(path), bytes, sha256)
            }
            Kind::Bucket(store) => {
                let free = room(&self.passing);
                if free < made.bytes.saturating_add(ROOM_LEFT) {
                    return Err(Fault::Failed(temporary(
                        format!("cannot {what}: it has {} bytes, and there is room for {free}", made.bytes),
                        format!("make room on the disk that holds {}", self.passing.display()),
                    )));
                }
                let there = store.head(&object).await.map_err(|error| match error {
                    object_store::Error::NotFound { .. } => gone(),
                    other => Fault::Failed(self.failed(&what, &other)),
                })?;
                let file = self.passing().map_err(Fault::Failed)?;
                // Not more than was made is taken from whoever keeps it.
                let reader = BufReader::with_capacity(store.clone(), &there, PART_BYTES as usize);
                let taken = receive(reader.take(made.bytes.saturating_add(1)), &file).await;
                let (bytes, sha256) = taken.map_err(|error| {
                    let detail = format!("cannot {what}: {}", self.redact(&error.to_string()));
                    Fault::Failed(temporary(detail, "nothing, unless it lasts: it is tried again"))
                })?;
                (Fetched::Copy(file), bytes, sha256)
            }
        };
        if (bytes, &sha256) != (made.bytes, &made.sha256) {
            return Err(Fault::Bad(format!(
                "it is damaged: it has {bytes} bytes with the digest {sha256}, and was made with {} bytes and {}",
                made.bytes, made.sha256
            )));
        }
        Ok(file)
    }

    /// Deletes a backup. That it is not there is as good.
    pub(super) async fn delete(&self, service: &str, name: &str) -> Result<(), Failure> {
        let what = format!("delete the backup {name} in {}", self.words());
        for name in [beside(name), name.to_owned()] {
            match self.store().delete(&self.name(service, &name)).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(self.failed(&what, &error)),
            }
        }
        Ok(())
    }

    /// Says whose this place is, where nobody has said it yet.
    async fn claim(&self, whose: &Whose) -> Result<(), Failure> {
        if self.shown.is_none() || self.is_marked(whose).await? {
            return Ok(());
        }
        let marker = Marker { format: 1, estate: whose.estate.name.to_string(), id: whose.uuid };
        let text = serde_json::to_vec_pretty(&marker).expect("a marker has only string keys");
        let what = format!("use {} for backups", self.words());
        let name = self.prefix.clone().join(MARKER);
        match &self.store {
            Kind::Folder { store, .. } => {
                let written = self.passing()?;
                write(&written.0, &text).map_err(|error| io_failure("write", &written.0, &error))?;
                let from = Name::from(PASSING).join(written.name());
                store.rename(&from, &name).await.map_err(|error| self.failed(&what, &error))
            }
            Kind::Bucket(store) => {
                store.put(&name, text.into()).await.map(drop).map_err(|error| self.failed(&what, &error))
            }
        }
    }

    /// Makes sure that this is the place where this estate's backups were put.
    async fn is_whose(&self, whose: &Whose) -> Result<(), Failure> {
        if self.shown.is_none() || self.is_marked(whose).await? {
            return Ok(());
        }
        Err(temporary(
            format!("{} is not what it was: {MARKER} is not there", self.words()),
            "mount the disk that holds the backups, or bring back the bucket that they were in",
        ))
    }

    async fn is_marked(&self, whose: &Whose) -> Result<bool, Failure> {
        let Some(text) = self.read(&self.prefix.clone().join(MARKER)).await? else { return Ok(false) };
        match serde_json::from_slice::<Marker>(&text) {
            Ok(marker) if marker.id.is_none() || whose.uuid.is_none() || marker.id == whose.uuid => Ok(true),
            Ok(_) | Err(_) => Err(needs_person(
                format!("{} holds the backups of another estate", self.words()),
                "keep the backups of two estates in two places: change `to` of `[backups]`",
            )),
        }
    }

    async fn read(&self, name: &Name) -> Result<Option<Vec<u8>>, Failure> {
        let what = format!("read {name} in {}", self.words());
        let failed = |error: &object_store::Error| self.failed(&what, error);
        let found = match self.store().get(name).await {
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            found => found.map_err(|error| failed(&error))?,
        };
        if found.meta.size > BYTES_MAX {
            return Err(needs_person(
                format!("cannot {what}: it has {} bytes, and ostler writes no such files", found.meta.size),
                "look at it, and take it away if it is not ostler's",
            ));
        }
        Ok(Some(found.bytes().await.map_err(|error| failed(&error))?.to_vec()))
    }

    fn store(&self) -> &dyn ObjectStore {
        match &self.store {
            Kind::Folder { store, .. } => store,
            Kind::Bucket(store) => &**store,
        }
    }

    fn name(&self, service: &str, name: &str) -> Name {
        self.prefix.clone().join(service).join(name)
    }

    fn words(&self) -> String {
        match (&self.shown, &self.store) {
            (Some(shown), _) => shown.clone(),
            (None, Kind::Folder { root, .. }) => root.display().to_string(),
            (None, Kind::Bucket(_)) => "the bucket".to_owned(),
        }
    }

    fn failed(&self, what: &str, error: &object_store::Error) -> Failure {
        let detail = format!("cannot {what}: {}", short(&self.redact(&with_causes(error))));
        match error {
            object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
                needs_person(detail, "give the access key of `[backups]` the right to do this, or correct it")
            }
            _ if is_no_bucket(error) => needs_person(detail, "make the bucket, or correct `to` of `[backups]`"),
            _ => temporary(detail, "nothing, unless it lasts: it is tried again"),
        }
    }

    fn redact(&self, text: &str) -> String {
        self.hidden.iter().fold(text.to_owned(), |text, hidden| text.replace(hidden.as_str(), "(secret)"))
    }
}

enum Sent {
    Io(io::Error),
    Store(object_store::Error),
}

/// Sends a file in pieces. It appears under its name once all of it has arrived.
async fn send(store: &AmazonS3, file: &Passing, bytes: u64, to: &Name) -> Result<(), Sent> {
    let mut file = tokio::fs::File::open(&file.0).await.map_err(Sent::Io)?;
    if bytes <= PART_BYTES {
        let mut all = Vec::new();
        file.read_to_end(&mut all).await.map_err(Sent::Io)?;
        return store.put(to, all.into()).await.map(drop).map_err(Sent::Store);
    }
    let part = usize::try_from(PART_BYTES.max(bytes.div_ceil(PARTS_MAX))).unwrap_or(usize::MAX);
    let upload = store.put_multipart(to).await.map_err(Sent::Store)?;
    let mut upload = WriteMultipart::new_with_chunk_size(upload, part);
    let mut buffer = vec![0_u8; READ_BYTES];
    let outcome = loop {
        match file.read(&mut buffer).await {
            Ok(0) => break Ok(()),
            Ok(count) => {
                if let Err(error) = upload.wait_for_capacity(PARTS_AT_ONCE).await {
                    break Err(Sent::Store(error));
                }
                upload.write(&buffer[..count]);
            }
            Err(error) => break Err(Sent::Io(error)),
        }
    };
    match outcome {
        Ok(()) => upload.finish().await.map(drop).map_err(Sent::Store),
        Err(error) => {
            let _ = upload.abort().await; // whatever is left of it nobody can see
            Err(error)
        }
    }
}

/// Writes what `reader` gives into the file, and says what it was.
async fn receive(mut reader: impl tokio::io::AsyncRead + Unpin, to: &Passing) -> io::Result<(u64, String)> {
    let mut file = tokio::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&to.0).await?;
    let (mut measure, mut buffer) = (Measure::default(), vec![0_u8; READ_BYTES]);
    loop {
        let count = reader.read(&mut buffer).await?;
        if count == 0 {
            file.flush().await?;
            return Ok((measure.bytes, measure.sha256()));
        }
        measure.take(&buffer[..count]);
        file.write_all(&buffer[..count]).await?;
    }
}

/// What a killed ostler has left on its way is taken away once, before anything else is on its way.
async fn tidy(passing: &Path, tidied: &Tidied) -> io::Result<()> {
    let (passing, tidied) = (passing.to_owned(), tidied.clone());
    blocking(move || {
        let mut tidied = tidied.lock().unwrap_or_else(PoisonError::into_inner);
        if tidied.contains(&passing) {
            return make_folder(&passing);
        }
        make_anew(&passing)?;
        tidied.insert(passing);
        Ok(())
    })
    .await
}

/// Objects that are not there are met where they are looked for; otherwise it is the bucket itself. Lists are not told
/// from other failures but by the word that every server has for it.
fn is_no_bucket(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::NotFound { .. }) || with_causes(error).contains("NoSuchBucket")
}

/// Why this user could not write to the folder, or make it.
fn may_write(folder: &Path) -> Result<(), String> {
    let there = folder.ancestors().find(|above| above.exists()).unwrap_or(folder);
    if !there.is_dir() {
        return Err(format!("{} is no folder", there.display()));
    }
    rustix::fs::access(there, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)
        .map_err(|error| format!("{}: {}", there.display(), io::Error::from(error)))
}

/// As [`BackupMade::place`].
fn shown_of(to: &Store, estate: &Estate) -> Option<String> {
    match to {
        Store::Home => None,
        Store::Folder(folder) => Some(folder.join(estate.name.as_str()).display().to_string()),
        Store::S3(_) => Some(format!("{to}/{}", estate.name)),
    }
}

fn beside(name: &str) -> String {
    format!("{name}.json")
}

fn with_causes(error: &object_store::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(&format!(": {cause_text}"));
        }
        source = cause.source();
    }
    text
}

/// What others answer can be long.
fn short(text: &str) -> String {
    const CHARS_MAX: usize = 600;
    let one_line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match one_line.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{} […]", &one_line[..end]),
        None => one_line,
    }
}

pub(super) fn temporary(detail: impl Into<String>, remedy: impl Into<String>) -> Failure {
    Failure { class: FailureClass::Temporary, detail: detail.into(), remedy: remedy.into() }
}

pub(super) fn needs_person(detail: impl Into<String>, remedy: impl Into<String>) -> Failure {
    Failure { class: FailureClass::NeedsPerson, detail: detail.into(), remedy: remedy.into() }
}
