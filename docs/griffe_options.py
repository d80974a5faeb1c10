"""Griffe sees the default and the help of a field that is made with `settings.option`, in place of the call."""

import ast
from typing import Any

import griffe


class Options(griffe.Extension):
    """Takes default and help of options apart; the reference shows the one in signatures, the other below."""

    def on_attribute_instance(self, *, node: Any, attr: griffe.Attribute, **_: Any) -> None:
        """Change an attribute of a dataclass that is an option."""
        call = getattr(node, "value", None)
        if not (isinstance(call, ast.Call) and getattr(call.func, "id", "") == "option"):
            return
        given = dict(zip(("default", "help"), call.args, strict=False)) | {
            word.arg: word.value for word in call.keywords
        }
        attr.value = ast.unparse(given["default"]) if "default" in given else None
        if attr.docstring is None and "help" in given:
            says = given["help"]
            text = says.value if isinstance(says, ast.Constant) else ast.unparse(says)
            attr.docstring = griffe.Docstring(text, parent=attr)
