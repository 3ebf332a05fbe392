//! Which endpoint answers which method and path.

use crate::problem::{Problem, ProblemKind};

/// An endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Endpoint {
    Live,
    Ready,
    ServerMetadata,
    ModelNames,
    ModelMetadata,
    ModelReady,
    ModelConfig,
    Statistics,
    Infer,
    RepositoryIndex,
    Load,
    Unload,
    /// Known to the protocol, and not offered.
    Unsupported(&'static str),
    Embeddings,
    OpenAiModels,
    OpenAiModel,
    Embed,
    EmbedAll,
    Rerank,
    Predict,
    Similarity,
    Tokenize,
    Info,
    Metrics,
    Drain,
    OpenApi,
    Page,
    /// What the page shows.
    Status,
}

/// The protocol that an endpoint belongs to: its errors have that form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    V2,
    OpenAi,
    Tei,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route {
    pub(crate) method: &'static str,
    /// With `{}` for a segment that differs; `{v}` stands for digits.
    pub(crate) path: &'static str,
    pub(crate) endpoint: Endpoint,
    pub(crate) door: Door,
}

const fn v2(method: &'static str, path: &'static str, endpoint: Endpoint) -> Route {
    Route { method, path, endpoint, door: Door::V2 }
}

const fn tei(method: &'static str, path: &'static str, endpoint: Endpoint) -> Route {
    Route { method, path, endpoint, door: Door::Tei }
}

const fn openai(method: &'static str, path: &'static str, endpoint: Endpoint) -> Route {
    Route { method, path, endpoint, door: Door::OpenAi }
}

/// Why tensors are sent.
pub(crate) const NO_SHARED_MEMORY: &str = "shared memory is not offered: send the tensors themselves";
/// How traces are followed.
pub(crate) const NO_TRACING: &str =
    "tracing settings are not offered: requests carry `traceparent` into the logs";
/// How logging is set.
pub(crate) const NO_LOGGING: &str = "logging settings are not offered: start the server with `--log`";

const SYSTEM_MEMORY: Endpoint = Endpoint::Unsupported(NO_SHARED_MEMORY);
const TRACING: Endpoint = Endpoint::Unsupported(NO_TRACING);
const LOGGING: Endpoint = Endpoint::Unsupported(NO_LOGGING);
const GENERATING: Endpoint =
    Endpoint::Unsupported("text is not generated: models give embeddings, scores and labels");
const SPARSE: Endpoint = Endpoint::Unsupported("sparse vectors are not offered: models give dense ones");
const DECODING: Endpoint = Endpoint::Unsupported("token ids are not turned into texts");

