"""Layer `cli`: see design notes in docs/architecture.md."""
