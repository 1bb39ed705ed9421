"""A step's log as this language writes it: dated lines, a sentence at each end (§3.6)."""

from collections.abc import Iterator
from datetime import datetime

from app.api.nodeman.fields import written
from app.domain.catalogue import Title
from app.domain.states import Status
from app.jobs.views import StepView

BEGINS = Title("{step} begins.", "开始 {step}.")
ENDS = {
    Status.SUCCESS: ("INFO", Title("{step} succeeded.", "{step} 成功")),
    Status.FAILED: ("ERROR", Title("{step} failed; see above why.", "{step} 失败，原因见以上日志")),
}


def step_log(step: StepView, language: str) -> str:
    """What a step said, between when it began and how it ended; nothing before it begins."""
    return "\n".join(_lines(step, language))


def dated(moment: datetime | None, text: str, level: str = "INFO") -> str:
    """Each line of this text with the moment in front, as far as it is known."""
    if moment is None or not text:
        return text
    return "\n".join(f"[{written(moment)} {level}] {line}" for line in text.split("\n"))


def _lines(step: StepView, language: str) -> Iterator[str]:
    name = step.title.in_language(language)
    if step.started_at:
        yield dated(step.started_at, BEGINS.in_language(language).format(step=name))
    if said := step.log.strip("\n"):
        # nobody noted when each line came; not before this moment
        yield dated(step.started_at or step.finished_at, said)
    if step.finished_at and step.status in ENDS:
        level, sentence = ENDS[step.status]
        yield dated(step.finished_at, sentence.in_language(language).format(step=name), level)
