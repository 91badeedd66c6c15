"""Work spread over processes and machines, results in order.

Enters: a task, which is a value, and its items. Leaves: what the task makes of every item, the same
wherever it is done.

Read first: `executor.py`.
"""
