"""Tasks that a user can read, copy and run: ``downslope demo`` runs `digits_mlp`."""
