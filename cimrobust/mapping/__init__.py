"""Layer `mapping`: see design notes in docs/architecture.md."""
