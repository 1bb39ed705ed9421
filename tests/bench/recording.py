"""Record anew what ansible-runner says of one host: `python -m tests.bench.recording`."""

import json
import tempfile
from pathlib import Path
from typing import Any

from app.automation.events import Event
from app.automation.runner import PlaybookRun
from tests.bench.over_ansible import play_of
from tests.bench.place import CHECKOUT, Place, installation
from tests.bench.played import HOST, RECORDED


class Recording(PlaybookRun):
    """A run that keeps the raw events about its hosts."""

    raw: list[dict[str, Any]]

    def _on_raw_event(self, raw: dict[str, Any]) -> bool:
        if (raw.get("event_data") or {}).get("host"):
            self.raw.append(raw)
        return super()._on_raw_event(raw)


def main() -> None:
    with Place() as place, installation(workers=1) as asked:
        job_id = asked.install(place.hosts(1))
        asked.must_succeed(job_id)
        place.hosts(1)
        with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="hb-") as folder:
            run = Recording(play_of(asked.ctx, job_id), Path(folder))
            run.raw = []
            run.run(_ignore)
    assert run.raw[0]["event_data"]["host"] == HOST
    text = "".join(json.dumps(raw) + "\n" for raw in run.raw)
    RECORDED.write_text(text.replace(str(CHECKOUT), "/hostler"))


def _ignore(_event: Event) -> None:
    pass


if __name__ == "__main__":
    main()
