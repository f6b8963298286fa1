//! Signing as time goes by: the tree of an existing journal is made in the background, a checkpoint is signed as often as
//! declared while there are new facts, at the end of the process, and when somebody asks; and the witness is handed each.
//!
//! Invariant: whatever fails here holds up nothing else: it is told, and tried again. Killed at any step, the next start
//! goes on from what is kept.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ostler_journal::{Built, Journal, Kept, SealedChange, Sqlite};
use ostler_manager::{Event, Knowledge};
use ostler_model::ids::{Position, SecretId};
use tokio::task::spawn_blocking;

use super::{NotSigned, SINCE, Signer, Which};
use crate::daemon::{Loop, with_causes};
use crate::home::Home;
use crate::proof;

/// What failed is tried again after so long.
const AGAIN: Duration = Duration::from_secs(60);
/// What only a person can mend, is looked at again after so long.
const LATER: Duration = Duration::from_secs(3600);
/// Making a tree is told in the log if it takes this long, and then every so often.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// What of the record this process shares: whoever signs waits for whoever is just signing.
#[derive(Clone, Debug, Default)]
pub struct Signing {
    signing: Arc<tokio::sync::Mutex<()>>,
    trouble: Arc<Mutex<Option<String>>>,
}

impl Signing {
    /// What is wrong with it, as a sentence.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn tell(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    /// Signs the facts as they are now: the text of the checkpoint, and the key that signed it. The witness is handed it,
    /// too; if that fails, the checkpoint is there all the same, and the trouble is told.
    ///
    /// # Errors
    /// Why it was not signed.
    pub async fn sign(&self, handle: &Loop, home: &Home) -> Result<String, NotSigned> {
        let _alone = self.signing.lock().await;
        let (signer, head) = handle
            .ask(|engine, _| {
                let signer = Signer::of(engine.journal(), engine.knowledge());
                (signer, engine.journal().head())
            })
            .await;
        let (signer, head) = (signer?, head.ok_or(NotSigned::NoTree)?);
        let home = home.folder().to_owned();
        let done = spawn_blocking(move || {
            let text = signer.sign(head, &home)?;
            Ok::<_, NotSigned>((text, signer.hand_over(&home)))
        });
        let (text, handed) = done.await.expect("signing does not panic")?;
        self.tell(handed.err().map(|error| {
            format!("the witness was not handed the newest checkpoint: {}; {}", with_causes(&error), error.remedy())
        }));
        Ok(text)
    }
}

/// The key of an estate that has none yet, to be sealed together with a fact of its start.
pub(crate) fn missing_key(journal: &Sqlite) -> Vec<SealedChange> {
    match journal.secret(&SecretId::of_drills()) {
        Ok(None) => proof::new_key().map(|key| SealedChange::set(SecretId::of_drills(), key)).into_iter().collect(),
        Ok(Some(_)) | Err(_) => Vec::new(), // one that is damaged is told by who needs it
    }
}

