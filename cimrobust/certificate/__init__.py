"""Layer `certificate`: see design notes in docs/explanation/architecture.md."""
