"""What a run is made of: typed recipes, and how they are read from YAML. Never imports torch."""

from likewise.config.loading import load_recipe, shipped_recipes, to_yaml
from likewise.config.problems import RecipeError
from likewise.config.recipe import Recipe

__all__ = ["Recipe", "RecipeError", "load_recipe", "shipped_recipes", "to_yaml"]
