"""CycloneDX ML-BOM of a certified network.

The certificate is evidence, the worst chip found counter-evidence.
"""
