import math
from typing import Any

import pytest
from connectrpc.code import Code

from connectplugin_interceptors import ConfigError, Fault, FaultPolicy


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"share": 1.1}, r"Fault\.share is 1\.1; it must be"),
        ({"share": math.nan}, r"Fault\.share is nan; it must be"),
        ({"error": "lost"}, r"Fault\.error is 'lost'; it must be a connectrpc\.code\.Code"),
        ({"error": 14}, r"Fault\.error is 14; it must be"),
        ({"error": Code.ABORTED, "latency": -1}, r"Fault\.latency is -1; it must be"),
        ({"latency": "1"}, r"Fault\.latency is '1'; it must be"),
        ({"latency": (2.0, 1.0)}, r"Fault\.latency is \(2\.0, 1\.0\); it must be"),
        ({"latency": (1.0,)}, r"Fault\.latency is \(1\.0,\); it must be"),
        ({"latency": math.inf}, r"Fault\.latency is inf; it must be"),
        ({"latency": 1, "methods": "a.B/C"}, r"Fault\.methods is 'a\.B/C'; it must be a list"),
        ({"latency": 1, "methods": ["a.B"]}, r"Fault\.methods got 'a\.B'; it takes"),
        ({"latency": 1, "truncate_after": -1}, r"Fault\.truncate_after is -1; it must be"),
        ({"latency": 1, "after_reply": True}, r"after_reply is True with error=None"),
        ({"error": "refuse", "after_reply": True}, r"after_reply is True with error='refuse'"),
        ({"error": "refuse", "truncate_after": 1}, r"truncate_after lets messages through"),
        ({}, r"nothing would go wrong"),
        ({"latency": 0.0}, r"nothing would go wrong"),
        ({"latency": (0, 0.0)}, r"nothing would go wrong"),
    ],
)
def test_a_fault_that_cannot_work_is_refused_by_name(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Fault(**fields)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"faults": []}, r"FaultPolicy\.faults is \[\]; it must be a list of Fault"),
        ({"faults": [1]}, r"faults is \[1\]; it must be"),
        ({"faults": Fault(latency=1)}, r"faults is Fault\(.+ it must be a list"),
        ({"faults": [Fault(latency=1)], "seed": 0.5}, r"seed is 0\.5; it must be"),
        ({"faults": [Fault(latency=1)], "max_active": 0}, r"max_active is 0; it must be"),
    ],
)
def test_a_policy_that_cannot_work_is_refused_by_name(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        FaultPolicy(**fields)


def test_it_is_a_value() -> None:
    first = FaultPolicy(faults=(Fault(latency=1, methods=[m]) for m in ["a.B/C"]), seed=7)
    second = FaultPolicy(faults=[Fault(latency=1.0, methods=("a.B/C",))], seed=7)
    assert first == second
    assert hash(first) == hash(second)
