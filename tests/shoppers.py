"""Shoppers of a simulated month, who look for more than a picture shows.

Two things are hidden from the vectors: a product's audience, which matters for a pair of products, and its quality,
which matters for each alone. Where shoppers look depends on the rank, and some clicks are mistakes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .vectors import clustered

AUDIENCES = 3
MISTAKES = 0.02
"""Probability of a click on a product that is looked at and not relevant at all."""
ATTRACTION = 0.4
"""Added to that for a product that is fully relevant."""


@dataclass(frozen=True)
class Event:
    kind: str
    product: int


class Shop:
    """Products by number, their vectors, and the relevance of each for each other, 0..1."""

    def __init__(self, products: int, dimensions: int, *, styles: int, queries: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.vectors, self.style = clustered(products, dimensions, clusters=styles, seed=seed, spread=0.8)
        self.audience = rng.integers(0, AUDIENCES, products)
        self.quality = rng.beta(2, 2, products)
        cosine = self.vectors @ self.vectors.T
        looks = 1 / (1 + np.exp(-12 * (cosine - 0.5)))
        fits = self.audience[:, None] == self.audience[None, :]
        self.relevance = looks * (0.1 + 0.5 * fits + 0.4 * self.quality[None, :])
        np.fill_diagonal(self.relevance, 0)
        self.queries = rng.choice(products, queries, replace=False)
        """Products whose similar items are visited, the most visited first."""
        weights = 1 / np.arange(1, queries + 1) ** 0.7
        self.visits = weights / weights.sum()

    def ndcg(self, query: int, order: list[int], depth: int = 10) -> float:
        """Return nDCG under the hidden relevance, with linear gain (Järvelin and Kekäläinen, 2002)."""
        discounts = 1 / np.log2(np.arange(2, depth + 2))
        ideal = np.sort(self.relevance[query])[::-1][:depth] @ discounts
        gains = self.relevance[query][order[:depth]]
        return float(gains @ discounts[: len(gains)] / ideal)


class Shopper:
    """One visit: what a shopper does with the hits of one search, and later with purchases."""

    def __init__(self, shop: Shop, rng: np.random.Generator, bias: float = 1.0) -> None:
        self.shop, self.rng, self.bias = shop, rng, bias
        self.query = int(rng.choice(shop.queries, p=shop.visits))

    def visit(self, hits: list[int]) -> list[Event]:
        """Return clicks, favourites, carts and skips; rank r is looked at with probability 1 / r ** bias."""
        events = []
        for rank, product in enumerate(hits, 1):
            if self.rng.random() > rank**-self.bias:
                continue
            relevance = self.shop.relevance[self.query, product]
            if self.rng.random() < MISTAKES + ATTRACTION * relevance:
                events.append(Event("click", product))
                if self.rng.random() < 0.2 * relevance:
                    events.append(Event("favourite", product))
                if self.rng.random() < 0.25 * relevance:
                    events.append(Event("cart", product))
            elif self.rng.random() < 0.03 * (1 - relevance):
                events.append(Event("skip", product))
        return events

    def buys(self, events: list[Event]) -> list[Event]:
        """Return purchases from the cart, and returns of products of low quality."""
        found = []
        for event in events:
            if event.kind == "cart" and self.rng.random() < 0.5:
                found.append(Event("purchase", event.product))
                if self.rng.random() < 0.4 * (1 - self.shop.quality[event.product]):
                    found.append(Event("return", event.product))
        return found
