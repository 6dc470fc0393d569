"""The contract of every interceptor that admits: run it by subclassing `AdmissionContract`.

```python
class TestBulkhead(AdmissionContract):
    def chain(self) -> Chain:
        policy = Bulkhead(...)                       # an `Admission`, with room for a few calls
        return Chain(ground(call=[policy]), [policy])
```
or, where a `ClientStack` makes the policy itself (links that are no `Admission` cannot be watched:
then `free` is all that tells of them):
```python
    def chain(self) -> Chain:
        return Chain(ground(circuit_breaker=CircuitBreakerPolicy()), [CircuitBreaker])
```
In all four shapes and in virtual time it holds that

- what is acquired is settled exactly once: by a success, an error of the application's, a failure
  of the peer's, a retry (once for each attempt), a cancellation in each phase, a stream left early,
  a stream dropped unclosed, a request stream that raises, a deadline;
- it is settled with the outcome that the classifier gives, and with NEUTRAL for all that teaches
  nothing;
- what is refused was not sent, is told as `Delivery.NOT_SENT`, and settles nothing;
- responses and requests pass unchanged, the first response is announced once, the handler is
  cancelled when the caller leaves, and no task stays behind;
- when all is over nothing is held: another call goes through (`Chain.free` may say more).

Attributes to override: `per_call` (the policy sits above the retry and sees a call once).
"""

import asyncio
import gc
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
from connectrpc.code import Code
from connectrpc.errors import ConnectError

from connectplugin_interceptors import ClientStack, DeadlinePolicy, Delivery, RetryPolicy, delivery
from connectplugin_interceptors.admission import Admission
from connectplugin_interceptors.call import CallContext
from connectplugin_interceptors.circuit_breaker.breakers import Circuit
from connectplugin_interceptors.circuit_breaker.interceptor import CircuitBreaker
from connectplugin_interceptors.circuit_breaker.machine import Closed
from connectplugin_interceptors.outcome import Outcome
from tests.contract.peer import Peer, Step, answers, breaks, echoes, fails, hangs, refused
from tests.contract.shape import SHAPES, Shape

STREAMING = [Shape.SERVER_STREAM, Shape.BIDI_STREAM]
REQUESTING = [Shape.CLIENT_STREAM, Shape.BIDI_STREAM]


@dataclass(frozen=True)
class Chain:
    """What is put to the test.

    Attributes:
        stack: The chain that holds the policies.
        policies: The `Admission` objects in it, or their classes if the stack makes them.
        free: Told the links of the chain when all calls are over; False if something is still held.
    """

    stack: ClientStack
    policies: Sequence[Admission[Any] | type[Admission[Any]]] = ()
    free: Callable[[list[object]], bool] = lambda _: True


class Watched:
    """Counts what one `Admission` acquires and settles."""

    def __init__(self, policy: Admission[Any]) -> None:
        self.acquired = 0
        self.refused = 0
        self.responded = 0
        self.outcomes: list[Outcome] = []
        self._held: list[Any] = []
        self._settled: list[Any] = []
        # Whether its unary calls may go past `acquire` in a way of their own.
        self._short_cut = "intercept_unary" in vars(type(policy))
        self._policy = policy
        self._acquire = policy.acquire
        self._settle = policy.settle
        self._responded = policy.responded
        # An object's attributes are found before its class's methods.
        vars(policy).update(acquire=self.acquire, settle=self.settle, responded=self.first)
        if isinstance(policy, CircuitBreaker):
            self._passed = policy.passed
            vars(policy).update(passed=self.passed)

    async def acquire(self, ctx: CallContext) -> Any:
        try:
            permit = await self._acquire(ctx)
        except Exception:
            self.refused += 1
            raise
        self.acquired += 1
        self._held.append(permit)
        return permit

    def settle(self, permit: Any, outcome: Outcome, ctx: CallContext) -> None:
        for index, held in enumerate(self._held):
            if held is permit:
                del self._held[index]
                break
        else:
            twice = any(settled is permit for settled in self._settled)
            if twice or not self._short_cut:
                pytest.fail(f"settled twice, or never acquired: {permit!r}")
        self._settled.append(permit)
        self.outcomes.append(outcome)
        self._settle(permit, outcome, ctx)

    def passed(self, circuit: Circuit, phase: Closed) -> None:
        self.outcomes.append(Outcome.SUCCESS)
        self._passed(circuit, phase)

    def first(self, permit: Any, ctx: CallContext) -> None:
        assert any(held is permit for held in self._held)
        self.responded += 1
        self._responded(permit, ctx)

    @property
    def held(self) -> int:
        return len(self._held)

    def __repr__(self) -> str:
        return f"<Watched {self._policy!r} {self.acquired} acquired, {self.outcomes}>"


