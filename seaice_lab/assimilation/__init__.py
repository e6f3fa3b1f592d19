"""Data assimilation: four-dimensional variational analyses (4D-Var) with the trained surrogate."""
