"""torch.optim's classes with our step."""

from typing import Any, ClassVar

import torch

from fusedstep.torch._optimizer import Optimizer, Part, Rule
from fusedstep.torch._tensors import NARROW, number, rows


def _betas(group: dict[str, Any]) -> dict[str, Any]:
    beta1, beta2 = group["betas"]
    return {"beta1": beta1, "beta2": beta2, "eps": group["eps"]}


def _refuse_decay(group: dict[str, Any]) -> None:
    if group["weight_decay"] != 0:
        raise RuntimeError("weight_decay option is not compatible with sparse gradients")


class SGD(Optimizer, torch.optim.SGD):
    """torch.optim.SGD with our step, whose rule is that of `fusedstep.SGD`.

    A sparse gradient steps the rows that it has.
    """

    def _rule(self, group: dict[str, Any]) -> Rule:
        if group["momentum"] == 0:
            return Rule("sgd", {}, numbers=0)
        own = {name: group[name] for name in ("momentum", "dampening", "nesterov")}
        return Rule("sgd_momentum", own, ("momentum_buffer",), numbers=0)

    def _may_miss(self, key: str) -> bool:
        return True  # momentum may be set later

    def _sparse(self, group: dict[str, Any], p: Any, grad: Any) -> Any:
        _refuse_decay(group)
        return rows(grad) if group["momentum"] == 0 else grad.to_dense()


def _adam(group: dict[str, Any], decoupled: bool) -> Rule:
    own = _betas(group) | {"decoupled": decoupled}
    if group["amsgrad"]:
        return Rule("amsgrad", own, ("step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq"))
    return Rule("adam", own, ("step", "exp_avg", "exp_avg_sq"))


def _refuse_sparse() -> Any:
    raise RuntimeError("Adam does not support sparse gradients, please consider SparseAdam instead")


class Adam(Optimizer, torch.optim.Adam):
    """torch.optim.Adam with our step, whose rule is that of `fusedstep.Adam`."""

    def _rule(self, group: dict[str, Any]) -> Rule:
        return _adam(group, group.get("decoupled_weight_decay", False))

    def _sparse(self, group: dict[str, Any], p: Any, grad: Any) -> Any:
        return _refuse_sparse()


class AdamW(Optimizer, torch.optim.AdamW):
    """torch.optim.AdamW with our step, whose rule is that of `fusedstep.AdamW`."""

    def _rule(self, group: dict[str, Any]) -> Rule:
        return _adam(group, True)

    def _sparse(self, group: dict[str, Any], p: Any, grad: Any) -> Any:
        return _refuse_sparse()


class Adagrad(Optimizer, torch.optim.Adagrad):
    """torch.optim.Adagrad with our step, whose rule is that of `fusedstep.AdaGrad`.

    A sparse gradient steps the rows that it has.
    """

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        for group in self.param_groups if self.master else ():
            for p in group["params"]:
                if p.dtype in NARROW:  # for which PyTorch has made a narrow sum
                    self.state[p]["sum"] = self._first("sum", group, p.detach().to(torch.float32))

    def _rule(self, group: dict[str, Any]) -> Rule:
        return Rule("adagrad", {"eps": group["eps"]}, ("step", "sum"), lr_decay=group["lr_decay"])

    def _first(self, key: str, group: dict[str, Any], p: Any) -> Any:
        if key != "sum":
            return super()._first(key, group, p)
        start = self.defaults["initial_accumulator_value"]
        return torch.full_like(p, complex(start, start) if p.is_complex() else start)

    def _sparse(self, group: dict[str, Any], p: Any, grad: Any) -> Any:
        _refuse_decay(group)
        return rows(grad)


class RMSprop(Optimizer, torch.optim.RMSprop):
    """torch.optim.RMSprop with our step, whose rule is that of `fusedstep.RMSProp`."""

    def _rule(self, group: dict[str, Any]) -> Rule:
        own = {"decay_rate": group["alpha"], "eps": group["eps"]}
        name, states = "rmsprop", ["step", "square_avg"]
        if group["centered"]:
            name += "_centered"
            states.append("grad_avg")
        if group["momentum"] > 0:
            name += "_momentum"
            states.append("momentum_buffer")
            own["momentum"] = group["momentum"]
        return Rule(name, own, tuple(states))

    def _start(self, part: Part, p: Any, had: dict[str, Any] | None) -> dict[str, Any]:
        made = super()._start(part, p, had)
        if "grad_avg" in made:  # which PyTorch makes last
            made["grad_avg"] = made.pop("grad_avg")
        return made


