"""Rules that torch.optim hasn't, as its optimizers."""

import inspect
from collections.abc import Iterable
from typing import Any, ClassVar

import torch

from fusedstep import optimizers
from fusedstep.optimizers.options import checked_setting
from fusedstep.optimizers.stateless import rules
from fusedstep.torch._optimizer import Optimizer, Rule
from fusedstep.torch._tensors import rows

_RULES = rules()
# Of Options, what a parameter group may have.
_GROUP_OPTIONS = ("decoupled", "maximize", "clip_value", "cautious_decay", "max_lr", "decay_after")


class FurtherRule(Optimizer):
    """The base class of optimizers whose rule torch.optim hasn't.

    They take parameters or groups and then the arguments of fusedstep's optimizer of that name, of which groups may
    have their own; decoupled, maximize, clip_value, cautious_decay, max_lr and decay_after of its options; and what
    `Optimizer` here adds. The state has the names of fusedstep's, and "step". A sparse gradient steps the rows that it
    has.

    Arguments:
        params: Parameters, named parameters or groups, as torch.optim's optimizers take them.
        arguments, keywords: As above.
    """

    __signature__: ClassVar[inspect.Signature]

    _form: ClassVar[type[optimizers.Optimizer]]
    _rule_name: ClassVar[str]
    _names: ClassVar[tuple[str, ...]]  # of the rule's hyper-parameters
    _keys: ClassVar[tuple[str, ...]]

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        if "_form" not in cls.__dict__:
            return
        cls._rule_name = cls._form._rule
        rule = _RULES[cls._rule_name]
        cls._names = tuple(name for name in rule["hyperparameters"] if name not in ("scale", "average"))
        cls._scalars = tuple(rule["scalars"])
        cls._keys = ("step", *rule["scalars"], *rule["states"])
        kinds = inspect.Parameter
        own = [each for each in _signature(cls).parameters.values() if each.kind is not kinds.VAR_KEYWORD]
        own[0] = own[0].replace(annotation=float | torch.Tensor)
        extra = [
            each
            for each in inspect.signature(Optimizer.__init__).parameters.values()
            if each.kind is each.KEYWORD_ONLY and each.name not in {other.name for other in own}
        ]
        options = [
            kinds(name, kinds.KEYWORD_ONLY, default=getattr(cls._form, name))
            for name in _GROUP_OPTIONS
            if name not in {other.name for other in own}
        ]
        first = kinds("params", kinds.POSITIONAL_OR_KEYWORD)
        cls.__signature__ = inspect.Signature([first, *own, *options, *extra])

    def __init__(self, params: Iterable[Any], *arguments: Any, **keywords: Any) -> None:
        own = _signature(type(self)).parameters
        extra = {name: value for name, value in keywords.items() if name not in own and name not in _GROUP_OPTIONS}
        given = {name: value for name, value in keywords.items() if name not in extra}
        form = self._form(*arguments, **given)  # which checks them
        lr = _signature(type(self)).bind(*arguments, **given).arguments.get("lr", form.lr)
        if callable(lr):
            raise TypeError(f"lr is {lr!r}, expected a number or tensor: torch.optim.lr_scheduler has schedules")
        # A tensor may be changed in place.
        defaults = {name: getattr(form, name) for name in self._names} | {"lr": lr}
        super().__init__(params, defaults, **extra)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group, as in PyTorch, whose hyper-parameters are checked."""
        if isinstance(param_group, dict):
            for name in self._names:
                if name in param_group:
                    checked_setting(self._rule_name, name, param_group[name])
        super().add_param_group(param_group)

    def _rule(self, group: dict[str, Any]) -> Rule:
        own = {name: group[name] for name in self._names}
        return Rule(self._rule_name, own, self._keys, 1 + len(self._scalars))

    def _first(self, key: str, group: dict[str, Any], p: Any) -> Any:
        rule = _RULES[self._rule_name]
        if key in rule["scalars"]:
            return torch.tensor(rule["scalars"][key], dtype=torch.float64)
        start = rule["starts"].get(key)
        if start is None:
            return super()._first(key, group, p)
        if start == "parameter":
            return p.clone(memory_format=torch.preserve_format)
        return torch.full_like(p, complex(group[start], group[start]) if p.is_complex() else group[start])

    def _sparse(self, group: dict[str, Any], p: Any, grad: Any) -> Any:
        return rows(grad)


def _signature(cls: type[FurtherRule]) -> inspect.Signature:
    return inspect.signature(cls._form)


class SignSGD(FurtherRule):
    """The rule, arguments and state names of `fusedstep.SignSGD` for PyTorch."""

    _form = optimizers.SignSGD


class Signum(FurtherRule):
    """The rule, arguments and state names of `fusedstep.Signum` for PyTorch."""

    _form = optimizers.Signum


class Lion(FurtherRule):
    """The rule, arguments and state names of `fusedstep.Lion` for PyTorch."""

    _form = optimizers.Lion


class AdaBelief(FurtherRule):
    """The rule, arguments and state names of `fusedstep.AdaBelief` for PyTorch."""

    _form = optimizers.AdaBelief


class Yogi(FurtherRule):
    """The rule, arguments and state names of `fusedstep.Yogi` for PyTorch."""

    _form = optimizers.Yogi


class LaProp(FurtherRule):
    """The rule, arguments and state names of `fusedstep.LaProp` for PyTorch."""

    _form = optimizers.LaProp


class ADOPT(FurtherRule):
    """The rule, arguments and state names of `fusedstep.ADOPT` for PyTorch."""

    _form = optimizers.ADOPT


class AdEMAMix(FurtherRule):
    """The rule, arguments and state names of `fusedstep.AdEMAMix` for PyTorch."""

    _form = optimizers.AdEMAMix


class Adan(FurtherRule):
    """The rule, arguments and state names of `fusedstep.Adan` for PyTorch."""

    _form = optimizers.Adan


class FTRL(FurtherRule):
    """The rule, arguments and state names of `fusedstep.FTRL` for PyTorch."""

    _form = optimizers.FTRL


class LAMB(FurtherRule):
    """The rule, arguments and state names of `fusedstep.LAMB` for PyTorch."""

    _form = optimizers.LAMB


class LARS(FurtherRule):
    """The rule, arguments and state names of `fusedstep.LARS` for PyTorch."""

    _form = optimizers.LARS


class StableAdamW(FurtherRule):
    """The rule, arguments and state names of `fusedstep.StableAdamW` for PyTorch."""

    _form = optimizers.StableAdamW


class _ScheduleFree(FurtherRule):
    _beta: ClassVar[str]  # the name of the share of x in y

    def eval(self) -> None:
        """Gives parameters that have state their averages x, for evaluation and for saving; once is as often.

        A step in this mode is a RuntimeError.
        """
        self._change_mode(False)

    def train(self) -> None:
        """Gives parameters back the points y at which gradients are taken, as they are at first; once is as often."""
        self._change_mode(True)

    def _change_mode(self, training: bool) -> None:
        with torch.no_grad():
            for group in self.param_groups:
                if group.get("training", True) is training:
                    continue
                group["training"] = training
                beta = float(group[self._beta])
                if beta == 0:
                    continue
                for p in group["params"]:
                    if "z" not in self.state.get(p, {}):
                        continue
                    own = self.state[p]
                    stepped = own.get("master", p)
                    stepped.lerp_(own["z"], 1 - beta if training else 1 - 1 / beta)
                    if stepped is not p:
                        p.copy_(stepped)

    def _rule(self, group: dict[str, Any]) -> Rule:
        if not group.get("training", True):
            raise RuntimeError("the optimizer is in eval mode: call train() before step()")
        return super()._rule(group)


class ScheduleFreeSGD(_ScheduleFree):
    """The rule, arguments and state names of `fusedstep.ScheduleFreeSGD` for PyTorch, with modes."""

    _form = optimizers.ScheduleFreeSGD
    _beta = "momentum"


class ScheduleFreeAdamW(_ScheduleFree):
    """The rule, arguments and state names of `fusedstep.ScheduleFreeAdamW` for PyTorch, with modes."""

    _form = optimizers.ScheduleFreeAdamW
    _beta = "beta1"
