"""Bring the package `hostler` along in memory: what follows can import it, no file is written."""

import base64
import json
import sys
import zlib
from importlib.machinery import ModuleSpec

SOURCES = json.loads(zlib.decompress(base64.b64decode("@SOURCES@")).decode())


class Carrier:
    """Finds and loads the modules that came along, by their names inside the package."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        package, _, module = name.partition(".")
        if package == "hostler" and (module or "__init__") in SOURCES:
            return ModuleSpec(name, Carrier, is_package=not module)
        return None

    @staticmethod
    def create_module(spec):
        return None

    @staticmethod
    def exec_module(module):
        name = module.__name__.partition(".")[2] or "__init__"
        exec(compile(SOURCES[name], "hostler/" + name + ".py", "exec"), module.__dict__)  # noqa: S102


sys.meta_path.insert(0, Carrier)
