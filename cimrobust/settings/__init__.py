"""Settings as users give them, each written once.

Enters: nothing. Leaves: a frozen model for every command and for what commands share, whose fields
are the options of the command line, the keywords of Python, and what results state.

Read first: `commands.py`.
"""
