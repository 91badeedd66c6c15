"""The order of the stages, and nothing else.

Enters: paths and settings, as a user gives them. Leaves: a certificate, a sweep, a re-trained
network, a suggestion; as an object, and as files. These functions are what `import cimrobust`
offers.

Read first: `analysis.py`.
"""
