"""What happened: the history of the calls, the ledger of the executions."""
