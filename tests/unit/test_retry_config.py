import math
from typing import Any

import pytest
from connectrpc.code import Code

from connectplugin_interceptors.errors import ConfigError
from connectplugin_interceptors.retry.config import RetryBudgetPolicy, RetryPolicy


def test_the_defaults_are_the_documented_ones() -> None:
    policy = RetryPolicy()
    assert policy.max_attempts == 2
    assert policy.initial_backoff == 0.05
    assert policy.max_backoff == 20.0
    assert policy.backoff_multiplier == 2.0
    assert policy.throttle_initial_backoff == 1.0
    assert policy.retryable_errors == frozenset()
    assert policy.idempotent is None
    assert policy.budget == RetryBudgetPolicy(ratio=0.1, window=10.0, reserve=1.0)


def test_it_is_a_value_that_can_be_shared_and_hashed() -> None:
    first = RetryPolicy(retryable_errors=[Code.ABORTED, Code.INTERNAL])
    second = RetryPolicy(retryable_errors={Code.INTERNAL, Code.ABORTED})
    assert first == second
    assert hash(first) == hash(second)
    with pytest.raises(AttributeError):
        first.max_attempts = 3  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("attempts", [0, 1, 2, 3, 4, 5])
def test_no_retry_at_all_and_up_to_five_attempts_are_accepted(attempts: int) -> None:
    assert RetryPolicy(max_attempts=attempts).max_attempts == attempts


NUMBERS_THAT_ARE_NONE = [math.nan, math.inf, -math.inf, -1, True, "1", None, 10**400]


@pytest.mark.parametrize("value", [*NUMBERS_THAT_ARE_NONE, 6, 2.0])
def test_max_attempts_refuses_what_is_no_count_up_to_five(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"RetryPolicy\.max_attempts is .+; it must be .+<= 5"):
        RetryPolicy(max_attempts=value)


@pytest.mark.parametrize("value", NUMBERS_THAT_ARE_NONE)
@pytest.mark.parametrize(
    "field", ["initial_backoff", "max_backoff", "throttle_initial_backoff", "backoff_multiplier"]
)
def test_every_number_of_the_policy_refuses_nonsense_by_name(field: str, value: Any) -> None:
    settings: dict[str, Any] = {field: value}
    with pytest.raises(ConfigError, match=rf"RetryPolicy\.{field} is .+; it must be a finite"):
        RetryPolicy(**settings)


def test_a_multiplier_below_one_would_shrink_the_waits() -> None:
    with pytest.raises(ConfigError, match=r"backoff_multiplier is 0\.5; it must be .+>= 1"):
        RetryPolicy(backoff_multiplier=0.5)


def test_a_first_backoff_above_the_largest_is_a_contradiction() -> None:
    with pytest.raises(ConfigError, match=r"initial_backoff is 30\.0, above max_backoff \(20\.0\)"):
        RetryPolicy(initial_backoff=30.0)


def test_a_small_max_backoff_needs_no_word_about_throttling() -> None:
    assert RetryPolicy(max_backoff=0.2).throttle_initial_backoff == 1.0


@pytest.mark.parametrize("value", [1, "yes", 0])
def test_idempotent_is_a_question_with_three_answers(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"RetryPolicy\.idempotent is .+ bool or None"):
        RetryPolicy(idempotent=value)


def test_a_budget_is_a_budget_policy_or_none() -> None:
    assert RetryPolicy(budget=None).budget is None
    wrong: Any = 0.1
    with pytest.raises(
        ConfigError, match=r"RetryPolicy\.budget is 0\.1.+RetryBudgetPolicy or None"
    ):
        RetryPolicy(budget=wrong)


@pytest.mark.parametrize("given", [[Code.ABORTED], (Code.ABORTED,), {Code.ABORTED: 1}])
def test_retryable_errors_takes_any_iterable_and_keeps_a_frozenset(given: Any) -> None:
    assert RetryPolicy(retryable_errors=given).retryable_errors == frozenset({Code.ABORTED})
    one_by_one: Any = (code for code in given)
    kept = RetryPolicy(retryable_errors=one_by_one).retryable_errors
    assert isinstance(kept, frozenset)
    assert kept == {Code.ABORTED}


OPT_IN = {
    Code.UNKNOWN,
    Code.INTERNAL,
    Code.DATA_LOSS,
    Code.ABORTED,
    Code.UNAVAILABLE,
    Code.DEADLINE_EXCEEDED,
}


@pytest.mark.parametrize("code", [code for code in Code if code in OPT_IN])
def test_codes_that_may_be_opted_in(code: Code) -> None:
    assert code in RetryPolicy(retryable_errors={code}).retryable_errors


@pytest.mark.parametrize("code", [code for code in Code if code not in OPT_IN])
def test_codes_that_are_never_retried_are_refused_with_the_reason(code: Code) -> None:
    with pytest.raises(ConfigError, match=rf"holds Code\.{code.name}, which is never .+may hold"):
        RetryPolicy(retryable_errors={code})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("aborted", "is 'aborted'; it must be a collection"),
        (None, "is None; it must be a collection"),
        (Code.ABORTED, "is <Code.ABORTED: 'aborted'>; it must be a collection"),
        (["aborted"], "holds 'aborted'; it must hold members of connectrpc.code.Code"),
        ([10], "holds 10; it must hold members of connectrpc.code.Code"),
    ],
)
def test_retryable_errors_refuses_what_is_no_collection_of_codes(given: Any, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        RetryPolicy(retryable_errors=given)
    assert said in str(caught.value)


@pytest.mark.parametrize("value", NUMBERS_THAT_ARE_NONE)
@pytest.mark.parametrize("field", ["ratio", "window", "reserve"])
def test_every_number_of_the_budget_refuses_nonsense_by_name(field: str, value: Any) -> None:
    settings: dict[str, Any] = {field: value}
    with pytest.raises(
        ConfigError, match=rf"RetryBudgetPolicy\.{field} is .+; it must be a finite"
    ):
        RetryBudgetPolicy(**settings)


@pytest.mark.parametrize(("field", "value"), [("ratio", 1.1), ("window", 0.0), ("window", 0.05)])
def test_a_budget_has_bounds(field: str, value: float) -> None:
    settings: dict[str, Any] = {field: value}
    with pytest.raises(ConfigError, match=rf"RetryBudgetPolicy\.{field} is {value}"):
        RetryBudgetPolicy(**settings)


def test_a_budget_that_never_grants_anything_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"ratio is 0.+no retry would ever be granted"):
        RetryBudgetPolicy(ratio=0, reserve=0.05)
    assert RetryBudgetPolicy(ratio=0, reserve=0.1).reserve == 0.1
