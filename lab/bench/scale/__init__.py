"""How a run would go with many more workers, and how it goes with a few: model and measurement."""
