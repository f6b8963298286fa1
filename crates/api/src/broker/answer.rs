//! What a request is answered with (specification, "Service Broker Errors").

use axum::body::Body;
use axum::http::{Response, StatusCode, header};
use serde_json::{Value, json};

/// A status and a JSON body.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Value,
    /// After how many seconds it is worth asking again.
    pub(super) retry_after: Option<u32>,
}

/// A request's answer; an `Err` is one that says that nothing was done.
pub(super) type Answered = Result<Answer, Answer>;

impl Answer {
    pub(super) fn new(status: StatusCode, body: Value) -> Self {
        Self { status, body, retry_after: None }
    }

    pub(super) fn ok(body: Value) -> Self {
        Self::new(StatusCode::OK, body)
    }

    /// It is being done: the platform is to ask about `operation`.
    pub(super) fn accepted(operation: &str) -> Self {
        Self::new(StatusCode::ACCEPTED, json!({ "operation": operation }))
    }

    /// An error without a code of the specification's.
    pub(super) fn error(status: StatusCode, description: impl Into<String>) -> Self {
        Self::new(status, json!({ "description": description.into() }))
    }

    /// An error with a code of the specification's: `AsyncRequired` and its like.
    pub(super) fn coded(code: &str, description: impl Into<String>) -> Self {
        let body = json!({ "error": code, "description": description.into() });
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, body)
    }

    pub(super) fn bad(description: impl Into<String>) -> Self {
        Self::error(StatusCode::BAD_REQUEST, description)
    }

    pub(super) fn gone() -> Self {
        Self::new(StatusCode::GONE, json!({}))
    }

    pub(super) fn not_found(description: &str) -> Self {
        Self::error(StatusCode::NOT_FOUND, description)
    }

    pub(super) fn conflict(description: &str) -> Self {
        Self::error(StatusCode::CONFLICT, description)
    }

    pub(super) fn async_required() -> Self {
        Self::coded("AsyncRequired", "this takes its time: ask with accepts_incomplete=true")
    }

    pub(super) fn concurrent() -> Self {
        Self::coded("ConcurrencyError", "another operation on it is under way: ask again when that is over")
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.body.to_string()));
        *response.status_mut() = self.status;
        let json = header::HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}
