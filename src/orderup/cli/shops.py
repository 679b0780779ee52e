"""Finding shops: by the entry-point group `orderup.shops`, or by name, `package.module:shop`."""

from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import entry_points

from orderup.errors import Misconfigured
from orderup.shop import Shop

GROUP = "orderup.shops"


def load_shops(names: Sequence[str]) -> list[Shop]:
    """The named shops; none named: all that are installed. Raises Misconfigured."""
    installed = {point.name: point for point in entry_points(group=GROUP)}
    shops = []
    for name in names or sorted(installed):
        if ":" in name:
            shops.append(_import(name))
        elif name in installed:
            shops.append(_checked(installed[name].load(), name))
        else:
            known = ", ".join(sorted(installed)) or "none"
            raise Misconfigured(
                f"There is no shop {name}. Installed: {known}. One of your own is named as package.module:shop."
            )
    if len({shop.name for shop in shops}) < len(shops):
        raise Misconfigured("Two of these shops have the same name. Serve them by processes of their own.")
    return shops


def _import(name: str) -> Shop:
    module, _, attribute = name.partition(":")
    try:
        return _checked(getattr(import_module(module), attribute), name)
    except ModuleNotFoundError as error:
        missing = f"The shop {name} cannot be loaded: {error}."
        raise Misconfigured(f"{missing} Install it, or name the folder it is in: PYTHONPATH=that/folder.") from error
    except (ImportError, AttributeError) as error:
        raise Misconfigured(f"The shop {name} cannot be loaded: {error}.") from error


def _checked(shop: object, name: str) -> Shop:
    if not isinstance(shop, Shop):
        raise Misconfigured(f"{name} is a {type(shop).__name__}, not an orderup.Shop.")
    return shop
