"""The SDK of KServe, unmodified, over HTTP and gRPC."""

import asyncio

import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferOutput, InferRequest
from kserve.inference_client import RESTConfig

from check import check, main

X = np.array([[1.5, -2.0], [3.0, 0.25]], dtype=np.float32)


def request(binary):
    given = InferInput("x", [2, 2], "FP32")
    given.set_data_from_numpy(X, binary_data=binary)
    return InferRequest("nop", [given], request_id="abc")


@check
def rest(http, grpc):
    async def ask():
        client = InferenceRESTClient(RESTConfig(protocol="v2", timeout=30))
        base = f"http://{http}"
        assert await client.is_server_ready(base)
        assert await client.is_server_live(base)
        assert await client.is_model_ready(base, "nop")
        for binary in (False, True):
            answer = await client.infer(base, request(binary), model_name="nop")
            assert np.array_equal(answer.outputs[0].as_numpy(), X), answer
            assert answer.id == "abc" and answer.model_name == "nop"

    asyncio.run(ask())


@check
def grpc_calls(http, grpc):
    async def ask():
        client = InferenceGRPCClient(grpc, timeout=30)
        assert await client.is_server_ready()
        assert await client.is_server_live()
        assert await client.is_model_ready("nop")
        for binary in (False, True):
            answer = await client.infer(request(binary))
            assert np.array_equal(answer.outputs[0].as_numpy(), X), answer

    asyncio.run(ask())


main("kserve")
