"""What a run is made of: typed recipes, and how they are read from YAML; studies of several runs.

Never imports torch.
"""

from likewise.config.loading import load_recipe, shipped_recipes, to_yaml
from likewise.config.problems import RecipeError
from likewise.config.recipe import Recipe
from likewise.config.study import Study, load_study, shipped_studies

__all__ = [
    "Recipe",
    "RecipeError",
    "Study",
    "load_recipe",
    "load_study",
    "shipped_recipes",
    "shipped_studies",
    "to_yaml",
]
