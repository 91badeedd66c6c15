"""Layer `device`: see design notes in docs/explanation/architecture.md."""