/// Keeps the record, for ever. With `accepts_loss` a person let ostler go on although facts are missing.
pub(crate) async fn follow(
    handle: Loop,
    home: Home,
    record: Signing,
    accepts_loss: bool,
    note: Arc<dyn Fn(String) + Send + Sync>,
) {
    let (mut accepts_loss, mut changes) = (accepts_loss, handle.changes());
    loop {
        changes.mark_unchanged();
        match prepare(&handle, &home, accepts_loss, &note).await {
            Ok(()) => {}
            Err(NotSigned::NoEstate | NotSigned::NoKey) => {
                // Whatever comes next is a change.
                if changes.changed().await.is_err() {
                    return;
                }
                continue;
            }
            Err(error) => {
                tell(&record, &error, &note);
                // What does not fit is not mended by itself, and to look again takes reading all facts.
                let is_final = matches!(error, NotSigned::Differs { .. });
                tokio::time::sleep(if is_final { LATER } else { AGAIN }).await;
                continue;
            }
        }
        accepts_loss = false;
        loop {
            let every = handle.known(|known| known.estate.as_ref().map(|estate| estate.audit.every.get())).await;
            match record.sign(&handle, &home).await {
                Ok(_) => tokio::time::sleep(every.unwrap_or(AGAIN)).await,
                Err(NotSigned::NoTree) => break,
                Err(error) => {
                    tell(&record, &error, &note);
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }
}

fn tell(record: &Signing, error: &NotSigned, note: &Arc<dyn Fn(String) + Send + Sync>) {
    let trouble = format!("what is recorded is not signed: {}; {}", with_causes(error), error.remedy());
    if record.trouble().as_ref() != Some(&trouble) {
        note(trouble.clone());
        record.tell(Some(trouble));
    }
}

/// Makes the tree, and has the journal keep it.
async fn prepare(
    handle: &Loop,
    home: &Home,
    accepts_loss: bool,
    note: &Arc<dyn Fn(String) + Send + Sync>,
) -> Result<(), NotSigned> {
    let signer = handle.ask(|engine, _| Signer::of(engine.journal(), engine.knowledge())).await?;
    let (folder, told, former) = (home.folder().to_owned(), note.clone(), signer.since());
    let built = spawn_blocking(move || build(&signer, &folder, &*told)).await.expect("hashing does not panic")?;
    if let Some(differs) = built.differs {
        let agrees = built.agrees.map_or(0, |head| head.size);
        if !accepts_loss {
            return Err(NotSigned::Differs { differs, agrees: Some(agrees) });
        }
        // Each loss has an origin of its own; what is the same up to a fact is so up to the one before, too.
        let agrees = if former == Some(agrees) { agrees.saturating_sub(1) } else { agrees };
        note(format!("the facts after {agrees} are not those that were signed, and a person accepted that"));
        let kept =
            handle.ask(move |engine, _| engine.journal_mut().meta_set(SINCE, agrees.to_string().as_bytes())).await;
        kept.map_err(|error| NotSigned::Keep { path: folder_of(home), cause: std::io::Error::other(error) })?;
        handle.tell(Event::LossAccepted { acknowledged: Some(Position(differs.size)) });
    }
    let kept = handle.ask(move |engine, _| engine.journal_mut().keep_tree(built.tree)).await;
    Ok(kept?)
}

fn folder_of(home: &Home) -> String {
    home.folder().display().to_string()
}

/// The tree up to where the loop's thread has little left to add.
fn build(signer: &Signer, home: &Path, note: &(dyn Fn(String) + Send + Sync)) -> Result<Built, NotSigned> {
    let mut told = std::time::Instant::now();
    let mut said = |done: u64, of: u64| {
        if told.elapsed() >= TOLD_EVERY {
            told = std::time::Instant::now();
            note(format!("the tree over all facts is being made: {done} of {of}"));
        }
    };
    let mut built = Kept::build(home, &signer.heads(home, Which::Newest)?, &mut said)?;
    if built.differs.is_some() {
        // Which of them all the facts agree with tells from where on they are others.
        built = Kept::build(home, &signer.heads(home, Which::All)?, &mut said)?;
    }
    built.tree.go_on(home)?;
    Ok(built)
}

/// Signs at the end of the process, if there is a tree. What fails is tried again at the next start.
pub(crate) fn at_end(journal: &Sqlite, known: &Knowledge, home: &Path) -> Result<(), NotSigned> {
    let Some(head) = journal.head() else { return Ok(()) };
    let signer = Signer::of(journal, known)?;
    signer.sign(head, home)?;
    signer.hand_over(home).map(drop)
}

/// Makes the tree of a journal that no manager has open, and signs it: the text of the checkpoint. `said` is called with
/// how far it is.
///
/// # Errors
/// Why it was not signed.
pub fn sign_at_rest(
    journal: &Sqlite,
    known: &Knowledge,
    home: &Path,
    said: &mut dyn FnMut(u64, u64),
) -> Result<String, NotSigned> {
    let signer = Signer::of(journal, known)?;
    let built = Kept::build(home, &signer.heads(home, Which::Newest)?, said)?;
    if let Some(differs) = built.differs {
        return Err(NotSigned::Differs { differs, agrees: None });
    }
    let text = signer.sign(built.tree.head(), home)?;
    signer.hand_over(home)?;
    Ok(text)
}
