"""Floor 0: the four nouns, the edits between them, names and errors. Imports nothing above it."""
