//! `KServe` V2 over gRPC, health and reflection.

use crate::kit::{Live, NOP};
use bytes::Bytes;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use skep_server::grpc::grpc_inference_service_client::GrpcInferenceServiceClient;
use skep_server::grpc::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use skep_server::grpc::*;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::{Code, Request};
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};

/// One connection, as a service.
#[derive(Clone)]
pub(crate) struct Channel(hyper::client::conn::http2::SendRequest<Body>);

impl Channel {
    async fn to(address: SocketAddr) -> Self {
        Self::over(tokio::net::TcpStream::connect(address).await.unwrap()).await
    }

    pub(crate) async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self(sender)
    }
}

impl Service<hyper::Request<Body>> for Channel {
    type Response = hyper::Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: hyper::Request<Body>) -> Self::Future {
        let path = request.uri().path_and_query().unwrap().as_str();
        *request.uri_mut() = format!("http://test{path}").parse().unwrap();
        let mut sender = self.0.clone();
        Box::pin(async move { sender.send_request(request).await })
    }
}

fn x(id: &str, rows: &[[f32; 2]]) -> ModelInferRequest {
    let input = InferInputTensor {
        name: "x".into(),
        datatype: "FP32".into(),
        shape: vec![i64::try_from(rows.len()).unwrap(), 2],
        ..InferInputTensor::default()
    };
    let bytes: Vec<u8> = rows.iter().flatten().flat_map(|number| number.to_le_bytes()).collect();
    ModelInferRequest {
        model_name: "nop".into(),
        id: id.into(),
        inputs: vec![input],
        raw_input_contents: vec![Bytes::from(bytes)],
        ..ModelInferRequest::default()
    }
}

fn asked<T>(models: &[(&str, &str)], ask: impl AsyncFnOnce(Channel) -> T) -> T {
    asked_of(&Live::new(models), ask)
}

fn asked_of<T>(live: &Live, ask: impl AsyncFnOnce(Channel) -> T) -> T {
    let address = live.server.as_ref().unwrap().grpc();
    live.executor.block_on(async { ask(Channel::to(address).await).await })
}

#[test]
fn a_model_is_described_and_run() {
    asked(&[NOP], async |channel| {
        let mut client = GrpcInferenceServiceClient::new(channel);
        assert!(client.server_live(ServerLiveRequest {}).await.unwrap().into_inner().live);
        assert!(client.server_ready(ServerReadyRequest {}).await.unwrap().into_inner().ready);
        let ready = |name: &str| ModelReadyRequest { name: name.into(), version: String::new() };
        assert!(client.model_ready(ready("nop")).await.unwrap().into_inner().ready);
        assert!(
            !client.model_ready(ready("other")).await.unwrap().into_inner().ready,
            "no error: clients raise it"
        );
        let metadata =
            client.model_metadata(ModelMetadataRequest { name: "nop".into(), version: "1".into() });
        let metadata = metadata.await.unwrap().into_inner();
        assert_eq!(
            (metadata.inputs[0].datatype.as_str(), &metadata.inputs[0].shape[..]),
            ("FP32", &[-1, 2][..])
        );
        let config = client.model_config(ModelConfigRequest { name: "nop".into(), version: String::new() });
        let config = config.await.unwrap().into_inner().config.unwrap();
        assert_eq!((config.input[0].data_type(), &config.input[0].dims[..]), (DataType::TypeFp32, &[2][..]));

        let answer = client.model_infer(x("7", &[[1.5, -2.0]])).await.unwrap().into_inner();
        assert_eq!((answer.id.as_str(), answer.outputs[0].name.as_str()), ("7", "y"));
        assert_eq!(answer.raw_output_contents[0], [1.5_f32, -2.0].map(f32::to_le_bytes).concat());
        let statistics = ModelStatisticsRequest { name: "nop".into(), version: String::new() };
        let statistics = client.model_statistics(statistics).await.unwrap().into_inner();
        assert_eq!(statistics.model_stats[0].inference_count, 1);
        let index = client.repository_index(RepositoryIndexRequest::default()).await.unwrap().into_inner();
        assert_eq!((index.models[0].name.as_str(), index.models[0].state.as_str()), ("nop", "READY"));
    });
}

