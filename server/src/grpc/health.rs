//! `grpc.health.v1`: the server as a whole (no name, or that of the inference service), and each model by its name.

use crate::app::App;
use crate::catalogue::Entry;
use futures_util::Stream;
use futures_util::stream::unfold;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

/// How often a watcher is looked at for; a device that is lost rings nobody.
const LOOK: Duration = Duration::from_millis(250);
/// The service that models are called by.
const INFERENCE: &str = "inference.GRPCInferenceService";

pub(crate) struct HealthService {
    pub(crate) app: Arc<App>,
}

/// The status of a service; `None` if there is none of this name.
fn status(app: &App, service: &str) -> Option<ServingStatus> {
    let known = if service.is_empty() || service == INFERENCE {
        true
    } else {
        matches!(app.catalogue.get(service)?, Entry::Served(_))
    };
    let serving = known && app.obstacle().is_none();
    Some(if serving { ServingStatus::Serving } else { ServingStatus::NotServing })
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

#[tonic::async_trait]
impl Health for HealthService {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let service = &request.get_ref().service;
        let found = status(&self.app, service);
        let found = found.ok_or_else(|| Status::not_found(format!("there is no service `{service}`")))?;
        Ok(Response::new(response(found)))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let service = request.into_inner().service;
        let told: Option<ServingStatus> = None;
        let changes = unfold((Arc::clone(&self.app), service, told), |(app, service, told)| async move {
            loop {
                let now = status(&app, &service).unwrap_or(ServingStatus::ServiceUnknown);
                if told != Some(now) {
                    return Some((Ok(response(now)), (app, service, Some(now))));
                }
                tokio::time::sleep(LOOK).await;
            }
        });
        Ok(Response::new(Box::pin(changes)))
    }
}
