"""The survey: what kind of point a model stands at, and where it leads."""
