"""MLServer's types and stubs, unmodified, as a client."""

import json
import urllib.request

import grpc as grpclib
import numpy as np
from mlserver.codecs import NumpyCodec
from mlserver.grpc import converters
from mlserver.grpc import dataplane_pb2 as messages
from mlserver.grpc.dataplane_pb2_grpc import GRPCInferenceServiceStub
from mlserver.types import InferenceRequest, InferenceResponse, MetadataModelResponse, RepositoryIndexResponse

from check import check, main

X = np.array([[1.5, -2.0], [3.0, 0.25]], dtype=np.float32)
REQUEST = InferenceRequest(id="abc", inputs=[NumpyCodec.encode_input("x", X)])


@check
def rest(http, grpc):
    def ask(path, body=None):
        request = urllib.request.Request(f"http://{http}{path}", data=body, headers={"content-type": "application/json"})
        return urllib.request.urlopen(request, timeout=30).read()

    answer = InferenceResponse.model_validate_json(ask("/v2/models/nop/infer", REQUEST.model_dump_json().encode()))
    assert np.array_equal(NumpyCodec.decode_output(answer.outputs[0]), X), answer
    MetadataModelResponse.model_validate_json(ask("/v2/models/nop"))
    RepositoryIndexResponse.model_validate(json.loads(ask("/v2/repository/index", b"{}")))


@check
def grpc_calls(http, grpc):
    with grpclib.insecure_channel(grpc) as channel:
        stub = GRPCInferenceServiceStub(channel)
        assert stub.ServerReady(messages.ServerReadyRequest(), timeout=30).ready
        for raw in (False, True):
            request = converters.ModelInferRequestConverter.from_types(REQUEST, model_name="nop", use_raw=raw)
            answer = converters.ModelInferResponseConverter.to_types(stub.ModelInfer(request, timeout=30))
            assert np.array_equal(NumpyCodec.decode_output(answer.outputs[0]), X), answer


main("mlserver")
