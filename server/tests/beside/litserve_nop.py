"""The null model for LitServe: bytes that come back, in batches. Its protocol is JSON, so they are base64."""

import sys

import litserve


class Nop(litserve.LitAPI):
    def setup(self, device):
        pass

    def decode_request(self, request):
        return request["x"]

    def batch(self, inputs):
        return inputs

    def predict(self, x):
        return x

    def unbatch(self, outputs):
        return outputs

    def encode_response(self, output):
        return {"y": output}


if __name__ == "__main__":
    api = Nop(max_batch_size=64, batch_timeout=0.001, api_path="/inference")
    server = litserve.LitServer(api, accelerator="cpu", timeout=60)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", generate_client_file=False)
