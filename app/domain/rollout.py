"""A rollout: a canary first, then growing batches, and when to stop or to wait."""

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from app.domain.errors import InvalidRequest

PERCENT = re.compile(r"(\d{1,3})\s*%")
MAX_SOAK = timedelta(days=7)


class RolloutInvalid(InvalidRequest):
    """This rollout does not add up."""


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """How the hosts of a task are cut into waves, wave 0 being the canary if there is one."""

    canary: int = 0  # hosts
    batches: tuple[int, ...] = (100,)  # percent of all hosts, cumulative, ending at 100
    max_failed: int | None = None  # hosts, or percent of all hosts when `in_percent`
    in_percent: bool = False
    soak: timedelta = timedelta()  # between a wave's end and the next one
    confirm: bool = False  # a person lets each next wave go

    def waves(self, total: int) -> tuple[int, ...]:
        """How many hosts each wave takes; every host is in exactly one, no wave is empty."""
        ends = [min(self.canary, total)] if self.canary else []
        ends += [max(-(-total * percent // 100), self.canary) for percent in self.batches]
        sizes, reached = [], 0
        for end in ends:
            sizes.append(min(end, total) - reached)
            reached = min(end, total)
        return tuple(size for size in sizes if size > 0)

    def allowed_failures(self, total: int) -> int:
        """How many hosts of all may fail before the rollout stops."""
        if self.max_failed is None:
            return total
        return total * self.max_failed // 100 if self.in_percent else self.max_failed

    def must_stop(self, failed: int, total: int, is_canary: bool) -> str | None:
        """Why no further wave may begin, or None. A canary that fails has done its work."""
        if is_canary and failed:
            return f"the canary failed on {failed} host(s)"
        allowed = self.allowed_failures(total)
        if failed > allowed:
            return f"{failed} of {total} hosts failed, at most {allowed} may"
        return None


def parse_rollout(raw: Any) -> Rollout:
    """Read `{canary, batches, max_failed, soak_seconds, confirm}`; refuse what does not add up."""
    if not isinstance(raw, Mapping):
        raise RolloutInvalid("rollout is an object: {canary, batches, max_failed, …}.")
    if unknown := sorted(set(raw) - {"canary", "batches", "max_failed", "soak_seconds", "confirm"}):
        raise RolloutInvalid(f"rollout knows no {', '.join(map(str, unknown))}.")
    max_failed, in_percent = _threshold(raw.get("max_failed"))
    soak = timedelta(seconds=_whole(raw.get("soak_seconds", 0), "rollout.soak_seconds"))
    if soak > MAX_SOAK:
        raise RolloutInvalid(f"rollout.soak_seconds is at most {MAX_SOAK.total_seconds():.0f}.")
    return Rollout(
        canary=_whole(raw.get("canary", 0), "rollout.canary"),
        batches=_batches(raw.get("batches", ["100%"])),
        max_failed=max_failed,
        in_percent=in_percent,
        soak=soak,
        confirm=_flag(raw.get("confirm", False)),
    )


def dump_rollout(rollout: Rollout) -> dict[str, Any]:
    """The same rollout as plain data, which `parse_rollout` reads back."""
    limit = rollout.max_failed
    return {
        "canary": rollout.canary,
        "batches": [f"{percent}%" for percent in rollout.batches],
        "max_failed": f"{limit}%" if rollout.in_percent else limit,
        "soak_seconds": int(rollout.soak.total_seconds()),
        "confirm": rollout.confirm,
    }


def _batches(raw: Any) -> tuple[int, ...]:
    if not isinstance(raw, Sequence) or isinstance(raw, str) or not raw:
        raise RolloutInvalid('rollout.batches is a list such as ["10%", "50%", "100%"].')
    ends = tuple(_percent(item) for item in raw)
    if any(later <= earlier for earlier, later in itertools.pairwise(ends)):
        raise RolloutInvalid(f"rollout.batches must grow; {list(raw)} does not.")
    if ends[-1] != 100:
        raise RolloutInvalid(f"rollout.batches must end at 100%; {raw[-1]} leaves hosts out.")
    return ends


def _percent(item: Any) -> int:
    match = PERCENT.fullmatch(item.strip()) if isinstance(item, str) else None
    if match is None or not 1 <= int(match[1]) <= 100:
        raise RolloutInvalid(f"rollout.batches holds percentages from 1% to 100%, not {item!r}.")
    return int(match[1])


def _threshold(raw: Any) -> tuple[int | None, bool]:
    if raw is None:
        return None, False
    if isinstance(raw, str) and (match := PERCENT.fullmatch(raw.strip())):
        if int(match[1]) > 100:
            raise RolloutInvalid(f"rollout.max_failed is at most 100%, not {raw}.")
        return int(match[1]), True
    return _whole(raw, "rollout.max_failed"), False


def _whole(raw: Any, name: str) -> int:
    try:
        number = int(raw)
    except (TypeError, ValueError, OverflowError):
        number = -1
    if isinstance(raw, bool) or number < 0 or number > 10**9:
        raise RolloutInvalid(f"{name} is a whole number from 0, not {raw!r}.")
    return number


def _flag(raw: Any) -> bool:
    if isinstance(raw, bool):
        return raw
    raise RolloutInvalid(f"rollout.confirm is true or false, not {raw!r}.")
