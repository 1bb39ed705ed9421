"""Sentences are strings that can be stored and said in another language."""

import pickle

from app.domain.sentences import Sentence, join, mapped, restored, say, stored, translated

ZH = {
    "Host {host} is busy.": "主机 {host} 正忙。",
    "Because {why}": "因为 {why}",
    "It runs.": "正在运行。",
}


def look_up(key: str) -> str:
    return ZH.get(key, key)


def test_a_sentence_is_its_english_text() -> None:
    assert say("Host {host} is busy.", host="10.0.0.7") == "Host 10.0.0.7 is busy."


def test_a_sentence_is_translated_with_the_sentences_in_it() -> None:
    said = say("Because {why}", why=say("Host {host} is busy.", host=7))
    assert translated(said, look_up) == "因为 主机 7 正忙。"


def test_joined_sentences_are_translated_one_by_one() -> None:
    said = join([say("It runs."), "plain words", say("Host {host} is busy.", host=7)])
    assert said == "It runs. plain words Host 7 is busy."
    assert translated(said, look_up) == "正在运行。 plain words 主机 7 正忙。"


def test_a_stored_sentence_comes_back_whole() -> None:
    said = join([say("Because {why}", why=say("It runs.")), "{not a place}"])
    back = restored(stored(said))
    assert back == said
    assert isinstance(back, Sentence)
    assert translated(back, look_up) == translated(said, look_up)
    assert translated(pickle.loads(pickle.dumps(said)), look_up) == translated(said, look_up)


def test_plain_text_is_stored_as_it_is_and_cannot_pose_as_a_sentence() -> None:
    assert stored("plain {words}") == "plain {words}"
    forged = '\x01{"key":"It runs.","values":{}}'
    for text in (forged, "\x01" + forged):
        assert not isinstance(restored(stored(text)), Sentence)


def test_a_damaged_stored_form_is_plain_text() -> None:
    assert restored('\x01{"key": "{a}", "values": {}}') == '{"key": "{a}", "values": {}}'
    assert restored("\x01[") == "["


def test_values_are_changed_inside_a_sentence() -> None:
    said = say("Because {why}", why=say("Host {host} is busy.", host="secret"))
    hidden = mapped(said, lambda text: text.replace("secret", "***"))
    assert hidden == "Because Host *** is busy."
    assert isinstance(hidden, Sentence)


def test_a_value_with_braces_is_never_a_place() -> None:
    assert say("Because {why}", why="{host} {0}") == "Because {host} {0}"
