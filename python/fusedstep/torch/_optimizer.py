"""What the optimizers for PyTorch have in common: one step of all groups in one call of the extension module."""

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import chain
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias

import torch
from torch.optim import optimizer as _torch_optimizer

from fusedstep import _native
from fusedstep._limits import checked, checked_choice, checked_flag, checked_uint64
from fusedstep.torch._tensors import NARROW, averaged, has_duplicates, is_view, number, take_changes, zeros

_profiles = torch._C._autograd._profiler_enabled
_hooks_of_all = (_torch_optimizer._global_optimizer_pre_hooks, _torch_optimizer._global_optimizer_post_hooks)


class Rule(NamedTuple):
    """The rule of a group, and where PyTorch keeps what it needs.

    Attributes:
        name: One of `fusedstep.rules()`.
        own: The rule's own hyper-parameters; lr, weight_decay and maximize are read from the group.
        keys: Of a parameter's state, in its order: numbers, which are "step" and the rule's scalars, then the rule's
            states, or None for a state that the parameter hasn't.
        numbers: How many of the keys are those of numbers.
        lr_decay: lr is divided by 1 + lr_decay (t - 1).
    """

    name: str
    own: dict[str, Any]
    keys: tuple[str | None, ...] = ()
    numbers: int = 1
    lr_decay: float = 0.0


# A rule, its group, parameters, average, whether they have masters; the seed of stochastic rounding, and the numbers of
# the parameters for that.
Part: TypeAlias = tuple[Rule, dict[str, Any], list[Any], float | None, bool, int | None, list[int] | None]


