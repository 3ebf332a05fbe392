"""openai and huggingface-hub, unmodified, at the doors for texts."""

import math

from huggingface_hub import InferenceClient
from openai import BadRequestError, NotFoundError, OpenAI

from check import check, main, raises


@check
def openai_embeddings(http, grpc):
    client = OpenAI(base_url=f"http://{http}/v1", api_key="none", max_retries=0)
    assert "bert_mean" in [model.id for model in client.models.list()]
    assert client.models.retrieve("bert_mean").id == "bert_mean"
    base64 = client.embeddings.create(model="bert_mean", input=["the cat sat", "a dog ran"])
    floats = client.embeddings.create(model="bert_mean", input=["the cat sat", "a dog ran"], encoding_format="float")
    assert base64.usage.prompt_tokens > 0 and len(base64.data) == 2
    for one, other in zip(base64.data, floats.data):
        assert len(one.embedding) == 12
        assert all(abs(a - b) < 1e-6 for a, b in zip(one.embedding, other.embedding))
    short = client.embeddings.create(model="bert_mean", input="the cat sat", dimensions=4).data[0].embedding
    assert len(short) == 4 and abs(math.hypot(*short) - 1) < 1e-5
    ids = client.embeddings.create(model="bert_mean", input=[[2, 5, 3], [2, 6, 7, 3]])
    assert len(ids.data) == 2


@check
def openai_errors(http, grpc):
    client = OpenAI(base_url=f"http://{http}/v1", api_key="none", max_retries=0)
    error = raises(NotFoundError, lambda: client.embeddings.create(model="other", input="a"), "unknown model")
    assert error.type == "invalid_request_error" or error.body["type"] == "invalid_request_error"
    raises(BadRequestError, lambda: client.embeddings.create(model="bert_mean", input="the cat " * 100), "at most 32")


@check
def hub_feature_extraction(http, grpc):
    client = InferenceClient(f"http://{http}/embed")
    vectors = client.feature_extraction("the cat sat")
    assert vectors.shape == (1, 12), vectors.shape


@check
def hub_sentence_similarity(http, grpc):
    client = InferenceClient(f"http://{http}/similarity")
    scores = client.sentence_similarity("the cat", other_sentences=["the cat", "a dog ran"])
    assert abs(scores[0] - 1) < 1e-5 and scores[1] < 1


@check
def hub_text_classification(http, grpc):
    client = InferenceClient(f"http://{http}/predict")
    answer = client.post(json={"inputs": "the cat sat", "model": "bert_sequence"}) if hasattr(client, "post") else None
    if answer is None:
        import urllib.request, json
        request = urllib.request.Request(f"http://{http}/predict", method="POST",
                                         data=json.dumps({"inputs": "the cat sat", "model": "bert_sequence"}).encode())
        answer = urllib.request.urlopen(request).read()
    assert b"green" in answer


main("openai, huggingface-hub")
