"""Who makes what."""

from __future__ import annotations

from mvolatile.shared.leases import Leases
from mvolatile.shared.wire import Status

OK, WAIT, LOOK, OWN, NO = Status.OK, Status.WAIT, Status.LOOK, Status.OWN, Status.NO


def test_one_makes_and_the_others_look() -> None:
    leases = Leases()
    status, number = leases.ask("a", b"key", [])
    assert status is OK
    assert leases.ask("b", b"key", []) == (WAIT, 0) == leases.ask("c", b"key", [])
    assert leases.ask("d", b"other", [])[0] is OK
    assert leases.end(number, "a", LOOK) == [("b", LOOK, 0), ("c", LOOK, 0)]
    assert len(leases) == 1
    assert leases.end(number, "a", LOOK) == []


def test_a_failed_maker_has_an_heir() -> None:
    leases = Leases()
    _, number = leases.ask("a", b"key", [])
    leases.ask("b", b"key", [])
    leases.ask("c", b"key", [])
    ((who, status, heir),) = leases.end(number, "a", NO)
    assert (who, status) == ("b", OK)
    assert leases.valid(heir, "b")
    assert not leases.valid(heir, "a")
    assert not leases.valid(number, "a")
    assert leases.gone("b") == [("c", OK, heir + 1)]
    assert leases.gone("c") == []
    assert len(leases) == 0


def test_who_waits_and_dies_inherits_nothing() -> None:
    leases = Leases()
    _, number = leases.ask("a", b"key", [])
    leases.ask("b", b"key", [])
    leases.ask("c", b"key", [])
    assert leases.gone("b") == []
    assert leases.end(number, "a", NO)[0][0] == "c"


def test_what_is_not_to_be_stored_is_made_by_each() -> None:
    leases = Leases()
    _, number = leases.ask("a", b"key", [])
    leases.ask("b", b"key", [])
    assert leases.end(number, "a", OWN) == [("b", OWN, 0)]


def test_a_changed_key_has_a_new_lease() -> None:
    """31."""
    leases = Leases()
    _, number = leases.ask("a", b"key", [])
    leases.ask("b", b"key", [])
    assert leases.changed(b"key") == [("b", LOOK, 0)]
    assert not leases.valid(number, "a")
    status, newer = leases.ask("b", b"key", [])
    assert status is OK
    assert leases.end(number, "a", LOOK) == []
    assert leases.valid(newer, "b")
    assert leases.all_changed() == []
    assert not leases.valid(newer, "b")


def test_nobody_waits_in_a_circle() -> None:
    """30: of two, and of three; and one who holds nothing may wait for any of them."""
    leases = Leases()
    one, two, three = (leases.ask(who, who.encode(), [])[1] for who in "abc")
    assert leases.ask("a2", b"b", [one]) == (WAIT, 0)
    assert leases.ask("b2", b"c", [two]) == (WAIT, 0)
    assert leases.ask("c2", b"a", [three]) == (OWN, 0)
    assert leases.ask("a3", b"a", [one]) == (OWN, 0)
    assert leases.ask("d", b"a", []) == (WAIT, 0)


def test_only_its_owner_ends_a_lease() -> None:
    leases = Leases()
    _, number = leases.ask("a", b"key", [])
    assert leases.end(number, "b", LOOK) == []
    assert leases.valid(number, "a")
