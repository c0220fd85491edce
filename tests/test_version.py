"""The version and its date stand in several files, which agree."""

import re
from pathlib import Path

import captum_tgrad

ROOT = Path(__file__).parents[1]


def test_changelog_and_citation_have_the_version_and_its_date():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.findall(r"^## \[(\d[^]]*)\] - (\d{4}-\d\d-\d\d)$", changelog, re.MULTILINE)
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    fields = dict(re.findall(r'^(version|date-released): "?([^"\n]*)', citation, re.MULTILINE))
    assert released[0] == (fields["version"], fields["date-released"])
    assert fields["version"] == captum_tgrad.__version__
