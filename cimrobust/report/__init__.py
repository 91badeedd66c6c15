"""Layer `report`: see design notes in docs/architecture.md."""
