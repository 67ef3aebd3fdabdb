"""The names of the lies that replicas may tell; ``microgpt.replicas.byzantine`` explains them."""

KINDS = ("sign-flip", "noise", "alie", "ipm")
