"""Somebody else's certificate, checked: every claim that files, model and data let one derive again.

In: a certificate's folder, and the model and data that the reviewer holds. Out: one `ReplayCheck` a claim, which holds, is refuted, or
cannot be checked with what is at hand. Nothing that the certificate says of itself is believed where it can be derived. Start with
`certificate_replay.py`.
"""
