"""The description of the HTTP door, held to it by schemathesis: requests of its forms, right and wrong ones."""

import subprocess
import sys
from pathlib import Path

SERVER = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent

# The same requests in each run; and what it finds, it says with a `curl` line.
options = ["--config-file", HERE / "schemathesis.toml"]
command = [sys.executable, "-m", "schemathesis.cli", *options, "run", SERVER / "openapi.json", "--url", f"http://{sys.argv[1]}"]
sys.exit(subprocess.run(command, timeout=280).returncode)
