"""Layer `engine`: see design notes in docs/explanation/architecture.md."""