class Case:
    """One peer, one client over the chain, and its policies under watch."""

    def __init__(self, chain: Chain, *script: Step, **options: Any) -> None:
        self.chain = chain
        self.peer = Peer(*script)
        client: Any = self.peer.client(chain.stack, **options)
        self.client = client
        self.links = list[Any](self.client.connectplugin_recipe.chain)
        self.watched = [Watched(link) for link in self.links if _is_one_of(link, chain.policies)]
        assert len(self.watched) == len(chain.policies), f"not in the chain: {chain.policies}"
        self.tasks = asyncio.all_tasks()

    async def over(self, *outcomes: Outcome, refused: int = 0) -> None:
        """Check that everything was settled so, and that nothing is left."""
        await asyncio.sleep(0.01)
        for watched in self.watched:
            assert watched.held == 0, watched
            assert watched.outcomes == list(outcomes), watched
            assert watched.refused == refused, watched
        assert asyncio.all_tasks() == self.tasks
        assert self.chain.free(self.links), self.links


def _is_one_of(link: object, policies: Sequence[Any]) -> bool:
    return any(isinstance(link, one) if isinstance(one, type) else link is one for one in policies)


NACK = "x-connectplugin-nack"
OVERLOADED = (NACK, "overloaded")

ENDINGS: list[tuple[str, Step, Outcome]] = [
    ("success", answers(3), Outcome.SUCCESS),
    ("no response", answers(0), Outcome.SUCCESS),
    ("business error", fails(Code.NOT_FOUND), Outcome.ANSWERED),
    ("canceled by the server", fails(Code.CANCELED), Outcome.ANSWERED),
    ("failure", fails(Code.INTERNAL), Outcome.FAILURE),
    ("unavailable", fails(Code.UNAVAILABLE), Outcome.FAILURE),
    ("throttled", fails(Code.RESOURCE_EXHAUSTED), Outcome.REFUSED),
    ("overloaded", fails(Code.UNAVAILABLE, headers=[OVERLOADED]), Outcome.REFUSED),
    ("expired", fails(Code.DEADLINE_EXCEEDED, headers=[(NACK, "expired")]), Outcome.REFUSED),
    ("a nack of the future", fails(Code.UNAVAILABLE, headers=[(NACK, "moved")]), Outcome.REFUSED),
    ("draining", fails(Code.UNAVAILABLE, headers=[(NACK, "draining")]), Outcome.FAILURE),
    ("refused connection", refused(), Outcome.FAILURE),
    ("broken connection", breaks(), Outcome.FAILURE),
]

every_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name.lower())


