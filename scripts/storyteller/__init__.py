"""The little world behind models/storyteller: what happens in it, how it is told, and how the model is trained."""
