"""What closes a user out, and the litter that a delete removes, once more on Debian 13: systemd 257, OpenSSH 10."""

from __future__ import annotations

import pytest

from tests.node.test_users_on_node import (  # noqa: F401  collected here too
    _no_deep_tree_stays,
    test_a_login_that_was_just_let_in_is_ended,
    test_an_account_has_no_password_no_other_uids_and_a_home_of_its_own,
    test_delete_leaves_nothing_of_the_user_and_all_of_others,
    test_disable_closes_every_way_and_enable_restores_exactly,
    test_neither_cron_nor_at_starts_anything_for_a_disabled_user,
)

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def release() -> str:
    """Which Debian the node of this module runs."""
    return "trixie"
