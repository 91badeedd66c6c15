"""Somebody else's certificate, checked.

Every claim that files, model and data let one derive again.

Enters: a certificate's folder, and the model and data that the reviewer holds. Leaves: one
`ReplayCheck` a claim, which holds, is refuted, or cannot be checked with what is at hand; a gate's
verdict; a signature. Nothing that a certificate says of itself is believed where it can be derived.

Read first: `certificate_replay.py`.
"""
