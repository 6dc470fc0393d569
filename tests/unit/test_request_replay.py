"""One stream of requests for several attempts: nothing lost, nothing doubled, nothing leaked."""

import asyncio
import random
from asyncio import CancelledError, Event, Task, create_task
from collections.abc import AsyncIterator, Awaitable
from contextvars import ContextVar
from typing import Any
from weakref import WeakSet

import pytest
from protobuf.wkt import BytesValue

from connectplugin_interceptors.streams import AttemptOverError, RequestReplay


class Source:
    """The caller's generator of 0, 1, 2, ...: each message must be released; it writes a diary."""

    def __init__(self) -> None:
        self.released = 0
        self.given = 0
        self.fails: BaseException | None = None
        self.ends = False
        self.diary: list[str] = []
        self.running = False
        self._changed = Event()

    def release(self, count: int = 1) -> None:
        self.released += count
        self._changed.set()

    def end(self) -> None:
        self.ends = True
        self._changed.set()

    def fail(self, error: BaseException) -> None:
        self.fails = error
        self._changed.set()

    def _finish(self) -> None:
        if self.fails is not None:
            raise self.fails

    async def requests(self) -> AsyncIterator[int]:
        try:
            while True:
                assert not self.running, "two pulls at once"
                self.running = True
                try:
                    while self.given == self.released and self.fails is None and not self.ends:
                        self._changed.clear()
                        await self._changed.wait()
                finally:
                    self.running = False
                if self.given == self.released:
                    self._finish()
                    return
                self.given += 1
                yield self.given - 1
        except BaseException as error:
            self.diary.append(type(error).__name__)
            raise
        finally:
            self.diary.append("closed")


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def pull(requests: AsyncIterator[int]) -> Task[int]:
    async def one() -> int:
        return await anext(requests)

    return create_task(one())


async def take(requests: AsyncIterator[int], count: int) -> list[int]:
    return [await anext(requests) for _ in range(count)]


async def ended(awaitable: Awaitable[Any]) -> bool:
    try:
        await awaitable
    except StopAsyncIteration:
        return True
    return False


def tasks() -> int:
    return len(asyncio.all_tasks())


async def test_the_next_attempt_begins_with_the_same_messages() -> None:
    source = Source()
    replay = RequestReplay(source.requests())
    source.release(5)
    assert await take(replay.attempt(), 3) == [0, 1, 2]
    assert await take(replay.attempt(), 2) == [0, 1]
    assert await take(replay.attempt(), 5) == [0, 1, 2, 3, 4]
    await replay.aclose()


async def test_nothing_is_pulled_before_it_is_asked_for_nor_ahead() -> None:
    source = Source()
    source.release(10)
    replay = RequestReplay(source.requests())
    attempt = replay.attempt()
    await turns()
    assert source.given == 0
    await take(attempt, 2)
    await turns()
    assert source.given == 2
    await replay.aclose()


async def test_an_ended_stream_ends_for_every_attempt() -> None:
    source = Source()
    source.release(2)
    source.end()
    replay = RequestReplay(source.requests())
    for _ in range(2):
        assert replay.can_replay
        assert [message async for message in replay.attempt()] == [0, 1]
    await replay.aclose()
    assert source.diary == ["closed"]


async def test_a_cancelled_pull_loses_no_message_and_the_generator_never_notices() -> None:
    source = Source()
    replay = RequestReplay(source.requests())
    dead = pull(replay.attempt())
    await turns()
    dead.cancel()
    with pytest.raises(CancelledError):
        await dead
    source.release(2)
    assert await take(replay.attempt(), 2) == [0, 1]
    assert source.diary == []
    await replay.aclose()


async def test_a_pull_cancelled_in_the_turn_in_which_its_message_comes() -> None:
    source = Source()
    replay = RequestReplay(source.requests())
    attempt = replay.attempt()
    dead = pull(attempt)
    await turns()
    source.release()
    for count in range(4):
        await turns(count)
        if dead.done():
            break
        dead.cancel()
        await turns(1)
    assert await take(replay.attempt(), 1) == [0]
    await replay.aclose()


