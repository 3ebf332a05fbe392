"""The description of the HTTP door, held to it by schemathesis: requests of its forms, right and wrong ones."""

import subprocess
import sys
from pathlib import Path

SERVER = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent

# The same requests in each run; and what it finds, it says with a `curl` line.
config = ["--config-file", HERE / "schemathesis.toml"]
# A server that drains is not there for the rest.
options = ["--exclude-path", "/drain", "--generation-deterministic", "--max-examples", "60"]
command = [sys.executable, "-m", "schemathesis.cli", *config, "run", SERVER / "openapi.json"]
command += ["--url", f"http://{sys.argv[1]}", *options]
sys.exit(subprocess.run(command, timeout=280).returncode)