/// All there is. Of several that fit, the first counts.
pub(crate) const ROUTES: &[Route] = &[
    v2("POST", "/v2/models/{m}/infer", Endpoint::Infer),
    v2("POST", "/v2/models/{m}/versions/{v}/infer", Endpoint::Infer),
    tei("POST", "/embed", Endpoint::Embed),
    openai("POST", "/v1/embeddings", Endpoint::Embeddings),
    openai("POST", "/embeddings", Endpoint::Embeddings),
    tei("POST", "/rerank", Endpoint::Rerank),
    tei("POST", "/predict", Endpoint::Predict),
    tei("POST", "/similarity", Endpoint::Similarity),
    tei("POST", "/tokenize", Endpoint::Tokenize),
    tei("POST", "/embed_all", Endpoint::EmbedAll),
    tei("POST", "/embed_sparse", SPARSE),
    tei("POST", "/decode", DECODING),
    tei("GET", "/info", Endpoint::Info),
    openai("GET", "/v1/models", Endpoint::OpenAiModels),
    openai("GET", "/v1/models/{m}", Endpoint::OpenAiModel),
    v2("GET", "/v2/health/live", Endpoint::Live),
    v2("GET", "/v2/health/ready", Endpoint::Ready),
    tei("GET", "/health", Endpoint::Ready),
    tei("GET", "/ping", Endpoint::Ready),
    v2("GET", "/v2", Endpoint::ServerMetadata),
    v2("GET", "/v2/models", Endpoint::ModelNames),
    v2("GET", "/v2/models/stats", Endpoint::Statistics),
    v2("GET", "/v2/models/{m}", Endpoint::ModelMetadata),
    v2("GET", "/v2/models/{m}/versions/{v}", Endpoint::ModelMetadata),
    v2("GET", "/v2/models/{m}/ready", Endpoint::ModelReady),
    v2("GET", "/v2/models/{m}/versions/{v}/ready", Endpoint::ModelReady),
    v2("GET", "/v2/models/{m}/config", Endpoint::ModelConfig),
    v2("GET", "/v2/models/{m}/versions/{v}/config", Endpoint::ModelConfig),
    v2("GET", "/v2/models/{m}/stats", Endpoint::Statistics),
    v2("GET", "/v2/models/{m}/versions/{v}/stats", Endpoint::Statistics),
    v2("POST", "/v2/repository/index", Endpoint::RepositoryIndex),
    v2("POST", "/v2/repository/models/{m}/load", Endpoint::Load),
    v2("POST", "/v2/repository/models/{m}/unload", Endpoint::Unload),
    v2("GET", "/v2/systemsharedmemory/status", SYSTEM_MEMORY),
    v2("GET", "/v2/systemsharedmemory/region/{m}/status", SYSTEM_MEMORY),
    v2("POST", "/v2/systemsharedmemory/region/{m}/register", SYSTEM_MEMORY),
    v2("POST", "/v2/systemsharedmemory/region/{m}/unregister", SYSTEM_MEMORY),
    v2("POST", "/v2/systemsharedmemory/unregister", SYSTEM_MEMORY),
    v2("GET", "/v2/cudasharedmemory/status", SYSTEM_MEMORY),
    v2("GET", "/v2/cudasharedmemory/region/{m}/status", SYSTEM_MEMORY),
    v2("POST", "/v2/cudasharedmemory/region/{m}/register", SYSTEM_MEMORY),
    v2("POST", "/v2/cudasharedmemory/region/{m}/unregister", SYSTEM_MEMORY),
    v2("POST", "/v2/cudasharedmemory/unregister", SYSTEM_MEMORY),
    v2("GET", "/v2/trace/setting", TRACING),
    v2("POST", "/v2/trace/setting", TRACING),
    v2("GET", "/v2/models/{m}/trace/setting", TRACING),
    v2("POST", "/v2/models/{m}/trace/setting", TRACING),
    v2("GET", "/v2/logging", LOGGING),
    v2("POST", "/v2/logging", LOGGING),
    v2("POST", "/v2/models/{m}/generate", GENERATING),
    v2("POST", "/v2/models/{m}/generate_stream", GENERATING),
    v2("POST", "/v2/models/{m}/versions/{v}/generate", GENERATING),
    v2("POST", "/v2/models/{m}/versions/{v}/generate_stream", GENERATING),
    v2("GET", "/metrics", Endpoint::Metrics),
    v2("POST", "/drain", Endpoint::Drain),
    v2("GET", "/openapi.json", Endpoint::OpenApi),
    v2("GET", "/", Endpoint::Page),
    v2("GET", "/status", Endpoint::Status),
];

/// A route that was found, with the segments that differ.
pub(crate) struct Match {
    pub(crate) route: &'static Route,
    pub(crate) segments: Vec<String>,
}

impl Match {
    /// The model and version that the path names.
    pub(crate) fn model(&self) -> (&str, Option<&str>) {
        (self.segments.first().map_or("", String::as_str), self.segments.get(1).map(String::as_str))
    }
}

/// Finds the route of a request.
///
/// # Errors
///
/// Nothing is at this path, or it has other methods.
pub(crate) fn find(method: &str, path: &str) -> Result<Match, (Door, Problem)> {
    // A client that asks whether something is there gets the same head.
    let method = if method == "HEAD" { "GET" } else { method };
    let mut other: Vec<&'static Route> = Vec::new();
    for route in ROUTES {
        if let Some(segments) = fit(route.path, path) {
            if route.method == method {
                return Ok(Match { route, segments });
            }
            other.push(route);
        }
    }
    match other.first() {
        None => Err((Door::V2, Problem::not_found("Not Found"))),
        Some(first) => {
            let allowed: Vec<_> = other.iter().map(|route| route.method).collect();
            let message = format!("method is {method}, expected {}", allowed.join(" or "));
            Err((first.door, Problem::new(ProblemKind::Method, message)))
        }
    }
}

