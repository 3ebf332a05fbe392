//! Answers, before they are bytes on a connection.

use crate::http::pieces::Pieces;
use crate::http::routes::Door;
use crate::problem::{Problem, ProblemKind};
use serde::Serialize;
use serde_json::json;

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) content_type: &'static str,
    pub(crate) body: Pieces,
    /// Bytes of the JSON before binary tensors.
    pub(crate) json_length: Option<usize>,
    pub(crate) retry_after: Option<u64>,
}

pub(crate) const JSON: &str = "application/json";

impl Reply {
    pub(crate) fn new(content_type: &'static str, body: impl Into<Pieces>) -> Self {
        Self { status: 200, content_type, body: body.into(), json_length: None, retry_after: None }
    }

    /// The value as JSON.
    pub(crate) fn json(value: &impl Serialize) -> Result<Self, Problem> {
        let body = serde_json::to_vec(value)
            .map_err(|error| Problem::new(ProblemKind::Failed, format!("the answer is no JSON: {error}")))?;
        Ok(Self::new(JSON, body))
    }

    pub(crate) fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// The problem in the form of a door.
    pub(crate) fn of(problem: &Problem, door: Door) -> Self {
        let message = problem.message.as_str();
        let (status, value) = match door {
            Door::V2 => (problem.status(), json!({ "error": message })),
            Door::OpenAi => {
                let status = problem.status();
                let kind = match status {
                    429 => "rate_limit_error",
                    400..500 => "invalid_request_error",
                    _ => "server_error",
                };
                (
                    status,
                    json!({ "error": { "message": message, "type": kind, "param": null, "code": status } }),
                )
            }
            Door::Tei => {
                let (status, kind) = tei(problem);
                (status, json!({ "error": message, "error_type": kind }))
            }
        };
        let mut reply = Self::new(JSON, value.to_string()).status(status);
        reply.retry_after = problem.retry_after;
        reply
    }
}

/// The status and the kind of text-embeddings-inference.
fn tei(problem: &Problem) -> (u16, &'static str) {
    match problem.kind {
        ProblemKind::Invalid => (422, "Validation"),
        ProblemKind::TooLarge => (413, "Validation"),
        ProblemKind::Overloaded | ProblemKind::TooMany => (429, "Overloaded"),
        ProblemKind::Failed => (424, "Backend"),
        ProblemKind::Unavailable => (503, "Unhealthy"),
        _ => (problem.status(), "Unavailable"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_door_has_its_form() {
        let problem = Problem::new(ProblemKind::Overloaded, "full").retry_after(3);
        let told = |door| {
            let reply = Reply::of(&problem, door);
            assert_eq!(reply.retry_after, Some(3));
            (reply.status, String::from_utf8(reply.body.whole().to_vec()).unwrap())
        };
        assert_eq!(told(Door::V2), (503, r#"{"error":"full"}"#.to_owned()));
        assert_eq!(told(Door::Tei), (429, r#"{"error":"full","error_type":"Overloaded"}"#.to_owned()));
        assert_eq!(
            told(Door::OpenAi),
            (503, r#"{"error":{"code":503,"message":"full","param":null,"type":"server_error"}}"#.to_owned())
        );
    }
}
