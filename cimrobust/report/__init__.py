"""Layer `report`: see design notes in docs/explanation/architecture.md."""
