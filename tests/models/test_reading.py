"""Laws of reading what servers answer."""

from hypothesis import given
from hypothesis import strategies as st

from aligner.models.reading import first_of, number_of, object_of, text_of

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON)
def test_any_value_can_be_read_as_any_kind(value: object) -> None:
    """A value of the kind is itself, and any other one is empty."""
    assert object_of(value) == (value if isinstance(value, dict) else {})
    assert text_of(value) == (value if isinstance(value, str) else "")
    assert number_of(value) == (value if isinstance(value, int) else 0)
    assert first_of([value, 1]) == object_of(value)
    assert first_of(value) == (object_of(value[0]) if isinstance(value, list) and value else {})
