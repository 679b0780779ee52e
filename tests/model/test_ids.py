import pytest

from orderup.errors import NotFound
from orderup.model.ids import new_operation_id, read_id, read_task_id, show_id, show_task_id

NOW = 1_795_000_000_000_000


def test_one_process_never_gives_an_id_twice_however_many_it_makes_at_once() -> None:
    ids = [new_operation_id(NOW + number // 1000) for number in range(100_000)]
    assert len(set(ids)) == len(ids)


def test_ids_made_later_sort_later() -> None:
    assert new_operation_id(NOW) < new_operation_id(NOW + 1_000) < new_operation_id(NOW + 10**12)


def test_an_id_is_thirteen_letters_and_digits_and_reads_back() -> None:
    for number in (0, 1, 31, 32, new_operation_id(NOW), (1 << 63) - 1):
        shown = show_id(number)
        assert len(shown) == 13
        assert read_id(shown) == number
    assert read_task_id(show_task_id(7, 12)) == (7, 12)


@pytest.mark.parametrize("text", ["", "x", "0" * 12, "0" * 14, "i" * 13, "z" * 13, "0" * 12 + "é", "0" * 12 + "A"])
def test_what_cannot_be_an_id_is_nobodys(text: str) -> None:
    with pytest.raises(NotFound):
        read_id(text)


@pytest.mark.parametrize("position", ["", "-1", "01", "1.0", "12345678", "²", "x"])
def test_what_cannot_be_a_position_is_no_tasks(position: str) -> None:
    with pytest.raises(NotFound):
        read_task_id(f"{show_id(7)}-{position}")
