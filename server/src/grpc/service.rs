//! The methods of the inference service.

use crate::app::App;
use crate::caller::Caller;
use crate::grpc::convert;
use crate::grpc::generated::grpc_inference_service_server::GrpcInferenceService;
use crate::grpc::generated::model_metadata_response::TensorMetadata;
use crate::grpc::generated::repository_index_response::ModelIndex;
#[allow(clippy::wildcard_imports, reason = "a method of the protocol has two messages")]
use crate::grpc::generated::*;
use crate::grpc::status;
use crate::http::models::{self, EXTENSIONS};
use crate::http::routes::{NO_LOGGING, NO_SHARED_MEMORY, NO_TRACING};
use crate::infer::{self, PRIORITIES};
use crate::model::Model;
use crate::net::guests::Guest;
use crate::problem::{Problem, ProblemKind};
use crate::repository::{self, Indexed};
use crate::tally::{Sum, Times};
use crate::tensor::datatype::Datatype;
use futures_util::{Stream, StreamExt};
use skep_runtime_core::Schema;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tonic::{Code, Request, Response, Status, Streaming};

/// The most messages of one stream that are at work.
const AT_WORK: usize = 64;

/// The inference service.
pub(crate) struct Inference {
    pub(crate) app: Arc<App>,
}

type Answered<T> = Result<Response<T>, Status>;

fn answered<T>(result: Result<T, Problem>) -> Answered<T> {
    result.map(Response::new).map_err(|problem| status::of(&problem))
}

fn unsupported<T>(why: &str) -> Answered<T> {
    Err(Status::unimplemented(why))
}

/// Whose call this is, as was found out before it came here.
fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    let caller = request.extensions().get::<Caller>().cloned();
    caller.ok_or_else(|| Status::internal("the call has lost its caller"))
}

/// The model that a change of the repository is for. Of the two protocols that share the message, one has the model's
/// name in the place of the repository's.
fn named(repository: String, model: String) -> Result<String, Problem> {
    match (repository.is_empty(), model.is_empty()) {
        (_, true) => Ok(repository),
        (true, false) => Ok(model),
        (false, false) => {
            Err(Problem::unsupported(format!("there is one repository, and it is not named `{repository}`")))
        }
    }
}

/// An empty version is any.
fn version(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// Counts a call when it is over, also if its client leaves first.
struct Counted<'a> {
    app: &'a App,
    method: &'static str,
    start: Instant,
    code: Code,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.app.pages.call(self.method, self.code as i32, self.start.elapsed());
    }
}

/// Runs one message.
async fn infer(
    app: &App,
    caller: &Caller,
    method: &'static str,
    request: ModelInferRequest,
    timeout: Option<Duration>,
) -> Result<ModelInferResponse, Status> {
    let mut counted = Counted { app, method, start: Instant::now(), code: Code::Cancelled };
    let result = run(app, caller, request, timeout).await.map_err(|problem| match problem.kind {
        // The client's own time is up, not the request's.
        ProblemKind::Expired if timeout.is_some_and(|timeout| counted.start.elapsed() >= timeout) => {
            Status::deadline_exceeded(problem.message)
        }
        _ => status::of(&problem),
    });
    counted.code = result.as_ref().map_or_else(Status::code, |_| Code::Ok);
    result
}

async fn run(
    app: &App,
    caller: &Caller,
    request: ModelInferRequest,
    timeout: Option<Duration>,
) -> Result<ModelInferResponse, Problem> {
    let _at_work = app.begin()?;
    let model = app.model(&request.model_name, version(&request.model_version))?;
    let asked = convert::read(request)?;
    let mut wishes = asked.wishes;
    wishes.timeout = match (wishes.timeout, timeout) {
        (Some(own), Some(call)) => Some(own.min(call)),
        (own, call) => own.or(call),
    };
    let wanted: Vec<String> = asked.outputs.iter().map(|(name, _)| name.clone()).collect();
    let outputs = infer::run(&model, caller, asked.inputs, &wanted, wishes).await?;
    Ok(convert::write(&model, asked.id, outputs, &asked.outputs))
}

fn tensors(schema: &Schema) -> Vec<TensorMetadata> {
    let tensor = |spec: &skep_runtime_core::TensorSpec| TensorMetadata {
        name: spec.name().to_owned(),
        datatype: Datatype::from(spec.dtype()).name().to_owned(),
        shape: models::shape(spec),
    };
    schema.tensors().iter().map(tensor).collect()
}

