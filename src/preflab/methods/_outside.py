"""Methods from a user's own file, and the checks every method must pass."""

import dataclasses
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from preflab.core.domains import Hyper, Hyperparameters
from preflab.core.errors import ConfigError, nearest
from preflab.core.ids import file_digest
from preflab.core.modules import load_module
from preflab.methods._leaves import leaves
from preflab.methods._trial import trial
from preflab.methods._types import Method


def method_from_file(spec: str) -> Method:
    """Execute a file and return the method it defines.

    Args:
        spec: `path/to/file.py:NAME`.

    Raises:
        ConfigError: as in `preflab.methods.load`.
    """
    module, name, path = load_module(spec, what="method")
    method = vars(module).get(name)
    if method is None:
        defined = [key for key, value in vars(module).items() if isinstance(value, Method)]
        hint = nearest(name, defined) if defined else "The file defines no Method."
        raise ConfigError(f"method {spec!r}: {path} has no {name}. {hint}")
    if not isinstance(method, Method):
        raise ConfigError(f"method {spec!r}: {name} must be a preflab.methods.Method; got {type(method).__name__}.")
    try:
        validate(method)
        trial(method)
    except ConfigError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise ConfigError(f"method {spec!r}: its declaration cannot be read ({reason}).") from error
    return method


def validate(method: Method) -> None:
    """Check that a method's declaration and its functions agree, before anything is trained with it.

    Raises:
        ConfigError: a name no study file could use, an input type that cannot be built, a hyper-parameter without a
            declaration or with a default or grid outside its domain, or a function whose first argument is not
            annotated with `inputs` or whose keyword-only arguments are not the hyper-parameters.
    """
    where = f"method {method.name!r}"
    if not re.fullmatch(r"[a-z][a-z0-9_]*", method.name):
        raise ConfigError(
            f"{where}: a name must be lower case letters, digits and underscores, starting with a letter."
        )
    leaves(method.inputs)
    if not isinstance(method.learning_rates, tuple):
        raise ConfigError(f"{where}: learning_rates must be a tuple; got {method.learning_rates!r}.")
    _check_hyperparameters(where, method.hyperparameters)
    _check_signature(f"{where}: loss", method.loss, method)
    moves = any(leaf.quantity == "moving_reference" for leaf in leaves(method.inputs))
    if moves != (method.reference_update is not None):
        raise ConfigError(f"{where}: reference_update belongs to inputs with a moving_reference, and to no others.")
    samples = any(leaf.role == "sampled" for leaf in leaves(method.inputs))
    if samples != (method.credit is not None):
        raise ConfigError(f"{where}: credit belongs to inputs of sampled answers, and to no others.")
    if method.loss_at_reference is not None:
        _check_signature(f"{where}: loss_at_reference", method.loss_at_reference, method)


def code_digest(method: Method) -> str:
    """Return the SHA-256 of the file that defines a method's loss, for the id of anything trained with it."""
    return file_digest(Path(inspect.getfile(method.loss)))


def _check_hyperparameters(where: str, kind: type[Hyperparameters]) -> None:
    if not (isinstance(kind, type) and issubclass(kind, Hyperparameters)):
        raise ConfigError(f"{where}: hyperparameters must be a dataclass derived from Hyperparameters; got {kind!r}.")
    for field in dataclasses.fields(kind):
        declared = next((value for value in field.metadata.values() if isinstance(value, Hyper)), None)
        if declared is None:
            raise ConfigError(f"{where}: hyper-parameter {field.name} must be declared with hyper(...).")
        for value in (field.default, *declared.grid):
            if value not in declared.domain:
                raise ConfigError(
                    f"{where}: {field.name}: default and grid must be in {declared.domain}; got {value!r}."
                )


def _check_signature(where: str, function: Callable[..., Any], method: Method) -> None:
    parameters = list(inspect.signature(function, eval_str=True).parameters.values())
    if not parameters:
        raise ConfigError(f"{where}: the first argument must be the batch.")
    first, *rest = parameters
    if first.annotation is not method.inputs:
        raise ConfigError(f"{where}: the first argument must be annotated {method.inputs.__name__}, as inputs says.")
    expected = [field.name for field in dataclasses.fields(method.hyperparameters)]
    if [parameter.name for parameter in rest] != expected:
        got = [parameter.name for parameter in rest]
        raise ConfigError(f"{where}: the arguments after the batch must be the hyper-parameters {expected}; got {got}.")
    for parameter in rest:
        if parameter.kind is not parameter.KEYWORD_ONLY or parameter.default is not parameter.empty:
            raise ConfigError(f"{where}: {parameter.name} must be keyword-only, without a default of its own.")
