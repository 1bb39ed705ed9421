"""The catalogue is complete, and agrees with the playbooks and the roles."""

from pathlib import Path

import pytest
import yaml

from app.domain.catalogue import BY_HAND, CATALOGUE, Executor, JobType, get_job_type
from app.domain.errors import InvalidRequest

CHECKOUT = Path(__file__).resolve().parents[2]
PLAYBOOKS = CHECKOUT / "playbooks"
OURS = {"release_hosts", "roll_back"}  # playbooks the engine itself uses


@pytest.mark.parametrize("job_type", CATALOGUE.values(), ids=lambda job_type: job_type.name)
def test_a_job_type_has_its_playbook_exactly_when_a_worker_runs_it(job_type: JobType) -> None:
    has_one = (PLAYBOOKS / f"{job_type.playbook}.yml").is_file()

    assert has_one == (job_type.executor is Executor.PLAYBOOK)


def test_no_playbook_is_without_a_job_type() -> None:
    names = {path.stem for path in PLAYBOOKS.glob("*.yml")} - OURS

    assert names <= {job_type.playbook for job_type in CATALOGUE.values()}


@pytest.mark.parametrize("job_type", CATALOGUE.values(), ids=lambda job_type: job_type.name)
def test_titles_and_steps_speak_both_languages(job_type: JobType) -> None:
    titles = [job_type.title, *(step.title for step in job_type.steps)]

    assert job_type.steps
    assert all(title.en and title.zh for title in titles)
    assert len({step.key for step in job_type.steps}) == len(job_type.steps)


@pytest.mark.parametrize("path", sorted(PLAYBOOKS.glob("*.yml")), ids=lambda path: path.stem)
def test_plays_run_on_whatever_the_limit_says_and_gather_nothing(path: Path) -> None:
    for play in yaml.safe_load(path.read_text()):
        if "ansible.builtin.import_playbook" not in play:
            assert play["hosts"] == "all"
            assert play["gather_facts"] is False


def test_an_unknown_name_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(InvalidRequest, match="INSTALL_AGENT"):
        get_job_type("INSTALL_AGENTS")


def test_manual_rows_lead_to_job_types_there_are() -> None:
    assert set(BY_HAND.values()) <= CATALOGUE.keys()
