"""The README's examples run, one after the other, as a reader would run them."""

import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_python_examples_run():
    examples = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert len(examples) == 3
    namespace: dict = {}
    for example in examples:
        exec(compile(example, str(README), "exec"), namespace)
    assert float(namespace["attribution"].sum()) > 0


def test_its_picture_is_there():
    (picture,) = re.findall(r"!\[[^]]*\]\(([^)]*)\)", README.read_text(encoding="utf-8"))
    assert (README.parent / picture).is_file()
