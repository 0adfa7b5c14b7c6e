"""Other systems, called when asked for: SpaGCN, and R through rpy2."""
