"""A scenario, as its file says it. Times are in seconds, shares are fractions of 1."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NewType, TypeAlias

from connectplugin_chaos.scenario.variants import Variant

if TYPE_CHECKING:
    from connectplugin_chaos.load.custom import CustomCalls

Seconds = NewType("Seconds", float)
"""In a file: `500ms`, `3s`, `2m`, or a number of seconds."""

Rate = NewType("Rate", float)
"""In a file: `140/s`, or a number."""

Share = NewType("Share", float)
"""In a file: `99%`, or a fraction."""

Tier: TypeAlias = Literal["smoke", "core", "full"]

Method: TypeAlias = Literal["read", "write", "pay", "append", "watch", "load", "sync", "peek"]
"""`peek` is the neighbour's, another plugin on the same servers; the others are one plugin's."""


@dataclass(frozen=True, kw_only=True)
class Topology:
    """The servers.

    Attributes:
        servers: How many, each behind a proxy of its own: p1, p2, ...
        workers: Calls that a server works on at a time; the others wait.
        service_time: That each takes.
        queue: Calls that may wait for our stack's server before it refuses; by default what
            `ServeConfig` has.
        direct: Whether clients call the servers themselves. For faults of processes: before a
            server that is gone, a proxy still takes connections, and then closes them.
        connect_timeout: That the clients of all arms give a connection; by default 5 s.
        chain: Whether each server calls the next one before it answers (s1 the one behind p2, and
            so on), through the same arm as the client; the client calls s1 only.
        keep_alive: After so many idle seconds the servers close a connection; by default they wait
            until the clients do.
    """

    servers: int = 1
    workers: int = 10
    service_time: Seconds = Seconds(0.05)
    queue: int | None = None
    direct: bool = False
    connect_timeout: Seconds | None = None
    chain: bool = False
    keep_alive: Seconds | None = None

    @property
    def capacity(self) -> float:
        """Calls a second that all servers can do together."""
        return self.servers * self.workers / self.service_time


@dataclass(frozen=True, kw_only=True)
class Arrivals:
    """When operations are due, whatever became of the ones before.

    Attributes:
        process: `poisson`, or `constant` distances.
        rate: A second; 0 for none.
        steps: From its time on the rate is another: pairs of time and rate.
        jitter: By how much constant distances vary, to both sides.
    """

    process: Literal["poisson", "constant"] = "poisson"
    rate: Rate = Rate(100.0)
    steps: tuple["Step", ...] = ()
    jitter: Seconds = Seconds(0.0)


@dataclass(frozen=True, kw_only=True)
class Step:
    """From a time on, another rate."""

    at: Seconds
    rate: Rate


@dataclass(frozen=True, kw_only=True)
class Cancelling:
    """Callers that lose patience: a share of the calls is cancelled, by chance within a time."""

    share: Share
    within: Seconds


@dataclass(frozen=True, kw_only=True)
class SlowReaders:
    """Consumers that take their time: in a share of the streams of responses, between messages.

    Attributes:
        share: Of the streams.
        pause: For each message.
        since: From when on.
    """

    share: Share
    pause: Seconds
    since: Seconds = Seconds(0.0)


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What is called.

    Attributes:
        arrivals: When.
        deadline: That each operation has.
        mix: Shares of the methods.
        messages: In each stream.
        interval: Between the messages of a stream of responses.
        padding: Bytes in each message of a stream of responses.
        stream_deadline: Of operations that are streams of responses; by default `deadline`.
        clients: Independent ones, each with connections of its own; they take turns.
        keys: How many there are, when operations share them; by default each has its own.
        cancel: Whether callers cancel.
        slow_readers: Whether some consumers are slow.
        through: `stack`: a generated client over the arm's chain. `plugin`: `connectplugin.Client`
            with the same chain, dispensed after its handshake. `visit`: a `Client` of its own for
            each operation, handshake included.
    """

    arrivals: Arrivals
    deadline: Seconds = Seconds(0.5)
    mix: Mapping[str, Share] = field(
        default_factory=lambda: {"read": Share(0.4), "write": Share(0.3), "append": Share(0.3)}
    )
    messages: int = 10
    interval: Seconds = Seconds(0.01)
    padding: int = 0
    stream_deadline: Seconds | None = None
    clients: int = 1
    keys: int | None = None
    cancel: Cancelling | None = None
    slow_readers: SlowReaders | None = None
    through: Literal["stack", "plugin", "visit"] = "stack"

    def deadline_of(self, method: str) -> float:
        """Seconds that an operation of a method has."""
        streams = method in {"watch", "sync"} and self.stream_deadline is not None
        return float(self.stream_deadline if streams else self.deadline)  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class Happening:
    """A line of the timeline: a fault begins, or ends.

    Attributes:
        at: When.
        fault: A verb; see `engine.verbs`.
        heal: The name of a fault that ends here.
        name: Under which it is healed; by default the verb. In files: `as`.
        proxies: Where; by default all.
        servers: Where, for faults of processes and applications; by default all.
        arguments: The verb's own.
        line: In the file.
    """

    at: float
    fault: str = ""
    heal: str = ""
    name: str = ""
    places: tuple[str, ...] = ()
    arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])
    line: int = 0


