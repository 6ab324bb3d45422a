"""A world to enrich tables in: sites, a search engine and a model that errs, all on loopback.

world = make_world(seed=1, count=50)
async with serve(world) as served:
    …                                  # a pipeline over served.providers and served.fetcher()
print(score(world, result.enriched_rows, served.model).report())
"""

from .model import NEVER, Model, Rates
from .scoring import Score, score
from .serving import Served, WorldFetcher, serve
from .world import Truth, World, make_world

__all__ = [
    "NEVER",
    "Model",
    "Rates",
    "Score",
    "Served",
    "Truth",
    "World",
    "WorldFetcher",
    "make_world",
    "score",
    "serve",
]
