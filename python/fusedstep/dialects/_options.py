"""What the dialects share."""

from typing import Any, cast

from fusedstep.optimizers.options import Options


def with_defaults(options: Options, **defaults: Any) -> Any:
    """Options, and those that a library always has."""
    return defaults | cast(dict[str, Any], options)