@dataclass(frozen=True, kw_only=True)
class Soup:
    """Faults at random times and places, all from the seed: never two at one server.

    Attributes:
        begin: When the first may begin.
        end: When the last is over.
        verbs: Which; see `engine.soup`. By default all that it knows.
        shortest: Seconds of a fault, at least.
        longest: And at most.
        pause: Seconds between two faults of a server, on average.
    """

    begin: Seconds
    end: Seconds
    verbs: tuple[str, ...] = ()
    shortest: Seconds = Seconds(0.3)
    longest: Seconds = Seconds(2.0)
    pause: Seconds = Seconds(1.5)


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """A check of an arm, with its bars.

    Attributes:
        check: Its name.
        arguments: Its bars.
        negated: It must fail, or the scenario shows nothing.
        line: In the file.
        function: The check itself, if the scenario brings it along.
    """

    check: str
    arguments: Mapping[str, Any]
    negated: bool = False
    line: int = 0
    function: Callable[..., Any] | None = None


Metric: TypeAlias = Literal["goodput", "success", "p50", "p99", "attempts"]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A bar for what one arm has over another: the ratio of their figures.

    Attributes:
        metric: Which figure.
        of: The arm above the line.
        over: The arm below it.
        phase: Of the run; by default all.
        min: The least that the ratio may be.
        max: The most.
    """

    metric: Metric
    of: str
    over: str
    phase: str = ""
    min: float | None = None
    max: float | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Phases and timeline; there is a short one for the smoke tier.

    Attributes:
        warmup: Seconds before 0, judged by nothing.
        phases: Name to begin and end.
        shift: Added to every time of the timeline.
    """

    warmup: Seconds
    phases: Mapping[str, tuple[float, float]]
    shift: float = 0.0

    @property
    def end(self) -> float:
        """When the last operation is due, at the latest."""
        return max(end for _, end in self.phases.values())


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What a file holds; see `Topology`, `Workload`, `Happening`, `Expectation`.

    Attributes:
        id: Short, unique.
        title: What it shows, in a sentence.
        why: Incidents or papers that motivate it.
        claim: The sentence of the README that it proves.
        tier: Where it belongs to.
        seeds: To run with.
        arms: That it is run through by default.
        tier_arms: Instead of these, in a tier; in the smoke tier by default our stack only.
        expect: By arm.
        compare: Between arms; what was not run is not compared.
        variants: Policies of arms `BASE+NAME`, by name.
        soup: Faults by chance, besides the timeline's.
        custom: The calls that it brings along; None for those of the harness's own service.
        path: Of the file.
        text: Of the file, as it was read.
    """

    id: str
    title: str
    why: tuple[str, ...]
    claim: str
    tier: tuple[str, ...]
    seeds: tuple[int, ...]
    topology: Topology
    workload: Workload
    timeline: tuple[Happening, ...]
    plan: Plan
    short: Plan | None
    arms: tuple[str, ...]
    tier_arms: Mapping[str, tuple[str, ...]]
    expect: Mapping[str, tuple[Expectation, ...]]
    compare: tuple[Comparison, ...] = ()
    variants: Mapping[str, Variant] = field(default_factory=dict[str, Variant])
    soup: "Soup | None" = None
    custom: "CustomCalls | None" = None
    path: str = ""
    text: str = ""
