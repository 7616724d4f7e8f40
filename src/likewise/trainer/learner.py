"""What turns gradients into a better adapter: AdamW, a learning-rate schedule, a moving average."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from likewise.config.learning import Optimizer as OptimizerSettings
from likewise.config.objectives import Average, OnPolicy
from likewise.sharding.shards import Shards
from likewise.trainer.old import OldWeights
from likewise.trainer.reducing import AddUp, sum_gradients
from likewise.trainer.reward_gradients import Combination, RewardGradients

SCALE_GROWTH = 100  # steps after which a float16 loss scale doubles; torch has 2000, a whole run


class Learner:
    """Optimiser, schedule and moving average over a policy's trainable parameters.

    Args:
        parameters: float32, in the policy's own order; gradients are already summed up.
        total_updates: Optimiser steps of the whole run, for schedules that end.
        half: The forward computes in float16, whose range gradients leave: :meth:`scaled` losses.
        old: Keep old weights too, as `objective.old` says.
        shards: Where the parameters are this process's shards of a policy's.

    Raises:
        ValueError: nothing is trainable.
    """

    def __init__(
        self,
        parameters: list[nn.Parameter],
        settings: OptimizerSettings,
        total_updates: int,
        half: bool = False,
        old: OnPolicy | Average | None = None,
        shards: Shards | None = None,
    ) -> None:
        if not parameters:
            raise ValueError("the policy has nothing to train: give it an adapter")
        self.parameters = parameters
        self.settings, self.total_updates, self.shards = settings, total_updates, shards
        self.optimizer = torch.optim.AdamW(
            parameters,
            lr=settings.learning_rate,
            betas=settings.betas,
            eps=settings.eps,
            weight_decay=settings.weight_decay,
        )
        self.scheduler = get_scheduler(
            settings.schedule,
            self.optimizer,
            num_warmup_steps=settings.warmup_steps,
            num_training_steps=total_updates,
        )
        self.scaler = torch.amp.GradScaler(
            parameters[0].device.type, growth_interval=SCALE_GROWTH, enabled=half
        )
        self.ema: EMAModel | None = None
        if settings.ema_decay is not None:
            self.ema = EMAModel(parameters, decay=settings.ema_decay)
        lockstep = None if shards is None else shards.lockstep
        self.old = None if old is None else OldWeights(parameters, old, lockstep)
        self.combination = Combination(settings.gradients)

    def _follow_settings(self) -> None:
        """Where an extended run begins: the rate that its own schedule has after so many steps."""
        self.scheduler.base_lrs = [self.settings.learning_rate for _ in self.scheduler.base_lrs]
        for group, rate in zip(self.optimizer.param_groups, self._rates(), strict=True):
            group["lr"] = rate

    def _rates(self) -> list[float]:
        done, scheduler = self.scheduler.last_epoch, self.scheduler
        pairs = zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=True)
        return [base * factor(done) for base, factor in pairs]

    @property
    def learning_rate(self) -> float:
        """Of the next step."""
        return float(self.optimizer.param_groups[0]["lr"])

    def scaled(self, loss: Tensor) -> Tensor:
        """The loss to go backward from: times a factor that keeps float16 gradients from vanishing.

        :meth:`step` divides it out again, and lowers it where a gradient overflowed.
        """
        return self.scaler.scale(loss)

    def overflowed(self, norm: float) -> bool:
        """Whether the last step's gradients left float16's range and a lower scale may help."""
        return not math.isfinite(norm) and self.scaler.is_enabled() and self.scaler.get_scale() >= 1

    def is_finite(self) -> bool:
        """Whether every trained number is; a collective call where they are in shards."""
        own = bool(torch.stack([one.isfinite().all() for one in self.parameters]).all())
        return own if self.shards is None else self.shards.all(own)

    def forget_gradients(self) -> None:
        """Drop what has been added up since the last step."""
        self.optimizer.zero_grad()
        if self.shards is not None:
            self.shards.forget_gradients()

    def sum_gradients(self, add_up: AddUp | None) -> None:
        """Give every parameter the sum of its gradients over processes; before :meth:`step`.

        Args:
            add_up: Replaces a tensor by its sum over processes; None: there is only this process.
        """
        if self.shards is None:
            sum_gradients(self.parameters, add_up)
        else:
            self.shards.take_gradients()

    def combine(self, apart: RewardGradients) -> dict[str, float | None]:
        """See `Combination.apply`; before :meth:`step`."""
        return self.combination.apply(apart, self.scaler.get_scale())

    def step(self) -> float:
        """Clip, step, average, and clear the gradients. Returns the norm before clipping.

        A norm that is not finite leaves everything as it was: one bad batch must not end a run. So
        does a norm of 0, where Adam's momentum would go on without anybody having had credit.
        """
        self.scaler.unscale_(self.optimizer)
        self.scaler.update()
        norm = self._clip()
        if 0 < norm < float("inf"):  # false for NaN too
            self.optimizer.step()
            self.scheduler.step()
            if self.ema is not None:
                self.ema.step(self.parameters)
            if self.old is not None:
                self.old.after_step()
            self.combination.keep()
        self.forget_gradients()
        return norm

    def _clip(self) -> float:
        limit = self.settings.max_grad_norm
        if self.shards is None:
            return float(nn.utils.clip_grad_norm_(self.parameters, limit))
        norm = self.shards.norm([one.grad for one in self.parameters if one.grad is not None])
        nn.utils.clip_grads_with_norm_(self.parameters, limit, norm)
        return float(norm)

    def end_iteration(self) -> None:
        """After an iteration's last step."""
        if self.old is not None:
            self.old.after_iteration()

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """Within this context the parameters are those that draw images: see `objective.old`."""
        if self.old is None or not self.old.draws:
            yield
            return
        with self.old.applied():
            yield

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within this context the parameters are their moving average, if there is one."""
        if self.ema is None:
            yield
            return
        self.ema.store(self.parameters)
        self.ema.copy_to(self.parameters)
        try:
            yield
        finally:
            self.ema.restore(self.parameters)

    def state(self) -> tuple[dict[str, Tensor], str]:
        """Everything but the parameters themselves: tensors by name, and the rest as JSON."""
        tensors = {
            f"optimizer.{index}.{key}": value
            for index, moments in self.optimizer.state_dict()["state"].items()
            for key, value in moments.items()
        }
        rest: dict[str, Any] = {
            "scheduler": self.scheduler.state_dict(),
            "learning_rates": [group["lr"] for group in self.optimizer.param_groups],
            "total_updates": self.total_updates,
        }
        if self.scaler.is_enabled():
            rest["loss_scale"] = self.scaler.state_dict()
        if self.ema is not None:
            tensors |= {f"ema.{i}": value for i, value in enumerate(self.ema.shadow_params)}
            rest["ema_steps"] = self.ema.optimization_step
        if self.combination.average is not None:
            rest["gradients"] = self.combination.state()
        if self.old is not None:
            rest["old_iterations"] = self.old.iterations
            if not self.old.is_current:
                tensors |= {f"old.{i}": value for i, value in enumerate(self.old.weights)}
        return tensors, json.dumps(rest)

    @torch.no_grad()
    def load_parameters(self, values: Sequence[Tensor]) -> None:
        """Give the parameters these values, in their order.

        Raises:
            ValueError: there are more or fewer, or one has another shape.
        """
        if [one.shape for one in values] != [one.shape for one in self.parameters]:
            raise ValueError("the checkpoint holds another adapter than this run trains")
        for parameter, value in zip(self.parameters, values, strict=True):
            parameter.copy_(value)

    def load_state(self, tensors: Mapping[str, Tensor], rest: str) -> None:
        """Restore what :meth:`state` returned, for the same parameters.

        Where the settings lay out more steps, or another learning rate, the schedule is theirs.
        """
        moments: dict[int, dict[str, Tensor]] = {}
        averages: dict[int, Tensor] = {}
        old: dict[int, Tensor] = {}
        for name, value in tensors.items():
            part, index, *key = name.split(".")
            if part == "ema":
                averages[int(index)] = value
            elif part == "old":
                old[int(index)] = value
            else:
                moments.setdefault(int(index), {})[key[0]] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
        stored = json.loads(rest)
        self.scheduler.load_state_dict(stored["scheduler"])
        for group, rate in zip(self.optimizer.param_groups, stored["learning_rates"], strict=True):
            group["lr"] = rate
        rates = {*self.scheduler.base_lrs, self.settings.learning_rate}
        if stored.get("total_updates", self.total_updates) != self.total_updates or len(rates) > 1:
            self._follow_settings()
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(stored["loss_scale"])
        if self.ema is not None:
            self.ema.optimization_step = stored["ema_steps"]
            for i, shadow in enumerate(self.ema.shadow_params):
                shadow.copy_(averages[i])
        if "gradients" in stored:
            self.combination.load_state(stored["gradients"])
        if self.old is not None:
            weights = [old[index] for index in range(len(old))] or None
            self.old.restore(weights, stored.get("old_iterations", 0))


def rate_after(settings: OptimizerSettings, total_updates: int, steps: int) -> float:
    """Learning rate of the step after `steps` of them."""
    one = Learner([nn.Parameter(torch.zeros(1))], settings, total_updates)
    one.scheduler.last_epoch = steps
    return one._rates()[0]
