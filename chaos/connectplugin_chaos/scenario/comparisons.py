"""Reading `expect: compare:`, the bars between arms."""

from collections.abc import Collection, Sequence

import yaml

from connectplugin_chaos.arms.names import check_arm
from connectplugin_chaos.scenario.model import Comparison
from connectplugin_chaos.scenario.nodes import Reader, nearest


def comparisons(
    reader: Reader, node: yaml.Node, phases: Sequence[str], variants: Collection[str] = ()
) -> tuple[Comparison, ...]:
    """A list such as `- ratio: {metric: goodput, of: stack, over: none, min: 1.3}`.

    Raises:
        ScenarioError: It is none, or has a bar that says nothing.
    """
    return tuple(
        _comparison(reader, member, phases, variants)
        for member in reader.items(node, "expect.compare")
    )


def _comparison(
    reader: Reader, node: yaml.Node, phases: Sequence[str], variants: Collection[str]
) -> Comparison:
    value = reader.fields(node, ("ratio",), required=("ratio",), of="a comparison")["ratio"]
    found: Comparison = reader.read(value, Comparison, "ratio")
    for arm in (found.of, found.over):
        if (problem := check_arm(arm, variants)) is not None:
            reader.fail(value, problem)
    if found.phase and found.phase not in phases:
        reader.fail(value, f"there is no phase {found.phase!r}{nearest(found.phase, phases)}")
    if found.min is None and found.max is None:
        reader.fail(value, "ratio lacks a bar: 'min', 'max' or both")
    return found
