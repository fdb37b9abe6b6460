import pickle

import pytest

from keepfit import errors
from keepfit.errors import ConfigError, KeepfitError

ALL = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, KeepfitError) and value is not KeepfitError
]


@pytest.mark.parametrize("error", ALL)
def test_every_error_is_in_the_tree_with_the_builtin_it_derives_from(
    error: type[KeepfitError],
) -> None:
    builtin = next(base for base in error.__mro__ if base.__module__ == "builtins")
    assert f"── {error.__name__} ({builtin.__name__})" in (errors.__doc__ or "")
    assert builtin is not Exception
    assert error.__doc__


def test_an_error_reads_as_message_then_hint() -> None:
    error = ConfigError("expected a duration, got '14 days'", hint='write "14d"')
    assert str(error) == "expected a duration, got '14 days'\n\nhint: write \"14d\""
    assert str(ConfigError("expected a duration")) == "expected a duration"


@pytest.mark.parametrize("error", ALL)
def test_an_error_keeps_its_hint_on_the_way_between_processes(error: type[KeepfitError]) -> None:
    sent = pickle.loads(pickle.dumps(error("what is wrong", hint="what to do")))
    assert type(sent) is error
    assert (sent.message, sent.hint) == ("what is wrong", "what to do")


def test_the_nearest_name_is_found_and_a_far_one_is_not() -> None:
    assert errors.nearest("tenure", ["tenure_months", "plan"]) == "tenure_months"
    assert errors.nearest("tenure", ["plan", "age"]) is None
    assert errors.nearest("tenure", []) is None
