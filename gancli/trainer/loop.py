"""The one loop that trains every game. It knows no model's name, no file format and no log format."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from gancli.config import seed_of
from gancli.data.batches import Batches
from gancli.ema import EMA
from gancli.trainer.budget import Budget, constant
from gancli.trainer.distributed import Alone

PRECISIONS = ("fp32", "tf32", "bf16")


class Trainer:
    """Plays a game's rounds until the budget is used.

    A round is a pure function of the state below and the step's number: batches are drawn by number, and everything
    else that is random (noise, dropout) comes from torch's default generators, seeded afresh with (seed, step). So
    no generator's state has to be saved, and pictures or metrics made between rounds cannot disturb the run.

    optimizers: for each player, a function from its parameters to its optimizer.
    schedule: from the share of the budget used to a factor on every learning rate; beta2: to Adam's second momentum.
    clip: largest gradient norm of a move; 0 does not clip.
    compile: G and D through torch.compile; not where the game differentiates a gradient, which it cannot.
    ranks: the processes that train together; sync_bn: whether batch norm sees the images of all of them.
    """

    def __init__(
        self,
        game: Any,
        batches: Batches,
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
        ranks: Alone | None = None,
        sync_bn: bool = True,
    ):
        if precision not in PRECISIONS:
            raise ValueError(f"trainer.precision={precision} is not known; type one of {', '.join(PRECISIONS)}")
        if clip < 0:
            raise ValueError(f"a gradient norm is not negative, but trainer.clip={clip}; 0 does not clip")
        self.game, self.batches, self.budget, self.device = game, batches, budget, device
        self.seed, self.schedule, self.beta2, self.clip = seed, schedule, beta2, clip
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.autocast = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
        torch.set_float32_matmul_precision("highest" if precision == "fp32" else "high")
        torch.backends.cudnn.allow_tf32 = precision != "fp32"
        game.to(device)
        self.players = {p: getattr(game, p).to(device, memory_format=self.layout).train() for p in optimizers}
        self.parameters = {p: list(module.parameters()) for p, module in self.players.items()}
        self.optimizers = {p: make(self.parameters[p]) for p, make in optimizers.items()}
        self.options = {
            p: [{k: v for k, v in group.items() if k != "params"} for group in o.param_groups]
            for p, o in self.optimizers.items()
        }
        self.ema = ema(game.G)
        self.ranks = ranks or Alone()
        if sync_bn:
            self.ranks.synchronise(self.players.values())
        self.compiled = compile and not game.double_backward
        for module in self.players.values() if self.compiled else ():
            module.compile()  # in place: the names in its state stay as they are
        self.step = self.images = self.draws = self.rollbacks = 0
        self._seconds = 0.0
        self._since: float | None = None
        self.window: dict[str, tuple[Tensor, int]] = {}

    @property
    def seconds(self) -> float:
        """Time spent training, over all sessions of this run."""
        return self._seconds + (self.ranks.now() - self._since if self._since is not None else 0.0)

    @property
    def progress(self) -> float:
        """The share of the budget that is used, 0 to 1."""
        return self.budget.progress(self.step, self.images, self.seconds)

    def rounds(self) -> Iterator[int]:
        """Train: one round, then the number of rounds played so far, until the budget is used."""
        self._since = self.ranks.tick()
        try:
            while (progress := self.progress) < 1:
                self.round(progress)
                self.ranks.tick()
                yield self.step
        finally:
            self._seconds, self._since = self.seconds, None

    def round(self, progress: float) -> None:
        """Every move of the game once: draw, loss, backward, step. Then the average."""
        self.set_rates(progress)
        with self.ranks.drawing(seed_of(self.seed, "round", self.step)):
            # A critic of five moves has seen five batches of real images.
            batch = self.batches.size * max(Counter(self.play(progress)).values())
        self.images += batch
        self.step += 1
        self.ema.update(self.game.G, self.images, batch)

    def play(self, progress: float) -> Iterator[str]:
        """The moves of a round, each as its player's name once it is done."""
        for player, loss in self.game.moves(self.step, progress):
            x, c = self.draw()
            with self.autocast:
                terms = loss(x, c)
            optimizer, parameters = self.optimizers[player], self.parameters[player]
            optimizer.zero_grad()
            # Only this player's gradients: the other side's weights cost nothing and gather nothing.
            sum(terms.values()).backward(inputs=parameters)
            gradients = [p.grad for p in parameters if p.grad is not None]
            terms = self.ranks.average(gradients, terms)
            norm = torch.nn.utils.get_total_norm(gradients)
            if self.clip:
                torch.nn.utils.clip_grads_with_norm_(parameters, self.clip, norm)
            optimizer.step()
            self.game.stepped(player)
            self.watch({**terms, f"gradient_norm({player})": norm})
            yield player

    def draw(self) -> tuple[Tensor, Tensor]:
        x, c = self.batches(self.draws)
        self.draws += 1
        c = c.contiguous(memory_format=self.layout) if c.dim() == 4 else c
        return x.contiguous(memory_format=self.layout), c

    def set_rates(self, progress: float) -> None:
        factor = self.schedule(progress) * 0.5**self.rollbacks
        for player, optimizer in self.optimizers.items():
            for group, options in zip(optimizer.param_groups, self.options[player]):
                group["lr"] = options["lr"] * factor
                if self.beta2:
                    group["betas"] = (group["betas"][0], self.beta2(progress))

    def watch(self, terms: dict[str, Tensor]) -> None:
        """Add to the sums since the last `read`; they stay on the device, so nothing waits for them."""
        for name, term in terms.items():
            total, count = self.window.get(name, (0.0, 0))
            self.window[name] = (total + term.detach(), count + 1)

    def read(self) -> dict[str, float]:
        """The mean of every term over the moves since the last call."""
        means = {name: float(total) / count for name, (total, count) in self.window.items()}
        self.window = {}
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
        self._since = self.ranks.now() if running else None

    def state_dict(self) -> dict[str, Any]:
        """All that the next round depends on, as tensors and plain values."""
        return {
            "step": self.step,
            "images": self.images,
            "draws": self.draws,
            "seconds": self.seconds,
            "rollbacks": self.rollbacks,
            "window": dict(self.window),
            "networks": {p: module.state_dict() for p, module in self.players.items()},
            "ema": self.ema.network.state_dict(),
            "optimizers": {p: optimizer.state_dict() for p, optimizer in self.optimizers.items()},
            "game": self.game.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self.step, self.images, self.draws = state["step"], state["images"], state["draws"]
        self._seconds, self.rollbacks, self.window = state["seconds"], state["rollbacks"], dict(state["window"])
        self.game.load_state_dict(state["game"])
        for player, module in self.players.items():
            module.load_state_dict(state["networks"][player])
            optimizer = self.optimizers[player]
            optimizer.load_state_dict(state["optimizers"][player])
            for group, options in zip(optimizer.param_groups, self.options[player]):
                group.update(options)  # what the config says now: a state brings back the rates it was taken with
        self.ema.network.load_state_dict(state["ema"])
