"""Names of classes from a file, from ImageNet, or made up."""

import pytest

from captum_tgrad.zoo.class_names import imagenet_class_names, names_for, read_class_names


def test_imagenet_class_names_are_in_the_order_of_imagenet():
    names = imagenet_class_names()
    assert len(names) == 1000
    assert (names[0], names[967], names[999]) == ("tench", "espresso", "toilet tissue")


def test_read_class_names_takes_one_a_line(tmp_path):
    (tmp_path / "names.txt").write_text("cup \ncrème brûlée\r\nmug\n\n", encoding="utf-8")
    assert read_class_names(tmp_path / "names.txt") == ("cup", "crème brûlée", "mug")


def test_read_class_names_refuses_what_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"class names .*absent\.txt"):
        read_class_names(tmp_path / "absent.txt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"cup\n\nmug\n", "no name on line 2"),
        (b"\xff\xfe\x00cup", "not a text file in UTF-8"),
    ],
)
def test_read_class_names_refuses_what_has_no_names(tmp_path, content, message):
    (tmp_path / "names.txt").write_bytes(content)
    with pytest.raises(ValueError, match=rf"names\.txt .*{message}"):
        read_class_names(tmp_path / "names.txt")


def test_names_for_prefers_what_is_given():
    assert names_for(2, given=["a", "b"]) == ("a", "b")
    assert names_for(1000, given=None) == imagenet_class_names()
    assert names_for(2, given=None) == ("class 0", "class 1")


def test_names_for_refuses_a_wrong_number_or_a_string():
    with pytest.raises(ValueError, match="3 class names, but the network has 2 classes"):
        names_for(2, given=["a", "b", "c"])
    with pytest.raises(TypeError, match="not one string"):
        names_for(2, given="ab")
