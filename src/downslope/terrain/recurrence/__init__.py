"""Recurrence: how far back a recurrent network can learn."""