@pytest.mark.usefixtures("virtual_time")
class AdmissionContract:
    """See the module. `chain` is all that a subclass must say."""

    per_call: ClassVar[bool] = False

    def chain(self) -> Chain:
        """A fresh chain, without retries, that admits at least four calls at once."""
        raise NotImplementedError

    @every_shape
    @pytest.mark.parametrize("ending", ENDINGS, ids=lambda ending: ending[0].replace(" ", "-"))
    async def test_a_call_ends(self, shape: Shape, ending: tuple[str, Step, Outcome]) -> None:
        _, step, outcome = ending
        case = Case(self.chain(), step)
        with suppress(ConnectError):
            await shape.run(case.client, ["a", "b"])
        await case.over(outcome)

    @every_shape
    async def test_messages_pass_unchanged(self, shape: Shape) -> None:
        case = Case(self.chain(), answers(3) if shape is not Shape.BIDI_STREAM else echoes())
        received = await shape.run(case.client, ["x", "y"])
        expected = {
            Shape.UNARY: [b"2"],
            Shape.CLIENT_STREAM: [b"1"],
            Shape.SERVER_STREAM: [b"0", b"1", b"2"],
            Shape.BIDI_STREAM: [b"x", b"y"],
        }
        assert received == expected[shape]
        assert case.peer.calls[0].requests == (["x", "y"] if shape.streams_requests else ["x"])
        for watched in case.watched:
            assert watched.responded == (1 if shape.streams_responses else 0)
        await case.over(Outcome.SUCCESS)

    @every_shape
    async def test_a_cancelled_call_teaches_nothing(self, shape: Shape) -> None:
        case = Case(self.chain(), hangs())
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(1.0):
                await shape.run(case.client, endless() if shape.streams_requests else ["a"])
        assert not isinstance(caught.value, ConnectError)
        await case.over(Outcome.NEUTRAL)
        assert case.peer.outcomes == ["cancelled"]

    @every_shape
    @pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 8])
    async def test_cancelled_in_the_instant_of_starting(self, shape: Shape, turns: int) -> None:
        case = Case(self.chain(), hangs())
        call = asyncio.create_task(shape.run(case.client))
        for _ in range(turns):
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait([call])
        assert call.cancelled()
        settled = max((len(watched.outcomes) for watched in case.watched), default=0)
        assert settled <= 1
        await case.over(*[Outcome.NEUTRAL] * settled)

    @pytest.mark.parametrize("shape", STREAMING)
    @pytest.mark.parametrize("step", [hangs(after=1), answers(50, every=0.01)])
    async def test_a_stream_left_early_teaches_nothing(self, shape: Shape, step: Step) -> None:
        case = Case(self.chain(), step)
        responses: Any = shape.responses(case.client)
        await anext(responses)
        assert all(watched.held == 1 for watched in case.watched)
        await responses.aclose()
        await case.over(Outcome.NEUTRAL)
        assert case.peer.outcomes in (["cancelled"], ["left"])

    @pytest.mark.parametrize("shape", STREAMING)
    async def test_a_stream_that_was_dropped_unclosed(self, shape: Shape) -> None:
        case = Case(self.chain(), hangs(after=1))
        responses: Any = shape.responses(case.client)
        await anext(responses)
        del responses
        gc.collect()
        await case.over(Outcome.NEUTRAL)

    @pytest.mark.parametrize("shape", STREAMING)
    async def test_a_stream_that_fails_midway_is_a_failure(self, shape: Shape) -> None:
        case = Case(self.chain(), fails(Code.UNAVAILABLE, after=2))
        received: list[bytes] = []
        with pytest.raises(ConnectError):  # noqa: PT012  # what came before counts
            async for response in shape.responses(case.client):
                received.append(response)  # noqa: PERF401
        assert received == [b"0", b"1"]
        await case.over(Outcome.FAILURE)

    @pytest.mark.parametrize("shape", REQUESTING)
    async def test_a_request_stream_that_raises_is_nobodys_failure(self, shape: Shape) -> None:
        async def broken() -> AsyncIterator[str]:
            yield "a"
            msg = "own"
            raise ValueError(msg)

        case = Case(self.chain(), echoes())
        with pytest.raises(ValueError, match="own"):
            await shape.run(case.client, broken())
        await case.over(Outcome.NEUTRAL)

    @every_shape
    async def test_an_expired_deadline_is_the_peers_failure(self, shape: Shape) -> None:
        case = Case(self.chain(), hangs())
        with pytest.raises(TimeoutError):
            await shape.run(case.client, timeout_ms=500)
        await case.over(Outcome.FAILURE)

    @every_shape
    async def test_calls_at_once_are_settled_one_by_one(self, shape: Shape) -> None:
        script = [answers(2, every=0.3), fails(Code.NOT_FOUND, delay=0.1), hangs(), answers()]
        case = Case(self.chain(), *script)
        calls = [asyncio.create_task(shape.run(case.client)) for _ in script]
        await asyncio.sleep(1.0)
        calls[2].cancel()
        await asyncio.wait(calls)
        for watched in case.watched:
            assert Counter(watched.outcomes) == {
                Outcome.SUCCESS: 2,
                Outcome.ANSWERED: 1,
                Outcome.NEUTRAL: 1,
            }
            assert watched.held == 0

    @every_shape
    async def test_when_all_is_over_another_call_goes_through(self, shape: Shape) -> None:
        case = Case(self.chain(), hangs(), fails(Code.NOT_FOUND), answers())
        with suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await shape.run(case.client)
        with suppress(ConnectError):
            await shape.run(case.client)
        assert await shape.run(case.client)
        await case.over(Outcome.NEUTRAL, Outcome.ANSWERED, Outcome.SUCCESS)

    @every_shape
    async def test_a_retried_call(self, shape: Shape) -> None:
        chain = self.chain()
        stack = with_retries(chain.stack)
        case = Case(Chain(stack, chain.policies, chain.free), refused(), fails(Code.NOT_FOUND))
        with pytest.raises(ConnectError) as caught:
            await shape.run(case.client)
        assert caught.value.code is Code.NOT_FOUND
        # The last attempt's meaning, where the policy sees the call and not its attempts.
        seen = [Outcome.ANSWERED] if self.per_call else [Outcome.FAILURE, Outcome.ANSWERED]
        await case.over(*seen)


class RefusalContract:
    """For policies that can be made to refuse. `refusing` gives a chain that refuses every call."""

    def refusing(self) -> Chain:
        """A chain whose policies refuse what comes."""
        raise NotImplementedError

    @pytest.mark.usefixtures("virtual_time")
    @every_shape
    async def test_what_is_refused_was_not_sent(self, shape: Shape) -> None:
        case = Case(self.refusing(), answers())
        with pytest.raises(ConnectError) as caught:
            await shape.run(case.client)
        assert delivery(caught.value) is Delivery.NOT_SENT
        assert case.peer.sent == []
        await case.over(refused=1)


def with_retries(stack: ClientStack) -> ClientStack:
    """The same stack with two attempts that follow each other at once."""
    again = RetryPolicy(initial_backoff=0.0, budget=None)
    return replace(stack, deadline=DeadlinePolicy(), retry_policy=again)


async def endless() -> AsyncIterator[str]:
    """A request, then a stream that stays open."""
    yield "a"
    await asyncio.Event().wait()
