"""An optimizer whose state is in the CPU's memory, while the parameters are on a device."""

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch

from fusedstep.optimizers.stateless import gradient_norm
from fusedstep.torch._optimizer import Optimizer
from fusedstep.torch._tensors import averaged


class Bucket:
    """Parameters whose gradients are fetched together.

    Attributes:
        group: The number of their group.
        pairs: Each parameter with its mirror: the parameter in the CPU's memory that is stepped in its place.
    """

    def __init__(self, group: int, pairs: list[tuple[Any, Any]]) -> None:
        self.group, self.pairs = group, pairs

    def fetch(self) -> None:
        """Gives the mirrors the gradients."""
        for p, mirror in self.pairs:
            if p.grad is None:
                mirror.grad = None
            elif p.grad.layout is not torch.strided:
                mirror.grad = p.grad.cpu()
            else:
                if mirror.grad is None or mirror.grad.layout is not torch.strided:
                    mirror.grad = torch.empty_like(mirror, pin_memory=mirror.is_pinned())
                mirror.grad.copy_(p.grad, non_blocking=True)

    def send(self) -> None:
        """Gives the parameters the values of their mirrors."""
        with torch.no_grad():
            for p, mirror in self.pairs:
                if mirror.grad is not None:
                    p.copy_(mirror, non_blocking=True)


class Transfers(Protocol):
    """How buckets get to the CPU and back. All calls come from one thread."""

    def fetch(self, bucket: Bucket) -> Callable[[], None]:
        """Begins to fetch the gradients of a bucket; the result waits until they are there."""

    def send(self, bucket: Bucket) -> None:
        """Begins to send the new values of a bucket."""

    def finish(self) -> None:
        """Returns when what the device does next sees all that was sent."""


