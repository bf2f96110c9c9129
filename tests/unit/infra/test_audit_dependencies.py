"""What `make audit` concludes from a report: silence is never taken for safety."""

from __future__ import annotations

import msgspec

import audit_dependencies as audit


def judged(*dependencies: dict[str, object]) -> tuple[bool, str]:
    raw = msgspec.json.encode({"dependencies": dependencies, "fixes": []})
    return audit.judged(msgspec.json.decode(raw, type=audit.Report))


def test_a_report_about_nothing_says_loudly_that_nothing_was_audited():
    for unknown in ([], [{"name": "a", "skip_reason": "not found"}]):
        well, text = judged(*unknown)
        assert well
        assert "NOT AUDITED" in text


def test_a_vulnerability_fails_and_is_named_with_its_mended_version():
    found = {"id": "PYSEC-1", "fix_versions": ["2.1"], "aliases": [], "description": "…"}
    well, text = judged(
        {"name": "good", "version": "1.0", "vulns": []},
        {"name": "bad", "version": "2.0", "vulns": [found]},
        {"name": "unknown", "skip_reason": "not found"},
    )
    assert not well
    assert "bad 2.0: PYSEC-1, mended in 2.1" in text
    assert "not audited, unknown to the service: unknown" in text


def test_no_vulnerability_is_well():
    assert judged({"name": "good", "version": "1.0", "vulns": []}) == (
        True,
        "1 dependencies audited, 0 vulnerabilities",
    )