async def test_the_same_attempt_may_go_on_after_a_cancelled_pull() -> None:
    source = Source()
    replay = RequestReplay(source.requests())
    attempt = replay.attempt()
    dead = pull(attempt)
    await turns()
    dead.cancel()
    await turns()
    source.release(2)
    assert await take(attempt, 2) == [0, 1]
    await replay.aclose()


async def test_closing_an_attempt_ends_its_part_and_leaves_the_generator_alone() -> None:
    source = Source()
    replay = RequestReplay(source.requests())
    attempt: Any = replay.attempt()
    waiting = pull(attempt)
    await turns()
    await attempt.aclose()
    assert await ended(waiting)
    assert await ended(anext(attempt))
    source.release()
    assert await take(replay.attempt(), 1) == [0]
    assert source.diary == []
    await replay.aclose()


async def test_a_transport_that_is_slow_to_die_gets_an_error_and_no_message() -> None:
    # An end would make its request look complete to the server that it still talks to.
    source = Source()
    replay = RequestReplay(source.requests())
    old = replay.attempt()
    waiting = pull(old)
    await turns()
    new = pull(replay.attempt())
    await turns()
    source.release()
    assert await new == 0
    with pytest.raises(AttemptOverError):
        await waiting
    with pytest.raises(AttemptOverError):
        await anext(old)
    await replay.aclose()


async def test_a_pull_that_was_under_way_serves_the_next_attempt() -> None:
    source = Source()
    replay = RequestReplay(source.requests())
    waiting = pull(replay.attempt())
    await turns()
    before = tasks()
    successor = pull(replay.attempt())
    await turns()
    # The successor is there, the dead one's consumer is gone, and there is still but one pull.
    assert tasks() == before
    source.release()
    assert await successor == 0
    with pytest.raises(AttemptOverError):
        await waiting
    await replay.aclose()


