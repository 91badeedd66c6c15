"""Layer `retrain`: robust networks out of fragile ones; see docs/explanation/architecture.md."""
