"""The command line: one file for each command.

Enters: what stands behind `cimrobust`. Leaves: results on stdout, progress and errors on stderr, an
exit code. Holds no science: a command parses its options, calls `pipeline` and prints.

Read first: `main.py`.
"""
