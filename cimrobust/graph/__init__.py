"""Layer `graph`: see design notes in docs/explanation/architecture.md."""
