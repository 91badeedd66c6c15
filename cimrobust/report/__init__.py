"""HTML for people, as a pure function of JSON.

Enters: the record of a certificate, a sweep or a re-training. Leaves: one self-contained file of
HTML, the same bytes for the same record. Templates and pictures, no computation.

Read first: `render.py`.
"""