class TestCommit:
    async def test_afterwards_there_is_no_other_attempt(self) -> None:
        source = Source()
        source.release(3)
        replay = RequestReplay(source.requests())
        attempt = replay.attempt()
        await take(attempt, 1)
        replay.commit()
        replay.commit()
        assert not replay.can_replay
        with pytest.raises(RuntimeError, match=r"cannot be sent again: <RequestReplay committed>"):
            replay.attempt()
        assert await take(attempt, 2) == [1, 2]
        await replay.aclose()

    async def test_messages_pass_through_without_a_task(self) -> None:
        source = Source()
        replay = RequestReplay(source.requests())
        attempt = replay.attempt()
        replay.commit()
        before = tasks()
        waiting = pull(attempt)
        await turns()
        assert tasks() == before + 1
        source.release()
        assert await waiting == 0
        await replay.aclose()

    async def test_it_may_come_before_the_first_attempt(self) -> None:
        source = Source()
        source.release(2)
        source.end()
        replay = RequestReplay(source.requests())
        replay.commit()
        assert [message async for message in replay.attempt()] == [0, 1]
        await replay.aclose()

    async def test_an_attempt_that_lags_behind_still_gets_what_was_kept(self) -> None:
        source = Source()
        source.release(5)
        replay = RequestReplay(source.requests())
        await take(replay.attempt(), 4)
        attempt = replay.attempt()
        await take(attempt, 1)
        replay.commit()
        assert await take(attempt, 4) == [1, 2, 3, 4]
        await replay.aclose()

    async def test_it_may_come_while_a_pull_is_under_way(self) -> None:
        # The usual case of a bidi call: the first response comes while the transport waits.
        source = Source()
        replay = RequestReplay(source.requests())
        attempt = replay.attempt()
        waiting = pull(attempt)
        await turns()
        replay.commit()
        source.release(2)
        assert await waiting == 0
        assert await take(attempt, 1) == [1]
        await replay.aclose()

    async def test_one_message_too_many_commits(self) -> None:
        source = Source()
        source.release(4)
        replay = RequestReplay(source.requests(), max_messages=2)
        attempt = replay.attempt()
        await take(attempt, 2)
        assert replay.can_replay
        assert await take(attempt, 1) == [2]
        assert not replay.can_replay
        assert await take(attempt, 1) == [3]
        await replay.aclose()

    async def test_by_default_sixty_four_messages_are_kept(self) -> None:
        source = Source()
        source.release(66)
        replay = RequestReplay(source.requests())
        attempt = replay.attempt()
        await take(attempt, 64)
        assert replay.can_replay
        await take(attempt, 1)
        assert not replay.can_replay
        await replay.aclose()

    async def test_by_default_a_quarter_of_a_mebibyte_is_kept(self) -> None:
        async def chunks() -> AsyncIterator[BytesValue]:
            for _ in range(5):
                yield BytesValue(value=b"x" * (64 * 1024 - 4))  # and four bytes of framing

        replay = RequestReplay(chunks())
        attempt = replay.attempt()
        for still in (True, True, True, True, False):
            await anext(attempt)
            assert replay.can_replay is still
        await replay.aclose()

    @pytest.mark.parametrize("how", ["commit", "aclose", "commit after the attempt was closed"])
    async def test_what_is_kept_is_let_go(self, how: str) -> None:
        # Guards against uploads that stay in memory for as long as their call lasts.
        class Piece:
            pass

        pieces: WeakSet[Piece] = WeakSet()

        async def upload() -> AsyncIterator[Piece]:
            for _ in range(3):
                piece = Piece()
                pieces.add(piece)
                yield piece
                del piece

        replay = RequestReplay(upload())
        attempt: Any = replay.attempt()
        for _ in range(3):
            await anext(attempt)
        assert len(pieces) == 3
        if how == "aclose":
            await replay.aclose()
        else:
            if how != "commit":
                await attempt.aclose()
            replay.commit()
        assert len(pieces) <= 1  # the generator itself stands at its last
        await replay.aclose()

    async def test_too_many_bytes_commit(self) -> None:
        async def chunks() -> AsyncIterator[BytesValue]:
            for _ in range(4):
                yield BytesValue(value=b"x" * 1000)

        replay = RequestReplay(chunks(), max_bytes=2500)
        attempt = replay.attempt()
        for still in (True, True, False, False):
            await anext(attempt)
            assert replay.can_replay is still
        await replay.aclose()

    async def test_a_message_that_cannot_be_measured_passes_all_the_same(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object, **__: object) -> bytes:
            raise ValueError

        async def chunks() -> AsyncIterator[BytesValue]:
            yield BytesValue(value=b"x")

        monkeypatch.setattr(BytesValue, "to_binary", refuse)
        replay = RequestReplay(chunks(), max_bytes=0)
        assert (await anext(replay.attempt())).value == b"x"
        assert replay.can_replay
        await replay.aclose()

    async def test_a_cancelled_consumer_cancels_the_generator_as_without_us(self) -> None:
        source = Source()
        replay = RequestReplay(source.requests())
        attempt = replay.attempt()
        replay.commit()
        waiting = pull(attempt)
        await turns()
        waiting.cancel()
        with pytest.raises(CancelledError):
            await waiting
        assert source.diary == ["CancelledError", "closed"]
        assert replay.error is None
        await replay.aclose()


class TestTheCallersOwnError:
    @pytest.mark.parametrize("committed", [False, True])
    async def test_it_reaches_the_attempt_and_is_remembered(self, *, committed: bool) -> None:
        source = Source()
        source.release()
        mine = ValueError("mine")
        source.fail(mine)
        replay = RequestReplay(source.requests())
        attempt = replay.attempt()
        if committed:
            replay.commit()
        assert await anext(attempt) == 0
        with pytest.raises(ValueError, match="mine"):
            await anext(attempt)
        assert replay.error is mine
        assert not replay.can_replay
        await replay.aclose()

    async def test_an_attempt_that_came_too_late_to_see_it_is_not_followed_by_another(self) -> None:
        source = Source()
        replay = RequestReplay(source.requests())
        dead = pull(replay.attempt())
        await turns()
        dead.cancel()
        source.fail(ValueError("mine"))
        await turns()
        assert isinstance(replay.error, ValueError)
        with pytest.raises(RuntimeError, match="ValueError"):
            replay.attempt()
        await replay.aclose()

    @pytest.mark.parametrize("committed", [False, True])
    async def test_something_it_awaited_was_cancelled(self, *, committed: bool) -> None:
        source = Source()
        source.fail(CancelledError())
        replay = RequestReplay(source.requests())
        attempt = replay.attempt()
        if committed:
            replay.commit()
        with pytest.raises(CancelledError):
            await anext(attempt)
        assert isinstance(replay.error, CancelledError)
        await replay.aclose()


