//! What can go wrong for a visitor, and how it is told: as JSON to programs, as a page to people.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::database::DatabaseError;

/// Why a request was not fulfilled.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// There is no such thing.
    NotFound(&'static str),
    /// Fewer copies are left than were ordered.
    OutOfStock { title: String, left: i32 },
    /// The request makes no sense.
    Wrong { status: StatusCode, problem: String },
    /// Something the shop needs does not work now.
    Unavailable(&'static str),
}

impl Trouble {
    pub(crate) fn wrong(problem: impl Into<String>) -> Self {
        Self::Wrong { status: StatusCode::UNPROCESSABLE_ENTITY, problem: problem.into() }
    }

    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::OutOfStock { .. } => StatusCode::CONFLICT,
            Self::Wrong { status, .. } => *status,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// In one sentence.
    pub(crate) fn in_words(&self) -> String {
        match self {
            Self::NotFound(what) => format!("There is no such {what}."),
            Self::OutOfStock { title, left: 0 } => format!("“{title}” is out of stock."),
            Self::OutOfStock { title, left: 1 } => format!("Only one copy of “{title}” is left."),
            Self::OutOfStock { title, left } => format!("Only {left} copies of “{title}” are left."),
            Self::Wrong { problem, .. } => problem.clone(),
            Self::Unavailable(what) => format!("Our {what} is not available right now. Please try again in a moment."),
        }
    }
}

impl From<DatabaseError> for Trouble {
    fn from(error: DatabaseError) -> Self {
        crate::log(&format!("a request failed: {error}"));
        Self::Unavailable("database")
    }
}

/// Told to a program.
impl IntoResponse for Trouble {
    fn into_response(self) -> Response {
        (self.status(), Json(json!({ "error": self.in_words() }))).into_response()
    }
}
