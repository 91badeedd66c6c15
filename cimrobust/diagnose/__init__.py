"""Layer `diagnose`: what explains a worst case and what to do about it; see docs/explanation/architecture.md."""