#[test]
fn what_is_wrong_has_its_code() {
    let live = Live::new(&[NOP]);
    asked_of(&live, async |channel| {
        let mut client = GrpcInferenceServiceClient::new(channel);
        let mut code =
            async |request: ModelInferRequest| client.model_infer(request).await.unwrap_err().code();
        let other = ModelInferRequest { model_name: "other".into(), ..x("", &[[1.0, 2.0]]) };
        assert_eq!(code(other).await, Code::NotFound);
        let mut wrong = x("", &[[1.0, 2.0]]);
        wrong.inputs[0].shape = vec![1 << 60, 1 << 60];
        assert_eq!(code(wrong).await, Code::InvalidArgument);
        assert_eq!(code(x("", &[])).await, Code::InvalidArgument);
        let mut wanted = x("", &[[1.0, 2.0]]);
        wanted.outputs =
            vec![InferRequestedOutputTensor { name: "z".into(), ..InferRequestedOutputTensor::default() }];
        assert_eq!(code(wanted).await, Code::InvalidArgument);
        let refused = client.repository_model_load(RepositoryModelLoadRequest::default()).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied);
    });
    let problems = live.get("/status").ok()["problems"].clone();
    let last = &problems[0];
    assert_eq!((&last["code"], &last["times"]), (&"PermissionDenied".into(), &1.into()), "{problems}");
    assert_eq!(last["asked"], "/inference.GRPCInferenceService/RepositoryModelLoad");
    assert!(last["reason"].as_str().unwrap().contains("--management"), "{problems}");
    assert_eq!(problems.as_array().unwrap().len(), 5, "{problems}");
}

#[test]
fn models_come_and_go_in_the_words_of_both_protocols() {
    let live = Live::with(&[NOP], |config| config.management = true);
    asked_of(&live, async |channel| {
        let mut health = HealthClient::new(channel.clone());
        let mut client = GrpcInferenceServiceClient::new(channel);
        for (repository_name, model_name) in [("", "nop"), ("nop", "")] {
            let (repository_name, model_name) = (repository_name.to_owned(), model_name.to_owned());
            let unload = RepositoryModelUnloadRequest {
                repository_name: repository_name.clone(),
                model_name: model_name.clone(),
                ..RepositoryModelUnloadRequest::default()
            };
            let gone = client.repository_model_unload(unload).await.unwrap().into_inner();
            assert_eq!((gone.model_name.as_str(), gone.is_unloaded), ("nop", true));
            assert_eq!(
                client.model_infer(x("late", &[[1.0, 2.0]])).await.unwrap_err().code(),
                Code::NotFound
            );
            let ready = ModelReadyRequest { name: "nop".into(), version: String::new() };
            assert!(!client.model_ready(ready.clone()).await.unwrap().into_inner().ready);
            let check = HealthCheckRequest { service: "nop".into() };
            let answer = health.check(check).await.unwrap().into_inner();
            assert_eq!(answer.status(), ServingStatus::NotServing);
            let index =
                client.repository_index(RepositoryIndexRequest::default()).await.unwrap().into_inner();
            assert_eq!((index.models.len(), index.models[0].state.as_str()), (1, "UNAVAILABLE"));

            let load = RepositoryModelLoadRequest {
                repository_name,
                model_name,
                ..RepositoryModelLoadRequest::default()
            };
            let back = client.repository_model_load(load).await.unwrap().into_inner();
            assert_eq!((back.model_name.as_str(), back.is_loaded), ("nop", true));
            assert!(client.model_ready(ready).await.unwrap().into_inner().ready);
            client.model_infer(x("back", &[[1.0, 2.0]])).await.unwrap();
        }
        let both = RepositoryModelLoadRequest {
            repository_name: "other".into(),
            model_name: "nop".into(),
            ..RepositoryModelLoadRequest::default()
        };
        assert_eq!(client.repository_model_load(both).await.unwrap_err().code(), Code::Unimplemented);
    });
}

