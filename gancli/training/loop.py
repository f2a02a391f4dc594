"""The one loop that trains every objective. It knows no model's name, no file format and no log format."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from gancli.data.loader import BatchLoader
from gancli.objectives.base import Fakes, Update
from gancli.runtime import ranks
from gancli.runtime.seeding import derive_seed
from gancli.training.cuda_graphs import CudaGraphs
from gancli.training.distributed import average, synchronise_batch_norm
from gancli.training.ema import EMA
from gancli.training.optimizers import plain
from gancli.training.schedules import Budget, constant

PRECISIONS = ("fp32", "tf32", "bf16")


class Trainer:
    """Plays a objective's rounds until the budget is used.

    A round is a pure function of the state below and the step's number: batches are drawn by number, and everything
    else that is random (noise, dropout) comes from torch's default generators, seeded afresh with (seed, step). So
    no generator's state has to be saved, and pictures or metrics made between rounds cannot disturb the run.

    optimizers: for each player, a function from its parameters to its optimizer.
    schedule: from the share of the budget used to a factor on every learning rate; beta2: to Adam's second momentum.
    clip: largest gradient norm of a move; 0 does not clip.
    compile: G and D through torch.compile; not where the objective differentiates a gradient, which it cannot.
    sync_bn: with several processes on GPUs, batch norm sees the images of all of them.
    graphs: records rounds and launches them whole, where `batches` brings its numbers ahead.
    """

    def __init__(
        self,
        objective: Any,
        batches: BatchLoader,
        optimizers: dict[str, Callable[[Any], torch.optim.Optimizer]],
        budget: Budget,
        device: torch.device,
        seed: int = 0,
        schedule: Callable[[float], float] = constant,
        beta2: Callable[[float], float] | None = None,
        ema: Callable[[torch.nn.Module], EMA] = EMA,
        clip: float = 0.0,
        precision: str = "fp32",
        channels_last: bool = True,
        compile: bool = False,
        sync_bn: bool = True,
        graphs: CudaGraphs | None = None,
        graph_safe: bool = True,
    ):
        if precision not in PRECISIONS:
            raise ValueError(f"trainer.precision={precision} is not known; type one of auto, {', '.join(PRECISIONS)}")
        if clip < 0:
            raise ValueError(f"a gradient norm is not negative, but trainer.clip={clip}; 0 does not clip")
        self.objective, self.batches, self.budget, self.device = objective, batches, budget, device
        self.seed, self.schedule, self.beta2, self.clip = seed, schedule, beta2, clip
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.autocast = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
        torch.set_float32_matmul_precision("highest" if precision == "fp32" else "high")
        torch.backends.cudnn.allow_tf32 = precision != "fp32"
        for part in vars(objective).values():
            if isinstance(part, torch.nn.Module):  # such as an augmentation or a frozen feature network
                part.to(device)
        self.players = {p: getattr(objective, p).to(device, memory_format=self.layout).train() for p in optimizers}
        self.parameters = {p: list(module.parameters()) for p, module in self.players.items()}
        self.optimizers = {p: plain(make)(self.parameters[p]) for p, make in optimizers.items()}
        self.options = {
            p: [{k: v for k, v in group.items() if k != "params"} for group in o.param_groups]
            for p, o in self.optimizers.items()
        }
        self.ema, self.graphs, self.graph_safe = ema(objective.G), graphs, graph_safe
        # On a GPU what differs from round to round lies in tensors: recorded or not, a round is the same to the bit.
        self.in_tensors = batches.prefetch_count > 0
        if self.in_tensors:
            self.ema.weight = torch.zeros((), device=device)
            self._rates_in_tensors()
        self.clock = ranks.Clock()
        if sync_bn and ranks.world_size() > 1 and device.type == "cuda" and not objective.double_backward:
            synchronise_batch_norm(self.players.values())
        self.compiled = compile and not objective.double_backward
        for module in self.players.values() if self.compiled else ():
            module.compile()  # in place: the names in its state stay as they are
        self.step = self.images = self.draws = self.rollbacks = 0
        self._seconds = 0.0
        self._since: float | None = None
        self.window: dict[str, tuple[Tensor, int]] = {}

    @property
    def seconds(self) -> float:
        """Time spent training, over all sessions of this run."""
        return self._seconds + (self.clock.now() - self._since if self._since is not None else 0.0)

    @property
    def progress(self) -> float:
        """The share of the budget that is used, 0 to 1."""
        return self.budget.progress(self.step, self.images, self.seconds)

    def rounds(self) -> Iterator[int]:
        """Train: one round, then the number of rounds played so far, until the budget is used."""
        self._since = self.clock.tick()
        try:
            while (progress := self.progress) < 1:
                self.round(progress)
                self.clock.tick()
                yield self.step
        finally:
            self._seconds, self._since = self.seconds, None
            self.batches.wait()

    def round(self, progress: float) -> None:
        """Every move of the objective once: draw, loss, backward, step. Then the average."""
        self.set_rates(progress)
        moves = self.objective.updates(self.step, progress)
        # The first process has the seed that one process alone has.
        seed = derive_seed(self.seed, "round", self.step, *([ranks.rank()] if ranks.rank() else []))
        # A critic of five moves has seen five batches of real images.
        batch = self.batches.batch_size * max(Counter(update.network for update in moves).values())
        self.ema.bring(self.images + batch, batch)
        self.batches.prefetch(self.draws, len(moves))
        torch.manual_seed(seed)
        if self.graphs:
            kind = tuple(update.key for update in moves) if self.graph_safe else None
            watched = self.graphs(kind, partial(self.play, moves), partial(torch.manual_seed, seed))
        else:
            watched = self.play(moves)
        self.window = {name: (total, count + watched[name]) for name, (total, count) in self.window.items()}
        self.images += batch
        self.draws += len(moves)
        self.step += 1

    def play(self, moves: Sequence[Update]) -> Counter[str]:
        """The moves of a round, then the average; gives how often each term was watched."""
        watched: Counter[str] = Counter()
        carried: Fakes | None = None
        for update in moves:
            player = update.network
            x, c = self.draw()
            with self.autocast:
                terms, carried = update.loss(x, c, carried)
            optimizer, parameters = self.optimizers[player], self.parameters[player]
            optimizer.zero_grad()
            objective: Any = sum(terms.values())
            # Only this player's gradients: the other side's weights cost nothing and gather nothing.
            objective.backward(inputs=parameters)
            gradients = [p.grad for p in parameters if p.grad is not None]
            terms = average(gradients, terms)
            norm = torch.nn.utils.get_total_norm(gradients)
            if self.clip:
                torch.nn.utils.clip_grads_with_norm_(parameters, self.clip, norm)
            optimizer.step()
            if update.after_step:
                update.after_step()
            terms[f"gradient_norm({player})"] = norm
            self.watch(terms)
            watched.update(list(terms))
        self.ema.update(self.objective.G)
        return watched

    def draw(self) -> tuple[Tensor, Tensor]:
        x, c = self.batches.next_batch()
        c = c.contiguous(memory_format=self.layout) if c.dim() == 4 else c
        return x.contiguous(memory_format=self.layout), c

    def set_rates(self, progress: float) -> None:
        factor = self.schedule(progress) * 0.5**self.rollbacks
        for player, optimizer in self.optimizers.items():
            for group, options in zip(optimizer.param_groups, self.options[player]):
                rate = options["lr"] * factor
                if isinstance(group["lr"], Tensor):
                    group["lr"].fill_(rate)
                else:
                    group["lr"] = rate
                if self.beta2:
                    group["betas"] = (group["betas"][0], self.beta2(progress))

    def _rates_in_tensors(self) -> None:
        """Where a recorded step finds them; what it counts lies on the device, too."""
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                if "capturable" in group:
                    group["lr"] = torch.tensor(float(group["lr"]), device=self.device)
                    group["capturable"] = True

    def watch(self, terms: dict[str, Tensor]) -> None:
        """Add to the sums since the last `read`, which stay where they are on the device: nothing waits for them."""
        for name, term in terms.items():
            if name not in self.window:
                self.window[name] = (torch.zeros_like(term, requires_grad=False), 0)
            self.window[name][0].add_(term.detach())

    def read(self) -> dict[str, float]:
        """The mean of every term over the moves since the last call."""
        means = {name: float(total) / count for name, (total, count) in self.window.items() if count}
        for total, _ in self.window.values():
            total.zero_()
        self.window = {name: (total, 0) for name, (total, _) in self.window.items()}
        return means

    def broken(self) -> str:
        """What is not finite, of the terms watched and of what a checkpoint holds; "" where all is well."""
        terms = [name for name, (total, _) in self.window.items() if not torch.isfinite(total)]
        if terms:
            return " and ".join([name for name in terms if "/" in name] or terms)
        modules = {**self.players, "the average of G": self.ema.network}
        for name, module in modules.items():
            values = [v for v in module.state_dict().values() if v.is_floating_point()]
            if values and not torch.isfinite(torch.stack(torch._foreach_norm(values))).all():
                return f"a weight of {name}" if name in self.players else name
        return ""

    def rollback(self, state: dict[str, Any]) -> None:
        """Back to an earlier state at half the learning rate; time that was spent stays spent."""
        seconds, rollbacks, running = self.seconds, self.rollbacks, self._since is not None
        self.load_state_dict(state)
        self._seconds, self.rollbacks = seconds, rollbacks + 1
        self._since = self.clock.now() if running else None

    def state_dict(self) -> dict[str, Any]:
        """All that the next round depends on, as tensors and plain values."""
        return {
            "step": self.step,
            "images": self.images,
            "draws": self.draws,
            "seconds": self.seconds,
            "rollbacks": self.rollbacks,
            "window": {name: (total.clone(), count) for name, (total, count) in self.window.items() if count},
            "networks": {p: module.state_dict() for p, module in self.players.items()},
            "ema": self.ema.network.state_dict(),
            "optimizers": {p: self._optimizer_state(p) for p in self.optimizers},
            "objective": self.objective.state_dict(),
        }

    def _optimizer_state(self, player: str) -> dict[str, Any]:
        """Return an optimizer's state keyed by parameter names, its rates as numbers."""
        state, names = self.optimizers[player].state_dict(), self._names(player)
        groups = []
        for group, options in zip(state["param_groups"], self.options[player]):
            plain = {"lr": float(group["lr"]), "capturable": options.get("capturable")}
            plain = {key: value for key, value in plain.items() if key in options}
            groups.append({**group, **plain, "params": [names[i] for i in group["params"]]})
        return {"state": {names[i]: values for i, values in state["state"].items()}, "param_groups": groups}

    def _load_optimizer_state(self, player: str, state: dict[str, Any]) -> None:
        numbers = {name: i for i, name in enumerate(self._names(player))}
        values = {numbers[name]: value for name, value in state["state"].items()}
        groups = [{**group, "params": [numbers[name] for name in group["params"]]} for group in state["param_groups"]]
        self.optimizers[player].load_state_dict({"state": values, "param_groups": groups})

    def _names(self, player: str) -> list[str]:
        """Return the names of a network's parameters, in the order in which its optimizer numbers them."""
        return [name for name, _ in self.players[player].named_parameters()]

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self.step, self.images, self.draws = state["step"], state["images"], state["draws"]
        self._seconds, self.rollbacks = state["seconds"], state["rollbacks"]
        self.window = {name: (total.clone(), count) for name, (total, count) in state["window"].items()}
        self.objective.load_state_dict(state["objective"])
        for player, module in self.players.items():
            module.load_state_dict(state["networks"][player])
            optimizer = self.optimizers[player]
            self._load_optimizer_state(player, state["optimizers"][player])
            for group, options in zip(optimizer.param_groups, self.options[player]):
                group.update(options)  # what the config says now: a state brings back the rates it was taken with
        self.ema.network.load_state_dict(state["ema"])
        if self.in_tensors:
            self._rates_in_tensors()
        if self.graphs:
            self.graphs.forget()
