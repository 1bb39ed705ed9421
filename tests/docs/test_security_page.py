"""docs/security.md: every promise names a test that is there, and every attack is named."""

from tests.docs.readme import CHECKOUT, rows, ticked

PAGE = CHECKOUT / "docs/security.md"
SECTIONS = ("Against hosts", "Against callers", "Against packages", "Against neighbours")


def named() -> set[str]:
    found = set()
    for heading in SECTIONS:
        for _, _, test in rows(heading, "Promise", PAGE):
            found |= set(ticked(test))
    return found


def test_every_promise_names_its_test() -> None:
    for heading in SECTIONS:
        for promise, _, test in rows(heading, "Promise", PAGE):
            assert ticked(test), promise
    assert all((CHECKOUT / path).is_file() for path in named())


def test_every_attack_is_on_the_page() -> None:
    attacks = (CHECKOUT / "tests/security").glob("test_*.py")

    assert {str(path.relative_to(CHECKOUT)) for path in attacks} <= named()
