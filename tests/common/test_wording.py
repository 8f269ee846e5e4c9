"""Numbers in sentences."""
import pytest

from phases.common.wording import counted


@pytest.mark.parametrize("noun, several", [
    ("clip", "clips"), ("test clip", "test clips"), ("class", "classes"), ("body", "bodies"), ("day", "days"),
    ("exact copy", "exact copies"), ("person", "people"), ("box", "boxes")])
def test_one_is_singular_and_none_and_two_are_plural(noun, several):
    assert [counted(number, noun) for number in (0, 1, 2)] == [f"0 {several}", f"1 {noun}", f"2 {several}"]
