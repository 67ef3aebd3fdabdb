"""The laws that strategies, compressors, rules and optimizers obey, one's own as well as ours."""
