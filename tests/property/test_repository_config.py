"""Whatever a meta.json says, it is a configuration or one documented error."""

from __future__ import annotations

import contextlib
import json

from hypothesis import given
from hypothesis import strategies as st

from cfsctl.repository.metadata.config import ConfigError, format_config, parse_config


@given(st.binary() | st.text().map(str.encode))
def test_nothing_but_its_own_error(data: bytes) -> None:
    with contextlib.suppress(ConfigError):
        parse_config(data)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "version": st.just(1) | json_values,
            "algorithm": st.just("fsverity-sha256-12") | json_values,
            "features": st.fixed_dictionaries({}, optional={"incompatible": json_values}) | json_values,
            "erofs_formats": st.fixed_dictionaries({"default": json_values, "extra": json_values}),
        },
    )
)
def test_any_document_is_a_config_or_an_error(document: dict[str, object]) -> None:
    try:
        config = parse_config(json.dumps(document).encode())
    except ConfigError:
        return
    assert parse_config(format_config(config)) == config
