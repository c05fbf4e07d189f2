"""What is relied on after it was changed here: nothing that was asked before."""

from __future__ import annotations

from slackwater.kit.answers import Answers
from slackwater.kit.moment import Moment


def known(answers: Answers[str, int], key: str) -> int | None:
    found = answers.recall(key, fresh=60, stale=60)
    return found.value if found is not None else None


def test_what_has_changed_is_asked_again_and_the_rest_is_not() -> None:
    answers = Answers[str, int]()
    for key, value in (("a", 1), ("b", 2), ("c", 1)):
        answers.remember(key, value, Moment.now())
    answers.forget_where(lambda value: value == 1)
    assert [known(answers, key) for key in "abc"] == [None, 2, None]


def test_an_answer_that_comes_after_the_change_but_was_asked_before_is_not_relied_on() -> None:
    answers = Answers[str, int]()
    with answers.asking("a") as asked:
        answers.forget_where(lambda value: value == 1)
    answers.remember("a", 1, asked)
    assert known(answers, "a") is None
