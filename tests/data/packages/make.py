"""Writes compiled packages (`.pt2`), and what they give, with PyTorch.

    python3 -m venv VENV
    VENV/bin/pip install torch==2.11.0 numpy
    VENV/bin/python tests/data/packages/make.py

It takes g++ and strip as well. The code in a package is compiled for the processor that it is made on, unless it is told
otherwise: here for any x86-64, and without vector instructions, so that the test runs wherever the rest does. Sources and
names are left out, and the rest is compressed, which keeps the files small.
"""

import json
import subprocess
import tempfile
import zipfile
from pathlib import Path

import torch
from torch._inductor import config, cpp_builder

assert torch.__version__.split("+")[0] == "2.11.0", torch.__version__
torch.set_num_threads(1)
torch.manual_seed(1)
HERE = Path(__file__).parent
VERSION = torch.__version__.split("+")[0]

flags = cpp_builder._get_optimization_cflags


def for_any_processor(*args, **kwargs):
    cflags, ldflags = flags(*args, **kwargs)
    kept = [flag for flag in cflags if not flag.startswith(("march=", "mtune=", "mcpu="))]
    folder = Path(torch.__file__).parent
    return kept + ["march=x86-64", f"ffile-prefix-map={folder}=torch"], ldflags


cpp_builder._get_optimization_cflags = for_any_processor
config.cpp.simdlen = 1


class Expert(torch.nn.Module):
    """Two results in a dict, of two inputs."""

    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Linear(4, 8)
        self.outer = torch.nn.Linear(8, 3)

    def forward(self, x, scale):
        hidden = torch.relu(self.inner(x))
        return {"y": self.outer(hidden) * scale, "total": hidden.sum(1)}


def write(path, files):
    """An archive that is the same each time."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    print(path.name, path.stat().st_size)


def small(files, name):
    """Without sources, and without the names of what is inside."""
    for path, data in files.items():
        path = path.replace(path.split("/")[0], name, 1)
        if path.endswith(".so"):
            with tempfile.NamedTemporaryFile(suffix=".so") as code:
                Path(code.name).write_bytes(data)
                subprocess.run(["strip", "--strip-all", "--remove-section=.comment", code.name], check=True)
                data = Path(code.name).read_bytes()
        elif path.endswith(".wrapper.cpp"):
            data = b""  # by its name the metadata is found
        elif ".kernel" in path:
            continue
        yield path, data


def package(name, module, inputs, dynamic):
    exported = torch.export.export(module.eval(), inputs, dynamic_shapes=dynamic)
    metadata = {"inputs": "x:f32[4] scale:f32[1]", "torch": VERSION}
    with tempfile.TemporaryDirectory() as folder:
        path = torch._inductor.aoti_compile_and_package(
            exported,
            package_path=f"{folder}/{name}.pt2",
            # Else compiled code takes no batch of one row, whatever `min` says.
            inductor_configs={"aot_inductor.metadata": metadata, "aot_inductor.check_lowerbound": False},
        )
        with zipfile.ZipFile(path) as archive:
            files = {entry: archive.read(entry) for entry in archive.namelist()}
    files = dict(small(files, name))
    write(HERE / f"{name}.pt2", files)
    return files


rows = torch.export.Dim("rows", min=1, max=4096)
module = Expert()
with torch.no_grad():
    x, scale = torch.randn(5, 4), torch.randn(5, 1)
    files = package("expert", module, (x, scale), ({0: rows}, {0: rows}))
    package("fixed", module, (x, scale), None)
    result = module(x, scale)
    expected = {"x": x, "scale": scale, **result}
    text = json.dumps({key: value.double().flatten().tolist() for key, value in expected.items()})
    (HERE / "expected.json").write_text(text + "\n")

# For something else: their code is never looked at.
for name, key, value in [
    ("for_cuda", "AOTI_DEVICE_KEY", "cuda"),
    ("for_darwin", "AOTI_PLATFORM", "darwin"),
    ("for_riscv", "AOTI_MACHINE", "riscv64"),
    ("of_torch_2_6", "torch", "2.6.0"),
]:
    other = {}
    for path, data in files.items():
        if path.endswith("_metadata.json"):
            metadata = json.loads(data)
            metadata.pop("inputs")
            metadata[key] = value
            data = json.dumps(metadata).encode()
        elif path.endswith(".so"):
            data = b""
        other[path.replace("expert", name, 1)] = data
    write(HERE / f"{name}.pt2", other)
