"""Trains the digits classifier of `cargo xtask serve`: numpy 2.4.6, from a fixed seed, and writes `model.safetensors`.

Pixels are 0 to 16, as the data has them. Every tenth image is left out, to say how well the rest was learned.
"""

import gzip
import json
import struct
import sys

import numpy as np

data = np.loadtxt(gzip.open(sys.argv[1]), delimiter=",")
x, label = data[:, :64].astype(np.float64), data[:, 64].astype(int)
held = np.arange(len(x)) % 10 == 0
draw = np.random.default_rng(1)
hidden = 32
p = {
    "fc1.weight": draw.normal(0, 0.05, (hidden, 64)), "fc1.bias": np.zeros(hidden),
    "fc2.weight": draw.normal(0, 0.2, (10, hidden)), "fc2.bias": np.zeros(10),
}
m = {name: (np.zeros_like(value), np.zeros_like(value)) for name, value in p.items()}


def forward(x):
    h = np.maximum(x @ p["fc1.weight"].T + p["fc1.bias"], 0)
    return h, h @ p["fc2.weight"].T + p["fc2.bias"]


step = 0
train = np.flatnonzero(~held)
for epoch in range(60):
    for batch in np.array_split(draw.permutation(train), 26):
        step += 1
        h, y = forward(x[batch])
        e = np.exp(y - y.max(1, keepdims=True))
        dy = (e / e.sum(1, keepdims=True) - np.eye(10)[label[batch]]) / len(batch)
        dh = (dy @ p["fc2.weight"]) * (h > 0)
        grads = {"fc2.weight": dy.T @ h, "fc2.bias": dy.sum(0), "fc1.weight": dh.T @ x[batch], "fc1.bias": dh.sum(0)}
        for name, g in grads.items():
            first, second = m[name]
            first += 0.1 * (g - first)
            second += 0.001 * (g * g - second)
            p[name] -= 0.003 * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
right = (forward(x[held])[1].argmax(1) == label[held]).mean()
print(f"{right:.1%} of the {held.sum()} images that were left out")

header, body = {}, b""
for name in sorted(p):
    raw = p[name].astype("<f4").tobytes()
    header[name] = {"dtype": "F32", "shape": list(p[name].shape), "data_offsets": [len(body), len(body) + len(raw)]}
    body += raw
head = json.dumps(header, separators=(",", ":")).encode()
head += b" " * (-len(head) % 8)
open("model.safetensors", "wb").write(struct.pack("<Q", len(head)) + head + body)
