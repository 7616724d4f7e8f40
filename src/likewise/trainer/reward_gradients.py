"""The gradient of each reward apart from the others: measured, and combined (docs/method.md §3).

Reward k's part of the advantage is A_k = w_k(t)·z_k, before clipping, and its gradient is that of
what A_k adds to the loss, g_k = ∇(L(A_k) − L(0)). L is linear in A wherever the ratio is 1 or the
policy is the old one, so that all g_k add up to the gradient of Σ_k A_k there. Whatever belongs to
no single reward (a shaping term, what clipping takes away, regularisers) is the rest, g − Σ_k g_k.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from likewise.algorithm import gradients as formulas
from likewise.config.gradient_rules import GradientRule, MinNorm, PcGrad
from likewise.trainer.terms import Term

WHOLE = -1  # stands for all steps


class RewardGradients:
    """Gradients of an update, added up by reward, and by step where that is asked for.

    They are on the CPU, as large models' would not fit beside the model.

    Args:
        parameters: That are trained.
        sides: Of the K rewards, by name.
        parts: Theirs of the advantages, [K, B, T].
        scaled: What to go backward from instead of a loss: see `Learner.scaled`.
        steps: That are trained, to tell them apart; None: not to.
        seed: Of the orders in which gradients meet, see `gradients.pcgrad`.
    """

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        sides: Mapping[str, str],
        parts: Tensor,
        scaled: Callable[[Tensor], Tensor] = lambda loss: loss,
        steps: Sequence[int] | None = None,
        seed: int = 0,
    ) -> None:
        self.parameters, self.scaled = parameters, scaled
        self.sides, self.parts, self.seed = sides, parts, seed
        self.steps = None if steps is None else list(steps)
        size = sum(one.numel() for one in parameters)
        dtype = parameters[0].dtype
        self.sums = {
            key: torch.zeros(len(sides), size, dtype=dtype) for key in self.steps or [WHOLE]
        }

    def add(self, term: Term, samples: Tensor, share: float) -> None:
        """A term whose graph is kept, and is freed here.

        Args:
            samples: Their indices in the iteration.
            share: Of its loss in that of the update.
        """
        assert term.loss_at is not None and term.steps is not None  # else the recipe is refused
        parts = self.parts[:, samples]
        nothing = term.loss_at(torch.zeros_like(parts[0]))
        wanted = list(itertools.product(self._masks(term.steps), enumerate(parts)))
        for number, ((key, mask), (k, part)) in enumerate(wanted, 1):
            loss = (term.loss_at(part * mask[:, None]) - nothing) * share
            found = torch.autograd.grad(
                self.scaled(loss),
                self.parameters,
                retain_graph=number < len(wanted),
                allow_unused=True,
            )
            self.sums[key][k] += _flat(self.parameters, found)

    def sum(self, reduce: Callable[[Tensor], Tensor]) -> None:
        """Add up those of all processes, step by step."""
        device = self.parameters[0].device
        for key, own in self.sums.items():
            self.sums[key] = reduce(own.to(device)).cpu()

    @property
    def whole(self) -> Tensor:
        """Of all steps, [K, P]."""
        return sum(list(self.sums.values())[1:], next(iter(self.sums.values())))

    def cosine(self, products: Tensor) -> float | None:
        """Of the prompt's and the identity's gradient, which are sums over their rewards."""
        one, other = (
            torch.tensor([side == wanted for side in self.sides.values()])
            for wanted in ("prompt", "identity")
        )
        return formulas.cosine(products, one, other)

    def numbers(self, products: Tensor, scale: float) -> dict[str, float | None]:
        """Cosines, overall and by step, and norms; None where a side has no gradient.

        Args:
            products: Inner products of the gradients of all steps, [K, K].
            scale: Of the loss.
        """
        norms = zip(self.sides, products.diagonal().sqrt().tolist(), strict=True)
        by_step = {
            f"gradient/cosine/step_{step:02d}": self.cosine(formulas.gram(self.sums[step]))
            for step in self.steps or ()
        }
        return {
            "gradient/cosine": self.cosine(products),
            **by_step,
            **{f"gradient/norm/{name}": norm / scale for name, norm in norms},
        }

    def _masks(self, steps: Tensor) -> list[tuple[int, Tensor]]:
        """Which samples of a term belong to each sum."""
        if self.steps is None:
            return [(WHOLE, torch.ones_like(steps))]
        return [(int(step), (steps == step).to(steps)) for step in steps.unique()]


class Combination:
    """The rule by which rewards' gradients become one, and the moving average of its weights.

    Attributes:
        average: Weights of the rewards; None before the first step that is taken.
    """

    def __init__(self, settings: GradientRule) -> None:
        self.settings = settings
        self.average: list[float] | None = None
        self._next: list[float] | None = None

    def apply(self, apart: RewardGradients, scale: float) -> dict[str, float | None]:
        """Replace the sum of the rewards' gradients by their combination; the rest stays as it is.

            g ← g + Σ_k (c_k − 1)·g_k,    c_k = K·w_k·(mean ‖g‖/‖g_k‖ where normalised, else 1)

        so that equal weights 1/K of equal norms change nothing. With `sum` gradients stay as they
        are in every bit.

        Args:
            apart: Of all processes.
            scale: Of the loss.

        Returns:
            What to log.
        """
        whole = apart.whole
        products = formulas.gram(whole)
        rest = _flat(apart.parameters, [one.grad for one in apart.parameters]) - whole.sum(0)
        numbers: dict[str, float | None] = {
            **apart.numbers(products, scale),
            "gradient/rest_norm": float(rest.double().norm()) / scale,
        }
        if not self.settings.combines:
            return {key: _finite(value) for key, value in numbers.items()}
        weights, factors = self._weigh(products, apart.seed)
        delta = (factors.to(whole) - 1) @ whole
        sizes = [one.numel() for one in apart.parameters]
        for parameter, part in zip(apart.parameters, delta.split(sizes), strict=True):
            assert parameter.grad is not None  # they are summed up, missing ones as 0
            parameter.grad += part.view_as(parameter).to(parameter.device)
        pairs = zip(apart.sides, weights.tolist(), strict=True)
        numbers |= {f"gradient/weight/{name}": weight for name, weight in pairs}
        return {key: _finite(value) for key, value in numbers.items()}

    def keep(self) -> None:
        """The step was taken: its weights enter the average."""
        if self._next is not None:
            self.average, self._next = self._next, None

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"kind": self.settings.kind, "average": self.average}

    def load_state(self, stored: dict[str, Any]) -> None:
        """From a checkpoint; another rule's average says nothing."""
        same = stored.get("kind") == self.settings.kind
        self.average = stored["average"] if same else None

    def _weigh(self, products: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Weights w and factors c of the rewards, both [K]; NaN where a gradient is not finite.

        A reward without a gradient (flat groups) has no part. Where there is one, the weights of
        the others are this update's own, and the average stays as it is.
        """
        settings = self.settings
        assert isinstance(settings, MinNorm | PcGrad)
        norms = products.diagonal().sqrt()
        self._next = None
        if not products.isfinite().all():
            return torch.full_like(norms, torch.nan), torch.full_like(norms, torch.nan)
        weights, factors = torch.zeros_like(norms), torch.ones_like(norms)
        there = norms > 0
        count = int(there.sum())
        if not count:
            return weights, factors
        own = products[there][:, there]
        own = formulas.normalised(own) if settings.normalise else own
        if isinstance(settings, MinNorm):
            weights[there] = formulas.min_norm(own)
        else:
            weights[there] = formulas.pcgrad(own, seed) / count
        if count == len(norms):
            weights = self._smoothed(weights, settings.smoothing)
        factors = count * weights
        if settings.normalise:
            factors = factors * norms[there].mean() / norms.where(there, 1.0)
        return weights, factors

    def _smoothed(self, weights: Tensor, decay: float) -> Tensor:
        if self.average is not None:
            weights = decay * weights.new_tensor(self.average) + (1 - decay) * weights
        self._next = weights.tolist()
        return weights


def is_measured(every: int, iteration: int) -> bool:
    """Whether iteration 1, 2, … is measured, step by step, where every so many are; 0: none."""
    return every > 0 and (iteration - 1) % every == 0


def _flat(parameters: Sequence[nn.Parameter], gradients: Sequence[Tensor | None]) -> Tensor:
    """[P] on the CPU; missing gradients are 0."""
    return torch.cat(
        [
            torch.zeros_like(p, device="cpu").flatten() if one is None else one.flatten().cpu()
            for p, one in zip(parameters, gradients, strict=True)
        ]
    )


def _finite(value: float | None) -> float | None:
    return None if value is None or not abs(value) < float("inf") else value