class Adadelta(Optimizer, torch.optim.Adadelta):
    """torch.optim.Adadelta with our step, whose rule is that of `fusedstep.Adadelta`."""

    def _rule(self, group: dict[str, Any]) -> Rule:
        return Rule("adadelta", {"rho": group["rho"], "eps": group["eps"]}, ("step", "square_avg", "acc_delta"))


class Adamax(Optimizer, torch.optim.Adamax):
    """torch.optim.Adamax with our step, whose rule is that of `fusedstep.Adamax`."""

    def _rule(self, group: dict[str, Any]) -> Rule:
        return Rule("adamax", _betas(group), ("step", "exp_avg", "exp_inf"))


class NAdam(Optimizer, torch.optim.NAdam):
    """torch.optim.NAdam with our step, whose rule is that of `fusedstep.NAdam`."""

    _scalars: ClassVar[tuple[str, ...]] = ("mu_product",)

    def _rule(self, group: dict[str, Any]) -> Rule:
        own = _betas(group) | {
            "momentum_decay": group["momentum_decay"],
            "decoupled": group["decoupled_weight_decay"],
        }
        return Rule("nadam", own, ("step", *self._scalars, "exp_avg", "exp_avg_sq"), 2)

    def _first(self, key: str, group: dict[str, Any], p: Any) -> Any:
        return number(1.0) if key == "mu_product" else super()._first(key, group, p)


class RAdam(Optimizer, torch.optim.RAdam):
    """torch.optim.RAdam with our step, whose rule is that of `fusedstep.RAdam`."""

    def _rule(self, group: dict[str, Any]) -> Rule:
        own = _betas(group) | {"decoupled": group["decoupled_weight_decay"]}
        return Rule("radam", own, ("step", "exp_avg", "exp_avg_sq"))


class Rprop(Optimizer, torch.optim.Rprop):
    """torch.optim.Rprop with our step, whose rule is that of `fusedstep.Rprop`."""

    def _rule(self, group: dict[str, Any]) -> Rule:
        names = ("eta_minus", "eta_plus", "step_min", "step_max")
        own = dict(zip(names, (*group["etas"], *group["step_sizes"]), strict=True))
        return Rule("rprop", own, ("step", "prev", "step_size"))

    def _first(self, key: str, group: dict[str, Any], p: Any) -> Any:
        if key != "step_size":
            return super()._first(key, group, p)
        lr = float(group["lr"])
        return torch.full_like(p, complex(lr, lr) if p.is_complex() else lr)


class ASGD(Optimizer, torch.optim.ASGD):
    """torch.optim.ASGD with our step, whose rule is that of `fusedstep.ASGD`."""

    _scalars: ClassVar[tuple[str, ...]] = ("eta", "mu")

    def _rule(self, group: dict[str, Any]) -> Rule:
        own = {name: group[name] for name in ("lambd", "alpha", "t0")}
        return Rule("asgd", own, ("step", *self._scalars, "ax"), 3)

    def _first(self, key: str, group: dict[str, Any], p: Any) -> Any:
        if key in ("eta", "mu"):
            return number(float(group["lr"]) if key == "eta" else 1.0)
        return super()._first(key, group, p)


class Adafactor(Optimizer, torch.optim.Adafactor):
    """torch.optim.Adafactor with our step, whose rule is that of `fusedstep.Adafactor`."""

    def _rule(self, group: dict[str, Any]) -> Rule:
        own = {
            "beta2_decay": -group["beta2_decay"],
            "eps1": group["eps"][0],
            "eps2": group["eps"][1],
            "clip_threshold": group["d"],
            "eps1_as_floor": True,
            "decoupled": True,
        }
        return Rule("adafactor", own, ("step", "row_var", "col_var"))

    def _parts(self, group: dict[str, Any], params: list[Any]) -> list[Part]:
        rule = self._rule(group)
        if rule.own["eps1"] is None:  # of the first parameter, for all, as in PyTorch
            stepped = next((p for p in group["params"] if p.grad is not None), group["params"][0])
            rule.own["eps1"] = torch.finfo(stepped.dtype).eps
        matrices, others = ([p for p in params if (p.dim() > 1) is is_matrix] for is_matrix in (True, False))
        vectors = rule._replace(keys=("step", None, "variance"))
        return self._parts_of(group, matrices, rule) + self._parts_of(group, others, vectors)

    def _first(self, key: str, group: dict[str, Any], p: Any) -> Any:
        if p.is_complex():
            raise RuntimeError("Adafactor does not support complex parameters")
        if key == "row_var":
            return p.new_zeros((*p.shape[:-1], 1))
        if key == "col_var":
            return p.new_zeros((*p.shape[:-2], 1, p.shape[-1]))
        return super()._first(key, group, p)
