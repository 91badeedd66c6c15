"""Layer `search`: see design notes in docs/explanation/architecture.md."""