class InBackground:
    """Transfers in a thread of their own, for devices without streams that we know."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "fusedstep-transfers")
        self._sent: list[Future[None]] = []

    def fetch(self, bucket: Bucket) -> Callable[[], None]:
        """As `Transfers` has it."""
        return self._thread.submit(bucket.fetch).result

    def send(self, bucket: Bucket) -> None:
        """As `Transfers` has it."""
        self._sent.append(self._thread.submit(bucket.send))

    def finish(self) -> None:
        """As `Transfers` has it."""
        sent, self._sent = self._sent, []
        for each in sent:
            each.result()


class OnStreams:
    """Transfers on two streams of a CUDA device."""

    def __init__(self, device: Any) -> None:
        self._device = device
        self._fetching, self._sending = torch.cuda.Stream(device), torch.cuda.Stream(device)

    def fetch(self, bucket: Bucket) -> Callable[[], None]:
        """As `Transfers` has it."""
        self._fetching.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._fetching):
            bucket.fetch()
            fetched = self._fetching.record_event()
        return fetched.synchronize  # type: ignore[no-any-return]

    def send(self, bucket: Bucket) -> None:
        """As `Transfers` has it."""
        self._sending.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._sending):
            bucket.send()

    def finish(self) -> None:
        """As `Transfers` has it."""
        torch.cuda.current_stream(self._device).wait_stream(self._sending)


def transfers_of(device: Any) -> Transfers:
    """The transfers of a device."""
    return OnStreams(device) if device.type == "cuda" else InBackground()


class Offloaded(torch.optim.Optimizer):
    """An optimizer with its state and float32 masters in the CPU's memory, for parameters on any device.

        optimizer = Offloaded(model.parameters(), AdamW, lr=1e-4, weight_decay=0.1)

    Gradients are copied to the CPU bucket by bucket, while earlier buckets are stepped; the step writes the rounded
    parameters in its own pass, and they are sent back meanwhile. With max_norm all gradients are fetched before the
    first bucket is stepped. For each bfloat16 parameter the CPU keeps 12 bytes of Adam's state and master and 4 of
    its gradient and copy, in pinned memory where the device is a CUDA one; the device keeps none. Parameters in the
    CPU's memory are stepped where they are.

    Groups, schedulers, hooks and state_dict are those of the parameters: state is that of `optimizer_class` with
    master=True, whose checkpoints go both ways.

    Arguments:
        params: Parameters, named parameters or groups, as torch.optim's optimizers take them.
        optimizer_class: One of fusedstep.torch's classes.
        bucket_bytes: How many bytes of gradients are copied together, at least one parameter's.
        keywords: Those of optimizer_class; master is True unless it is given.

    Raises:
        TypeError: optimizer_class is none of fusedstep.torch's.
        ValueError, RuntimeError: As the optimizer's.
    """

    param_groups: list[dict[str, Any]]

    def __init__(
        self, params: Iterable[Any], optimizer_class: type[Optimizer], *, bucket_bytes: int = 1 << 25, **keywords: Any
    ) -> None:
        if Optimizer not in getattr(optimizer_class, "__mro__", ()):
            raise TypeError(f"optimizer_class is {optimizer_class!r}, expected one of fusedstep.torch's classes")
        if bucket_bytes <= 0:
            raise ValueError(f"bucket_bytes is {bucket_bytes}, expected a number above 0")
        self._bucket_bytes = bucket_bytes
        self._mirrors: dict[Any, Any] = {}
        self._transfers: dict[Any, Transfers] = {}
        self._versions: dict[Any, int] = {}  # of parameters with mirrors after their last step
        self._stepper: Optimizer | None = None
        given = params if torch.is_tensor(params) else [_listed(each) for each in params]
        stepper = optimizer_class(
            given if torch.is_tensor(given) else [self._mirrored(each) for each in given], **{"master": True} | keywords
        )
        super().__init__(given, dict(stepper.defaults))
        self._stepper = stepper

    def _mirrored(self, each: Any) -> Any:
        """A parameter, named parameter or group with mirrors in the place of parameters."""
        if isinstance(each, dict) and isinstance(each.get("params"), list):
            return {**each, "params": [self._mirrored(p) for p in each["params"]]}
        if isinstance(each, tuple):
            return (each[0], self._mirror(each[1]))
        return self._mirror(each)

    def _mirror(self, p: Any) -> Any:
        if not torch.is_tensor(p) or self._is_near(p):
            return p
        if p not in self._mirrors:
            empty = torch.empty_like(p, device="cpu", pin_memory=p.device.type == "cuda", requires_grad=False)
            self._mirrors[p] = torch.nn.Parameter(empty.copy_(p.detach()))
        return self._mirrors[p]

    @staticmethod
    def _is_near(p: Any) -> bool:
        return bool(p.device.type == "cpu")

    def __getstate__(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("_bucket_bytes", "_mirrors", "_stepper")}
        state: dict[str, Any] = super().__getstate__()
        return state | own | {"_transfers": {}, "_versions": {}}

    @property
    def gradient_norm(self) -> float | None:
        """With max_norm, the norm of the last step's gradients before they were clipped."""
        return self._inner.gradient_norm

    @property
    def _inner(self) -> Optimizer:
        assert self._stepper is not None
        return self._stepper

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group, as in PyTorch."""
        if self._stepper is not None:
            param_group = _listed(param_group)
            self._stepper.add_param_group(self._mirrored(param_group))
        super().add_param_group(param_group)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Makes one step of all parameters that have a gradient.

        Arguments:
            closure: Computes the loss again, and is called first, with gradients enabled.

        Returns:
            The loss of the closure, or None.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for ours, theirs in zip(self._inner.param_groups, self.param_groups, strict=True):
            ours.update({name: value for name, value in theirs.items() if name != "params"})
        self._take_changes()
        buckets = self._buckets()
        fetched = [self._transfers_of(bucket).fetch(bucket) for bucket in buckets]
        norm = None
        if self._inner.max_norm is not None:
            for wait in fetched:
                wait()
            every = (p for group in self._inner.param_groups for p in group["params"])
            norm = gradient_norm([p.grad for p in every])
        for bucket, wait in zip(buckets, fetched, strict=True):
            wait()
            group = self._inner.param_groups[bucket.group]
            self._inner._step_groups([(group, [mirror for _, mirror in bucket.pairs])], norm=norm)
            self._transfers_of(bucket).send(bucket)
        for transfers in self._transfers.values():
            transfers.finish()
        for bucket in buckets:
            for p, mirror in bucket.pairs:
                if mirror in self._inner.state:
                    self.state[p] = self._inner.state[mirror]
        self._versions = {p: p._version for p in self._mirrors}
        return loss

    def _take_changes(self) -> None:
        """Gives mirrors the values of parameters that something else than a step has changed since the last one."""
        with torch.no_grad():
            for p, mirror in self._mirrors.items():
                if self._versions.get(p) != p._version:
                    mirror.copy_(p)

    def _buckets(self) -> list[Bucket]:
        buckets = []
        for number, group in enumerate(self.param_groups):
            by_device: dict[Any, list[tuple[Any, Any]]] = {}
            for p in group["params"]:
                if p.grad is not None:
                    by_device.setdefault(p.device, []).append((p, self._mirror(p)))
            for pairs in by_device.values():
                taken: list[tuple[Any, Any]] = []
                size = 0
                for pair in pairs:
                    taken.append(pair)
                    size += pair[0].numel() * pair[0].element_size()
                    if size >= self._bucket_bytes and not self._is_near(pair[0]):
                        buckets.append(Bucket(number, taken))
                        taken, size = [], 0
                if taken:
                    buckets.append(Bucket(number, taken))
        return buckets

    def _transfers_of(self, bucket: Bucket) -> Transfers:
        p = bucket.pairs[0][0]
        if p.device not in self._transfers:
            self._transfers[p.device] = _Nowhere() if self._is_near(p) else transfers_of(p.device)
        return self._transfers[p.device]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads state, which stays in the CPU's memory."""
        for hook in self._optimizer_load_state_dict_pre_hooks.values():
            state_dict = hook(self, state_dict) or state_dict
        self._inner.load_state_dict(state_dict)
        for ours, theirs in zip(self._inner.param_groups, self.param_groups, strict=True):
            theirs.update({name: value for name, value in ours.items() if name != "params"})
        self.state.clear()
        self._versions = {}
        for ours, theirs in zip(self._inner.param_groups, self.param_groups, strict=True):
            for mirror, p in zip(ours["params"], theirs["params"], strict=True):
                if mirror in self._inner.state:
                    self.state[p] = self._inner.state[mirror]
        for done in self._optimizer_load_state_dict_post_hooks.values():
            done(self)

    def averaged(self) -> AbstractContextManager[None]:
        """Gives parameters the values of their averages, and back; see `Optimizer.averaged`."""
        return averaged(self)


def _listed(group: Any) -> Any:
    """A group with a list of parameters, which may come from a generator; or what is none, as it is."""
    if not isinstance(group, dict) or isinstance(group.get("params", {}), set | dict):
        return group
    params = group["params"]
    return {**group, "params": [params] if torch.is_tensor(params) else list(params)}


class _Nowhere:
    """The transfers of parameters that are stepped where they are."""

    def fetch(self, bucket: Bucket) -> Callable[[], None]:
        return lambda: None

    def send(self, bucket: Bucket) -> None:
        pass

    def finish(self) -> None:
        pass
