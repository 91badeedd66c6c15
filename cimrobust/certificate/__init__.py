"""Layer `certificate`: see design notes in docs/architecture.md."""
