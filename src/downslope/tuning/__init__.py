"""Search over hyper-parameters: spaces, samplers, halving, a journal that outlives crashes."""
