"""Writes what silero-vad makes of a few streams of audio, in Python.

    python3 -m venv VENV
    VENV/bin/pip install torch==2.11.0 numpy
    VENV/bin/pip install --no-deps silero-vad==6.2.0
    VENV/bin/python tests/data/silero/make.py

The test (`backend-tch/tests/suite/silero.rs`) needs the module itself, which the wheel carries and the repository does not:
`SKEP_SILERO_VAD=.../silero_vad/data/silero_vad.jit`.
"""

import importlib.util
import json
import math
from pathlib import Path

import torch

assert torch.__version__.split("+")[0] == "2.11.0", torch.__version__
torch.set_num_threads(1)
STREAMS = 3
CHUNKS = 6
SAMPLES = 512


def chunk(stream, chunk):
    """A voice-like buzz whose loudness and pitch move; other pitches in other streams."""
    values = []
    for i in range(SAMPLES):
        t = (chunk * SAMPLES + i) / 16_000.0
        pitch = 110.0 + 40.0 * stream + 15.0 * math.sin(2.0 * math.pi * 3.0 * t)
        loud = 0.5 + 0.4 * math.sin(2.0 * math.pi * (4.0 + stream) * t)
        values.append(loud * 0.2 * sum(math.sin(2.0 * math.pi * pitch * k * t) / k for k in range(1, 9)))
    return torch.tensor(values, dtype=torch.float64).float()


folder = Path(importlib.util.find_spec("silero_vad").submodule_search_locations[0])
module = torch.jit.load(str(folder / "data" / "silero_vad.jit"))
module.eval()
streams = []
with torch.no_grad():
    for stream in range(STREAMS):
        module.reset_states()
        streams.append([module(chunk(stream, k).unsqueeze(0), 16_000).item() for k in range(CHUNKS)])
Path(__file__).with_name("expected.json").write_text(json.dumps(streams) + "\n")
print(streams)