#[test]
fn a_stream_answers_each_message_and_survives_a_wrong_one() {
    let live = Live::new(&[NOP]);
    asked_of(&live, async |channel| {
        let mut client = GrpcInferenceServiceClient::new(channel);
        let mut wrong = x("wrong", &[[1.0, 2.0]]);
        wrong.raw_input_contents = vec![Bytes::new()];
        let messages = vec![x("a", &[[1.0, 2.0]]), wrong, x("b", &[[3.0, 4.0]])];
        let mut answers =
            client.model_stream_infer(futures_util::stream::iter(messages)).await.unwrap().into_inner();
        let (mut ids, mut errors) = (Vec::new(), Vec::new());
        while let Some(answer) = answers.message().await.unwrap() {
            let id = answer.infer_response.unwrap().id;
            if answer.error_message.is_empty() {
                ids.push(id);
            } else {
                errors.push((id, answer.error_message));
            }
        }
        ids.sort();
        assert_eq!(ids, ["a", "b"]);
        let told = "input `x` has 0 bytes, expected the 8 of shape [1, 2] and datatype FP32";
        assert_eq!(errors, [("wrong".to_owned(), told.to_owned())]);
        let problem = live.get("/status").ok()["problems"][0].clone();
        assert_eq!((&problem["asked"], &problem["reason"]), (&"ModelStreamInfer".into(), &told.into()));
    });
}

#[test]
fn a_call_whose_time_is_up_is_told_so() {
    let slow = "kind = \"nop_delay\"\nwhen-full = \"wait\"\n[settings]\nsize = 2\ndelay = 0.3\n[pool]\nmax-rows = 1\n";
    asked(&[("nop", slow)], async |channel| {
        let mut client = GrpcInferenceServiceClient::new(channel);
        let mut request = Request::new(x("late", &[[1.0, 2.0]; 4]));
        request.metadata_mut().insert("grpc-timeout", "1n".parse().unwrap());
        let code = client.model_infer(request).await.unwrap_err().code();
        assert_eq!(code, Code::DeadlineExceeded);
    });
}

#[test]
fn where_there_are_no_keys_connections_share_the_device() {
    let slow = "kind = \"nop_delay\"\n[settings]\nsize = 2\ndelay = 0.1\n[pool]\nmax-rows = 1\n";
    let live = Live::new(&[("nop", slow)]);
    asked_of(&live, async |channel| {
        let mut busy = GrpcInferenceServiceClient::new(channel);
        let mut other =
            GrpcInferenceServiceClient::new(Channel::to(live.server.as_ref().unwrap().grpc()).await);
        let messages = (0..20).map(|i| x(&i.to_string(), &[[1.0, 2.0]]));
        let stream = busy.model_stream_infer(futures_util::stream::iter(messages.collect::<Vec<_>>()));
        let mut answers = stream.await.unwrap().into_inner();
        // One is answered, so the others are in the queue.
        answers.message().await.unwrap().unwrap();
        let batches = async |client: &mut GrpcInferenceServiceClient<Channel>| {
            let statistics = ModelStatisticsRequest { name: "nop".into(), version: String::new() };
            client.model_statistics(statistics).await.unwrap().into_inner().model_stats[0].execution_count
        };
        let before = batches(&mut other).await;
        other.model_infer(x("one", &[[1.0, 2.0]])).await.unwrap();
        let since = batches(&mut other).await - before;
        assert!(since < 12, "{since} of 20 batches");
        while answers.message().await.unwrap().is_some() {}
    });
}

