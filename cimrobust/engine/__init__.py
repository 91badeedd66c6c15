"""Layer `engine`: see design notes in docs/architecture.md."""
