"""Several gradients, one direction: MGDA's min-norm and PCGrad (docs/method.md §3).

All of it follows from inner products. For K gradients g_k the Gram matrix is H_jk = ⟨g_j, g_k⟩, and
a direction is d = Σ_k c_k·g_k, so that functions here map H [K, K] to weights [K], in float64.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

CHUNK = 2**20  # columns in float64 at once
TOLERANCE = 1e-12  # of the largest squared norm


def gram(vectors: Tensor) -> Tensor:
    """Inner products of K vectors, float64 [K, K] on the CPU.

    Args:
        vectors: [K, P], any float dtype and device.
    """
    parts = (part.double() for part in vectors.split(CHUNK, dim=1))
    return torch.stack([(part @ part.T).cpu() for part in parts]).sum(0)


def cosine(products: Tensor, one: Tensor, other: Tensor) -> float | None:
    """Cosine of Σ_{k in one} g_k and Σ_{k in other} g_k; None where one of them is 0 or not finite.

    Args:
        products: H [K, K].
        one, other: Which gradients belong to either, bool [K].
    """
    a, b = one.to(products), other.to(products)
    size = float((a @ products @ a).sqrt() * (b @ products @ b).sqrt())
    if not 0 < size < math.inf:
        return None
    return max(-1.0, min(1.0, float(a @ products @ b) / size))


def normalised(products: Tensor) -> Tensor:
    """H of g_k/‖g_k‖, [K, K]: the cosines.

    Args:
        products: H [K, K]; no gradient is 0.
    """
    norms = products.diagonal().sqrt()
    return products / norms / norms[:, None]


def min_norm(products: Tensor) -> Tensor:
    """MGDA: α = argmin over the simplex of ‖Σ_k α_k·g_k‖², float64 [K] (Désidéri 2012).

    d = Σ_k α_k·g_k has ⟨d, g_k⟩ ≥ ‖d‖² for every k: a step along it improves all rewards alike or
    more, and where d = 0 nothing improves all of them. For K = 2

        α_1 = clip( ⟨g_2 − g_1, g_2⟩/‖g_1 − g_2‖², 0, 1 )

    which is ½ wherever ‖g_1‖ = ‖g_2‖. For K > 2 Wolfe's active-set method (1976), exact after
    finitely many steps.

    Args:
        products: H [K, K].
    """
    H = products.double()
    if len(H) == 2:
        apart = float(H[0, 0] - 2 * H[0, 1] + H[1, 1])
        share = float(H[1, 1] - H[0, 1]) / apart if apart > 0 else 0.5
        share = max(0.0, min(1.0, share))
        return torch.tensor([share, 1 - share], dtype=torch.float64)
    slack = TOLERANCE * float(H.diagonal().max())
    start = int(H.diagonal().argmin())
    weights, active = torch.zeros(len(H), dtype=torch.float64), [start]
    weights[start] = 1
    for _ in range(100 * len(H)):  # far more than it takes, lest rounding goes in a circle
        slopes = H @ weights
        best = int(slopes.argmin())
        if slopes[best] >= weights @ slopes - slack or best in active:
            break
        active.append(best)
        weights, active = _descended(H, weights, active)
    return weights


def _descended(H: Tensor, weights: Tensor, active: list[int]) -> tuple[Tensor, list[int]]:
    """To the shortest point of the face that some gradients span, dropping those it leaves out."""
    while True:
        wanted = torch.zeros_like(weights)
        wanted[active] = _affine(H[active][:, active])
        if (wanted[active] > TOLERANCE).all():
            return wanted, active
        leaving = [k for k in active if wanted[k] <= TOLERANCE]
        reach = min(float(weights[k] / (weights[k] - wanted[k]).clamp_min(1e-300)) for k in leaving)
        weights = weights + reach * (wanted - weights)
        active = [k for k in active if k not in leaving or weights[k] > TOLERANCE]
        weights = _only(weights, active)


def _affine(H: Tensor) -> Tensor:
    """argmin of aᵀHa where Σ a = 1, of any sign: from its KKT equations, [n]."""
    n = len(H)
    system = torch.ones(n + 1, n + 1, dtype=torch.float64)
    system[:n, :n], system[n, n] = H, 0
    right = torch.zeros(n + 1, dtype=torch.float64)
    right[n] = 1
    return torch.linalg.lstsq(system, right[:, None], driver="gelsd").solution[:n, 0]


def _only(weights: Tensor, active: list[int]) -> Tensor:
    kept = torch.zeros_like(weights)
    kept[active] = weights[active]
    return kept / kept.sum()


def pcgrad(products: Tensor, seed: int = 0) -> Tensor:
    """PCGrad's direction as weights of the gradients, float64 [K] (arXiv:2001.06782).

    Each g_k in turn loses what points against any other g_j, g_k ← g_k − ⟨g_k, g_j⟩/‖g_j‖²·g_j
    where the product is negative, the g_j being the original ones, in random order; the sum of what
    is left is Σ_k c_k·g_k.

    Args:
        products: H [K, K]; no gradient is 0.
        seed: Of the orders, which matter for K > 2 alone.
    """
    H, K = products.double(), len(products)
    generator = torch.Generator().manual_seed(seed)
    left = torch.eye(K, dtype=torch.float64)  # [K, K]: row k is what is left of g_k
    for k, own in enumerate(left):
        for j in torch.randperm(K, generator=generator).tolist():
            against = own @ H[:, j]
            if j != k and against < 0:
                own[j] -= against / H[j, j]
    return left.sum(0)