class TestClosing:
    async def test_it_closes_a_generator_that_was_never_asked(self) -> None:
        source = Source()
        replay = RequestReplay(source.requests())
        await replay.aclose()
        await replay.aclose()
        assert not replay.can_replay

    async def test_it_closes_a_generator_that_stands_at_a_yield(self) -> None:
        source = Source()
        source.release()
        replay = RequestReplay(source.requests())
        await take(replay.attempt(), 1)
        await replay.aclose()
        assert source.diary == ["GeneratorExit", "closed"]

    @pytest.mark.parametrize("committed", [False, True])
    async def test_it_cancels_a_pull_under_way_and_fails_its_consumer(
        self, *, committed: bool
    ) -> None:
        source = Source()
        replay = RequestReplay(source.requests())
        attempt = replay.attempt()
        if committed:
            replay.commit()
        waiting = pull(attempt)
        await turns()
        await replay.aclose()
        assert source.diary == ["CancelledError", "closed"]
        with pytest.raises(AttemptOverError):
            await waiting
        # The transport's task itself was not cancelled; it may have other things to do.
        assert waiting.cancelling() == 0
        with pytest.raises(AttemptOverError):
            await anext(attempt)
        assert tasks() == 1

    async def test_in_the_turn_in_which_a_pull_begins(self) -> None:
        source = Source()
        replay = RequestReplay(source.requests())
        waiting = pull(replay.attempt())
        await turns(1)
        await replay.aclose()
        with pytest.raises(AttemptOverError):
            await waiting
        assert tasks() == 1

    async def test_a_consumer_that_is_cancelled_at_the_same_time_is_cancelled(self) -> None:
        source = Source()
        replay = RequestReplay(source.requests())
        attempt = replay.attempt()
        replay.commit()
        waiting = pull(attempt)
        await turns()
        closing = create_task(replay.aclose())
        waiting.cancel()
        with pytest.raises(CancelledError):
            await waiting
        await closing

    async def test_a_generator_that_answers_its_cancellation_with_a_message(self) -> None:
        async def stubborn() -> AsyncIterator[int]:
            try:
                await Event().wait()
            except CancelledError:
                yield 7

        replay = RequestReplay(stubborn())
        attempt = replay.attempt()
        replay.commit()
        waiting = pull(attempt)
        await turns()
        await replay.aclose()
        assert await waiting == 7
        assert waiting.cancelling() == 0

    async def test_what_the_generator_raises_while_closed_goes_to_the_loop_s_handler(self) -> None:
        async def careless() -> AsyncIterator[int]:
            try:
                yield 0
            finally:
                raise ValueError("while closing")

        seen: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: seen.append(context))
        replay = RequestReplay(careless())
        await anext(replay.attempt())
        await replay.aclose()
        assert [str(context["exception"]) for context in seen] == ["while closing"]

    async def test_an_iterator_without_aclose_is_just_left(self) -> None:
        class Counting:
            def __init__(self) -> None:
                self.count = 0

            def __aiter__(self) -> "Counting":
                return self

            async def __anext__(self) -> int:
                self.count += 1
                return self.count

        replay = RequestReplay(Counting())
        assert await take(replay.attempt(), 2) == [1, 2]
        await replay.aclose()

    async def test_a_cancelled_close_still_cancels_the_pull(self) -> None:
        source = Source()
        replay = RequestReplay(source.requests())
        waiting = pull(replay.attempt())
        await turns()
        closing = create_task(replay.aclose())
        await turns(1)
        closing.cancel()
        with pytest.raises(CancelledError):
            await closing
        with pytest.raises(AttemptOverError):
            await waiting
        await turns()
        assert source.diary == ["CancelledError", "closed"]
        assert tasks() == 1


async def test_two_consumers_of_one_attempt_are_a_mistake_that_is_told() -> None:
    for committed in (False, True):
        source = Source()
        replay = RequestReplay(source.requests())
        attempt = replay.attempt()
        if committed:
            replay.commit()
        first = pull(attempt)
        await turns()
        with pytest.raises(RuntimeError, match="already being awaited"):
            await anext(attempt)
        source.release()
        assert await first == 0
        await replay.aclose()


whose: ContextVar[str] = ContextVar("whose", default="nobody's")