fn config(model: &Model) -> ModelConfig {
    let input = |spec: &skep_runtime_core::TensorSpec| ModelInput {
        name: spec.name().to_owned(),
        data_type: Datatype::from(spec.dtype()).config_number(),
        dims: models::shape(spec)[1..].to_vec(),
        optional: false,
    };
    let output = |spec: &skep_runtime_core::TensorSpec| ModelOutput {
        name: spec.name().to_owned(),
        data_type: Datatype::from(spec.dtype()).config_number(),
        dims: models::shape(spec)[1..].to_vec(),
        label_filename: String::new(),
    };
    let queue = ModelQueuePolicy {
        default_timeout_microseconds: u64::try_from(model.rules.wait_limit.as_micros()).unwrap_or(u64::MAX),
        allow_timeout_override: true,
        max_queue_size: u32::try_from(model.rules.capacity).unwrap_or(u32::MAX),
        ..ModelQueuePolicy::default()
    };
    let batching = ModelDynamicBatching {
        preferred_batch_size: vec![i32::try_from(model.rules.max_rows).unwrap_or(i32::MAX)],
        priority_levels: PRIORITIES,
        default_priority_level: 1,
        default_queue_policy: Some(queue),
        ..ModelDynamicBatching::default()
    };
    ModelConfig {
        name: model.name.clone(),
        platform: model.platform.clone(),
        backend: "skep".to_owned(),
        max_batch_size: models::max_batch(model),
        input: model.front.inputs().tensors().iter().map(input).collect(),
        output: model.front.outputs().tensors().iter().map(output).collect(),
        dynamic_batching: Some(batching),
        model_transaction_policy: Some(ModelTransactionPolicy { decoupled: false }),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "as the message has it")]
fn sum(sum: Sum) -> Option<StatisticDuration> {
    Some(StatisticDuration { count: sum.count, ns: sum.ns })
}

fn statistics(model: &Model) -> ModelStatistics {
    let (requests, batches) = (model.tally.requests(), model.tally.batches());
    let size = |(rows, times): (&u64, &Times)| InferBatchStatistics {
        batch_size: *rows,
        compute_input: sum(times.input),
        compute_infer: sum(times.infer),
        compute_output: sum(times.output),
    };
    let none = Sum::default();
    ModelStatistics {
        name: model.name.clone(),
        version: model.version.clone(),
        last_inference: model.tally.last_ms(),
        inference_count: batches.rows,
        execution_count: batches.count,
        inference_stats: Some(InferStatistics {
            success: sum(requests.success),
            fail: sum(requests.fail),
            queue: sum(batches.queue),
            compute_input: sum(batches.tasks.input),
            compute_infer: sum(batches.tasks.infer),
            compute_output: sum(batches.tasks.output),
            cache_hit: sum(none),
            cache_miss: sum(none),
        }),
        batch_stats: batches.sizes.iter().map(size).collect(),
    }
}

#[tonic::async_trait]
impl GrpcInferenceService for Inference {
    async fn server_live(&self, _: Request<ServerLiveRequest>) -> Answered<ServerLiveResponse> {
        Ok(Response::new(ServerLiveResponse { live: true }))
    }

    async fn server_ready(&self, _: Request<ServerReadyRequest>) -> Answered<ServerReadyResponse> {
        Ok(Response::new(ServerReadyResponse { ready: self.app.obstacle().is_none() }))
    }

    async fn model_ready(&self, request: Request<ModelReadyRequest>) -> Answered<ModelReadyResponse> {
        let request = request.into_inner();
        let known = self.app.model(&request.name, version(&request.version)).is_ok();
        Ok(Response::new(ModelReadyResponse { ready: known && self.app.obstacle().is_none() }))
    }

    async fn server_metadata(&self, _: Request<ServerMetadataRequest>) -> Answered<ServerMetadataResponse> {
        Ok(Response::new(ServerMetadataResponse {
            name: "skep".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            extensions: EXTENSIONS.map(str::to_owned).to_vec(),
        }))
    }

    async fn model_metadata(
        &self,
        request: Request<ModelMetadataRequest>,
    ) -> Answered<ModelMetadataResponse> {
        let request = request.into_inner();
        let model = self.app.model(&request.name, version(&request.version));
        answered(model.map(|model| ModelMetadataResponse {
            name: model.name.clone(),
            versions: vec![model.version.clone()],
            platform: model.platform.clone(),
            inputs: tensors(model.front.inputs()),
            outputs: tensors(model.front.outputs()),
        }))
    }

    async fn model_infer(&self, request: Request<ModelInferRequest>) -> Answered<ModelInferResponse> {
        let (timeout, caller) = (status::timeout(request.metadata()), caller(&request)?);
        infer(&self.app, &caller, "ModelInfer", request.into_inner(), timeout).await.map(Response::new)
    }

    type ModelStreamInferStream =
        Pin<Box<dyn Stream<Item = Result<ModelStreamInferResponse, Status>> + Send>>;

    async fn model_stream_infer(
        &self,
        request: Request<Streaming<ModelInferRequest>>,
    ) -> Answered<Self::ModelStreamInferStream> {
        let (app, caller) = (Arc::clone(&self.app), caller(&request)?);
        let guest = request.extensions().get::<Arc<Guest>>().cloned();
        let answers = request.into_inner().map(move |message| {
            let (app, caller) = (Arc::clone(&app), caller.clone());
            let at_work = guest.as_ref().map(Guest::begin);
            async move {
                let (message, _at_work) = (message?, at_work);
                let id = message.id.clone();
                let asked = async {
                    // Each message is a request of its own.
                    let _slot = caller.begin().map_err(|problem| status::of(&problem))?;
                    infer(&app, &caller, "ModelStreamInfer", message, None).await
                };
                // What is wrong with one message is told, and the stream goes on.
                Ok(match asked.await {
                    Ok(response) => ModelStreamInferResponse {
                        error_message: String::new(),
                        infer_response: Some(response),
                    },
                    Err(status) => {
                        let code = format!("{:?}", status.code());
                        app.recent.note("ModelStreamInfer", &code, status.message());
                        ModelStreamInferResponse {
                            error_message: status.message().to_owned(),
                            infer_response: Some(ModelInferResponse { id, ..ModelInferResponse::default() }),
                        }
                    }
                })
            }
        });
        Ok(Response::new(Box::pin(answers.buffer_unordered(AT_WORK))))
    }

