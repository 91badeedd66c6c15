"""Layer `mapping`: see design notes in docs/explanation/architecture.md."""
