"""Layer `graph`: see design notes in docs/architecture.md."""