    async fn model_config(&self, request: Request<ModelConfigRequest>) -> Answered<ModelConfigResponse> {
        let request = request.into_inner();
        let model = self.app.model(&request.name, version(&request.version));
        answered(model.map(|model| ModelConfigResponse { config: Some(config(&model)) }))
    }

    async fn model_statistics(
        &self,
        request: Request<ModelStatisticsRequest>,
    ) -> Answered<ModelStatisticsResponse> {
        let request = request.into_inner();
        let model_stats = if request.name.is_empty() {
            Ok(self.app.catalogue.served().iter().map(|model| statistics(model)).collect())
        } else {
            self.app.model(&request.name, version(&request.version)).map(|model| vec![statistics(&model)])
        };
        answered(model_stats.map(|model_stats| ModelStatisticsResponse { model_stats }))
    }

    async fn repository_index(
        &self,
        request: Request<RepositoryIndexRequest>,
    ) -> Answered<RepositoryIndexResponse> {
        let index = repository::index(&self.app, request.get_ref().ready).await;
        let model = |model: Indexed| ModelIndex {
            name: model.name,
            version: model.version,
            state: model.state.to_owned(),
            reason: model.reason,
        };
        answered(index.map(|all| RepositoryIndexResponse { models: all.into_iter().map(model).collect() }))
    }

    async fn repository_model_load(
        &self,
        request: Request<RepositoryModelLoadRequest>,
    ) -> Answered<RepositoryModelLoadResponse> {
        let RepositoryModelLoadRequest { repository_name, model_name, parameters } = request.into_inner();
        let load = async {
            let _at_work = self.app.begin()?;
            repository::brings_nothing(parameters.keys())?;
            repository::load(&self.app, &named(repository_name, model_name)?).await
        };
        let loaded = load.await;
        answered(loaded.map(|it| RepositoryModelLoadResponse { model_name: it.name, is_loaded: true }))
    }

    async fn repository_model_unload(
        &self,
        request: Request<RepositoryModelUnloadRequest>,
    ) -> Answered<RepositoryModelUnloadResponse> {
        let RepositoryModelUnloadRequest { repository_name, model_name, parameters } = request.into_inner();
        let unload = async {
            let _at_work = self.app.begin()?;
            repository::brings_nothing(parameters.keys().filter(|key| *key != "unload_dependents"))?;
            repository::unload(&self.app, &named(repository_name, model_name)?).await
        };
        let unloaded = unload.await;
        answered(unloaded.map(|it| RepositoryModelUnloadResponse { model_name: it.name, is_unloaded: true }))
    }

    async fn system_shared_memory_status(
        &self,
        _: Request<SystemSharedMemoryStatusRequest>,
    ) -> Answered<SystemSharedMemoryStatusResponse> {
        unsupported(NO_SHARED_MEMORY)
    }

    async fn system_shared_memory_register(
        &self,
        _: Request<SystemSharedMemoryRegisterRequest>,
    ) -> Answered<SystemSharedMemoryRegisterResponse> {
        unsupported(NO_SHARED_MEMORY)
    }

    async fn system_shared_memory_unregister(
        &self,
        _: Request<SystemSharedMemoryUnregisterRequest>,
    ) -> Answered<SystemSharedMemoryUnregisterResponse> {
        unsupported(NO_SHARED_MEMORY)
    }

    async fn cuda_shared_memory_status(
        &self,
        _: Request<CudaSharedMemoryStatusRequest>,
    ) -> Answered<CudaSharedMemoryStatusResponse> {
        unsupported(NO_SHARED_MEMORY)
    }

    async fn cuda_shared_memory_register(
        &self,
        _: Request<CudaSharedMemoryRegisterRequest>,
    ) -> Answered<CudaSharedMemoryRegisterResponse> {
        unsupported(NO_SHARED_MEMORY)
    }

    async fn cuda_shared_memory_unregister(
        &self,
        _: Request<CudaSharedMemoryUnregisterRequest>,
    ) -> Answered<CudaSharedMemoryUnregisterResponse> {
        unsupported(NO_SHARED_MEMORY)
    }

    async fn trace_setting(&self, _: Request<TraceSettingRequest>) -> Answered<TraceSettingResponse> {
        unsupported(NO_TRACING)
    }

    async fn log_settings(&self, _: Request<LogSettingsRequest>) -> Answered<LogSettingsResponse> {
        unsupported(NO_LOGGING)
    }
}
