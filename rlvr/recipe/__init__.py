"""Recipes: the closed schema, loading, and the arithmetic. Imports neither torch nor ray."""
