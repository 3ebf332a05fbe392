//! Problems as gRPC's codes.

use crate::problem::{Problem, ProblemKind};
use std::time::Duration;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

pub(crate) fn of(problem: &Problem) -> Status {
    let code = match problem.kind {
        ProblemKind::Invalid => Code::InvalidArgument,
        ProblemKind::NotFound => Code::NotFound,
        ProblemKind::NoCredentials => Code::Unauthenticated,
        ProblemKind::Forbidden => Code::PermissionDenied,
        ProblemKind::TooLarge | ProblemKind::TooMany => Code::ResourceExhausted,
        ProblemKind::TooSlow => Code::DeadlineExceeded,
        ProblemKind::Overloaded | ProblemKind::Expired | ProblemKind::Unavailable => Code::Unavailable,
        ProblemKind::Cancelled => Code::Cancelled,
        ProblemKind::Unsupported | ProblemKind::Method => Code::Unimplemented,
        ProblemKind::Failed => Code::Internal,
    };
    let mut status = Status::new(code, problem.message.clone());
    if let Some(seconds) = problem.retry_after {
        status.metadata_mut().insert("retry-after", seconds.into());
    }
    status
}

/// The time that a client gives a call.
pub(crate) fn timeout(metadata: &MetadataMap) -> Option<Duration> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = number.parse().ok().filter(|number| *number <= 99_999_999)?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_have_units() {
        let read = |text: &'static str| {
            let mut metadata = MetadataMap::new();
            metadata.insert("grpc-timeout", text.parse().unwrap());
            timeout(&metadata)
        };
        assert_eq!(read("250m"), Some(Duration::from_millis(250)));
        assert_eq!(read("2S"), Some(Duration::from_secs(2)));
        assert_eq!((read("S"), read("5x"), read("-1S"), read("999999999S")), (None, None, None, None));
    }

    #[test]
    fn problems_have_codes_and_say_when_to_come_back() {
        let status = of(&Problem::new(ProblemKind::Overloaded, "full").retry_after(2));
        assert_eq!((status.code(), status.message()), (Code::Unavailable, "full"));
        assert_eq!(status.metadata().get("retry-after").unwrap(), "2");
    }
}
