"""Sound bounds: what every chip of the tolerance box does right."""
