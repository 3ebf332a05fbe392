"""Writes what PyTorch's optimizers and batch norm make of the blocks of the suite.

    python3 -m venv VENV
    VENV/bin/pip install torch==2.11.0 numpy
    VENV/bin/python tests/data/training/make.py

`expected.json` has a row for each optimizer, element type and sort of block (`tests/src/suite/pytorch.rs`), with the
parameters after 20 steps. Parameters of half precision are trained as PyTorch's documentation of automatic mixed precision
and NVIDIA's Apex (level O2) do it: forward and backward in half precision, the step on a master copy in f32.
"""

import json
from pathlib import Path

import torch

assert torch.__version__.split("+")[0] == "2.11.0", torch.__version__
torch.set_num_threads(1)

STEPS = 20
DTYPES = {"f32": torch.float32, "f64": torch.float64, "bf16": torch.bfloat16, "f16": torch.float16}
OPTIMIZERS = {
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=0.05, weight_decay=0.1),
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.1),
    "momentum": lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=0.05),
}
SORTS = ["plain", "tied", "late", "clipped"]
MAX_NORM = 0.5


def noise(dims, seed):
    """`skep_tests::kit::noise`."""
    count = 1
    for dim in dims:
        count *= dim
    state = (seed * 2_654_435_761 + 1) % 2**32
    values = []
    for _ in range(count):
        state = (state * 1_664_525 + 1_013_904_223) % 2**32
        values.append((state >> 16) / 32_768.0 - 1.0)
    return torch.tensor(values, dtype=torch.float64).reshape(dims)


def train(optimizer, dtype, sort):
    own = {"w": noise([4], 1001).to(dtype)}
    if sort != "tied":
        own["b"] = noise([4], 1002).to(dtype)
    own = {name: torch.nn.Parameter(value) for name, value in own.items()}
    half = dtype in (torch.float16, torch.bfloat16)
    stepped = {name: torch.nn.Parameter(p.detach().float()) for name, p in own.items()} if half else own
    optimizer = OPTIMIZERS[optimizer](list(stepped.values()))
    for step in range(STEPS):
        rows = 2 if sort == "late" and step >= STEPS // 2 else 1
        x = noise([rows, 4], step).to(dtype)
        gradient = noise([rows, 4], 100 + step).to(dtype)
        y = x * own["w"]
        if sort == "tied":
            y = y + own["w"]
        elif sort != "late" or rows > 1:
            y = y + own["b"]
        y.backward(gradient)
        if half:
            for name, p in own.items():
                stepped[name].grad = None if p.grad is None else p.grad.float()
                p.grad = None
        if sort == "clipped":
            torch.nn.utils.clip_grad_norm_(list(stepped.values()), MAX_NORM)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if half:
            for name, p in own.items():
                p.data = stepped[name].detach().to(dtype)
    return {name: stepped[name].detach().double().tolist() for name in own}


def batch_norm():
    """Three steps of gradient descent, then inference."""
    norm = torch.nn.BatchNorm1d(3)
    optimizer = torch.optim.SGD(norm.parameters(), lr=0.1)
    norm.train()
    for step in range(3):
        norm(noise([5, 3, 2], step).float()).backward(noise([5, 3, 2], 100 + step).float())
        optimizer.step()
        optimizer.zero_grad()
    norm.eval()
    state = {name: value.double().tolist() for name, value in norm.state_dict().items() if value.dim() > 0}
    return {"state": state, "inference": norm(noise([2, 3, 2], 50).float()).double().flatten().tolist()}


rows = [
    {"optimizer": optimizer, "dtype": dtype, "sort": sort, "parameters": train(optimizer, DTYPES[dtype], sort)}
    for optimizer in OPTIMIZERS
    for dtype in DTYPES
    for sort in SORTS
]
lines = ",\n".join(json.dumps(row) for row in rows)
text = '{"rows": [\n' + lines + '\n],\n"batch_norm": ' + json.dumps(batch_norm()) + "}\n"
Path(__file__).with_name("expected.json").write_text(text)
