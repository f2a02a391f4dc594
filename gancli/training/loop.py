"""The loop that trains every objective. It knows no model's name, no file format and no log format."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from gancli.data.loader import BatchLoader
from gancli.objectives.base import Fakes, Objective, Update
from gancli.runtime import ranks
from gancli.runtime.checks import check_number
from gancli.runtime.seeding import derive_seed
from gancli.training.cuda_graphs import CudaGraphs
from gancli.training.distributed import average, synchronise_batch_norm
from gancli.training.ema import EMA
from gancli.training.optimizers import undecorated
from gancli.training.schedules import Budget, constant

PRECISIONS = ("fp32", "tf32", "bf16")


class Trainer:
    """Training loop: updates the networks of an objective until the budget is used.

    A step is a pure function of the state and the step's number: batches have numbers, and all other random numbers
    (noise, dropout) come from torch's default generators, seeded with (seed, step). So no generator's state is saved,
    and samples or metrics between steps cannot disturb the run.

    Attributes:
        networks, parameters, optimizers: by network name, "G" or "D".
        step, images, batch_index: steps, real images and batches so far.
        rollbacks: how often the run went back to a checkpoint; each halves the learning rates.
    """

    def __init__(
        self,
        objective: Objective,
        batches: BatchLoader,
        optimizers: dict[str, Callable[[Any], torch.optim.Optimizer]],
        budget: Budget,
        device: torch.device,
        seed: int = 0,
        schedule: Callable[[float], float] = constant,
        beta2: Callable[[float], float] | None = None,
        ema: Callable[[nn.Module], EMA] = EMA,
        clip: float = 0.0,
        accumulate: int = 1,
        precision: str = "fp32",
        channels_last: bool = True,
        compile: bool = False,
        sync_bn: bool = True,
        graphs: CudaGraphs | None = None,
    ):
        """Put everything on the device.

        Args:
            optimizers: for each network, a function from its parameters to its optimizer.
            schedule: maps the used fraction of the budget to a factor on every learning rate; beta2: to Adam's second
                momentum.
            clip: largest gradient norm of an update; 0 does not clip.
            accumulate: equal parts of each batch that are computed one after the other; their gradients add up.
            precision: one of PRECISIONS; bf16 is autocast.
            compile: compile the networks, unless the objective differentiates a gradient.
            sync_bn: with several processes on GPUs, batch norm sees the images of all of them.
        """
        self.objective, self.batches, self.budget, self.device = objective, batches, budget, device
        self.seed, self.schedule, self.beta2, self.clip = seed, schedule, beta2, clip
        self.accumulate = accumulate
        check_parts(accumulate, objective, batches)
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.autocast = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
        torch.set_float32_matmul_precision("highest" if precision == "fp32" else "high")
        torch.backends.cudnn.allow_tf32 = precision != "fp32"
        self.networks = self._networks_on_device(list(optimizers))
        self.parameters = {n: [p for p in net.parameters() if p.requires_grad] for n, net in self.networks.items()}
        self.optimizers = {name: undecorated(new)(self.parameters[name]) for name, new in optimizers.items()}
        self.group_options = {
            name: [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
            for name, optimizer in self.optimizers.items()
        }
        self.ema, self.graphs = ema(objective.G), graphs
        if batches.prefetch_count > 0:
            self.use_device_scalars()
        self._wrap_networks(compile, sync_bn)
        self.step = self.images = self.batch_index = self.rollbacks = 0
        self.term_sums: dict[str, tuple[Tensor, int]] = {}
        self._clock, self._seconds = ranks.Clock(), 0.0
        self._session_start: float | None = None

    def _networks_on_device(self, names: list[str]) -> dict[str, nn.Module]:
        """Put all parts of the objective on the device; return the networks in training mode."""
        for part in vars(self.objective).values():
            if isinstance(part, nn.Module):  # an augmentation, say, or a frozen feature network
                part.to(self.device)
        networks = {name: getattr(self.objective, name) for name in names}
        return {name: n.to(self.device, memory_format=self.memory_format).train() for name, n in networks.items()}

    def _wrap_networks(self, compile: bool, sync_bn: bool) -> None:
        """Compile the networks and synchronise batch norm, which differentiated gradients allow neither of."""
        self.compiled = compile and not self.objective.double_backward
        synchronise = sync_bn and not self.objective.double_backward
        if synchronise and ranks.world_size() > 1 and self.device.type == "cuda":
            synchronise_batch_norm(self.networks.values())
        for network in self.networks.values() if self.compiled else ():
            network.compile()  # in place: the names in its state stay

    # --- time

    @property
    def seconds(self) -> float:
        """Seconds of training, over all sessions of the run."""
        start = self._session_start  # read once: the thread that draws the bar asks too
        return self._seconds + (self._clock.now() - start if start is not None else 0.0)

    @property
    def progress(self) -> float:
        """Used fraction of the budget, 0 to 1."""
        return self.budget.progress(self.step, self.images, self.seconds)

    def steps(self) -> Iterator[int]:
        """Train until the budget is used; yield the number of steps so far after each."""
        self._session_start = self._clock.tick()
        try:
            while (progress := self.progress) < 1:
                self.train_step(progress)
                self._clock.tick()
                yield self.step
        finally:
            self._seconds, self._session_start = self.seconds, None
            self.batches.wait()

    def leave_out(self, seconds: float) -> None:
        """Do not count the last so many seconds as training: something else was done between two steps."""
        if self._session_start is None:
            self._seconds -= seconds
        else:
            self._session_start += seconds

    # --- a step

    def train_step(self, progress: float) -> None:
        """Apply every update of the objective once, then update the average."""
        self._set_rates(progress)
        updates = self.objective.updates(self.step, progress)
        # A critic with five updates sees five batches of real images.
        images = self.batches.batch_size * max(Counter(update.network for update in updates).values())
        self.ema.set_weight(self.images + images, images)
        self.batches.prefetch(self.batch_index, len(updates))
        seed_step = partial(torch.manual_seed, self._step_seed())
        seed_step()
        apply = partial(self._apply, updates)
        phase = tuple(update.key for update in updates)
        counts = self.graphs(phase, apply, seed_step) if self.graphs else apply()
        # In the order of this step, which a resumed run has too.
        names, sums = dict.fromkeys([*counts, *sorted(self.term_sums)]), self.term_sums
        self.term_sums = {name: (sums[name][0], sums[name][1] + counts[name]) for name in names}
        self.images += images
        self.batch_index += len(updates)
        self.step += 1

    def _apply(self, updates: Sequence[Update]) -> Counter[str]:
        """Apply updates and update the average; return how often each term was logged."""
        counts: Counter[str] = Counter()
        carried: Fakes | None = None
        for update in updates:
            self.optimizers[update.network].zero_grad()
            terms, carried = self._differentiate(update, carried)
            terms = self._step_optimizer(update.network, terms)
            if update.after_step:
                update.after_step()
            self._add_terms(terms)
            counts.update(list(terms))
        self.ema.update(self.objective.G)
        return counts

    def _differentiate(self, update: Update, carried: Fakes | None) -> tuple[dict[str, Tensor], Fakes | None]:
        """Compute the gradient of an update on the next batch; return its terms, and fakes for the update after it.

        Fakes of a batch in parts are dropped: their graphs would fill the memory that the parts save.
        """
        parts: list[dict[str, Tensor]] = []
        n = self.accumulate
        for x, c in zip(*(t.chunk(n) for t in self.next_batch())):
            with self.autocast:
                terms, fakes = update.loss(x, c, carried)
            loss: Any = sum(terms.values())
            # Only this network's gradients: those of the other's weights are neither computed nor accumulated.
            (loss / n if n > 1 else loss).backward(inputs=self.parameters[update.network])
            parts.append({name: term.detach() for name, term in terms.items()})
        if n == 1:
            return parts[0], fakes
        return {name: torch.stack([part[name] for part in parts]).mean(0) for name in parts[0]}, None

    def _step_optimizer(self, network: str, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        """Step one network's optimizer; return the terms, averaged over the processes, with the gradient norm."""
        optimizer, parameters = self.optimizers[network], self.parameters[network]
        gradients = [p.grad for p in parameters if p.grad is not None]
        terms = average(gradients, terms)
        norm = torch.nn.utils.get_total_norm(gradients)
        if self.clip:
            torch.nn.utils.clip_grads_with_norm_(parameters, self.clip, norm)
        optimizer.step()
        return {**terms, f"gradient_norm({network})": norm}

    def next_batch(self) -> tuple[Tensor, Tensor]:
        """Return the next batch (x, c) in the memory format of the networks."""
        x, c = self.batches.next_batch()
        c = c.contiguous(memory_format=self.memory_format) if c.dim() == 4 else c
        return x.contiguous(memory_format=self.memory_format), c

    def _step_seed(self) -> int:
        """Return the seed of this step and process; the first process has that of a single one."""
        return derive_seed(self.seed, "round", self.step, *([ranks.rank()] if ranks.rank() else []))

    def _set_rates(self, progress: float) -> None:
        factor = self.schedule(progress) * 0.5**self.rollbacks
        for name, optimizer in self.optimizers.items():
            for group, options in zip(optimizer.param_groups, self.group_options[name]):
                rate = options["lr"] * factor
                if isinstance(group["lr"], Tensor):
                    group["lr"].fill_(rate)
                else:
                    group["lr"] = rate
                if self.beta2:
                    group["betas"] = (group["betas"][0], self.beta2(progress))

    def use_device_scalars(self) -> None:
        """Keep what changes from step to step in tensors, where a captured CUDA graph finds it.

        On a GPU this holds with and without graphs, so that both give the same bits.
        """
        self.ema.weight = torch.zeros((), device=self.device)
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                if "capturable" in group:
                    group["lr"] = torch.tensor(float(group["lr"]), device=self.device)
                    group["capturable"] = True

    # --- logged terms

    def _add_terms(self, terms: dict[str, Tensor]) -> None:
        """Add to the sums since the last `read_terms`. They stay on the device, so nothing waits for them."""
        for name, term in terms.items():
            if name not in self.term_sums:
                self.term_sums[name] = (torch.zeros_like(term, requires_grad=False), 0)
            self.term_sums[name][0].add_(term.detach())

    def mean_terms(self) -> dict[str, float]:
        """Return the mean of every term over the updates since the last `read_terms`."""
        return {name: float(total) / count for name, (total, count) in self.term_sums.items() if count}

    def read_terms(self) -> dict[str, float]:
        """Return the mean of every term over the updates since the last call."""
        means = self.mean_terms()
        for total, _ in self.term_sums.values():
            total.zero_()
        self.term_sums = {name: (total, 0) for name, (total, _) in self.term_sums.items()}
        return means

    def non_finite(self) -> str:
        """Return what is not finite of the terms and of the state that is saved, or an empty string."""
        terms = [name for name, (total, _) in self.term_sums.items() if not torch.isfinite(total)]
        if terms:
            return min(terms, key=lambda name: "/" not in name)  # a loss says more than its gradient's norm
        for name, network in {**self.networks, "the average of G": self.ema.network}.items():
            values = [v for v in network.state_dict().values() if v.is_floating_point()]
            if values and not torch.isfinite(torch.stack(torch._foreach_norm(values))).all():
                return f"a weight of {name}" if name in self.networks else name
        return ""

    # --- state

    def rollback(self, state: dict[str, Any]) -> None:
        """Load an earlier state and halve the learning rates; the time used stays used."""
        seconds, rollbacks, is_training = self.seconds, self.rollbacks, self._session_start is not None
        self.load_state_dict(state)
        self._seconds, self.rollbacks = seconds, rollbacks + 1
        self._session_start = self._clock.now() if is_training else None

    def state_dict(self) -> dict[str, Any]:
        """Return all that the next step depends on, as nested dicts of tensors, numbers and strings."""
        return {
            "step": self.step,
            "images": self.images,
            "batch_index": self.batch_index,
            "seconds": self.seconds,
            "rollbacks": self.rollbacks,
            "terms": self._terms_state(),
            "networks": {name: network.state_dict() for name, network in self.networks.items()},
            "ema": self.ema.network.state_dict(),
            "optimizers": {name: self._optimizer_state(name) for name in self.optimizers},
            "objective": self.objective.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state of `state_dict`, from any device."""
        self.step, self.images, self.batch_index = state["step"], state["images"], state["batch_index"]
        self._seconds, self.rollbacks = state["seconds"], state["rollbacks"]
        terms = sorted(state["terms"].items(), key=lambda item: item[1].get("place", 0))  # a file keeps no order
        self.term_sums = {name: (t["sum"].to(self.device, copy=True), t["count"]) for name, t in terms}
        self.objective.load_state_dict(state["objective"])
        for name, network in self.networks.items():
            network.load_state_dict(state["networks"][name])
            self._load_optimizer_state(name, state["optimizers"][name])
        self.ema.network.load_state_dict(state["ema"])
        if self.batches.prefetch_count > 0:
            self.use_device_scalars()
        if self.graphs:
            self.graphs.reset()

    def _terms_state(self) -> dict[str, dict[str, Any]]:
        """Return the sums of the terms since the last `read_terms`, with their places in a row."""
        counted = [(name, *term) for name, term in self.term_sums.items() if term[1]]
        return {name: {"sum": total.clone(), "count": n, "place": i} for i, (name, total, n) in enumerate(counted)}

    def _optimizer_state(self, name: str) -> dict[str, Any]:
        """Return an optimizer's state by parameter names, equal on every device."""
        state, names = self.optimizers[name].state_dict(), self._parameter_names(name)
        groups = []
        for group, options in zip(state["param_groups"], self.group_options[name]):
            on_every_device = {"lr": float(group["lr"]), "capturable": options.get("capturable")}
            on_every_device = {key: value for key, value in on_every_device.items() if key in options}
            groups.append({**group, **on_every_device, "params": [names[i] for i in group["params"]]})
        return {"state": {names[i]: values for i, values in state["state"].items()}, "param_groups": groups}

    def _load_optimizer_state(self, name: str, state: dict[str, Any]) -> None:
        optimizer, index = self.optimizers[name], {n: i for i, n in enumerate(self._parameter_names(name))}
        groups = [{**group, "params": [index[n] for n in group["params"]]} for group in state["param_groups"]]
        optimizer.load_state_dict(
            {"state": {index[n]: values for n, values in state["state"].items()}, "param_groups": groups}
        )
        # The config's values, not those of the saved state. But each step sets the rates, and a run that has only its
        # last row left to write shows those of its last step.
        of_step = {"lr", *(["betas"] if self.beta2 else [])}
        for group, options in zip(optimizer.param_groups, self.group_options[name]):
            group.update({key: value for key, value in options.items() if key not in of_step})

    def _parameter_names(self, name: str) -> list[str]:
        """Return the names of a network's parameters in the order in which its optimizer numbers them."""
        names = {id(p): parameter for parameter, p in self.networks[name].named_parameters()}
        return [names[id(p)] for group in self.optimizers[name].param_groups for p in group["params"]]


def check_parts(parts: int, objective: Objective, batches: BatchLoader) -> None:
    """Raise ValueError unless trainer.accumulate=parts can split a batch."""
    check_number("trainer.accumulate", parts, least=1, example=4, whole=True)
    if parts > 1 and (reason := objective.whole_batch):
        raise ValueError(
            f"trainer.accumulate={parts} computes a batch in parts, but {reason}; type trainer.accumulate=1, and a "
            f"smaller data.batch_size= for less memory"
        )
    # Images that are packed together, and each process's share, stay together.
    units = batches.batch_size // (batches.world_size * getattr(objective, "packing", 1))
    if units % parts:
        fits = next(n for n in range(min(parts, units), 0, -1) if units % n == 0)
        raise ValueError(
            f"data.batch_size={batches.batch_size} cannot be computed in trainer.accumulate={parts} equal parts; type "
            f"trainer.accumulate={fits} or another data.batch_size="
        )
