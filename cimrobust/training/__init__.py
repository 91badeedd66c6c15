"""Layer `retrain`: robust networks out of fragile ones; see docs/architecture.md."""