class Optimizer(torch.optim.Optimizer):
    """The base class of the optimizers for PyTorch; see the subclasses for the rules.

    They are PyTorch's own classes with another `step`: groups, state, checkpoints, schedulers and hooks are PyTorch's.
    A step reads the gradient, state and counter of each parameter, and updates all groups in one parallel region. They
    take the arguments of the class of that name in torch.optim, and those below.

    Arguments:
        max_norm: The largest norm of all gradients together; they are clipped to it in the pass of the step, and stay
            as they are themselves. None for no clipping.
        average: The decay of an exponential average of the parameters, from 0 to 1, which the state of each keeps
            under "average"; `averaged` evaluates with it. None for none.
        rounding: "stochastic" rounds bfloat16 and float16 parameters up or down with a probability that is the part of
            the way, by random bits that follow from seed, step, parameter and element alone.
        seed: Of stochastic rounding, below 2^64.
        master: Parameters in bfloat16 or float16 have float32 masters in their state, which are what is stepped; the
            state of the rule is float32, too. Elements of a parameter that something else than a step has changed in
            place, such as load_state_dict of its module, are taken into the master before the next step.
        strict: Raises in place of taking PyTorch's own form for groups with differentiable=True, with a parameter that
            comes twice, or with parameters on other devices or of classes like DTensor.

    Attributes:
        gradient_norm: With max_norm, the norm of the last step's gradients before they were clipped, a float.

    Raises:
        TypeError, ValueError, RuntimeError: As torch.optim's. After an error in a step nothing has been changed.
    """

    __signature__: ClassVar[inspect.Signature]

    param_groups: list[dict[str, Any]]
    max_norm: float | None = None
    average: float | None = None
    rounding: Literal["nearest", "stochastic"] = "nearest"
    seed: int = 0
    master: bool = False
    strict: bool = False
    gradient_norm: float | None = None
    _has_inference_tensors = False
    _needs_peer = False  # whether a group may have parameters that only PyTorch's form can step

    # The class in torch.optim whose step takes groups that ours can't.
    _peer: ClassVar[type[torch.optim.Optimizer] | None] = None
    # The numbers in the state besides "step".
    _scalars: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        *arguments: Any,
        max_norm: float | None = None,
        average: float | None = None,
        rounding: Literal["nearest", "stochastic"] = "nearest",
        seed: int = 0,
        master: bool = False,
        strict: bool = False,
        **keywords: Any,
    ) -> None:
        self.max_norm, self.average, self.rounding, self.seed = max_norm, average, rounding, seed
        self.master, self.strict = master, strict
        self._versions: dict[Any, int] = {}  # of parameters with masters after their last step
        super().__init__(*arguments, **keywords)
        # With it GradScaler would leave it to us to skip a step, and schedulers would not know of it.
        self.__dict__.pop("_step_supports_amp_scaling", None)

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        peer = cls.__mro__[2] if cls.__mro__[1] is Optimizer else None
        if peer is None or peer is torch.optim.Optimizer:
            return
        cls._peer = peer
        theirs, ours = (list(inspect.signature(each).parameters.values()) for each in (peer, Optimizer.__init__))
        extra = [each for each in ours if each.kind is each.KEYWORD_ONLY]
        cls.__signature__ = inspect.Signature([*theirs, *extra])

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, _CHECKS[name](value) if name in _CHECKS else value)

    def __getstate__(self) -> dict[str, Any]:
        names = (*_CHECKS, "_has_inference_tensors", "_needs_peer")
        state: dict[str, Any] = super().__getstate__()
        return state | {name: getattr(self, name) for name in names} | {"_versions": {}}

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group, as in PyTorch."""
        super().add_param_group(param_group)
        new = self.param_groups[-1]["params"]
        self._has_inference_tensors = self._has_inference_tensors or any(p.is_inference() for p in new)
        self._needs_peer = self._needs_peer or has_duplicates(new) or any(map(is_view, new))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads state as PyTorch does, but converts neither numbers nor float32 state to a narrower type."""
        given: list[dict[str, Any]] = []  # what the hooks before have made of it; those after see what is kept
        hooks = (
            self.register_load_state_dict_pre_hook(lambda _, loaded: given.append(loaded)),
            self.register_load_state_dict_post_hook(lambda _: self._keep_precision(given[0]), prepend=True),
        )
        try:
            super().load_state_dict(state_dict)
        finally:
            for hook in hooks:
                hook.remove()

    def _keep_precision(self, state_dict: dict[str, Any]) -> None:
        self._versions = {}
        numbers = chain.from_iterable(group["params"] for group in state_dict["param_groups"])
        parameters = chain.from_iterable(group["params"] for group in self.param_groups)
        for index, p in zip(numbers, parameters, strict=True):
            for key, value in state_dict["state"].get(index, {}).items():
                if not torch.is_tensor(value) or not value.is_floating_point():
                    continue
                if value.layout is not torch.strided:  # PyTorch's momentum of sparse gradients
                    self.state[p][key] = self.state[p][key].to_dense()
                elif key in self._scalars or (key != "step" and p.dtype in NARROW and value.dtype == torch.float32):
                    self.state[p][key] = value.to(p.device, torch.promote_types(value.dtype, torch.float32))

    # Hooks and the profiler are looked for here, as PyTorch's wrapper takes 3 us even without any.
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Makes one step of all parameters that have a gradient.

        Arguments:
            closure: Computes the loss again, and is called first, with gradients enabled.

        Returns:
            The loss of the closure, or None.
        """
        if (
            self._optimizer_step_pre_hooks or self._optimizer_step_post_hooks or any(_hooks_of_all) or _profiles()
        ) and type(self).step is Optimizer.step:
            return _step_with_hooks(self) if closure is None else _step_with_hooks(self, closure)
        return self._step(closure)

    step.hooked = True  # type: ignore[attr-defined]

    def _step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        given = vars(self)  # by GradScaler, for optimizers that claim to look at them
        if given.get("found_inf") is not None and given["found_inf"].item() != 0:
            return loss
        scale = 1.0 if given.get("grad_scale") is None else 1 / given["grad_scale"].item()
        self._step_groups([(group, group["params"]) for group in self.param_groups], scale)
        return loss

    def _step_groups(
        self, groups: list[tuple[dict[str, Any], list[Any]]], scale: float = 1.0, norm: float | None = None
    ) -> None:
        """Makes a step of some parameters of groups; norm: of all gradients, if it is known."""
        if self._has_inference_tensors and not torch.is_inference_mode_enabled():
            raise RuntimeError("Inplace update to inference tensor outside InferenceMode is not allowed.")
        ours: list[Part] = []
        theirs = []
        for group, params in groups:
            if (
                group.get("differentiable")
                or group.get("capturable")
                or (self._needs_peer and (has_duplicates(params) or any(map(is_view, params))))
            ):
                theirs.append(group)
            else:
                ours += self._parts(group, params)
        if theirs:
            self._refuse(theirs[0])  # before anything is written
        while ours:
            call = _Call(self, ours)
            result = _native.step_tensors(self.state, ours, call.start, call.resolve, scale, self.max_norm, norm)
            if not isinstance(result, int):
                self.__dict__["gradient_norm"] = result[0]  # past the checks, for the sake of time
                break
            foreign = ours[result][1]
            self._refuse(foreign)
            theirs.append(foreign)
            ours = [part for part in ours if part[1] is not foreign]
        if theirs:
            self._step_as_torch(theirs)

    def _refuse(self, group: dict[str, Any]) -> None:
        """Raises if PyTorch's form may not or can't take the group."""
        number = next(i for i, other in enumerate(self.param_groups) if other is group)
        reason = "is capturable, on another device than the CPU or of a class without memory of its own"
        if group.get("differentiable"):
            reason = "is differentiable"
        elif has_duplicates(group["params"]):
            reason = "has a parameter twice"
        elif any(map(is_view, group["params"])):
            reason = "has a parameter that is the conjugate or the negative of its memory"
        if self.strict or self._peer is None:
            raise RuntimeError(f"parameter group {number} {reason}, which {type(self).__name__} can't step itself")
        names = ("max_norm", "average", "master")
        used = [name for name in names if getattr(self, name)] + ["rounding"] * (self.rounding == "stochastic")
        if used:
            raise RuntimeError(f"parameter group {number} {reason}, where there is no {used[0]}")

    def _step_as_torch(self, groups: list[dict[str, Any]]) -> None:
        step: Any = None if self._peer is None else self._peer.step
        if getattr(step, "hooked", False):
            step = step.__wrapped__  # the hooks have been called
        every, self.param_groups = self.param_groups, groups
        try:
            step(self)
        finally:
            self.param_groups = every

    def _rule(self, group: dict[str, Any]) -> Rule:
        raise NotImplementedError

    def _parts(self, group: dict[str, Any], params: list[Any]) -> list[Part]:
        """Parameters of a group in parts that have the same kinds of state."""
        return self._parts_of(group, params, self._rule(group))

    def _parts_of(self, group: dict[str, Any], params: list[Any], rule: Rule) -> list[Part]:
        seed, every = None, None
        if self.rounding == "stochastic":
            seed = self.seed
            # The random bits follow from the step, and the parameter's number among all.
            if rule.numbers == 0:
                rule = rule._replace(keys=("step", *rule.keys), numbers=1)
            every = {p: i for i, p in enumerate(chain.from_iterable(group["params"] for group in self.param_groups))}

        def part(params: list[Any], master: bool) -> Part:
            order = None if every is None else [every[p] for p in params]
            return (rule, group, params, self.average, master, seed, order)

        if not self.master:
            return [part(params, False)]
        narrow, wide = ([p for p in params if (p.dtype in NARROW) is is_narrow] for is_narrow in (True, False))
        for p in narrow:
            self._check_master(p)
        return [part(narrow, True), part(wide, False)]

    def _check_master(self, p: Any) -> None:
        """Takes from a parameter what something else than a step has changed since the last one."""
        version = p._version
        if self._versions.get(p) != version and "master" in (own := self.state.get(p, {})):
            take_changes(p, own["master"])
        self._versions[p] = version + (p.grad is not None)  # as the step leaves it

    def _start(self, part: Part, p: Any, had: dict[str, Any] | None) -> dict[str, Any]:
        """What the state of a parameter lacks before its next step."""
        rule, group, _, average, master, *_ = part
        had = {} if had is None else had
        missing = [key for key in rule.keys if key is not None and had.get(key) is None]
        if had and not all(self._may_miss(key) for key in missing):
            raise KeyError(missing[0])
        whole = p.detach().to(torch.float32) if p.dtype in NARROW else p.detach()
        stepped = whole if master else p.detach()
        made = {}
        for key in missing:
            first = self._first(key, group, stepped)
            made[key] = zeros(stepped, rule.keys.index(key) - rule.numbers) if first is None else first
        if average is not None and "average" not in had:
            made["average"] = whole.clone()
        if master and "master" not in had:
            made["master"] = whole.clone()
        return made

    def _may_miss(self, key: str) -> bool:
        """Whether a state that was made without this goes on."""
        return key == "step"

    def _first(self, key: str, group: dict[str, Any], p: Any) -> Any:
        """A number or state before the first step; None for zeros like the parameter."""
        return number(0.0) if key == "step" else None

    def _resolved(self, group: dict[str, Any], p: Any, grad: Any) -> Any:
        """A gradient whose memory is what it says."""
        if grad.layout is torch.strided:
            return grad.resolve_conj().resolve_neg()
        return self._sparse(group, p, grad)

    def _sparse(self, group: dict[str, Any], p: Any, grad: Any) -> Any:
        raise RuntimeError(f"{type(self).__name__} does not support sparse gradients")

    def averaged(self) -> AbstractContextManager[None]:
        """Gives parameters the values of their averages, and back, as a context.

        Raises:
            RuntimeError: There are no averages, as no step has had the option.
        """
        return averaged(self)


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "max_norm": lambda value: None if value is None else checked("clip_norm", value, "max_norm"),
    "average": lambda value: None if value is None else checked("average", value),
    "rounding": lambda value: checked_choice("rounding", value, "nearest", "stochastic"),
    "seed": lambda value: checked_uint64("seed", value),
    "master": lambda value: checked_flag("master", value),
    "strict": lambda value: checked_flag("strict", value),
}

_step_with_hooks = torch.optim.Optimizer.profile_hook_step(Optimizer._step)


class _Call:
    """What the extension module asks for in a step."""

    def __init__(self, optimizer: Optimizer, parts: list[Part]) -> None:
        self.optimizer, self.parts = optimizer, parts

    def start(self, number: int, p: Any, had: dict[str, Any] | None) -> dict[str, Any]:
        return self.optimizer._start(self.parts[number], p, had)

    def resolve(self, number: int, p: Any, grad: Any) -> Any:
        return self.optimizer._resolved(self.parts[number][1], p, grad)
