"""Every word the pages can say is there in both languages."""

import re
from pathlib import Path

from app.api.console import words
from app.domain.states import Cause, JobStatus, Status

TEMPLATES = Path(words.__file__).parent / "templates"
VALUES = {f"status {status}" for status in (*Status, *JobStatus)} | {f"cause {c}" for c in Cause}


def test_every_status_and_cause_has_a_name() -> None:
    assert words.EN.keys() == VALUES
    assert words.ZH.keys() >= VALUES


def test_every_sentence_of_the_pages_is_there_in_chinese_and_no_other() -> None:
    texts = [path.read_text() for path in TEMPLATES.rglob("*.html")]
    said = {
        found[1] for text in texts for found in re.finditer(r"""say\(["']([^"']+)["']\)""", text)
    }
    assert words.ZH.keys() - VALUES == said - VALUES