@pytest.mark.parametrize("commit_after", [0, 1, 2, 9])
async def test_the_generator_runs_in_one_context_whoever_awaits_it(commit_after: int) -> None:
    # Guards against "token was created in a different Context": the generator sets a variable
    # before a yield and resets it after, and is resumed from several tasks meanwhile.
    seen: list[str] = []

    async def requests() -> AsyncIterator[int]:
        seen.append(whose.get())
        token = whose.set("the generator's")
        try:
            for number in range(4):
                yield number
                seen.append(whose.get())
        finally:
            whose.reset(token)
            seen.append(whose.get())

    whose.set("the caller's")
    replay = RequestReplay(requests())
    whose.set("another's")
    attempt = replay.attempt()
    for number in range(4):
        if number == commit_after:
            replay.commit()
        assert await pull(attempt) == number
    await replay.aclose()
    assert seen == ["the caller's", *["the generator's"] * 3, "the caller's"]
    assert whose.get() == "another's"


class Interleaving:
    """One seeded story: a source, attempts, consumers, in any order; checked step by step."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)  # noqa: S311  # a story, not a secret
        self.source = Source()
        self.replay = RequestReplay(self.source.requests(), max_messages=self.rng.randint(1, 6))
        self.attempt: Any = self.replay.attempt()
        self.closed = False
        self.got: list[int] = []
        self.consumer: Task[int] | None = None
        self.all_consumers: list[Task[int]] = []
        self.cancelled_after_commit = False

    async def consume(self, attempt: AsyncIterator[int], got: list[int]) -> int:
        message = await anext(attempt)
        got.append(message)
        return message

    def start(self) -> None:
        if self.consumer is None or self.consumer.done():
            self.consumer = create_task(self.consume(self.attempt, self.got))
            self.all_consumers.append(self.consumer)

    def cancel(self) -> None:
        if self.consumer is not None and not self.consumer.done():
            self.consumer.cancel()
            # Once committed this may be thrown into the generator, as it is without us.
            self.cancelled_after_commit |= not self.replay.can_replay

    def renew(self) -> None:
        if self.replay.can_replay:
            self.attempt, self.got, self.consumer = self.replay.attempt(), [], None
            self.closed = False

    async def close_attempt(self) -> None:
        await self.attempt.aclose()
        self.closed = True

    async def step(self) -> None:
        match self.rng.randrange(12):
            case 0 | 1 | 2 | 3:
                self.start()
            case 4 | 5:
                self.source.release(self.rng.randint(1, 2))
            case 6:
                self.cancel()
            case 7:
                self.renew()
            case 8 if self.rng.random() < 0.4:
                await self.close_attempt()
            case 9 if self.rng.random() < 0.2:
                self.replay.commit()
            case 10 if self.rng.random() < 0.1:
                self.source.end()
            case 11 if self.rng.random() < 0.1:
                self.source.fail(ValueError("mine"))
            case _:
                pass
        await turns(self.rng.randrange(4))

    def check(self) -> None:
        assert self.got == list(range(len(self.got)))
        disturbed = [entry for entry in self.source.diary if entry not in {"closed", "ValueError"}]
        assert not disturbed or self.cancelled_after_commit

    async def finish(self) -> None:
        """Whatever happened, an attempt that is still whole gets every message to the end."""
        self.renew()
        if not self.closed and not self.cancelled_after_commit and self.replay.error is None:
            if self.consumer is not None and not self.consumer.done():
                self.source.release()
                await asyncio.wait({self.consumer})
            self.source.end()
            try:
                while True:
                    await self.consume(self.attempt, self.got)
            except StopAsyncIteration:
                assert self.source.fails is not None or self.got == list(range(self.source.given))
            except ValueError:
                assert self.source.fails is not None
        await self.replay.aclose()
        await asyncio.gather(*self.all_consumers, return_exceptions=True)
        assert self.source.given == 0 or self.source.diary[-1] == "closed"
        assert self.source.diary.count("closed") <= 1
        assert tasks() == 1


@pytest.mark.parametrize("block", range(10))
async def test_a_thousand_interleavings(block: int) -> None:
    for seed in range(block * 100, block * 100 + 100):
        story = Interleaving(seed)
        try:
            for _ in range(story.rng.randint(5, 40)):
                await story.step()
                story.check()
            await story.finish()
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
