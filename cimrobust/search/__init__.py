"""Layer `search`: see design notes in docs/architecture.md."""
