"""What a source needs before its tests can run."""

from __future__ import annotations

import subprocess
from pathlib import Path


def grpcio(source: Path, python: Path) -> Path:
    """Compile the messages that the tests exchange; the folder of the tests."""
    tests = source / "src" / "python" / "grpcio_tests"
    messages = [f"src/proto/grpc/testing/{name}.proto" for name in ("empty", "messages", "test")]
    compiler = (python, "-m", "grpc_tools.protoc", "-I.")
    outputs = (f"--python_out={tests}", f"--grpc_python_out={tests}")
    subprocess.run([*compiler, *outputs, *messages], cwd=source, check=True)
    return tests
