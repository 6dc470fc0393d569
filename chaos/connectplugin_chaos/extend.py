"""What workloads and checks of your own are made of; see "In Python" in the harness's README."""

from connectplugin_chaos.check.judgement import Judgement, Verdict, judge
from connectplugin_chaos.load.schedule import Planned
from connectplugin_chaos.record.model import Attempt, Execution, History, Ledger, Notice, Operation
from connectplugin_chaos.target.python import Plugins, PythonWorkload

__all__ = (
    "Attempt",
    "Execution",
    "History",
    "Judgement",
    "Ledger",
    "Notice",
    "Operation",
    "Planned",
    "Plugins",
    "PythonWorkload",
    "Verdict",
    "judge",
)
