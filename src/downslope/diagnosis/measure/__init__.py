"""Measurements that a diagnosis makes around a run, beside the facts that `downslope.training` records."""