/// The methods that there are at a path, as a header lists them.
pub(crate) fn methods(path: &str) -> String {
    let there = ROUTES.iter().filter(|route| fit(route.path, path).is_some()).map(|route| route.method);
    // Whoever may ask for something may ask whether it is there.
    let there = there.flat_map(|method| if method == "GET" { vec!["GET", "HEAD"] } else { vec![method] });
    there.collect::<Vec<_>>().join(", ")
}

/// The segments of `path` that differ if it has the form of `template`.
fn fit(template: &str, path: &str) -> Option<Vec<String>> {
    let mut segments = Vec::new();
    let (mut own, mut theirs) = (template.split('/'), path.split('/'));
    loop {
        match (own.next(), theirs.next()) {
            (None, None) => return Some(segments),
            (Some("{m}"), Some(segment)) => segments.push(decoded(segment).filter(|name| !name.is_empty())?),
            (Some("{v}"), Some(segment)) if is_number(segment) => segments.push(segment.to_owned()),
            (Some(own), Some(theirs)) if own == theirs => {}
            _ => return None,
        }
    }
}

fn is_number(segment: &str) -> bool {
    !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_digit())
}

/// A segment without its `%`; `None` if what it stands for is no text.
pub(crate) fn decoded(segment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
            let (high, low) = (digit(rest.next())?, digit(rest.next())?);
            bytes.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(method: &str, path: &str) -> Result<(Endpoint, Vec<String>), (u16, String)> {
        let found = find(method, path).map_err(|(_, problem)| (problem.status(), problem.message))?;
        Ok((found.route.endpoint, found.segments))
    }

    #[test]
    fn names_are_taken_out_of_paths() {
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(endpoint("POST", "/v2/models/a%20b/infer"), Ok((Endpoint::Infer, names(&["a b"]))));
        assert_eq!(
            endpoint("POST", "/v2/models/a/versions/12/infer"),
            Ok((Endpoint::Infer, names(&["a", "12"])))
        );
        assert_eq!(endpoint("GET", "/v2/models/stats"), Ok((Endpoint::Statistics, names(&[]))));
        assert_eq!(endpoint("HEAD", "/v2/health/live"), Ok((Endpoint::Live, names(&[]))));
    }

    #[test]
    fn what_is_not_there_and_what_has_other_methods_is_told_apart() {
        for path in [
            "/v2/",
            "/v2/models//infer",
            "/v2/models/a/versions/x/infer",
            "/v2/models/%zz",
            "/v2/models/%ff",
            "/v2/models/a/b/c",
        ] {
            assert_eq!(endpoint("GET", path), Err((404, "Not Found".to_owned())), "{path}");
        }
        assert_eq!(endpoint("GET", "/embed"), Err((405, "method is GET, expected POST".to_owned())));
        assert_eq!((methods("/embed"), methods("/v2/logging")), ("POST".into(), "GET, HEAD, POST".into()));
        assert_eq!(
            endpoint("PUT", "/v2/logging"),
            Err((405, "method is PUT, expected GET or POST".to_owned()))
        );
    }

    #[test]
    fn a_name_cannot_leave_its_segment() {
        let (_, names) = endpoint("GET", "/v2/models/..%2F..%2Fetc").unwrap();
        assert_eq!(names, ["../../etc"], "looked up among the models, and never joined to a path");
    }

    #[test]
    fn the_description_has_the_same_routes() {
        let file: serde_json::Value = serde_json::from_str(crate::http::OPENAPI).unwrap();
        let paths = file["paths"].as_object().unwrap();
        let described = paths.iter().flat_map(|(path, methods)| {
            let path = path.replace("{name}", "{m}").replace("{version}", "{v}");
            methods.as_object().unwrap().keys().map(move |method| (method.to_uppercase(), path.clone()))
        });
        let mut described: Vec<_> = described.collect();
        let mut own: Vec<_> = ROUTES.iter().map(|it| (it.method.to_owned(), it.path.to_owned())).collect();
        described.sort();
        own.sort();
        assert_eq!(described, own);
        for route in ROUTES {
            let path = route.path.replace("{m}", "{name}").replace("{v}", "{version}");
            let responses = &paths[&path][&route.method.to_lowercase()]["responses"];
            let offered = responses.get("200").is_some();
            assert_eq!(offered, !matches!(route.endpoint, Endpoint::Unsupported(_)), "{path}");
        }
    }
}