#[test]
fn a_key_has_so_many_messages_of_a_stream_at_work() {
    let slow = "kind = \"nop_delay\"\n[settings]\nsize = 2\ndelay = 0.5\n";
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "ann 0123456789abcdef requests=2\n").unwrap();
    let live = Live::with(&[("nop", slow)], |config| config.keys = Some(file.path().to_owned()));
    asked_of(&live, async |channel| {
        let mut client = GrpcInferenceServiceClient::new(channel);
        let messages: Vec<_> = (0..5).map(|i| x(&i.to_string(), &[[1.0, 2.0]])).collect();
        let mut request = Request::new(futures_util::stream::iter(messages));
        request.metadata_mut().insert("authorization", "Bearer 0123456789abcdef".parse().unwrap());
        let mut answers = client.model_stream_infer(request).await.unwrap().into_inner();
        let mut errors = Vec::new();
        while let Some(answer) = answers.message().await.unwrap() {
            errors.extend(Some(answer.error_message).filter(|message| !message.is_empty()));
        }
        let told = "2 requests of `ann` are at work, which is as many as it may have";
        assert_eq!(errors, [told; 3]);
    });
}

#[test]
fn a_load_report_follows_an_answer_if_it_is_asked_for() {
    asked(&[NOP], async |channel| {
        let mut client = GrpcInferenceServiceClient::new(channel);
        let asking = |message: ModelInferRequest| {
            let mut request = Request::new(futures_util::stream::iter([message]));
            request.metadata_mut().insert("endpoint-load-metrics-format", "text".parse().unwrap());
            request
        };
        let mut answers =
            client.model_stream_infer(asking(x("a", &[[1.0, 2.0]]))).await.unwrap().into_inner();
        while answers.message().await.unwrap().is_some() {}
        let trailers = answers.trailers().await.unwrap().unwrap();
        let report = trailers.get_bin("endpoint-load-metrics-bin").unwrap().to_bytes().unwrap();
        // Field 6 is the rate, which is never zero.
        assert_eq!(report[0], 6 << 3 | 1);
        assert!(f64::from_le_bytes(report[1..9].try_into().unwrap()) > 0.0);

        let mut wrong =
            Request::new(ModelInferRequest { model_name: "other".into(), ..x("b", &[[1.0, 2.0]]) });
        wrong.metadata_mut().insert("endpoint-load-metrics-format", "text".parse().unwrap());
        let refused = client.model_infer(wrong).await.unwrap_err();
        assert_eq!(refused.code(), Code::NotFound);
        assert!(refused.metadata().get_bin("endpoint-load-metrics-bin").is_some());
        let plain = client.model_infer(x("c", &[[1.0, 2.0]])).await.unwrap();
        assert!(plain.metadata().get_bin("endpoint-load-metrics-bin").is_none());
    });
}

#[test]
fn health_is_told_by_server_and_by_model() {
    asked(&[NOP], async |channel| {
        let mut client = HealthClient::new(channel);
        for service in ["", "inference.GRPCInferenceService", "nop"] {
            let answer =
                client.check(HealthCheckRequest { service: service.into() }).await.unwrap().into_inner();
            assert_eq!(answer.status(), ServingStatus::Serving, "{service}");
        }
        let unknown = client.check(HealthCheckRequest { service: "other".into() }).await.unwrap_err();
        assert_eq!(unknown.code(), Code::NotFound);
        let mut watch =
            client.watch(HealthCheckRequest { service: "other".into() }).await.unwrap().into_inner();
        assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::ServiceUnknown);
    });
}

#[test]
fn services_that_are_not_there_are_unimplemented() {
    asked(&[NOP], async |mut channel| {
        let request = hyper::Request::post("/other.Service/Call").header("content-type", "application/grpc");
        let answer = channel.call(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(answer.headers()["grpc-status"], "12");
        let reflection = hyper::Request::post("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo");
        let reflection = reflection.header("content-type", "application/grpc").body(Body::empty()).unwrap();
        assert_eq!(channel.call(reflection).await.unwrap().status(), 200);
    });
}
