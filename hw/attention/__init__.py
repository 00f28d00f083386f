"""Units of attention: prediction of scores and choice of keys."""
