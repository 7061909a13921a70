"""Floor 3: the loop that follows a recipe, what it measures on the way, and what it keeps."""
