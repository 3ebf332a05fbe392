"""PyTorch or ONNX Runtime at one kind of batch: says `ready`, and then answers each number of seconds by one round."""

import json
import os
import sys
import time


def prepare(out):
    """Writes the graph of the feed-forward block, and all graphs in int8."""
    import numpy
    from onnx import TensorProto, helper, numpy_helper, save
    from onnxruntime.quantization import QuantType, quantize_dynamic

    size, wide = 1024, 4096
    random = numpy.random.default_rng(7)

    def stored(name, *dims):
        return numpy_helper.from_array(random.uniform(-0.03, 0.03, dims).astype("float32"), name)

    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["a"]),
        helper.make_node("Add", ["a", "b1"], ["b"]),
        helper.make_node("Gelu", ["b"], ["c"], domain="com.microsoft"),
        helper.make_node("MatMul", ["c", "w2"], ["d"]),
        helper.make_node("Add", ["d", "b2"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "ffn",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", size])],
        [stored("w1", size, wide), stored("b1", wide), stored("w2", wide, size), stored("b2", size)],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    save(helper.make_model(graph, opset_imports=opsets, ir_version=8), f"{out}/ffn.onnx")
    for name in ("ffn", "minilm"):
        if os.path.exists(f"{out}/{name}.onnx"):
            # Of what a node of another domain makes, nothing else says the type.
            types = {"DefaultTensorType": TensorProto.FLOAT}
            files = [f"{out}/{name}.onnx", f"{out}/{name}-int8.onnx"]
            quantize_dynamic(*files, weight_type=QuantType.QInt8, extra_options=types)


def onnxruntime(file, workload, rows, tokens, threads):
    import numpy
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    if workload == "ffn":
        inputs = {"x": numpy.linspace(-1, 1, rows * 1024, dtype="float32").reshape(rows, 1024)}
    else:
        ids = (1000 + (numpy.arange(rows * tokens) * 7919) % 20000).reshape(rows, tokens).astype("uint32")
        inputs = {}
        for given in session.get_inputs():
            ones = numpy.ones_like(ids) if "mask" in given.name else numpy.zeros_like(ids)
            inputs[given.name] = ids if given.name == "input_ids" else ones
    return lambda: session.run(None, inputs)


def pytorch(folder, workload, rows, tokens, threads, bf16):
    import torch
    import torch.nn.functional as f

    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    dtype = torch.bfloat16 if bf16 else torch.float32
    if workload == "ffn":
        layers = torch.nn.Sequential(torch.nn.Linear(1024, 4096), torch.nn.GELU(), torch.nn.Linear(4096, 1024)).to(dtype)
        x = torch.linspace(-1, 1, rows * 1024).view(rows, 1024).to(dtype)
        return lambda: layers(x)
    from safetensors.torch import load_file

    weights = {name: value.to(dtype) for name, value in load_file(f"{folder}/model.safetensors").items() if value.is_floating_point()}
    ids = ((1000 + torch.arange(rows * tokens) * 7919) % 20000).view(rows, tokens)
    mask = torch.ones(rows, tokens)
    count, size = 12, 32

    def linear(x, name):
        return f.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def norm(x, name):
        return f.layer_norm(x, (count * size,), weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-12)

    def run():
        table = weights.__getitem__
        x = f.embedding(ids, table("embeddings.word_embeddings.weight"))
        x = x + table("embeddings.token_type_embeddings.weight")[0] + table("embeddings.position_embeddings.weight")[:tokens]
        x = norm(x, "embeddings.LayerNorm")
        added = ((1 - mask) * -1e30).to(dtype)[:, None, None, :]
        for layer in range(6):
            at = f"encoder.layer.{layer}"
            heads = [linear(x, f"{at}.attention.self.{name}").view(rows, tokens, count, size).transpose(1, 2) for name in ("query", "key", "value")]
            mixed = f.scaled_dot_product_attention(*heads, attn_mask=added).transpose(1, 2).reshape(rows, tokens, count * size)
            x = norm(linear(mixed, f"{at}.attention.output.dense") + x, f"{at}.attention.output.LayerNorm")
            wide = f.gelu(linear(x, f"{at}.intermediate.dense"))
            x = norm(linear(wide, f"{at}.output.dense") + x, f"{at}.output.LayerNorm")
        kept = mask[:, :, None]
        return f.normalize((x.float() * kept).sum(1) / kept.sum(1))

    return run


def mixed(file, callers, threads):
    """Callers in threads of their own, each with one text of its own length at a time, on one session."""
    import threading

    import numpy
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def inputs(tokens):
        ids = (1000 + (numpy.arange(tokens) * 7919) % 20000).reshape(1, tokens).astype("uint32")
        filled = {}
        for given in session.get_inputs():
            ones = numpy.ones_like(ids) if "mask" in given.name else numpy.zeros_like(ids)
            filled[given.name] = ids if given.name == "input_ids" else ones
        return filled

    ready = [inputs(tokens) for tokens in range(129)]
    states = list(range(1, callers + 1))

    def run(seconds):
        latencies = [[] for _ in range(callers)]
        begun = time.perf_counter()

        def call(caller):
            while not latencies[caller] or time.perf_counter() - begun < seconds:
                states[caller] = (states[caller] * 1103515245 + 12345) % (1 << 31)
                start = time.perf_counter()
                session.run(None, ready[8 + (states[caller] >> 8) % 121])
                latencies[caller].append((time.perf_counter() - start) * 1e6)

        running = [threading.Thread(target=call, args=(caller,)) for caller in range(callers)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
        return [latency for of_caller in latencies for latency in of_caller]

    return run


def load(system, out, folder, workload, rows, tokens, threads):
    if not system.startswith("onnxruntime"):
        return pytorch(folder, workload, rows, tokens, threads, system.endswith("bf16"))
    name = {"ffn": "ffn", "MiniLM": "minilm"}[workload] + ("-int8" if system.endswith("int8") else "")
    return onnxruntime(f"{out}/{name}.onnx", workload, rows, tokens, threads)


def main():
    system, out = sys.argv[1:3]
    if system == "prepare":
        return prepare(out)
    folder, workload = sys.argv[3:5]
    rows, tokens, threads = map(int, sys.argv[5:])
    if workload == "mixed":
        run, rows = mixed(f"{out}/minilm.onnx", rows, threads), 1
    else:
        call = load(system, out, folder, workload, rows, tokens, threads)
        call()

        def run(seconds):
            latencies, begun = [], time.perf_counter()
            while not latencies or time.perf_counter() - begun < seconds:
                start = time.perf_counter()
                call()
                latencies.append((time.perf_counter() - start) * 1e6)
            return latencies

    print("ready", flush=True)
    for line in sys.stdin:
        seconds = float(line)
        if seconds <= 0:
            break
        # The first calls after a pause are slow, and do not count for others either.
        run(0)
        begun, cpu = time.perf_counter(), time.process_time()
        latencies = run(seconds)
        passed = time.perf_counter() - begun
        calls = len(latencies)
        sample = {
            "tasks": calls * rows,
            "rows": calls * rows,
            "batches": calls,
            "seconds": passed,
            "cpu_seconds": time.process_time() - cpu,
            "latencies_us": latencies,
            "device_busy": None,
        }
        print(json.dumps(sample), flush=True)


main()
