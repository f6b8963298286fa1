//! The keeper's survey, asked once for many who want it at the same time.
//!
//! Invariant: whoever asks gets a survey that began after the question, so that it shows what was done before it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ostler_keeper::protocol::Survey;
use tokio::sync::Mutex;

use super::keeper_port::{KeeperError, KeeperPort};

/// Shared by all who ask.
pub(super) struct Surveys {
    keeper: Arc<dyn KeeperPort>,
    asked: AtomicU64,
    answered: Mutex<Answered>,
}

struct Answered {
    /// All questions up to this one were asked before the survey began.
    up_to: u64,
    survey: Result<Arc<Survey>, KeeperError>,
}

impl Surveys {
    pub(super) fn new(keeper: Arc<dyn KeeperPort>) -> Self {
        let answered = Answered { up_to: 0, survey: Ok(Arc::default()) };
        Self { keeper, asked: AtomicU64::new(0), answered: Mutex::new(answered) }
    }

    /// What the keeper knows now.
    pub(super) async fn now(&self) -> Result<Arc<Survey>, KeeperError> {
        let question = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let mut answered = self.answered.lock().await;
        if answered.up_to < question {
            let up_to = self.asked.load(Ordering::SeqCst);
            let survey = self.keeper.survey().await.map(Arc::new);
            *answered = Answered { up_to, survey };
        }
        answered.survey.clone()
    }
}
