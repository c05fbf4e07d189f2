"""What executes and stops runs: the only place that drives LangGraph.

| module | holds |
|---|---|
| `runtime.py` | the facade that services call; what lives and dies with the process |
| `admission.py` | a new run enters: multitask strategy, queue position, first claim, in one transaction |
| `claims.py` | claim, lease, fence, take-over: compare-and-set statements |
| `executor.py` | one attempt of one run, from its claim to its outcome |
| `start.py` | how an attempt begins: the rules of a later start |
| `saver.py` | the checkpointer of one run: fenced, written in groups together with the events |
| `journal.py` `follow.py` | the event log and its readers |
| `settlement.py` | the state a run ends or is handed over in |
| `cancel.py` | durable cancel and rollback |
| `worker.py` | the loops: claim, renew, sweep, wake |
| `drain.py` | the stop |
"""
