"""The list of known variables is complete and has no leftovers, and every setting is described."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import msgspec
import pytest

from tokentide_common.setting_names import KNOWN, OF_SERVICES, OUTSIDE_SERVICES
from tokentide_common.settings import ConsumerSettings, SharedSettings, variable

ROOT = Path(__file__).parents[3]
STRUCTS = [
    ("shared", SharedSettings),
    *(
        (path.parent.name, value)
        for path in sorted(ROOT.glob("services/*/src/*/settings.py"))
        for value in vars(importlib.import_module(f"{path.parent.name}.settings")).values()
        if isinstance(value, type) and issubclass(value, SharedSettings)
        if value not in {SharedSettings, ConsumerSettings}
    ),
]


def test_every_setting_of_every_service_is_on_the_list_and_nothing_else():
    of_services = {variable(field.name) for _, struct in STRUCTS for field in msgspec.structs.fields(struct)}
    assert sorted(OF_SERVICES) == sorted(of_services)


def test_the_variables_outside_the_services_are_those_that_commands_and_tests_read():
    texts = [
        path.read_text("utf-8")
        for folder in ("cli/src", "tests/infra")
        for path in sorted((ROOT / folder).rglob("*.py"))
    ]
    read = set(re.findall(r"\bTOKENTIDE_[A-Z_]*[A-Z]\b", "\n".join(texts)))
    assert sorted(OUTSIDE_SERVICES - read) == []
    assert sorted(read - KNOWN) == []


@pytest.mark.parametrize(("service", "struct"), STRUCTS, ids=[service for service, _ in STRUCTS])
def test_every_setting_is_described(service, struct):
    undescribed = [
        field.name
        for field in msgspec.structs.fields(struct)
        if not msgspec.json.schema(field.type).get("description")
    ]
    assert undescribed == [], service
