"""Running a scenario: processes, faults, and the plan that ties them together."""
