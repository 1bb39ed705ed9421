"""Pack the program for its way to a host: run here, by the action plugin and by Hostler."""

import base64
import json
import zlib
from pathlib import Path

FILES = Path(__file__).resolve().parent


def carry() -> str:
    """Python that brings the package `hostler` along; what is written after it can import that."""
    modules = sorted((FILES / "hostler").glob("*.py"))
    sources = {path.stem: path.read_text(encoding="utf-8") for path in modules}
    packed = base64.b64encode(zlib.compress(json.dumps(sources).encode(), 9)).decode()
    return (FILES / "carrier.py").read_text(encoding="utf-8").replace("@SOURCES@", packed)
