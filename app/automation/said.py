"""What hosts say, cut and cleaned by the same rules as the role's action plugin has."""

from collections.abc import Callable
from pathlib import Path
from runpy import run_path
from typing import Any

_ANSWERS = run_path(str(Path(__file__).resolve().parents[2] / "roles/package/files/answers.py"))

MOST_SAID: int = _ANSWERS["MOST_SAID"]
TOO_MUCH: int = _ANSWERS["TOO_MUCH"]
NotAnAnswer: type[ValueError] = _ANSWERS["NotAnAnswer"]
shorten: Callable[..., str] = _ANSWERS["shorten"]
kept: Callable[..., str] = _ANSWERS["kept"]
bounded: Callable[[Any], Any] = _ANSWERS["bounded"]
checked: Callable[[Any], dict[str, Any]] = _ANSWERS["checked"]
