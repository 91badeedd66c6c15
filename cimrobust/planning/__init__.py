"""What an analysis will take: time and memory by stage, before it is run, and settings that fit.

Enters: an opened network and the settings of an analysis. Leaves: a plan, and settings that fit
into a time.

Read first: `stage_costs.py`.
"""
