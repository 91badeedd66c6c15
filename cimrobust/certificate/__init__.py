"""The certificate: its records, its verdict, and how others check it.

Enters: what the stages found. Leaves: JSON that follows the published schema; the verdict against a
policy; the checks of `replay` and `gate`. Older files are upgraded here, in one place.

Read first: `assemble.py`.
"""
