"""Critical points of every kind, and how rare minima are among them."""
