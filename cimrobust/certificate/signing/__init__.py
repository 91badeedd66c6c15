"""Signed evidence: in-toto statements about a certificate, in DSSE envelopes or sigstore bundles.

See docs/how-to/signing.md.
"""
