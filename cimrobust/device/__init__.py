"""Layer `device`: see design notes in docs/architecture.md."""
