"""Layer `cli`: see design notes in docs/explanation/architecture.md."""
