"""CycloneDX ML-BOM of a certified network: the certificate is evidence, the worst chip found counter-evidence."""
