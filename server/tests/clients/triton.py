"""tritonclient over HTTP and gRPC, unmodified: all that it can ask of a server."""

import asyncio
import queue

import numpy as np
import tritonclient.grpc as grpcclient
import tritonclient.grpc.aio as grpcaio
import tritonclient.http as httpclient
import tritonclient.http.aio as httpaio
from tritonclient.utils import InferenceServerException

from check import check, main, raises

X = np.array([[1.5, -2.0], [3.0, 0.25]], dtype=np.float32)


def http_input(binary=True, x=X, datatype="FP32"):
    given = httpclient.InferInput("x", list(x.shape), datatype)
    given.set_data_from_numpy(x, binary_data=binary)
    return given


def grpc_input(x=X, datatype="FP32"):
    given = grpcclient.InferInput("x", list(x.shape), datatype)
    given.set_data_from_numpy(x)
    return given


def equal(result, x=X, name="y"):
    assert np.array_equal(result.as_numpy(name), x), result.as_numpy(name)


@check
def http_metadata(http, grpc):
    with httpclient.InferenceServerClient(http) as client:
        assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("nop")
        assert not client.is_model_ready("other")
        assert client.get_server_metadata()["name"] == "skep"
        metadata = client.get_model_metadata("nop")
        assert metadata["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}], metadata
        assert client.get_model_config("nop")["max_batch_size"] > 0
        assert any(model["name"] == "nop" for model in client.get_model_repository_index())
        raises(InferenceServerException, lambda: client.get_model_metadata("other"), "unknown model")
        raises(InferenceServerException, lambda: client.get_system_shared_memory_status(), "not offered")


@check
def http_infer_binary_and_json(http, grpc):
    with httpclient.InferenceServerClient(http) as client:
        for binary in (True, False):
            equal(client.infer("nop", [http_input(binary)]))
            outputs = [httpclient.InferRequestedOutput("y", binary_data=binary)]
            result = client.infer("nop", [http_input(binary)], outputs=outputs, request_id="abc", priority=1, timeout=5_000_000)
            equal(result)
            assert result.get_response()["id"] == "abc"


@check
def models_come_and_go(http, grpc):
    for module, address in ((httpclient, http), (grpcclient, grpc)):
        with module.InferenceServerClient(address) as client:
            for _ in range(2):
                client.unload_model("wide")
                assert not client.is_model_ready("wide")
            client.load_model("wide")
            client.load_model("wide")
            assert client.is_model_ready("wide")
            raises(InferenceServerException, lambda: client.load_model("other"), "no model `other`")
            raises(InferenceServerException, lambda: client.load_model("wide", config="{}"), "not offered")


@check
def http_compression(http, grpc):
    x = np.tile(X, (500, 1))
    with httpclient.InferenceServerClient(http) as client:
        for algorithm in ("gzip", "deflate"):
            result = client.infer("nop", [http_input(x=x)], request_compression_algorithm=algorithm,
                                  response_compression_algorithm=algorithm)
            equal(result, x)


@check
def http_async_infer(http, grpc):
    with httpclient.InferenceServerClient(http, concurrency=8) as client:
        for request in [client.async_infer("nop", [http_input()]) for _ in range(32)]:
            equal(request.get_result())


@check
def http_asyncio(http, grpc):
    async def ask():
        async with httpaio.InferenceServerClient(http) as client:
            assert await client.is_server_ready()
            for result in await asyncio.gather(*[client.infer("nop", [http_input()]) for _ in range(16)]):
                equal(result)

    asyncio.run(ask())


@check
def http_classification(http, grpc):
    with httpclient.InferenceServerClient(http) as client:
        outputs = [httpclient.InferRequestedOutput("y", class_count=1)]
        result = client.infer("nop", [http_input()], outputs=outputs)
        assert result.as_numpy("y").tolist() == [[b"1.500000:0"], [b"3.000000:0"]], result.as_numpy("y")


@check
def http_wrong_requests(http, grpc):
    with httpclient.InferenceServerClient(http) as client:
        wrong = X[:, :1].copy()
        raises(InferenceServerException, lambda: client.infer("nop", [http_input(x=wrong)]), "expected [batch, 2]")
        whole = http_input(x=X.astype(np.int64), datatype="INT64")
        raises(InferenceServerException, lambda: client.infer("other", [whole]), "unknown model")
        truncated = http_input(x=np.array([[1, 2]], dtype=np.int64), datatype="INT64")
        equal(client.infer("nop", [truncated]), np.array([[1, 2]], dtype=np.float32))


@check
def http_statistics(http, grpc):
    with httpclient.InferenceServerClient(http) as client:
        stats = client.get_inference_statistics("nop")["model_stats"][0]
        assert stats["inference_count"] >= stats["execution_count"] > 0
        assert stats["inference_stats"]["success"]["count"] > 0


@check
def grpc_metadata(http, grpc):
    with grpcclient.InferenceServerClient(grpc) as client:
        assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("nop")
        assert not client.is_model_ready("other")
        assert client.get_server_metadata().name == "skep"
        metadata = client.get_model_metadata("nop")
        assert list(metadata.inputs[0].shape) == [-1, 2] and metadata.inputs[0].datatype == "FP32"
        config = client.get_model_config("nop").config
        assert config.max_batch_size > 0 and list(config.input[0].dims) == [2] and config.input[0].data_type == 11
        assert any(model.name == "nop" for model in client.get_model_repository_index().models)
        assert client.get_inference_statistics("nop").model_stats[0].name == "nop"
        raises(InferenceServerException, lambda: client.get_model_metadata("other"), "NOT_FOUND")
        raises(InferenceServerException, lambda: client.get_trace_settings(), "UNIMPLEMENTED")


@check
def grpc_infer(http, grpc):
    with grpcclient.InferenceServerClient(grpc) as client:
        outputs = [grpcclient.InferRequestedOutput("y")]
        result = client.infer("nop", [grpc_input()], outputs=outputs, request_id="abc", priority=2, timeout=5_000_000,
                              client_timeout=10)
        equal(result)
        assert result.get_response().id == "abc"
        for algorithm in ("gzip", "deflate"):
            equal(client.infer("nop", [grpc_input()], compression_algorithm=algorithm))
        classes = client.infer("nop", [grpc_input()], outputs=[grpcclient.InferRequestedOutput("y", class_count=2)])
        assert classes.as_numpy("y").shape == (2, 2)
        large = np.random.rand(500_000, 2).astype(np.float32)
        raises(InferenceServerException, lambda: client.infer("nop", [grpc_input(large[:, :1].copy())]), "INVALID_ARGUMENT")


@check
def grpc_large_tensors(http, grpc):
    with grpcclient.InferenceServerClient(grpc) as client:
        x = np.random.rand(4096, 256).astype(np.float32)
        equal(client.infer("wide", [grpc_input(x)]), x)


@check
def grpc_async_infer(http, grpc):
    done = queue.Queue()
    with grpcclient.InferenceServerClient(grpc) as client:
        for _ in range(32):
            client.async_infer("nop", [grpc_input()], lambda result, error: done.put((result, error)))
        for _ in range(32):
            result, error = done.get(timeout=30)
            assert error is None, error
            equal(result)


@check
def grpc_streaming(http, grpc):
    done = queue.Queue()
    with grpcclient.InferenceServerClient(grpc) as client:
        client.start_stream(lambda result, error: done.put((result, error)))
        for i in range(32):
            client.async_stream_infer("nop", [grpc_input()], request_id=str(i))
        client.async_stream_infer("nop", [grpc_input(X[:, :1].copy())], request_id="wrong")
        client.async_stream_infer("nop", [grpc_input()], request_id="last")
        ids, errors = set(), []
        for _ in range(34):
            result, error = done.get(timeout=30)
            if error is not None:
                errors.append(error)
                continue
            equal(result)
            ids.add(result.get_response().id)
        client.stop_stream()
        assert ids == {str(i) for i in range(32)} | {"last"} and len(errors) == 1, (ids, errors)


@check
def grpc_asyncio(http, grpc):
    async def ask():
        async with grpcaio.InferenceServerClient(grpc) as client:
            for result in await asyncio.gather(*[client.infer("nop", [grpc_input()]) for _ in range(16)]):
                equal(result)

            async def requests():
                for i in range(4):
                    yield {"model_name": "nop", "inputs": [grpc_input()], "request_id": str(i)}

            async for result, error in client.stream_infer(requests()):
                assert error is None, error
                equal(result)

    asyncio.run(ask())


@check
def grpc_client_timeout(http, grpc):
    with grpcclient.InferenceServerClient(grpc) as client:
        given = grpcclient.InferInput("x", [1, 1], "FP32")
        given.set_data_from_numpy(np.zeros((1, 1), dtype=np.float32))
        raises(InferenceServerException, lambda: client.infer("slow", [given], client_timeout=0.05), "Deadline")
        assert client.is_server_ready()


main("tritonclient")
