"""The members of the search ensemble, and what only they use.

Enters: a search problem and a budget of passes. Leaves: candidate patterns.

Read first: `member_list.py`.
"""
