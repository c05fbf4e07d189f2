"""The SAM templates as data, and what CloudFormation would make of their rules and conditions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from samcli.yamlhelper import yaml_parse

ROOT = Path(__file__).parents[2]
TEMPLATES = ("template.yaml", "template-image.yaml")


def load(name: str = "template.yaml") -> dict[str, Any]:
    """A template; intrinsic functions in their long form."""
    template: dict[str, Any] = yaml_parse((ROOT / name).read_text())
    return template


class Evaluation:
    """Rules and conditions for some values of the parameters; the others have their defaults."""

    def __init__(self, template: Mapping[str, Any], **given: str | int) -> None:
        self._template = template
        self.values: dict[str, Any] = {
            name: given.get(name, declared.get("Default", ""))
            for name, declared in template["Parameters"].items()
        }
        assert given.keys() <= self.values.keys()

    def refusals(self) -> list[str]:
        """The descriptions of the assertions that do not hold."""
        return [
            assertion["AssertDescription"]
            for rule in self._template["Rules"].values()
            if self.truth(rule.get("RuleCondition", True))
            for assertion in rule["Assertions"]
            if not self.truth(assertion["Assert"])
        ]

    def truth(self, expression: Any) -> bool:
        """What a condition's expression is."""
        match expression:
            case bool():
                return expression
            case {"Fn::Equals": [left, right]}:
                return str(self.value(left)) == str(self.value(right))
            case {"Fn::Not": [inner]}:
                return not self.truth(inner)
            case {"Fn::Or": parts}:
                return any(self.truth(part) for part in parts)
            case {"Fn::And": parts}:
                return all(self.truth(part) for part in parts)
            case {"Condition": name}:
                return self.truth(self._template["Conditions"][name])
        raise AssertionError(f"unknown: {expression}")

    def _given(self, name: str) -> Any:
        value = self.values[name]
        if self._template["Parameters"][name]["Type"] == "CommaDelimitedList":
            return [item.strip() for item in str(value).split(",")]
        return value

    def value(self, expression: Any) -> Any:
        """A property's value; None where it is left out. Attributes of other resources are left as they are."""
        match expression:
            case {"Ref": "AWS::NoValue"}:
                return None
            case {"Ref": name} if name in self.values:
                return self._given(name)
            case {"Fn::If": [name, yes, no]}:
                return self.value(yes if self.truth({"Condition": name}) else no)
            case {"Fn::Join": [separator, parts]}:
                joined = self.value(parts)
                return joined if isinstance(joined, str) else separator.join(map(str, joined))
            case dict():
                found = {key: self.value(item) for key, item in expression.items()}
                return {key: item for key, item in found.items() if item is not None}
            case list():
                return [item for item in map(self.value, expression) if item is not None]
        return expression
